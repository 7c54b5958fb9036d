//! The Holdfast allocator: tells devices, services and relays where to connect.
//!
//! Relays keep a lease here. An account is pinned to one of them, its home, when it is first seen,
//! and stays there. From below:
//!
//! - [`config`]: what an operator decides;
//! - `placement`: how well a relay suits an account, by hash; `fleet`: the leases, and the order in
//!   which to try relays. Both are pure;
//! - `pins`: which relay is an account's home, in a store;
//! - `registry`: who may ask what, and the answer; with the store of the caller's choice it is an
//!   allocator without I/O ([`core`]);
//! - `turnstile`: how often one may ask (pure);
//! - `connection`: one asker; [`Allocator`]: all of them.

mod allocator;
pub mod config;
mod connection;
pub mod core;
mod fleet;
mod pins;
mod placement;
mod registry;
mod turnstile;

pub use allocator::{Allocator, BindError};
pub use config::{Config, ConfigError};
pub use fleet::{RelayReport, Standing};
pub use holdfast_transport::gate::HandshakeLimits;
pub use pins::PinError;
