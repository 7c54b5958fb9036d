//! How long a crowd of devices needs to come back, or to go elsewhere: no relay shakes hands faster than
//! at its rate, so each device is told to wait for a random part of that.

use std::time::Duration;

/// Of the time in which the sessions of a relay are to be gone, the part in which devices set out: the
/// rest is for those whose first dial fails.
const SETTING_OUT: f64 = 0.75;

/// How many times as long as they would need devices take to leave, if there is time: they are served
/// until they are elsewhere, and the other relays are to have most of their processors for those who
/// are there.
const LEISURE: u32 = 3;

/// How fast devices come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comeback {
    /// Handshakes that a relay begins each second; 0 for no limit.
    pub(crate) per_second: u64,
}

impl Comeback {
    /// How long so many devices need.
    pub(crate) fn span(self, devices: usize) -> Duration {
        match self.per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(devices as f64 / rate as f64),
        }
    }

    /// Over how long so many devices set out for so many other relays, if they are to be there within
    /// a time. The others are taken for as fast as this one.
    pub(crate) fn spread(self, devices: usize, relays: usize, within: Duration) -> Duration {
        let each = devices.div_ceil(relays.max(1));
        let at_leisure = self.span(each).saturating_mul(LEISURE);
        at_leisure.min(within.mul_f64(SETTING_OUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn devices_come_back_at_the_rate_and_at_once_without_one() {
        assert_eq!(Comeback { per_second: 1000 }.span(10_000), 10 * SECOND);
        assert_eq!(Comeback { per_second: 1000 }.span(1), SECOND / 1000);
        assert_eq!(Comeback { per_second: 0 }.span(10_000), Duration::ZERO);
    }

    #[test]
    fn they_leave_at_leisure_but_in_time() {
        let comeback = Comeback { per_second: 1000 };
        assert_eq!(comeback.spread(3000, 1, 20 * SECOND), 9 * SECOND);
        assert_eq!(comeback.spread(3000, 2, 20 * SECOND), SECOND * 9 / 2);
        assert_eq!(comeback.spread(50_000, 1, 20 * SECOND), 15 * SECOND);
    }
}
