//! What waits in a mailbox, in order, and found again by whatever it is looked for.
//!
//! Each lane is kept by position. Its front has been handed to the attached device and awaits an
//! acknowledgement; the rest waits for the window.
//!
//! ```text
//!   front                                              back
//!   [ sent, unacknowledged | waiting for the window ........ ]
//!     ^ ack removes here     ^ the next to hand over   ^ messages are appended
//! ```
//!
//! However deep the mailbox, nothing here looks through all of it: what is in memory only, what
//! expires next and what a newer message of its key replaces stand in indices of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use ahash::HashMap;
use bytes::Bytes;
use holdfast_protocol::{
    id::{Key, Lane, MessageId},
    limits::{BULK_DELIVERY_WINDOW, DELIVERY_WINDOW, DELIVERY_WINDOW_BYTES},
    message::{Ack, Options},
    time::Time,
};

use crate::mail::{
    answers::AnswerId,
    message::{Header, Party},
    room::{Load, Waiting},
};

/// Where a message's body is.
#[derive(Debug)]
pub(super) enum State {
    /// In memory only, since then.
    Held(Bytes, Time),
    /// In memory, and on its way to the disk.
    Writing(Bytes),
    /// On the disk.
    Stored,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) header: Header,
    /// The body's size.
    pub(super) bytes: usize,
    pub(super) state: State,
    /// Who waits to hear what becomes of it.
    pub(super) answer: Option<AnswerId>,
    /// Not to be handed over before it is durable.
    pub(super) guarded: bool,
    /// When it was handed over in this session.
    pub(super) sent: Option<Time>,
}

impl Entry {
    /// A message that is in memory only.
    pub(super) fn held(position: u64, header: Header, body: Bytes, now: Time) -> Self {
        Self {
            position,
            header,
            bytes: body.len(),
            state: State::Held(body, now),
            answer: None,
            guarded: false,
            sent: None,
        }
    }

    /// A message that is on the disk.
    pub(super) fn stored(position: u64, header: Header, bytes: usize) -> Self {
        Self {
            position,
            header,
            bytes,
            state: State::Stored,
            answer: None,
            guarded: false,
            sent: None,
        }
    }

    pub(super) fn slot(&self) -> Slot {
        Slot {
            position: self.position,
            lane: self.header.id.lane,
        }
    }

    /// What it takes of the mailbox's room.
    pub(super) fn load(&self) -> Load {
        Load::of_body(self.bytes)
    }

    /// What it takes of the memory, in bytes of body.
    pub(super) fn in_memory(&self) -> u64 {
        match &self.state {
            State::Held(body, _) | State::Writing(body) => body.len() as u64,
            State::Stored => 0,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, State::Held(..))
    }

    pub(super) fn is_stored(&self) -> bool {
        matches!(self.state, State::Stored)
    }
}

/// A place in a mailbox. Positions are unique in both lanes together, and grow with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) position: u64,
    pub(super) lane: Lane,
}

/// Messages of which only the newest matters: of one key, from one account or service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    party: Party,
    key: Key,
}

impl Series {
    fn of(id: &MessageId, options: &Options) -> Option<Self> {
        Some(Self {
            party: Party::from(&id.sender),
            key: options.key.clone()?,
        })
    }
}

/// What was not handed over, by what can happen to it meanwhile.
#[derive(Debug, Default)]
struct Unsent {
    /// By when it expires.
    due: BTreeSet<(u64, Slot)>,
    /// What has a key. A tree, as most mailboxes have none, and an empty tree takes little.
    series: BTreeMap<Series, BTreeSet<Slot>>,
}

impl Unsent {
    fn insert(&mut self, entry: &Entry) {
        let slot = entry.slot();
        if let Some(expires) = entry.header.expires_ms() {
            self.due.insert((expires, slot));
        }
        if let Some(series) = Series::of(&entry.header.id, &entry.header.options) {
            self.series.entry(series).or_default().insert(slot);
        }
    }

    fn remove(&mut self, entry: &Entry) {
        let slot = entry.slot();
        if let Some(expires) = entry.header.expires_ms() {
            self.due.remove(&(expires, slot));
        }
        let Some(series) = Series::of(&entry.header.id, &entry.header.options) else {
            return;
        };
        if let Some(slots) = self.series.get_mut(&series) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.series.remove(&series);
            }
        }
    }
}

