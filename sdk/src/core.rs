//! A client without I/O: for the [driver](crate::Client) that gives it a socket, a disk and a clock,
//! and for simulators that give it others.
//!
//! An [`Engine`] makes every decision of a client's: which relay to dial, when to ask an allocator,
//! how long to rest, what to send, show, write and acknowledge, and in which order. Whoever runs it
//! tells it what happened, by [`Input`], does what it says, by [`Output`], and comes back when the
//! [deadline](Engine::deadline) has passed. It reads no clock, and its only random source is a seed.
//!
//! ```text
//!             ┌──────────────────────── engine ───────────────────────┐
//!   app ──────┤ desk ─ outbox, inbox, allowing    what is sent, shown │
//!   disk ─────┤ search ─ itinerary, backoff       without a relay     │
//!   network ──┤ session ─ the protocol's client   with one            │
//!             │ rival, ghosts, surroundings       when the path moves │
//!             └───────────────────────────────────────────────────────┘
//! ```
//!
//! The disk is the caller's: it puts what the app sends into the outbox, drawing the next number of
//! the lane in the same change, and only then says [`Input::Appended`]; it makes the changes of each
//! [`Job`], in order, and says [`Input::Marked`] once a mark is durable.

mod allowing;
mod backoff;
mod desk;
mod engine;
mod failure;
mod ghosts;
mod inbox;
mod itinerary;
mod logbook;
mod outbox;
mod rival;
mod search;
mod session;
mod signal;
mod surroundings;

pub use engine::{Engine, EngineConfig, Restored};
pub use failure::Failure;
pub(crate) use failure::advice;
pub use inbox::{Mark, Source};
pub use itinerary::Stop;
pub use logbook::Logbook;
pub use outbox::{Entry, Load, Loaded, READY_BYTES};
pub use signal::{Input, Job, Output};
pub use surroundings::KnownNetwork;
