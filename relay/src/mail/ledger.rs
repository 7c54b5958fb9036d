//! Which messages a mailbox has seen before, so that a retry is recognised and answered.
//!
//! Every path from a sender to a mailbox keeps the order of each lane, and after a break starts
//! again from the oldest unanswered message. So what a mailbox has accepted from a source is told
//! by one number, the highest: what is not above it was accepted before, or refused.
//!
//! What became of a message is known exactly for those that wait, and for all that this run has
//! accepted: one that waits no more was delivered, unless it is noted here that it was not.

use std::collections::BTreeMap;

use holdfast_protocol::{limits::WINDOW, message::Outcome};

use super::message::Source;

/// The highest number that a mailbox has accepted from a source.
pub(crate) type Mark = u64;

/// What became of a message that was accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// It waits at this position.
    Waiting(u64),
    /// It waits no more, and came to this end; `None`: in an earlier run, and nobody knows.
    Ended(Option<Outcome>),
}

#[derive(Debug, Default)]
struct Track {
    mark: Mark,
    /// The mark when this run began.
    restored: Mark,
    /// Those that wait, or came to another end than delivery. Nobody asks about what lies
    /// [`WINDOW`] below the mark.
    recent: BTreeMap<u64, Trace>,
}

impl Track {
    fn note(&mut self, seq: u64, trace: Trace) {
        self.recent.insert(seq, trace);
        while let Some(oldest) = self.recent.first_entry()
            && oldest.key() + WINDOW <= self.mark
        {
            oldest.remove();
        }
    }
}

/// How far each source has come, for one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<Source, Track>);

impl Marks {
    /// Takes back a mark.
    pub(crate) fn restore(&mut self, source: Source, mark: Mark) {
        let track = self.0.entry(source).or_default();
        (track.mark, track.restored) = (mark, mark);
    }

    /// Takes back that a message waits.
    pub(crate) fn restore_waiting(&mut self, source: Source, seq: u64, position: u64) {
        let track = self.0.entry(source).or_default();
        track.note(seq, Trace::Waiting(position));
    }

    /// The source's message of this number has been accepted, and waits at `position`.
    pub(crate) fn advance(&mut self, source: Source, seq: u64, position: u64) {
        let track = self.0.entry(source).or_default();
        track.mark = track.mark.max(seq);
        track.note(seq, Trace::Waiting(position));
    }

    /// The message waits no more.
    pub(crate) fn ended(&mut self, source: &Source, seq: u64, outcome: Outcome) {
        let Some(track) = self.0.get_mut(source) else {
            return;
        };
        if outcome == Outcome::Delivered && seq > track.restored {
            track.recent.remove(&seq);
        } else {
            track.note(seq, Trace::Ended(Some(outcome)));
        }
    }

    /// What became of a message, if it was accepted before.
    pub(crate) fn trace(&self, source: &Source, seq: u64) -> Option<Trace> {
        let track = self.0.get(source).filter(|track| seq <= track.mark)?;
        let unnoted = (seq > track.restored).then_some(Outcome::Delivered);
        let noted = track.recent.get(&seq).copied();
        Some(noted.unwrap_or(Trace::Ended(unnoted)))
    }

    /// How far a source has come.
    pub(crate) fn get(&self, source: &Source) -> Mark {
        self.0.get(source).map_or(0, |track| track.mark)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::id::{Lane, Sender};

    use super::*;

    fn source(epoch: u64) -> Source {
        Source {
            sender: Sender::Service("push".parse().unwrap()),
            epoch,
            lane: Lane::Message,
        }
    }

    #[test]
    fn each_source_has_a_mark_of_its_own() {
        let mut marks = Marks::default();
        marks.advance(source(1), 5, 50);
        marks.advance(source(1), 3, 51);
        assert!(marks.trace(&source(1), 5).is_some());
        assert!(marks.trace(&source(1), 6).is_none());
        assert!(marks.trace(&source(2), 1).is_none());
        assert_eq!(marks.get(&source(1)), 5);
    }

    #[test]
    fn the_end_of_a_message_of_this_run_is_known() {
        let mut marks = Marks::default();
        (1..=3).for_each(|seq| marks.advance(source(1), seq, 10 * seq));
        marks.ended(&source(1), 1, Outcome::Delivered);
        marks.ended(&source(1), 2, Outcome::Replaced);
        let trace = |seq| marks.trace(&source(1), seq).unwrap();
        assert_eq!(trace(1), Trace::Ended(Some(Outcome::Delivered)));
        assert_eq!(trace(2), Trace::Ended(Some(Outcome::Replaced)));
        assert_eq!(trace(3), Trace::Waiting(30));
    }

    #[test]
    fn the_end_of_a_message_of_an_earlier_run_is_not_known_unless_it_ends_in_this_one() {
        let mut marks = Marks::default();
        marks.restore(source(1), 9);
        marks.restore_waiting(source(1), 8, 80);
        let trace = |marks: &Marks, seq| marks.trace(&source(1), seq).unwrap();
        assert_eq!(trace(&marks, 7), Trace::Ended(None));
        assert_eq!(trace(&marks, 8), Trace::Waiting(80));
        marks.ended(&source(1), 8, Outcome::Delivered);
        assert_eq!(trace(&marks, 8), Trace::Ended(Some(Outcome::Delivered)));
    }

    #[test]
    fn a_source_takes_no_more_memory_than_its_window() {
        let mut marks = Marks::default();
        (1..=10 * WINDOW).for_each(|seq| marks.advance(source(1), seq, seq));
        assert_eq!(marks.0[&source(1)].recent.len() as u64, WINDOW);
    }
}
