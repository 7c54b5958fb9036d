//! The two clocks of a running relay, read only here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use holdfast_protocol::time::Time;

use crate::mail::desk::Moment;

/// The clocks, from the moment the relay started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts them.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Monotonic time.
    pub(crate) fn time(self) -> Time {
        Time::at(self.origin.elapsed())
    }

    /// Both clocks.
    pub(crate) fn now(self) -> Moment {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment {
            time: self.time(),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// When a moment comes, for a timer of tokio's.
    pub(crate) fn instant(self, time: Time) -> tokio::time::Instant {
        (self.origin + time.since_origin()).into()
    }
}
