//! Which messages a mailbox has seen before, so that a retry is recognised and answered.
//!
//! Every path from a sender to a mailbox keeps the order of each lane, and after a break starts
//! again from the oldest unanswered message. So what a mailbox has accepted from a source is told
//! by one number, the highest: what is not above it was accepted before, or refused.
//!
//! On the disk the number stands in the row of the message that has it for as long as that one waits,
//! and in a row of its own from when that one leaves: so taking a message in writes one row.
//!
//! What became of a message is known exactly for those that wait, and for all that this run has
//! accepted: one that waits no more was delivered, unless it is noted here that it was not.
//!
//! Of an earlier run, a message with a time to live or a key may have come to another end, and its
//! sender knows that. One without either was delivered, unless it has waited for as long as mail may
//! wait at all. Of a source such messages go in the order of their numbers, so that one more number
//! on the disk tells how far they have gone.
//!
//! A number is forgotten when nothing has come from its source for [`SOURCE_MEMORY`]. A client
//! gives up a message after [`MAX_RETRY_AGE`](holdfast_protocol::limits::MAX_RETRY_AGE), which is a month
//! less; and a device that was shown one that comes even later knows it by its own mark, which it keeps
//! until none can come any more.

use std::collections::BTreeMap;

use holdfast_protocol::{
    limits::{SOURCE_MEMORY, WINDOW},
    message::Outcome,
};

use super::{
    desk::{Day, days},
    message::Source,
};

/// How far a source has come in a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The highest number that was accepted.
    pub(crate) seq: u64,
    /// When it was.
    pub(crate) day: Day,
    /// The highest number that has waited for as long as mail may; 0: none has.
    pub(crate) lapsed: u64,
}

impl Mark {
    /// Accepts a number.
    pub(crate) fn advance(&mut self, seq: u64, today: Day) {
        self.seq = self.seq.max(seq);
        self.day = self.day.max(today);
    }

    /// Whether nothing that it covers can come again.
    pub(crate) fn is_outdated(self, today: Day) -> bool {
        is_outdated(self.day, today)
    }
}

/// Whether what was noted on a day about a source cannot matter any more. A day more than the memory
/// is long, as a day has a beginning and an end.
pub(crate) fn is_outdated(noted: Day, today: Day) -> bool {
    today.saturating_sub(noted) > days(SOURCE_MEMORY)
}

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
    restored: u64,
    /// The number in the row of its own.
    noted: u64,
    /// Those that wait, by number: at which position. Whoever asked to hear the end of one asks again
    /// in its next session, however far below the mark it lies.
    waiting: BTreeMap<u64, u64>,
    /// Ends other than delivery in this run: the [`WINDOW`] with the highest numbers, however far below
    /// the mark, since whoever asked to hear of a message that waited asks again.
    ended: BTreeMap<u64, Outcome>,
}

impl Track {
    fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn end(&mut self, seq: u64, outcome: Outcome) {
        self.waiting.remove(&seq);
        if outcome == Outcome::Delivered && seq > self.restored {
            return;
        }
        self.ended.insert(seq, outcome);
        // Those within the window are the last to go.
        if self.ended.len() as u64 > WINDOW {
            self.ended.pop_first();
        }
    }

    /// The row to write, unless it is as far already. It covers nothing that is in memory only: a
    /// crash forgets that, and it comes again.
    fn note(&mut self, seq: u64) -> Option<Mark> {
        if seq <= self.noted {
            return None;
        }
        self.noted = seq;
        Some(self.row())
    }

    /// The row to write when a message has waited for as long as mail may.
    fn lapse(&mut self, seq: u64) -> Mark {
        self.mark.lapsed = self.mark.lapsed.max(seq);
        self.noted = self.noted.max(seq);
        self.row()
    }

    fn row(&self) -> Mark {
        Mark {
            seq: self.noted,
            ..self.mark
        }
    }

    fn trace(&self, seq: u64) -> Trace {
        if let Some(position) = self.waiting.get(&seq) {
            return Trace::Waiting(*position);
        }
        let is_noted = seq > self.restored && seq + WINDOW > self.mark.seq;
        let unnoted = match is_noted {
            true => Some(Outcome::Delivered),
            false => (seq <= self.mark.lapsed).then_some(Outcome::Expired),
        };
        Trace::Ended(self.ended.get(&seq).copied().or(unnoted))
    }
}

