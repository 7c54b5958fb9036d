//! What was received, what the app has done, and what may be acknowledged. Pure: marks that must be
//! on disk before an acknowledgement are handed out, and their return is told.
//!
//! Two orders meet here. A *mark* says how far the app has come with one source (a sender's outbox,
//! one lane): whatever lies at or below it is never shown again. A *place* is where a message lies in
//! this session's mailbox lane: the acknowledgement names the highest place below which everything
//! is done. Marks outlive the session and the process, places do not outlive the session. A mark is
//! forgotten when nothing that it covers can come any more, [`MARK_MEMORY`] after it was made.

use std::collections::{BTreeMap, HashMap};

use holdfast_protocol::{
    id::{Lane, Sender},
    message::Ack,
};
use serde::{Deserialize, Serialize};

use super::logbook::MARK_MEMORY;

/// Where messages come from in one order: a sender's outbox, and one of its lanes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Who.
    pub sender: Sender,
    /// Which outbox.
    pub epoch: u64,
    /// Which lane.
    pub lane: Lane,
}

/// The app is done with everything from a source up to a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The source.
    pub source: Source,
    /// The number.
    pub seq: u64,
    /// When it was made, by the [logbook](super::logbook)'s count of plausible steps: milliseconds.
    pub made_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// The app has it.
    Open,
    /// The app is done with it; the mark may have to wait for an earlier one.
    Done,
    /// The app let go of it without being done. It comes again with the next session.
    Dropped,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    hold: Hold,
    /// Whether this session's relay has delivered it.
    here: bool,
}

/// What is known of one source.
#[derive(Debug, Default)]
struct Line {
    /// On disk.
    mark: u64,
    /// On disk, or on its way there.
    asked: u64,
    /// When that was made, as in [`Mark::made_ms`].
    made_ms: u64,
    /// What was shown and lies above the mark.
    items: BTreeMap<u64, Item>,
}

impl Line {
    /// How far the mark can go now, if further than before.
    fn advance(&mut self) -> Option<u64> {
        self.forget_lost();
        let done = self.items.iter();
        let through = done
            .take_while(|(_, item)| item.hold == Hold::Done)
            .map(|(seq, _)| *seq)
            .last()?;
        if through <= self.asked {
            return None;
        }
        self.asked = through;
        Some(through)
    }

    /// A relay delivers in order: what was dropped in an earlier session, and has been passed by a
    /// later message in this one, will not come again.
    fn forget_lost(&mut self) {
        let mut here = self.items.iter().rev().filter(|(_, item)| item.here);
        let Some(newest) = here.next().map(|(seq, _)| *seq) else {
            return;
        };
        self.items
            .retain(|seq, item| item.here || item.hold != Hold::Dropped || *seq > newest);
    }

    /// Whether no copy of what the mark covers can come any more, and the app has nothing of it.
    fn is_outdated(&self, now_ms: u64) -> bool {
        let memory = MARK_MEMORY.as_millis();
        let is_old = u128::from(now_ms.saturating_sub(self.made_ms)) > memory;
        is_old && self.items.is_empty() && self.asked == self.mark
    }
}

#[derive(Debug)]
enum Place {
    Message { source: Source, seq: u64 },
    Settled,
}

/// What was received.
#[derive(Debug)]
pub(crate) struct Inbox {
    lines: HashMap<Source, Line>,
    places: [BTreeMap<u64, Place>; 2],
    due: Vec<Mark>,
    /// As in [`Mark::made_ms`].
    now_ms: u64,
}

impl Inbox {
    /// With the marks from the disk.
    pub(crate) fn new(marks: Vec<Mark>) -> Self {
        let lines = marks.into_iter().map(|mark| {
            let line = Line {
                mark: mark.seq,
                asked: mark.seq,
                made_ms: mark.made_ms,
                items: BTreeMap::new(),
            };
            (mark.source, line)
        });
        Self {
            lines: lines.collect(),
            places: Default::default(),
            due: Vec::new(),
            now_ms: 0,
        }
    }

