//! Which messages were seen before, so that a retry is recognised exactly.
//!
//! Every path from a sender to a mailbox keeps the order of each lane, and after a break starts
//! again from the oldest unanswered message. So what a mailbox has accepted from a source is told
//! by one number, the highest: what is not above it was accepted before, or refused. Refusals are
//! few; the last ones are kept one by one, per account.

use std::collections::{BTreeMap, VecDeque};

use holdfast_protocol::{limits::WINDOW, message::Refusal};
use serde::{Deserialize, Serialize};

use super::message::Source;

/// The highest number that a mailbox has accepted from a source.
pub(crate) type Mark = u64;

/// How far each source has come, for one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<Source, Mark>);

impl Marks {
    /// Marks as they were stored.
    pub(crate) fn restore(&mut self, source: Source, mark: Mark) {
        self.0.insert(source, mark);
    }

    /// Whether the source's message of this number has come by before.
    pub(crate) fn has_seen(&self, source: &Source, seq: u64) -> bool {
        self.0.get(source).is_some_and(|mark| seq <= *mark)
    }

    /// The source's message of this number has been accepted.
    pub(crate) fn advance(&mut self, source: &Source, seq: u64) {
        match self.0.get_mut(source) {
            Some(mark) => *mark = seq.max(*mark),
            None => {
                self.0.insert(source.clone(), seq);
            }
        }
    }

    /// How far a source has come.
    pub(crate) fn get(&self, source: &Source) -> Mark {
        self.0.get(source).copied().unwrap_or(0)
    }
}

/// A source's last refused messages. A sender has at most [`WINDOW`] unanswered messages, and
/// answers reach it in order: whatever it may still ask about is among the last [`WINDOW`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusals {
    recent: VecDeque<(u64, Refusal)>,
    /// Some are not on the disk yet.
    #[serde(skip)]
    unwritten: bool,
}

impl Refusals {
    /// Notes a refusal.
    pub(crate) fn note(&mut self, seq: u64, refusal: Refusal) {
        if self.find(seq).is_some() {
            return;
        }
        if self.recent.len() as u64 >= WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back((seq, refusal));
        self.unwritten = true;
    }

    /// Why the message of this number was refused, if it was.
    pub(crate) fn find(&self, seq: u64) -> Option<Refusal> {
        self.recent
            .iter()
            .find(|(refused, _)| *refused == seq)
            .map(|(_, refusal)| *refusal)
    }

    /// What is to be written, if anything was noted since the last call.
    pub(crate) fn take_unwritten(&mut self) -> Option<Self> {
        std::mem::take(&mut self.unwritten).then(|| self.clone())
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::id::Lane;

    use super::*;

    fn source(epoch: u64) -> Source {
        let sender = holdfast_protocol::id::Sender::Service("push".parse().unwrap());
        Source {
            sender,
            epoch,
            lane: Lane::Message,
        }
    }

    #[test]
    fn each_source_has_a_mark_of_its_own() {
        let mut marks = Marks::default();
        marks.advance(&source(1), 5);
        marks.advance(&source(1), 3);
        assert!(marks.has_seen(&source(1), 5));
        assert!(!marks.has_seen(&source(1), 6));
        assert!(!marks.has_seen(&source(2), 1));
        assert_eq!(marks.get(&source(1)), 5);
    }

    #[test]
    fn the_last_window_of_refusals_is_remembered() {
        let mut refusals = Refusals::default();
        for seq in 1..=WINDOW + 1 {
            refusals.note(seq, Refusal::MailboxFull);
        }
        assert_eq!(refusals.find(1), None);
        assert_eq!(refusals.find(2), Some(Refusal::MailboxFull));
        assert!(refusals.take_unwritten().is_some());
        assert!(refusals.take_unwritten().is_none());
    }
}