/// Takes out sources of which nothing can come again.
pub(crate) fn take_outdated<T>(
    known: &mut BTreeMap<Source, T>,
    is_outdated: impl Fn(&T) -> bool,
) -> Vec<Source> {
    let outdated = known.iter().filter(|(_, known)| is_outdated(known));
    let sources: Vec<Source> = outdated.map(|(source, _)| source.clone()).collect();
    known.retain(|_, known| !is_outdated(known));
    sources
}

/// How far each source has come, for one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<Source, Track>);

impl Marks {
    /// Takes back the mark in the row of its own.
    pub(crate) fn restore(&mut self, source: Source, mark: Mark) {
        let track = self.0.entry(source).or_default();
        track.mark.advance(mark.seq, mark.day);
        track.mark.lapsed = mark.lapsed;
        (track.restored, track.noted) = (track.mark.seq, mark.seq);
    }

    /// Takes back that a message waits, which was accepted on that day.
    pub(crate) fn restore_waiting(&mut self, source: Source, seq: u64, position: u64, day: Day) {
        let track = self.0.entry(source).or_default();
        track.waiting.insert(seq, position);
        track.mark.advance(seq, day);
        track.restored = track.mark.seq;
    }

    /// The source's message of this number has been accepted, and waits at `position`.
    pub(crate) fn advance(&mut self, source: Source, seq: u64, position: u64, today: Day) {
        let track = self.0.entry(source).or_default();
        track.mark.advance(seq, today);
        track.waiting.insert(seq, position);
    }

    /// The message waits no more.
    pub(crate) fn ended(&mut self, source: &Source, seq: u64, outcome: Outcome) {
        if let Some(track) = self.0.get_mut(source) {
            track.end(seq, outcome);
        }
    }

    /// What became of a message, if it was accepted before.
    pub(crate) fn trace(&self, source: &Source, seq: u64) -> Option<Trace> {
        let track = self.0.get(source).filter(|track| seq <= track.mark.seq)?;
        Some(track.trace(seq))
    }

    /// The source's newest message that waits: its number and its position.
    pub(crate) fn newest_waiting(&self, source: &Source) -> Option<(u64, u64)> {
        let (seq, position) = self.0.get(source)?.waiting.last_key_value()?;
        Some((*seq, *position))
    }

    /// The source's message of this number leaves the disk, and none that comes after it is there: the
    /// mark to write down instead, unless it is written.
    pub(crate) fn note(&mut self, source: &Source, seq: u64) -> Option<Mark> {
        self.0.get_mut(source)?.note(seq)
    }

    /// The source's message of this number leaves the disk, as it has waited for as long as mail may: the
    /// mark to write down.
    pub(crate) fn lapse(&mut self, source: &Source, seq: u64) -> Option<Mark> {
        Some(self.0.get_mut(source)?.lapse(seq))
    }

    /// Forgets sources of which nothing can come again and nothing waits, and tells which.
    pub(crate) fn forget_outdated(&mut self, today: Day) -> Vec<Source> {
        let outdated = |track: &Track| track.mark.is_outdated(today) && !track.waits();
        take_outdated(&mut self.0, outdated)
    }

    /// Whether no source is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
impl Marks {
    /// What a source takes in memory besides what is noted of its last messages, for names of up to
    /// 24 bytes; a tree adds some slack.
    pub(crate) const BYTES_OF_SOURCE: usize = size_of::<(Source, Track)>();