    /// A session has begun: the relay delivers again what was not acknowledged. Forgets sources of
    /// which no copy can come any more, and tells which. Nothing is in its place yet, so none is
    /// needed for an acknowledgement.
    pub(crate) fn begin_session(&mut self, now_ms: u64) -> Vec<Source> {
        self.set_now(now_ms);
        self.places = Default::default();
        for item in self.lines.values_mut().flat_map(|l| l.items.values_mut()) {
            item.here = false;
        }
        let outdated = self.lines.extract_if(|_, line| line.is_outdated(now_ms));
        let mut sources: Vec<Source> = outdated.map(|(source, _)| source).collect();
        sources.sort_unstable();
        sources
    }

    /// Marks are made at this time from now on.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// A message has come. Says whether the app is to see it.
    pub(crate) fn arrived(&mut self, position: u64, source: Source, seq: u64) -> bool {
        let lane = source.lane as usize;
        let line = self.lines.entry(source.clone()).or_default();
        if seq <= line.mark {
            self.places[lane].insert(position, Place::Settled);
            return false;
        }
        let known = line.items.get(&seq).map(|item| item.hold);
        let show = matches!(known, None | Some(Hold::Dropped));
        let hold = if show {
            Hold::Open
        } else {
            known.unwrap_or(Hold::Open)
        };
        line.items.insert(seq, Item { hold, here: true });
        let place = Place::Message {
            source: source.clone(),
            seq,
        };
        self.places[lane].insert(position, place);
        self.advance(&source);
        show
    }

    /// Word of messages that will not come.
    pub(crate) fn gap(&mut self, position: u64) {
        self.places[Lane::Message as usize].insert(position, Place::Settled);
    }

    /// The app is done with a message. Says whether a mark that covers it is on its way to the disk;
    /// if none is, it is there already, or an earlier message of the source has to be done first.
    pub(crate) fn done(&mut self, source: &Source, seq: u64) -> bool {
        self.hold(source, seq, Hold::Done);
        let line = self.lines.get(source);
        line.is_some_and(|line| line.asked >= seq && line.mark < seq)
    }

    /// The app has let go of a message without being done with it.
    pub(crate) fn dropped(&mut self, source: &Source, seq: u64) {
        self.hold(source, seq, Hold::Dropped);
    }

