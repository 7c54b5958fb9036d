//! An allocator without I/O: for whoever embeds one, and for the simulator. Time is passed in, rows
//! are kept by a [`Store`] of the caller's.

pub use holdfast_durable::{Batch, Store};

pub use crate::{
    fleet::{RelayReport, Standing, Superseded},
    pins::PinError,
    registry::Registry,
};
