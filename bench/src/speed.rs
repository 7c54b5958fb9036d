//! What a relay costs its server, and how fast it is: measured through the client library, on any
//! deployment, or on a stack that is started for it.
//!
//! - `problem`: why something cannot be measured; `audience`: who is told;
//! - `target`: which deployment; `stack`: one that is started for the measurement; `issuer`:
//!   certificates for very many devices; `arrival`: how they attach;
//! - `server`: what a process takes of its machine; `latency`: how long something took;
//!   `timetable`: when messages are due, whatever became of those before;
//! - `pair`: a device that writes and one that reads; `lean`: such devices without the client library;
//!   `forwarder`: the bare QUIC forwarder that Holdfast is compared with;
//! - `turn`: what came of a load, and the figures of it; `contest`: both sides in alternation;
//! - `disk`: what mail takes of it;
//! - [`route`], [`pace`], [`store`] and `drain`, [`idle`], [`connect`]: a measurement each.

mod arrival;
mod audience;
pub mod connect;
mod contest;
mod disk;
mod drain;
mod forwarder;
pub mod idle;
mod issuer;
mod latency;
mod lean;
pub mod pace;
mod pair;
mod problem;
pub mod route;
mod server;
mod stack;
pub mod store;
mod target;
mod timetable;
mod turn;

use std::process::ExitCode;

pub use audience::Audience;
pub use problem::Problem;
pub use target::Target;

/// To be called first thing in `main`: is the bare forwarder, if the program was started as it.
pub(crate) fn play() -> Option<ExitCode> {
    forwarder::play()
}
