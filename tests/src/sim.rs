//! The simulator: whole fleets from one seed, in simulated time.
//!
//! The programs are the real ones without their I/O: [`holdfast::core`] for clients,
//! `holdfast_relay::core` for relays, `holdfast_allocator::core` for the allocator. Around them stand a
//! network, disks and clocks that fail, and apps that send, receive, are killed and come back. There
//! is no thread and no real time: the same seed brings the same run, step by step.
//!
//! ```text
//!   hour ── world ──┬── device ── app            who takes part
//!                   ├── station (a relay)
//!                   ├── allocator
//!                   ├── network, disk, notebook  what they stand on
//!                   ├── fleet, faults            what there is, and what goes wrong
//!                   ├── judge, inspection        what must hold
//!                   └── planted, tamper, story   bugs to be found; what is told of a finding
//! ```

mod allocator;
mod app;
mod device;
mod dice;
mod disk;
mod faults;
mod fleet;
mod hour;
mod inspection;
mod judge;
mod network;
mod notebook;
mod party;
mod planted;
mod schedule;
mod station;
mod story;
mod tamper;
mod world;

pub use hour::{Hour, Report};
pub use judge::Breach;
pub use planted::Planted;
pub use story::Story;
