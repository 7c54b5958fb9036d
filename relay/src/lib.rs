//! The Holdfast relay daemon.
//!
//! A message's way, from top to bottom:
//!
//! ```text
//! relay (bind, shutdown; owns every task)
//!   connection (the only pump between QUIC and a session)    lease (with the allocator)   admin
//!     router (one message: forward it, store it, or pass it on)
//!       mail/account → mail/mailbox (order, windows, expiry)        peers/edge → peers/home
//!         store (the trait) ← store/durable (sled, on the disk)
//! ```
//!
//! Everything in `mail` is rules without I/O.

mod admin;
mod clock;
mod config;
mod connection;
pub mod daemon;
mod lease;
mod mail;
mod metrics;
mod peers;
mod relay;
mod request;
mod router;
mod store;

pub use config::{Config, ConfigError, Limits};
pub use mail::policy::Strangers;
pub use relay::{BindError, Relay};
pub use store::StoreError;
