//! The Holdfast wire, and both halves of a session as state machines without I/O.
//!
//! Nothing here knows a socket, a clock or a task: `now` and bytes go in, actions come out, so both
//! ends of a conversation can be run against each other in simulated time. `PROTOCOL.md` beside
//! this crate's manifest describes the same wire for people who write a client in another language.
//!
//! From the ground up:
//!
//! - [`limits`] holds every maximum, [`version`] the ALPN names, [`time`] the caller's clock as a value;
//! - [`id`] holds names, identities, addresses and message ids;
//! - [`frame`] is the envelope (`type, length, header, body`), [`close`] the reasons to end a connection;
//! - [`message`], [`allocation`] and [`peer`] are what the envelopes carry: device–relay,
//!   anyone–allocator, relay–relay;
//! - [`heartbeat`] decides when to ping and when the other side is gone; [`pace`] how often something
//!   may happen, and how slowly; [`radio`] what a session costs a battery;
//! - [`client`] and [`server`] are the device's and the relay's half of a session.

pub mod allocation;
pub mod client;
pub mod close;
pub mod frame;
pub mod heartbeat;
pub mod id;
pub mod limits;
pub mod message;
pub mod pace;
pub mod peer;
pub mod radio;
pub mod server;
pub mod time;
pub mod version;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod golden;