/// One lane.
#[derive(Debug, Default)]
struct Line {
    /// By position; boxed, as a map that is filled at its end keeps room for twice as many, and moves
    /// those behind the one that it takes out.
    entries: BTreeMap<u64, Box<Entry>>,
    /// How many at the front have been handed over.
    sent: usize,
    /// Their bytes.
    sent_bytes: usize,
    /// The last one's position.
    sent_through: u64,
}

impl Line {
    /// Splits off those that have been handed over.
    fn take_sent(&mut self) -> BTreeMap<u64, Box<Entry>> {
        let rest = self.entries.split_off(&(self.sent_through + 1));
        (self.sent, self.sent_bytes, self.sent_through) = (0, 0, 0);
        std::mem::replace(&mut self.entries, rest)
    }
}

/// Both lanes of a mailbox.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: [Line; 2],
    load: Load,
    by_party: HashMap<Party, Load>,
    in_memory: u64,
    unstored: usize,
    /// What is in memory only.
    held: BTreeSet<Slot>,
    unsent: Unsent,
}

impl Queue {
    /// How much waits.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// How much waits, and how much of it from one party.
    pub(super) fn waiting(&self, party: &Party) -> Waiting {
        Waiting {
            all: self.load,
            of_sender: self.by_party.get(party).copied().unwrap_or_default(),
        }
    }

    /// Bytes of bodies in memory.
    pub(super) fn in_memory(&self) -> u64 {
        self.in_memory
    }

    /// Whether everything is on the disk.
    pub(super) fn is_stored(&self) -> bool {
        self.unstored == 0
    }

