//! Changes of the account's list of allowed senders that a relay has not confirmed. A new session
//! asks again for all of them, in order, so that the last word counts.

use std::collections::VecDeque;

use holdfast_protocol::id::Name;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) tag: u32,
    pub(crate) account: Name,
    pub(crate) allowed: bool,
}

/// The changes that are not confirmed.
#[derive(Debug, Default)]
pub(crate) struct Allowing {
    pending: VecDeque<Change>,
    /// How many of them, from the front, this session's relay was asked for.
    sent: usize,
}

impl Allowing {
    pub(crate) fn add(&mut self, change: Change) {
        self.pending.push_back(change);
    }

    pub(crate) fn begin_session(&mut self) {
        self.sent = 0;
    }

    /// What this session's relay was not asked for yet; now it is.
    pub(crate) fn unsent(&mut self) -> Vec<Change> {
        let changes = self.pending.iter().skip(self.sent).cloned().collect();
        self.sent = self.pending.len();
        changes
    }

    /// The relay has made a change. Says whether it was asked for.
    pub(crate) fn answered(&mut self, tag: u32) -> bool {
        let found = self.pending.iter().position(|change| change.tag == tag);
        let Some(index) = found else {
            return false;
        };
        self.pending.remove(index);
        self.sent = self.sent.saturating_sub(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(tag: u32, account: &str, allowed: bool) -> Change {
        Change {
            tag,
            account: account.parse().unwrap(),
            allowed,
        }
    }

    fn tags(allowing: &mut Allowing) -> Vec<u32> {
        allowing.unsent().iter().map(|change| change.tag).collect()
    }

    #[test]
    fn each_session_asks_for_what_is_not_confirmed_once_and_in_order() {
        let mut allowing = Allowing::default();
        allowing.add(change(0, "bob", true));
        allowing.add(change(1, "bob", false));
        assert_eq!(tags(&mut allowing), [0, 1]);
        assert_eq!(tags(&mut allowing), []);
        assert!(allowing.answered(0));
        allowing.add(change(2, "carol", true));
        assert_eq!(tags(&mut allowing), [2]);
        allowing.begin_session();
        assert_eq!(tags(&mut allowing), [1, 2]);
        assert!(allowing.answered(1));
        assert!(!allowing.answered(77));
        assert_eq!(tags(&mut allowing), []);
    }
}
