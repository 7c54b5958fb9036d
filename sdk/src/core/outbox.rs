//! What is sent when: the order of the outbox, and how much of it is in memory. Pure: the messages
//! themselves are on disk, and whoever drives this reads them there.
//!
//! Per lane, the numbers of the messages on disk:
//!
//! ```text
//!   answered │ submitted, unanswered │ ready, in memory │ on disk only │
//!   (gone)   │                       │                  │              │
//!                                                 cursor┘          tail┘
//! ```
//!
//! A new session puts the cursor back to the start: every unanswered message is submitted again,
//! oldest first. A message that asked for news of its end stays on disk until the end has come.
//!
//! Each message bears the number of the first [page](super::logbook) under which it may be submitted.
//! By that number it is known across restarts what was never submitted before.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Recipient},
    message::{Options, Outcome},
};

/// How much of a lane is held ready in memory, in bytes of body: one message at least, and what a
/// connection of 1.6 MB/s sends in half a second.
pub const READY_BYTES: usize = 1024 * 1024;

/// A message of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in its lane.
    pub seq: u64,
    /// The first page under which it may be submitted.
    pub page: u64,
    /// For whom it is.
    pub to: Recipient,
    /// What it asks for besides delivery.
    pub options: Options,
    /// What is sent.
    pub body: Bytes,
}

/// What is to be read from the disk: the oldest messages of a lane whose number is above `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The lane.
    pub lane: Lane,
    /// The number above which to begin.
    pub after: u64,
    /// Which session asks; an answer for an earlier one is worth nothing.
    pub session: u64,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What was asked for.
    pub load: Load,
    /// In the order of their numbers; some of them, if they are many.
    pub entries: Vec<Entry>,
    /// Every message up to this number is among the entries, or is no more.
    pub through: u64,
}

#[derive(Debug, Default)]
struct Queue {
    tail: u64,
    cursor: u64,
    ready: VecDeque<Entry>,
    ready_bytes: usize,
    loading: bool,
    /// Up to this number every message may have been submitted before.
    submitted: u64,
    /// Submitted in this session and on disk still; whether more than one answer is to come.
    unanswered: BTreeMap<u64, bool>,
}

impl Queue {
    fn begin(&mut self) {
        *self = Self {
            tail: self.tail,
            submitted: self.submitted,
            ..Self::default()
        };
    }

    fn push(&mut self, entry: Entry) {
        self.ready_bytes += entry.body.len();
        self.ready.push_back(entry);
    }

    fn has_room(&self, body: usize) -> bool {
        self.ready.is_empty() || self.ready_bytes + body <= READY_BYTES
    }
}

/// The order of the outbox.
#[derive(Debug)]
pub(crate) struct Outbox {
    lanes: [Queue; 2],
    session: u64,
    attached: bool,
    /// The page with which the session began.
    page: u64,
}

impl Outbox {
    /// An outbox whose last messages, per lane, have these numbers.
    pub(crate) fn new(tails: [u64; 2]) -> Self {
        let lanes = tails.map(|tail| Queue {
            tail,
            submitted: tail,
            ..Queue::default()
        });
        Self {
            lanes,
            session: 0,
            attached: false,
            page: 0,
        }
    }

    /// A session has begun under this page, which is on the disk: everything from the start.
    pub(crate) fn begin_session(&mut self, page: u64) {
        self.end_session();
        self.attached = true;
        self.page = page;
    }

    /// The session has ended: nothing is kept in memory.
    pub(crate) fn end_session(&mut self) {
        self.session += 1;
        self.attached = false;
        self.lanes.iter_mut().for_each(Queue::begin);
    }

    /// A message is on the disk. It is kept in memory if it is the next one to go.
    pub(crate) fn appended(&mut self, lane: Lane, entry: Entry) {
        let queue = &mut self.lanes[lane as usize];
        let next = self.attached && !queue.loading && queue.cursor == queue.tail;
        queue.tail = entry.seq;
        if next && queue.has_room(entry.body.len()) {
            queue.cursor = entry.seq;
            queue.push(entry);
        }
    }

    /// What is to be read from the disk now.
    pub(crate) fn load(&mut self, lane: Lane) -> Option<Load> {
        let queue = &mut self.lanes[lane as usize];
        let needed = self.attached && queue.ready.is_empty() && queue.cursor < queue.tail;
        if !needed || queue.loading {
            return None;
        }
        queue.loading = true;
        Some(Load {
            lane,
            after: queue.cursor,
            session: self.session,
        })
    }

    /// It was read.
    pub(crate) fn loaded(&mut self, loaded: Loaded) {
        if loaded.load.session != self.session {
            return;
        }
        let queue = &mut self.lanes[loaded.load.lane as usize];
        queue.loading = false;
        queue.cursor = loaded.through;
        loaded
            .entries
            .into_iter()
            .for_each(|entry| queue.push(entry));
    }

