//! QUIC and TLS as every Holdfast program uses them.
//!
//! The relay, the allocator and the SDK never depend on each other; what all three do with quinn
//! and rustls stands here once:
//!
//! - [`credentials`]: who we are and whom we trust, from PEM files to TLS configurations; in the `wallet`
//!   lie the TLS sessions that a client may resume;
//! - [`identity`]: who the other side is, from its verified certificate;
//! - [`endpoint`]: windows and timeouts, and sockets that dial; a device's (`socket`) tells when it
//!   cannot send;
//! - [`ending`]: why a connection ended;
//! - [`wire`]: one connection as bytes in and bytes out, for a pure state machine to talk through;
//! - [`exchange`]: one request and its answer on a stream of their own.
//!
//! With the feature `server`, what accepting programs share:
//!
//! - `gate`: who may begin a handshake, and `line`: when;
//! - `handshake`: TLS, as far as a connection that was accepted needs it;
//! - `port`: sockets that accept, and `keys`, by which a restarted one is recognised;
//! - `live`: credentials that are read again while the program runs, and the end of connections whose
//!   certificates are revoked (`revocation`);
//! - `verifier`: whose certificates are taken;
//! - `tickets`: the TLS sessions that clients may resume.

pub mod credentials;
pub mod ending;
pub mod endpoint;
pub mod exchange;
#[cfg(feature = "server")]
mod expiry;
#[cfg(feature = "server")]
pub mod gate;
#[cfg(feature = "server")]
pub mod handshake;
pub mod identity;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod line;
#[cfg(feature = "server")]
pub mod live;
#[cfg(feature = "server")]
pub mod port;
#[cfg(feature = "server")]
mod revocation;
mod socket;
#[cfg(feature = "server")]
pub mod tickets;
#[cfg(feature = "server")]
mod verifier;
mod wallet;
pub mod wire;

pub use ending::Ending;
