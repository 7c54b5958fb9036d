//! When to ping, and when the other side is gone.
//!
//! The device pings at an interval and announces in each ping when the next one comes at the
//! latest. The relay's deadline follows the announcement, so an interval that grows is never
//! punished. Pings are datagrams and may be lost: the device repeats one that is not answered
//! before it takes the relay for lost.
//!
//! In the foreground the interval is fixed. In the background every ping wakes the radio, so the
//! device learns how long the path holds without one:
//!
//! - [`pinger`]: the device's half: pings, and what their answers show;
//! - [`learner`]: how long a network forgives silence;
//! - [`watch`]: the relay's half: answers, at once and late, and the deadline.

pub mod learner;
pub mod pinger;
pub mod watch;

use std::time::Duration;

pub use self::{
    learner::{Learned, Learner},
    pinger::{Beat, Observation, PingSchedule, Pinger},
    watch::{Deadline, Watch},
};

/// A duration in whole milliseconds, as the wire has it.
pub fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
