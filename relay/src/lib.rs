//! The Holdfast relay daemon.
//!
//! A message's way, from top to bottom:
//!
//! ```text
//! relay (bind, shutdown; owns every task)
//!   connection (from handshake to session or link)   peers (dials links)   lease   admin
//!     pump (the only one between QUIC and what is decided of a connection)
//!       core/session, core/link (the ends of connections, without I/O)
//!         core/router (one message: forward it, store it, or pass it on)
//!           mail/account → mail/mailbox (order, windows, expiry)
//!             store (the trait) ← store/durable (sled, on the disk)
//! ```
//!
//! Everything in `core` and `mail` is decided without I/O.

mod admin;
mod bell;
mod breath;
mod clock;
mod config;
mod connection;
pub mod core;
pub mod daemon;
mod fill;
mod lease;
mod mail;
mod metrics;
mod peers;
mod pump;
mod recover;
mod relay;
mod rounds;
mod store;

pub use self::core::Manners;
pub use config::{Config, ConfigError, Limits, Upkeep};
pub use holdfast_transport::gate::HandshakeLimits;
pub use mail::policy::Strangers;
pub use relay::{BindError, Relay};
pub use store::StoreError;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use store::fuzzing;
