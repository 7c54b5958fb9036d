//! The Holdfast allocator: tells devices, services and relays where to connect.
//!
//! Relays keep a lease here. An account is pinned to one of them, its home, when it is first seen,
//! and stays there. From below:
//!
//! - [`config`]: what an operator decides;
//! - `placement`: how well a relay suits an account, by hash; `fleet`: the leases, and the order in
//!   which to try relays. Both are pure;
//! - `pins`: which relay is an account's home, on disk;
//! - `registry`: who may ask what, and the answer;
//! - `connection`: one asker; [`Allocator`]: all of them.

mod allocator;
pub mod config;
mod connection;
mod fleet;
mod pins;
mod placement;
mod registry;

pub use allocator::{Allocator, BindError};
pub use config::{Config, ConfigError};
pub use fleet::{RelayReport, Standing};
pub use pins::PinError;
