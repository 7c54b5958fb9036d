//! QUIC and TLS as every Holdfast program uses them.
//!
//! The relay, the allocator and the SDK never depend on each other; what all three do with quinn
//! and rustls stands here once:
//!
//! - [`credentials`]: who we are and whom we trust, from PEM files to TLS configurations;
//! - [`identity`]: who the other side is, from its verified certificate;
//! - [`endpoint`]: sockets, windows and timeouts;
//! - [`ending`]: why a connection ended;
//! - [`wire`]: one connection as bytes in and bytes out, for a pure state machine to talk through;
//! - [`exchange`]: one request and its answer on a stream of their own.

pub mod credentials;
pub mod ending;
pub mod endpoint;
pub mod exchange;
pub mod identity;
pub mod wire;

pub use ending::Ending;
