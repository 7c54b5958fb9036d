//! Dials of this device that nobody waits for any more, but whose first words may still reach a relay:
//! out of a handshake that took longer than the device's patience, or from where they waited for a link
//! to the device's home. They look like a session of a newer program then, and end the one that stands.

use std::time::Duration;

use holdfast_protocol::time::Time;

/// For how long a dial may still make itself felt: what a relay gives a handshake, and what links need
/// to find out that they are broken and to be up again.
const AFTERMATH: Duration = Duration::from_secs(60);

/// What is known of them.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    /// When what is being dialled was, or what was dialled last and never welcomed.
    pending: Option<Time>,
    /// When the last one was dialled that another dial followed before it was welcomed.
    given_up: Option<Time>,
}

impl Ghosts {
    /// A relay is dialled.
    pub(crate) fn dialled(&mut self, now: Time) {
        self.given_up = self.pending.replace(now).or(self.given_up);
    }

    /// The last dial was welcomed.
    pub(crate) fn welcomed(&mut self) {
        self.pending = None;
    }

    /// Whether a session may have been ended by one of them.
    pub(crate) fn may_walk(&self, now: Time) -> bool {
        let last = self.pending.max(self.given_up);
        last.is_some_and(|at| now.since(at) < AFTERMATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_dial_that_was_welcomed_is_no_ghost() {
        let mut ghosts = Ghosts::default();
        assert!(!ghosts.may_walk(at(0)));
        for second in 0..3 {
            ghosts.dialled(at(second));
            ghosts.welcomed();
            assert!(!ghosts.may_walk(at(second)));
        }
    }

    #[test]
    fn one_that_was_given_up_may_walk_for_a_minute_whatever_came_of_the_next() {
        let mut ghosts = Ghosts::default();
        ghosts.dialled(at(10));
        ghosts.dialled(at(13));
        ghosts.welcomed();
        assert!(ghosts.may_walk(at(69)) && !ghosts.may_walk(at(70)));
        ghosts.dialled(at(80));
        assert!(ghosts.may_walk(at(139)) && !ghosts.may_walk(at(140)));
    }
}
