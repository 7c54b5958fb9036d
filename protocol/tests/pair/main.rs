//! Both halves of a session against each other, in simulated time: from one seed a link that
//! delays, cuts and reorders as far as QUIC may, so that a minute takes no time and a failure
//! comes again.

#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

mod link;
mod pair;

mod attaching;
mod faults;
mod heartbeat;
mod messages;

/// How many links each story is told over, where the link has a say in it.
const SEEDS: std::ops::Range<u64> = 0..100;