    /// A message, if it waits.
    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        let entry = self.line(slot.lane).entries.get(&slot.position);
        entry.map(|entry| &**entry)
    }

    /// Notes who waits to hear what becomes of a message.
    pub(super) fn watch(&mut self, slot: Slot, answer: AnswerId) {
        if let Some(entry) = self.entry(slot) {
            entry.answer = Some(answer);
        }
    }

    /// Adds a message behind everything that has been handed over.
    pub(super) fn insert(&mut self, entry: Entry) {
        let slot = entry.slot();
        self.load += entry.load();
        let party = Party::from(&entry.header.id.sender);
        *self.by_party.entry(party).or_default() += entry.load();
        self.in_memory += entry.in_memory();
        self.unstored += usize::from(!entry.is_stored());
        if entry.is_held() {
            self.held.insert(slot);
        }
        self.unsent.insert(&entry);
        let line = &mut self.lines[slot.lane as usize];
        line.entries.insert(slot.position, Box::new(entry));
    }

    /// Takes a message out.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Box<Entry>> {
        let line = &mut self.lines[slot.lane as usize];
        let entry = line.entries.remove(&slot.position)?;
        self.count_out(&entry);
        Some(entry)
    }

    fn count_out(&mut self, entry: &Entry) {
        let slot = entry.slot();
        if entry.sent.is_some() {
            let line = &mut self.lines[slot.lane as usize];
            line.sent -= 1;
            line.sent_bytes -= entry.bytes;
        } else {
            self.unsent.remove(entry);
        }
        self.load -= entry.load();
        self.release(entry);
        self.in_memory -= entry.in_memory();
        self.unstored -= usize::from(!entry.is_stored());
        self.held.remove(&slot);
    }

    /// Gives back its party's room.
    fn release(&mut self, entry: &Entry) {
        let party = Party::from(&entry.header.id.sender);
        if let Some(load) = self.by_party.get_mut(&party) {
            *load -= entry.load();
            if *load == Load::default() {
                self.by_party.remove(&party);
            }
        }
    }

    /// Where everything stands.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let entries = self.lines.iter().flat_map(|line| line.entries.values());
        entries.map(|entry| entry.slot()).collect()
    }

    /// Since when the oldest of what is held in memory has been.
    pub(super) fn held_since(&self) -> Option<Time> {
        match self.get(*self.held.first()?)?.state {
            State::Held(_, since) => Some(since),
            State::Writing(_) | State::Stored => None,
        }
    }

    /// Takes what is held to be on its way to the disk, and tells where it stands.
    pub(super) fn write_held(&mut self) -> BTreeSet<Slot> {
        let held = std::mem::take(&mut self.held);
        for slot in &held {
            if let Some(entry) = self.entry(*slot)
                && let State::Held(body, _) = &mut entry.state
            {
                entry.state = State::Writing(std::mem::take(body));
            }
        }
        held
    }

    /// A write has become durable. Tells how many bytes of memory that frees, and who waits; if
    /// the message still stands there.
    pub(super) fn written(&mut self, slot: Slot) -> Option<(u64, Option<AnswerId>)> {
        let entry = self.entry(slot)?;
        if !matches!(entry.state, State::Writing(_)) {
            return None;
        }
        let (freed, answer) = (entry.in_memory(), entry.answer);
        entry.state = State::Stored;
        self.in_memory -= freed;
        self.unstored -= 1;
        Some((freed, answer))
    }

    /// The next one of a lane to be handed over.
    pub(super) fn next_unsent(&self, lane: Lane) -> Option<&Entry> {
        let line = self.line(lane);
        let rest = (Bound::Excluded(line.sent_through), Bound::Unbounded);
        line.entries.range(rest).next().map(|(_, entry)| &**entry)
    }

    /// Whether the window lets a body of `bytes` follow.
    pub(super) fn has_room(&self, lane: Lane, bytes: usize) -> bool {
        let most = match lane {
            Lane::Message => DELIVERY_WINDOW,
            Lane::Bulk => BULK_DELIVERY_WINDOW,
        };
        let line = self.line(lane);
        line.sent == 0 || (line.sent < most && line.sent_bytes + bytes <= DELIVERY_WINDOW_BYTES)
    }

    /// The next one of its lane has been handed over.
    pub(super) fn sent(&mut self, slot: Slot, now: Time) {
        let line = &mut self.lines[slot.lane as usize];
        if let Some(entry) = line.entries.get_mut(&slot.position) {
            entry.sent = Some(now);
            line.sent += 1;
            line.sent_bytes += entry.bytes;
            line.sent_through = slot.position;
            self.unsent.remove(entry);
        }
    }

    /// Nothing counts as handed over any more.
    pub(super) fn rewind(&mut self) {
        for line in &mut self.lines {
            for (position, mut entry) in line.take_sent() {
                entry.sent = None;
                self.unsent.insert(&entry);
                line.entries.insert(position, entry);
            }
        }
    }

    /// The position of the oldest in a lane.
    pub(super) fn first(&self, lane: Lane) -> Option<u64> {
        self.line(lane).entries.keys().next().copied()
    }

    /// Takes out the oldest message that an acknowledgement covers.
    pub(super) fn take_acked(&mut self, ack: Ack) -> Option<Box<Entry>> {
        let front = self.lines[ack.lane as usize].entries.first_entry()?;
        let is_covered = front.get().sent.is_some() && front.get().position <= ack.through;
        let entry = is_covered.then(|| front.remove())?;
        self.count_out(&entry);
        Some(entry)
    }

    /// The next one that is past its time to live and was not handed over.
    pub(super) fn expired(&self, mail_ms: u64) -> Option<Slot> {
        let (expires, slot) = self.unsent.due.first()?;
        (*expires <= mail_ms).then_some(*slot)
    }

    /// What a newer message replaces: those of its key that were not handed over.
    pub(super) fn replaced_by(&self, id: &MessageId, options: &Options) -> Vec<Slot> {
        let slots = Series::of(id, options).and_then(|series| self.unsent.series.get(&series));
        slots.into_iter().flatten().copied().collect()
    }

    fn line(&self, lane: Lane) -> &Line {
        &self.lines[lane as usize]
    }

    fn entry(&mut self, slot: Slot) -> Option<&mut Entry> {
        let line = &mut self.lines[slot.lane as usize];
        let entry = line.entries.get_mut(&slot.position);
        entry.map(|entry| &mut **entry)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::id::Sender;

    use super::*;

    #[test]
    fn what_is_in_memory_counts_until_it_is_on_the_disk() {
        let id = MessageId {
            sender: Sender::Service("push".parse().unwrap()),
            epoch: 1,
            lane: Lane::Message,
            seq: 1,
        };
        let header = Header {
            id,
            accepted_ms: 0,
            since_ms: 0,
            options: Options::default(),
        };
        let entry = Entry::held(7, header, Bytes::from_static(b"body"), Time::ZERO);
        let (slot, mut queue) = (entry.slot(), Queue::default());
        queue.insert(entry);
        assert_eq!(queue.written(slot), None, "nobody writes it");
        assert_eq!(queue.write_held(), [slot].into());
        assert_eq!((queue.in_memory(), queue.is_stored()), (4, false));
        assert_eq!(queue.written(slot), Some((4, None)));
        assert_eq!((queue.in_memory(), queue.is_stored()), (0, true));
        assert_eq!(queue.written(slot), None, "it was told before");
    }
}
