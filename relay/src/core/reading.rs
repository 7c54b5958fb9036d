//! Whether a device reads what is sent to it. One that does not is let go: its mail stays where it
//! is, and what was queued for it goes out of memory.

use holdfast_protocol::{
    close::{CloseCode, Violation},
    pace::{Pace, Patience},
    time::Time,
};

/// What was given out to a connection and has not left yet.
#[derive(Debug)]
pub(crate) struct Reading {
    pace: Pace,
    /// More than this at a time is no backlog that the windows can explain, in bytes.
    most: usize,
    backlog: usize,
    /// `None` while there is nothing to read.
    patience: Option<Patience>,
}

impl Reading {
    /// Nothing was given out.
    pub(crate) fn new(pace: Pace, most: usize) -> Self {
        Self {
            pace,
            most,
            backlog: 0,
            patience: None,
        }
    }

    /// So many bytes more were given out.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.backlog += bytes;
    }

    /// So many bytes of it are still there.
    ///
    /// # Errors
    /// The [`Violation`] of a device that does not read.
    pub(crate) fn left(&mut self, now: Time, backlog: usize) -> Result<(), Violation> {
        let gone = self.backlog.saturating_sub(backlog);
        self.backlog = backlog;
        if backlog == 0 {
            self.patience = None;
            return Ok(());
        }
        let pace = self.pace;
        let patience = self
            .patience
            .get_or_insert_with(|| Patience::new(pace, now));
        patience.progress(now, gone as u64);
        let what = if backlog > self.most {
            format!("{backlog} bytes wait to be read")
        } else if patience.is_over(now) {
            format!("{backlog} bytes were not read in time")
        } else {
            return Ok(());
        };
        Err(Violation::new(CloseCode::SlowReader, what))
    }

    /// When to look again at the latest.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.patience.map(|patience| patience.ends())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PACE: Pace = Pace {
        grace: Duration::from_secs(10),
        bytes_per_second: 100,
    };

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn is_slow(left: Result<(), Violation>) -> bool {
        left.is_err_and(|violation| violation.code == CloseCode::SlowReader)
    }

    #[test]
    fn a_device_that_stops_reading_is_found_out_when_its_grace_is_over() {
        let mut reading = Reading::new(PACE, 10_000);
        assert_eq!(reading.deadline(), None);
        reading.give(5_000);
        assert_eq!(reading.left(at(0), 5_000), Ok(()));
        assert_eq!(reading.left(at(8), 4_000), Ok(()));
        assert_eq!(reading.deadline(), Some(at(18)));
        assert_eq!(reading.left(at(17), 4_000), Ok(()));
        assert!(is_slow(reading.left(at(18), 4_000)));
    }

    #[test]
    fn a_device_that_has_read_all_has_its_grace_again() {
        let mut reading = Reading::new(PACE, 10_000);
        reading.give(50);
        assert_eq!(reading.left(at(0), 50), Ok(()));
        assert_eq!(reading.left(at(9), 0), Ok(()));
        assert_eq!(reading.deadline(), None);
        reading.give(50);
        assert_eq!(reading.left(at(100), 50), Ok(()));
        assert_eq!(reading.deadline(), Some(at(110)));
    }

    #[test]
    fn too_much_at_once_is_not_waited_for() {
        let mut reading = Reading::new(PACE, 10_000);
        reading.give(10_001);
        assert!(is_slow(reading.left(at(0), 10_001)));
    }
}