    /// The message to submit next.
    pub(crate) fn front(&self, lane: Lane) -> Option<&Entry> {
        self.lanes[lane as usize].ready.front()
    }

    /// Whether a message may have been submitted before, by this process or an earlier one.
    pub(crate) fn may_repeat(&self, lane: Lane, entry: &Entry) -> bool {
        entry.page < self.page && entry.seq <= self.lanes[lane as usize].submitted
    }

    /// The message in front was submitted, and awaits an answer.
    pub(crate) fn submitted(&mut self, lane: Lane) {
        if let Some(entry) = self.pop(lane) {
            let queue = &mut self.lanes[lane as usize];
            queue.submitted = queue.submitted.max(entry.seq);
            queue.unanswered.insert(entry.seq, entry.options.notify);
        }
    }

    /// Takes out the message in front, which cannot be submitted.
    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Entry> {
        let queue = &mut self.lanes[lane as usize];
        let entry = queue.ready.pop_front()?;
        queue.ready_bytes -= entry.body.len();
        Some(entry)
    }

    /// An answer has come. Says whether it is the last one, so that the message can go from the
    /// disk.
    pub(crate) fn answered(&mut self, lane: Lane, seq: u64, outcome: Outcome) -> bool {
        let unanswered = &mut self.lanes[lane as usize].unanswered;
        let more_to_come = unanswered.get(&seq).copied().unwrap_or(true);
        let last = outcome.is_final() || !more_to_come;
        if last {
            unanswered.remove(&seq);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LANE: Lane = Lane::Message;

    fn entry(seq: u64, size: usize, notify: bool) -> Entry {
        Entry {
            seq,
            page: 1,
            to: "alice/phone".parse().unwrap(),
            options: Options {
                notify,
                ..Options::default()
            },
            body: Bytes::from(vec![0; size]),
        }
    }

    /// The disk beneath an outbox.
    #[derive(Default)]
    struct Disk(BTreeMap<u64, Entry>);

    impl Disk {
        fn tail(&self) -> u64 {
            self.0.keys().last().copied().unwrap_or_default()
        }

        fn read(&self, load: Load, most: usize, tail: u64) -> Loaded {
            let rest = self.0.range(load.after + 1..);
            let entries: Vec<Entry> = rest.take(most).map(|(_, entry)| entry.clone()).collect();
            let complete = entries.len() < most;
            let through = entries.last().map_or(tail, |entry| entry.seq);
            Loaded {
                load,
                entries,
                through: if complete { tail } else { through },
            }
        }
    }

    #[test]
    fn what_is_sent_while_attached_is_not_read_back() {
        let mut outbox = Outbox::new([0, 0]);
        outbox.begin_session(1);
        for seq in 1..=3 {
            outbox.appended(LANE, entry(seq, 10, false));
            assert_eq!(outbox.load(LANE), None);
            assert_eq!(outbox.front(LANE).unwrap().seq, seq);
            outbox.submitted(LANE);
        }
    }

    #[test]
    fn what_is_sent_offline_stays_on_disk_until_a_session_begins() {
        let mut outbox = Outbox::new([0, 0]);
        outbox.appended(LANE, entry(1, 10, false));
        assert_eq!(outbox.front(LANE), None);
        assert_eq!(outbox.load(LANE), None);
        outbox.begin_session(1);
        assert_eq!(outbox.load(LANE).unwrap().after, 0);
    }

    #[test]
    fn what_an_earlier_session_or_process_may_have_submitted_is_said_to_be_repeated() {
        let of_page = |seq, page| Entry {
            page,
            ..entry(seq, 10, false)
        };
        let mut outbox = Outbox::new([2, 0]);
        outbox.appended(LANE, of_page(3, 5));
        outbox.begin_session(5);
        assert!(
            outbox.may_repeat(LANE, &of_page(1, 4)),
            "an earlier process"
        );
        assert!(
            !outbox.may_repeat(LANE, &of_page(2, 5)),
            "it has waited for this session, in an earlier process"
        );
        assert!(!outbox.may_repeat(LANE, &of_page(3, 5)));
        let load = outbox.load(LANE).unwrap();
        outbox.loaded(Loaded {
            load,
            entries: vec![of_page(1, 4), of_page(2, 5), of_page(3, 5)],
            through: 3,
        });
        (1..=3).for_each(|_| outbox.submitted(LANE));
        outbox.appended(LANE, of_page(4, 5));
        outbox.begin_session(6);
        assert!(outbox.may_repeat(LANE, &of_page(3, 5)));
        assert!(
            !outbox.may_repeat(LANE, &of_page(4, 5)),
            "it was not submitted before that session ended"
        );
        assert!(!outbox.may_repeat(Lane::Bulk, &of_page(1, 5)));
    }

    #[test]
    fn memory_holds_a_megabyte_or_one_message() {
        let mut outbox = Outbox::new([0, 0]);
        outbox.begin_session(1);
        outbox.appended(Lane::Bulk, entry(1, 2 * READY_BYTES, false));
        outbox.appended(Lane::Bulk, entry(2, 20_000, false));
        assert_eq!(outbox.front(Lane::Bulk).unwrap().seq, 1);
        outbox.submitted(Lane::Bulk);
        assert_eq!(
            outbox.front(Lane::Bulk),
            None,
            "the second was left on disk"
        );
        assert_eq!(outbox.load(Lane::Bulk).unwrap().after, 1);
    }

    /// Of the two that are there at any time, one is always submitted and another sent.
    #[test]
    fn what_has_left_memory_makes_room_there() {
        let mut outbox = Outbox::new([0, 0]);
        outbox.begin_session(1);
        let half = READY_BYTES / 2;
        outbox.appended(LANE, entry(1, half, false));
        for seq in 2..=6 {
            outbox.appended(LANE, entry(seq, half, false));
            outbox.submitted(LANE);
            assert_eq!(outbox.front(LANE).unwrap().seq, seq);
        }
        outbox.appended(LANE, entry(7, half + 1, false));
        outbox.submitted(LANE);
        assert_eq!(outbox.front(LANE), None, "it was left on disk");
    }

    #[test]
    fn an_answer_to_an_earlier_sessions_read_is_worth_nothing() {
        let mut outbox = Outbox::new([1, 0]);
        outbox.begin_session(1);
        let load = outbox.load(LANE).unwrap();
        outbox.begin_session(1);
        outbox.loaded(Loaded {
            load,
            entries: vec![entry(1, 1, false)],
            through: 1,
        });
        assert_eq!(outbox.front(LANE), None);
        assert!(outbox.load(LANE).is_some());
    }

    #[test]
    fn a_message_with_notify_stays_until_its_end() {
        let mut outbox = Outbox::new([0, 0]);
        outbox.begin_session(1);
        for seq in 1..=2 {
            outbox.appended(LANE, entry(seq, 1, seq == 1));
            outbox.submitted(LANE);
        }
        assert!(!outbox.answered(LANE, 1, Outcome::Stored));
        assert!(outbox.answered(LANE, 2, Outcome::Stored));
        assert!(outbox.answered(LANE, 1, Outcome::Delivered));
    }

    proptest! {
        /// Whatever happens, each session submits, in order and without omission, what has had no
        /// last answer.
        #[test]
        fn every_session_submits_what_is_unanswered_in_order(
            steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), 1..120),
        ) {
            let mut disk = Disk::default();
            let mut outbox = Outbox::new([0, 0]);
            let mut next_seq = 1;
            let mut session: Option<(Vec<u64>, Vec<u64>)> = None;
            let mut pending = None;
            for (step, index) in steps {
                match step {
                    0 => {
                        let new = entry(next_seq, 400 * 1024, false);
                        disk.0.insert(next_seq, new.clone());
                        outbox.appended(LANE, new);
                        next_seq += 1;
                    }
                    1 => {
                        outbox.begin_session(1);
                        session = Some((Vec::new(), disk.0.keys().copied().collect()));
                    }
                    2 => pending = outbox.load(LANE).or(pending),
                    3 => if let Some(load) = pending.take() {
                        outbox.loaded(disk.read(load, 2, next_seq - 1));
                    }
                    _ => if let Some((submitted, _)) = &mut session {
                        if let Some(front) = outbox.front(LANE) {
                            submitted.push(front.seq);
                            outbox.submitted(LANE);
                        } else if !submitted.is_empty() {
                            let seq = *index.get(submitted);
                            if disk.0.contains_key(&seq) {
                                prop_assert!(outbox.answered(LANE, seq, Outcome::Stored));
                                disk.0.remove(&seq);
                            }
                        }
                    }
                }
            }
            let Some((mut submitted, at_start)) = session else { return Ok(()) };
            // Let the session run dry.
            for _ in 0..2 * next_seq {
                pending = outbox.load(LANE).or(pending);
                if let Some(load) = pending.take() {
                    outbox.loaded(disk.read(load, 2, next_seq - 1));
                }
                while let Some(front) = outbox.front(LANE) {
                    submitted.push(front.seq);
                    outbox.submitted(LANE);
                }
            }
            prop_assert!(submitted.is_sorted_by(|a, b| a < b), "{submitted:?}");
            let due: Vec<u64> = at_start.into_iter().chain(disk.0.keys().copied()).collect();
            prop_assert!(due.iter().all(|seq| submitted.contains(seq)), "{submitted:?} of {due:?}");
            prop_assert!(disk.tail() < next_seq);
        }
    }
}