    /// The marks that are to be written now.
    pub(crate) fn take_due(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.due)
    }

    /// A mark is on disk.
    pub(crate) fn marked(&mut self, mark: &Mark) {
        let Some(line) = self.lines.get_mut(&mark.source) else {
            return;
        };
        line.mark = line.mark.max(mark.seq);
        line.items = line.items.split_off(&(line.mark + 1));
    }

    /// The acknowledgements that can be given now and have not been given.
    pub(crate) fn take_acks(&mut self) -> Vec<Ack> {
        Lane::ALL
            .into_iter()
            .filter_map(|lane| {
                let through = self.settle(lane)?;
                Some(Ack { lane, through })
            })
            .collect()
    }

    fn settle(&mut self, lane: Lane) -> Option<u64> {
        let mut through = None;
        while let Some(place) = self.places[lane as usize].first_entry() {
            let settled = match place.get() {
                Place::Settled => true,
                Place::Message { source, seq } => {
                    self.lines.get(source).is_some_and(|line| *seq <= line.mark)
                }
            };
            if !settled {
                break;
            }
            through = Some(place.remove_entry().0);
        }
        through
    }

    fn hold(&mut self, source: &Source, seq: u64, hold: Hold) {
        let line = self.lines.get_mut(source);
        if let Some(item) = line.and_then(|line| line.items.get_mut(&seq)) {
            item.hold = hold;
            self.advance(source);
        }
    }

    fn advance(&mut self, source: &Source) {
        let line = self.lines.get_mut(source);
        let Some(line) = line else {
            return;
        };
        let Some(seq) = line.advance() else {
            return;
        };
        line.made_ms = self.now_ms;
        // The last one of a source covers those before it.
        self.due.pop_if(|mark| mark.source == *source);
        self.due.push(Mark {
            source: source.clone(),
            seq,
            made_ms: self.now_ms,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn source(device: &str) -> Source {
        Source {
            sender: Sender::Device(device.parse().unwrap()),
            epoch: 7,
            lane: Lane::Message,
        }
    }

    fn pc() -> Source {
        source("alice/pc")
    }

    fn write_marks(inbox: &mut Inbox) -> Vec<u64> {
        let due = inbox.take_due();
        due.iter().for_each(|mark| inbox.marked(mark));
        due.into_iter().map(|mark| mark.seq).collect()
    }

    fn acks(inbox: &mut Inbox) -> Vec<u64> {
        inbox.take_acks().iter().map(|ack| ack.through).collect()
    }

    #[test]
    fn nothing_is_acknowledged_before_its_mark_is_on_disk() {
        let mut inbox = Inbox::new(Vec::new());
        assert!(inbox.arrived(100, pc(), 1));
        assert!(inbox.done(&pc(), 1));
        assert_eq!(acks(&mut inbox), [], "the mark is not written");
        assert_eq!(write_marks(&mut inbox), [1]);
        assert!(!inbox.done(&pc(), 1), "it is there");
        assert_eq!(acks(&mut inbox), [100]);
        assert_eq!(acks(&mut inbox), [], "once is enough");
    }

    #[test]
    fn done_out_of_order_waits_for_the_earlier_one() {
        let mut inbox = Inbox::new(Vec::new());
        assert!(inbox.arrived(100, pc(), 1));
        assert!(inbox.arrived(101, pc(), 4));
        assert!(!inbox.done(&pc(), 4));
        assert_eq!(write_marks(&mut inbox), []);
        assert!(inbox.done(&pc(), 1));
        assert_eq!(write_marks(&mut inbox), [4]);
        assert_eq!(acks(&mut inbox), [101]);
    }

    #[test]
    fn of_what_is_done_at_once_one_mark_of_each_source_is_written() {
        let mut inbox = Inbox::new(Vec::new());
        for (position, (from, seq)) in (100..).zip([(pc(), 1), (pc(), 2), (source("bob/pc"), 1)]) {
            assert!(inbox.arrived(position, from.clone(), seq));
            assert!(inbox.done(&from, seq));
        }
        assert_eq!(write_marks(&mut inbox), [2, 1]);
        assert_eq!(acks(&mut inbox), [102]);
    }

    #[test]
    fn another_source_done_first_is_remembered_but_not_acknowledged() {
        let mut inbox = Inbox::new(Vec::new());
        let tablet = source("alice/tablet");
        inbox.arrived(100, pc(), 1);
        inbox.arrived(101, tablet.clone(), 1);
        assert!(inbox.done(&tablet, 1));
        assert_eq!(write_marks(&mut inbox), [1]);
        assert_eq!(acks(&mut inbox), []);
        inbox.done(&pc(), 1);
        write_marks(&mut inbox);
        assert_eq!(acks(&mut inbox), [101]);
    }

    #[test]
    fn a_message_that_is_done_is_acknowledged_again_and_not_shown() {
        let mark = Mark {
            source: pc(),
            seq: 5,
            made_ms: 0,
        };
        let mut inbox = Inbox::new(vec![mark]);
        assert!(!inbox.arrived(100, pc(), 5));
        assert_eq!(acks(&mut inbox), [100]);
    }

    #[test]
    fn a_message_in_the_apps_hands_takes_the_new_sessions_place() {
        let mut inbox = Inbox::new(Vec::new());
        assert!(inbox.arrived(100, pc(), 1));
        inbox.begin_session(0);
        assert!(!inbox.arrived(200, pc(), 1));
        inbox.done(&pc(), 1);
        write_marks(&mut inbox);
        assert_eq!(acks(&mut inbox), [200]);
    }

    #[test]
    fn a_dropped_message_holds_the_place_and_comes_again() {
        let mut inbox = Inbox::new(Vec::new());
        inbox.arrived(100, pc(), 1);
        inbox.arrived(101, pc(), 2);
        inbox.dropped(&pc(), 1);
        assert!(!inbox.done(&pc(), 2));
        assert_eq!(
            (write_marks(&mut inbox), acks(&mut inbox)),
            (vec![], vec![])
        );
        inbox.begin_session(0);
        assert!(inbox.arrived(100, pc(), 1), "shown again");
        assert!(!inbox.arrived(101, pc(), 2), "already done");
        inbox.done(&pc(), 1);
        assert_eq!(write_marks(&mut inbox), [2]);
        assert_eq!(acks(&mut inbox), [101]);
    }

    #[test]
    fn a_dropped_message_that_comes_no_more_does_not_hold_up_the_rest() {
        let mut inbox = Inbox::new(Vec::new());
        inbox.arrived(100, pc(), 1);
        inbox.begin_session(0);
        inbox.arrived(101, pc(), 2);
        assert!(!inbox.done(&pc(), 2), "the app still has the first");
        inbox.dropped(&pc(), 1);
        assert_eq!(write_marks(&mut inbox), [2]);
        assert_eq!(acks(&mut inbox), [101]);
    }

    #[test]
    fn a_dropped_message_that_is_still_to_come_holds_up_what_is_behind_it() {
        let mut inbox = Inbox::new(Vec::new());
        (1..=3).for_each(|seq| assert!(inbox.arrived(99 + seq, pc(), seq)));
        inbox.dropped(&pc(), 2);
        inbox.done(&pc(), 3);
        inbox.begin_session(0);
        assert!(!inbox.arrived(100, pc(), 1), "the app has it");
        inbox.done(&pc(), 1);
        assert_eq!(write_marks(&mut inbox), [1]);
        assert!(inbox.arrived(101, pc(), 2), "shown again");
        inbox.done(&pc(), 2);
        assert_eq!(write_marks(&mut inbox), [3]);
    }

    #[test]
    fn a_gap_is_acknowledged_in_its_place() {
        let mut inbox = Inbox::new(Vec::new());
        inbox.arrived(100, pc(), 1);
        inbox.gap(101);
        assert_eq!(acks(&mut inbox), []);
        inbox.done(&pc(), 1);
        write_marks(&mut inbox);
        assert_eq!(acks(&mut inbox), [101]);
    }

    #[test]
    fn a_mark_is_forgotten_after_425_days_and_not_while_the_app_holds_something_of_its_source() {
        const DAY: u64 = 24 * 3600 * 1000;
        let tablet = source("alice/tablet");
        let mark = |source: Source| Mark {
            source,
            seq: 5,
            made_ms: DAY,
        };
        let mut inbox = Inbox::new(vec![mark(pc()), mark(tablet.clone())]);
        assert_eq!(inbox.begin_session(426 * DAY), [], "not after 425 days");
        assert!(inbox.arrived(100, tablet.clone(), 6));
        assert!(!inbox.arrived(101, pc(), 5), "it is known still");
        assert_eq!(inbox.begin_session(426 * DAY + 1), [pc()]);
        assert!(inbox.arrived(200, pc(), 5), "nobody knows it any more");
        inbox.done(&tablet, 6);
        let due = inbox.take_due();
        assert_eq!(due[0].made_ms, 426 * DAY + 1, "its memory begins anew");
        due.iter().for_each(|mark| inbox.marked(mark));
        assert_eq!(inbox.begin_session(851 * DAY), [], "and lasts as long");
        assert_eq!(inbox.begin_session(852 * DAY), [tablet]);
    }

    /// The other source holds up the acknowledgement; its place is kept by its line.
    #[test]
    fn a_mark_that_an_acknowledgement_waits_for_is_not_forgotten() {
        let mark = Mark {
            source: pc(),
            seq: 5,
            made_ms: 0,
        };
        let mut inbox = Inbox::new(vec![mark]);
        inbox.arrived(100, source("alice/tablet"), 1);
        assert!(!inbox.arrived(101, pc(), 5));
        inbox.set_now(500 * 24 * 3600 * 1000);
        inbox.done(&source("alice/tablet"), 1);
        write_marks(&mut inbox);
        assert_eq!(acks(&mut inbox), [101]);
    }

    #[test]
    fn lanes_and_epochs_have_orders_of_their_own() {
        let mut inbox = Inbox::new(vec![Mark {
            source: pc(),
            seq: 5,
            made_ms: 0,
        }]);
        let bulk = Source {
            lane: Lane::Bulk,
            ..pc()
        };
        let reinstalled = Source { epoch: 8, ..pc() };
        assert!(inbox.arrived(1, bulk, 1));
        assert!(inbox.arrived(1, reinstalled, 1));
    }

    /// A relay's side of one mailbox lane: what is stored, in order.
    #[derive(Debug, Clone)]
    struct Mailbox(Vec<(u64, Source, u64)>);

    proptest! {
        /// Over sessions and crashes: nothing is acknowledged that the app was not done with, and
        /// nothing is shown twice to an app that was done with it before (a crash may undo what was
        /// not yet on disk).
        #[test]
        fn nothing_is_lost_and_nothing_done_comes_again(
            steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>()), 1..200),
        ) {
            let sources = [pc(), source("alice/tablet")];
            let stored = (1..=20_u64)
                .map(|n| (n, sources[(n % 2) as usize].clone(), n.div_ceil(2)));
            let mut mailbox = Mailbox(stored.collect());
            let mut inbox = Inbox::new(Vec::new());
            let mut disk: HashMap<Source, u64> = HashMap::new();
            let mut next = 0;
            let mut open: Vec<(Source, u64)> = Vec::new();
            let mut done: BTreeSet<(String, u64)> = BTreeSet::new();
            for (step, index) in steps {
                match step {
                    0 | 1 => if let Some((place, source, seq)) = mailbox.0.get(next).cloned() {
                        next += 1;
                        if inbox.arrived(place, source.clone(), seq) {
                            prop_assert!(!done.contains(&(source.sender.to_string(), seq)));
                            open.push((source, seq));
                        }
                    }
                    2 => if !open.is_empty() {
                        let (source, seq) = open.remove(index.index(open.len()));
                        inbox.done(&source, seq);
                        done.insert((source.sender.to_string(), seq));
                    }
                    3 => for mark in inbox.take_due() {
                        disk.insert(mark.source.clone(), mark.seq);
                        inbox.marked(&mark);
                    }
                    4 => for ack in inbox.take_acks() {
                        for (place, source, seq) in &mailbox.0 {
                            let is_done = done.contains(&(source.sender.to_string(), *seq));
                            prop_assert!(*place > ack.through || is_done);
                        }
                        let before = mailbox.0.len();
                        mailbox.0.retain(|(place, ..)| *place > ack.through);
                        next -= before - mailbox.0.len();
                    }
                    _ if index.index(2) == 0 => {
                        inbox.begin_session(0);
                        next = 0;
                    }
                    _ => {
                        let marks = disk.iter().map(|(source, seq)| Mark {
                            source: source.clone(),
                            seq: *seq,
                            made_ms: 0,
                        });
                        inbox = Inbox::new(marks.collect());
                        open.clear();
                        done.retain(|(sender, seq)| {
                            disk.iter().any(|(source, mark)| {
                                source.sender.to_string() == *sender && seq <= mark
                            })
                        });
                        next = 0;
                    }
                }
            }
        }
    }
}
