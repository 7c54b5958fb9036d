//! How near something is to its end, and when to say so again.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// More than a week away.
    Far,
    /// Within a week.
    Week,
    /// Within three days.
    Days,
    /// Within a day.
    Day,
    /// Within an hour.
    Hour,
    /// It is past.
    Over,
}

impl Stage {
    fn of(left: Duration) -> Self {
        match left {
            Duration::ZERO => Self::Over,
            left if left <= HOUR => Self::Hour,
            left if left <= DAY => Self::Day,
            left if left <= 3 * DAY => Self::Days,
            left if left <= 7 * DAY => Self::Week,
            _ => Self::Far,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Far => "in more than a week",
            Self::Week => "within a week",
            Self::Days => "within three days",
            Self::Day => "within a day",
            Self::Hour => "within an hour",
            Self::Over => "in the past",
        })
    }
}

/// Remembers what was said.
#[derive(Default)]
pub(crate) struct Reminder {
    said: Option<Stage>,
}

impl Reminder {
    /// The stage, if it is another one than last time.
    pub(crate) fn turn(&mut self, ends: Option<SystemTime>, now: SystemTime) -> Option<Stage> {
        let left = ends?.duration_since(now).unwrap_or_default();
        let stage = Stage::of(left);
        (self.said.replace(stage) != Some(stage)).then_some(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_said_once_on_the_way_to_the_end_and_anew_after_a_renewal() {
        let (start, mut reminder) = (SystemTime::UNIX_EPOCH, Reminder::default());
        let end = start + 30 * DAY;
        let said: Vec<Stage> = (0..=31 * 24)
            .filter_map(|hour| reminder.turn(Some(end), start + hour * HOUR))
            .collect();
        assert_eq!(
            said,
            [
                Stage::Far,
                Stage::Week,
                Stage::Days,
                Stage::Day,
                Stage::Hour,
                Stage::Over
            ]
        );
        let later = start + 31 * DAY;
        assert_eq!(
            reminder.turn(Some(later + 30 * DAY), later),
            Some(Stage::Far)
        );
        assert_eq!(
            reminder.turn(Some(later + 2 * DAY), later),
            Some(Stage::Days)
        );
    }

    #[test]
    fn what_has_no_end_is_not_spoken_of() {
        assert_eq!(Reminder::default().turn(None, SystemTime::UNIX_EPOCH), None);
    }
}