    /// How far a source has come.
    pub(crate) fn get(&self, source: &Source) -> Mark {
        let track = self.0.get(source);
        track.map(|track| track.mark).unwrap_or_default()
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

    fn mark(seq: u64, day: Day) -> Mark {
        Mark {
            seq,
            day,
            lapsed: 0,
        }
    }

    #[test]
    fn each_source_has_a_mark_of_its_own() {
        let mut marks = Marks::default();
        marks.advance(source(1), 5, 50, 7);
        marks.advance(source(1), 3, 51, 6);
        assert!(marks.trace(&source(1), 5).is_some());
        assert!(marks.trace(&source(1), 6).is_none());
        assert!(marks.trace(&source(2), 1).is_none());
        assert_eq!(marks.get(&source(1)), mark(5, 7));
        assert_eq!(marks.get(&source(2)), Mark::default());
    }

    #[test]
    fn the_end_of_a_message_of_this_run_is_known() {
        let mut marks = Marks::default();
        (1..=3).for_each(|seq| marks.advance(source(1), seq, 10 * seq, 1));
        marks.ended(&source(1), 1, Outcome::Delivered);
        marks.ended(&source(1), 2, Outcome::Replaced);
        let trace = |seq| marks.trace(&source(1), seq).unwrap();
        assert_eq!(trace(1), Trace::Ended(Some(Outcome::Delivered)));
        assert_eq!(trace(2), Trace::Ended(Some(Outcome::Replaced)));
        assert_eq!(trace(3), Trace::Waiting(30));
        let noted = &marks.0[&source(1)].ended;
        assert_eq!(noted.len(), 1, "what was delivered takes no memory");
    }

    #[test]
    fn the_end_of_a_message_of_an_earlier_run_is_not_known_unless_it_ends_in_this_one() {
        let mut marks = Marks::default();
        marks.restore(source(1), mark(9, 1));
        let trace = |marks: &Marks, seq| marks.trace(&source(1), seq).unwrap();
        assert_eq!(trace(&marks, 7), Trace::Ended(None));
        for seq in 8..=9 {
            marks.restore_waiting(source(1), seq, 10 * seq, 1);
            assert_eq!(trace(&marks, seq), Trace::Waiting(10 * seq));
            marks.ended(&source(1), seq, Outcome::Delivered);
            let delivered = Trace::Ended(Some(Outcome::Delivered));
            assert_eq!(trace(&marks, seq), delivered);
        }
    }

    #[test]
    fn what_has_waited_for_as_long_as_mail_may_is_not_taken_for_delivered_in_a_later_run() {
        let mut marks = Marks::default();
        (1..=4).for_each(|seq| marks.advance(source(1), seq, 10 * seq, 1));
        let row = marks.lapse(&source(1), 2).unwrap();
        let lapsed = Mark {
            lapsed: 2,
            ..mark(2, 1)
        };
        assert_eq!(row, lapsed);
        let mut marks = Marks::default();
        marks.restore(source(1), row);
        marks.restore_waiting(source(1), 4, 40, 1);
        let trace = |marks: &Marks, seq| marks.trace(&source(1), seq).unwrap();
        let expired = Trace::Ended(Some(Outcome::Expired));
        assert_eq!([1, 2].map(|seq| trace(&marks, seq)), [expired; 2]);
        assert_eq!(trace(&marks, 3), Trace::Ended(None));
        let row = marks.note(&source(1), 4);
        let noted = Mark { seq: 4, ..lapsed };
        assert_eq!(row, Some(noted), "it is remembered with what comes later");
    }

    /// Its sender may have asked to hear its end, and asks again in its next session.
    #[test]
    fn what_waits_is_known_however_far_its_source_has_come() {
        let mut marks = Marks::default();
        marks.restore(source(1), mark(10 * WINDOW, 1));
        marks.restore_waiting(source(1), 3, 30, 1);
        assert_eq!(marks.trace(&source(1), 3), Some(Trace::Waiting(30)));
        marks.ended(&source(1), 3, Outcome::Expired);
        let expired = Trace::Ended(Some(Outcome::Expired));
        assert_eq!(marks.trace(&source(1), 3), Some(expired));
    }

    #[test]
    fn nothing_is_said_of_an_end_that_lies_too_far_back_to_be_known() {
        let mut marks = Marks::default();
        (1..=10 * WINDOW).for_each(|seq| {
            marks.advance(source(1), seq, seq, 1);
            marks.ended(&source(1), seq, Outcome::Expired);
        });
        let track = &marks.0[&source(1)];
        assert_eq!((track.waiting.len(), track.ended.len() as u64), (0, WINDOW));
        let trace = |seq| marks.trace(&source(1), seq).unwrap();
        assert_eq!(trace(9 * WINDOW), Trace::Ended(None));
        let expired = Trace::Ended(Some(Outcome::Expired));
        assert_eq!(trace(9 * WINDOW + 1), expired);
    }

    #[test]
    fn a_source_is_forgotten_when_it_was_silent_for_longer_than_any_retry_takes() {
        let mut marks = Marks::default();
        marks.advance(source(1), 5, 50, 100);
        marks.advance(source(2), 5, 51, 101);
        marks.ended(&source(2), 5, Outcome::Delivered);
        assert_eq!(marks.forget_outdated(191), [], "it waits");
        marks.ended(&source(1), 5, Outcome::Delivered);
        assert_eq!(marks.forget_outdated(190), []);
        assert_eq!(marks.forget_outdated(191), [source(1)]);
        assert!(marks.trace(&source(1), 5).is_none());
        marks.advance(source(2), 6, 52, 191);
        marks.ended(&source(2), 6, Outcome::Expired);
        assert_eq!(marks.forget_outdated(281), []);
        assert!(!marks.is_empty());
        assert_eq!(marks.forget_outdated(282), [source(2)]);
        assert!(marks.is_empty());
    }
}
