//! What a relay decides, without I/O: time is passed in, bytes go in and come out.
//!
//! - [`request`]: what sessions and links ask of the router;
//! - [`end`]: one end of a connection, without the connection;
//! - [`link`]: both ends of a link between relays; [`links`]: those that this relay dials;
//! - [`router`]: one message: forward it, store it, or pass it on;
//! - [`session`]: the relay's side of a session.

pub(crate) mod end;
pub(crate) mod link;
pub(crate) mod links;
pub(crate) mod request;
pub(crate) mod router;
pub(crate) mod session;
