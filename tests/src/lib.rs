//! The net harness and the integration tests.
//!
//! - [`pki`]: an authority and whatever certificates a test wants, good and bad;
//! - [`net`]: an allocator and relays on free ports, in this process, to be stopped and started;
//! - [`daemon`]: a relay as a process of its own, to be killed and frozen;
//! - [`guide`]: an allocator that says what a test tells it to;
//! - [`courtesy`]: programs that give way to what is measured;
//! - [`raw`]: a device that speaks the wire by hand;
//! - [`initials`]: first packets of clients that will not go on;
//! - [`rig`]: real processes, killed, cut off from power and given damaged disks;
//! - [`link`]: a UDP proxy that loses, delays and rebinds;
//! - [`way`]: such a link, and an allocator by which devices find no other way;
//! - [`scrape`]: a relay's metrics;
//! - [`sim`]: whole fleets in simulated time;
//! - [`sleeper`]: a device in the background behind an address translation, in simulated time.
//!
//! The tests are in `it`, one binary.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness fails loudly"
)]

pub mod courtesy;
pub mod daemon;
pub mod guide;
pub mod initials;
pub mod link;
pub mod net;
pub mod pki;
pub mod raw;
pub mod rig;
pub mod scrape;
pub mod sim;
pub mod sleeper;
pub mod way;
