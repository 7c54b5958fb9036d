//! One device's waiting messages: order, windows, expiry, collapse keys.
//!
//! Each lane is a queue in the order of acceptance. Its front has been handed to the attached
//! device and awaits an acknowledgement; the rest waits for the window.
//!
//! ```text
//!   front                                              back
//!   [ sent, unacknowledged | waiting for the window ........ ]
//!     ^ ack removes here     ^ pump hands over          ^ accept appends
//! ```
//!
//! A message for an attached device is *held* in memory; it is *written* when the device does not
//! answer in time, goes away, or memory runs short, and *stored* when the write is durable. Before
//! anything of a mailbox is written, everything held is: what is on the disk has no holes, so the
//! highest number per source ([`Marks`]) tells a retry from a new message after a crash, too.

use std::collections::VecDeque;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Device, Key, Lane, Sender},
    limits::{BULK_DELIVERY_WINDOW, DELIVERY_WINDOW, DELIVERY_WINDOW_BYTES},
    message::{Ack, Gap, Outcome, Refusal},
    time::Time,
};

use super::{
    answers::{AnswerId, Answers},
    desk::{Desk, DeviceRecord, Durable, Grace, Write},
    ledger::{Mark, Marks},
    message::{Header, Place, Source},
    online::Session,
    outlet::{Body, Outbound},
    policy::MESSAGE_OVERHEAD,
};

/// Where a message's body is.
#[derive(Debug)]
enum State {
    /// In memory only, since then.
    Held(Bytes, Time),
    /// In memory, and on its way to the disk.
    Writing(Bytes),
    /// On the disk.
    Stored,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    header: Header,
    bytes: usize,
    state: State,
    /// Who waits to hear what becomes of it.
    answer: Option<AnswerId>,
    /// Not to be handed over before it is durable.
    guarded: bool,
    /// When it was handed over in this session.
    sent: Option<Time>,
}

impl Entry {
    fn cost(&self) -> u64 {
        self.bytes as u64 + MESSAGE_OVERHEAD
    }

    /// What can be handed over now.
    fn body(&self, owner: &Device, lane: Lane) -> Option<Body> {
        match &self.state {
            State::Writing(_) if self.guarded => None,
            State::Held(body, _) | State::Writing(body) => Some(Body::Held(body.clone())),
            State::Stored => Some(Body::Stored(place(owner, lane, self.position))),
        }
    }

    fn is_stored(&self) -> bool {
        matches!(self.state, State::Stored)
    }
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// How many at the front have been handed over.
    sent: usize,
    /// Their bytes.
    sent_bytes: usize,
}

impl Queue {
    fn find(&self, position: u64) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&position, |entry| entry.position)
    }

    /// Whether the window lets an entry of `bytes` follow.
    fn has_room(&self, lane: Lane, bytes: usize) -> bool {
        let most = match lane {
            Lane::Message => DELIVERY_WINDOW,
            Lane::Bulk => BULK_DELIVERY_WINDOW,
        };
        self.sent == 0 || (self.sent < most && self.sent_bytes + bytes <= DELIVERY_WINDOW_BYTES)
    }
}

/// A gap that the device is yet to acknowledge.
#[derive(Debug)]
struct PendingGap {
    gap: Gap,
    sent: bool,
}

/// What became of a message that was accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It waits, and somebody is to be told.
    Waiting(AnswerId),
    /// It is on the disk, and nobody is to be told.
    Stored,
    /// It is not here any more.
    Gone,
}

/// One device's mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    owner: Device,
    record: DeviceRecord,
    lanes: [Queue; 2],
    marks: Marks,
    waiting: usize,
    waiting_bytes: u64,
    held_bytes: u64,
    gap: Option<PendingGap>,
    grace: Grace,
}

impl Mailbox {
    /// An empty mailbox.
    pub(crate) fn new(owner: Device) -> Self {
        Self {
            owner,
            record: DeviceRecord::default(),
            lanes: Default::default(),
            marks: Marks::default(),
            waiting: 0,
            waiting_bytes: 0,
            held_bytes: 0,
            gap: None,
            grace: Grace::new(),
        }
    }

    /// Takes back what is kept of the device.
    pub(crate) fn restore_record(&mut self, record: DeviceRecord) {
        self.record = record;
    }

    /// Takes back how far a source had come.
    pub(crate) fn restore_mark(&mut self, source: Source, mark: Mark) {
        self.marks.restore(source, mark);
    }

    /// Takes back a stored message; in the order of positions.
    pub(crate) fn restore(&mut self, lane: Lane, position: u64, header: Header, bytes: usize) {
        let (answer, sent) = (None, None);
        let state = State::Stored;
        let entry = Entry {
            position,
            header,
            bytes,
            state,
            answer,
            guarded: false,
            sent,
        };
        self.waiting += 1;
        self.waiting_bytes += entry.cost();
        self.lanes[lane as usize].entries.push_back(entry);
    }

    /// What is kept of the device.
    pub(crate) fn record(&self) -> &DeviceRecord {
        &self.record
    }

    /// Whether the device has ever attached.
    pub(crate) fn has_joined(&self) -> bool {
        self.record.inbox.is_some()
    }

    /// How many bytes wait here.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Whether everything that is here is also on the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.lanes
            .iter()
            .flat_map(|queue| &queue.entries)
            .all(Entry::is_stored)
    }

    /// What became of a message, if it was accepted before.
    pub(crate) fn known(&self, source: &Source, seq: u64) -> Option<Known> {
        if !self.marks.has_seen(source, seq) {
            return None;
        }
        let mut entries = self.lanes[source.lane as usize].entries.iter();
        let Some(entry) = entries.find(|entry| is_from(&entry.header, source, seq)) else {
            return Some(Known::Gone);
        };
        Some(entry.answer.map_or(Known::Stored, Known::Waiting))
    }

    /// Whoever sent a stored message wants to hear its end.
    pub(crate) fn watch(&mut self, source: &Source, seq: u64, answer: AnswerId) {
        let mut entries = self.lanes[source.lane as usize].entries.iter_mut();
        if let Some(entry) = entries.find(|entry| is_from(&entry.header, source, seq)) {
            entry.answer = Some(answer);
        }
    }

    /// Whether another message of `bytes` may wait here.
    pub(crate) fn admit(&self, bytes: usize, desk: &Desk<'_>) -> Result<(), Refusal> {
        let after = self.waiting_bytes + bytes as u64 + MESSAGE_OVERHEAD;
        let full = self.waiting >= desk.rules.max_messages || after > desk.rules.max_bytes;
        if full {
            Err(Refusal::MailboxFull)
        } else {
            Ok(())
        }
    }

    /// Appends a message that was admitted. `guarded` messages are written before they are handed
    /// over, and so is everything while no device is attached.
    pub(crate) fn accept(
        &mut self,
        arrival: Arrival,
        session: Option<&Session>,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        let Arrival {
            position,
            header,
            body,
            answer,
            guarded,
        } = arrival;
        self.collapse(&header, answers, desk);
        self.marks.advance(&Source::from(&header.id), header.id.seq);
        let lane = header.id.lane;
        let bytes = body.len();
        let hold = session.is_some() && !guarded && self.may_hold(bytes, desk);
        let state = State::Held(body, desk.now.time);
        let entry = Entry {
            position,
            header,
            bytes,
            state,
            answer,
            guarded,
            sent: None,
        };
        self.held_bytes += bytes as u64;
        *desk.held += bytes as u64;
        self.count_in(&entry, desk);
        self.lanes[lane as usize].entries.push_back(entry);
        if !hold {
            self.write_held(desk);
        }
        if let Some(session) = session {
            self.pump(session, answers, desk);
        }
    }

    /// Gives a joining device a retained message, at the place where it was accepted.
    pub(crate) fn insert_retained(
        &mut self,
        position: u64,
        header: Header,
        body: Bytes,
        desk: &mut Desk<'_>,
    ) {
        let lane = header.id.lane;
        let Err(index) = self.lanes[lane as usize].find(position) else {
            return;
        };
        self.marks.advance(&Source::from(&header.id), header.id.seq);
        let (bytes, state) = (body.len(), State::Writing(body));
        let (answer, sent) = (None, None);
        let entry = Entry {
            position,
            header,
            bytes,
            state,
            answer,
            guarded: false,
            sent,
        };
        self.held_bytes += bytes as u64;
        *desk.held += bytes as u64;
        self.count_in(&entry, desk);
        self.write(lane, &entry, desk);
        self.lanes[lane as usize].entries.insert(index, entry);
    }

    /// The device is attached: everything is handed over anew, oldest first.
    pub(crate) fn attach(&mut self, session: &Session, answers: &mut Answers, desk: &mut Desk<'_>) {
        self.start_over();
        self.pump(session, answers, desk);
    }

    /// Notes which memory of received messages the device has now.
    pub(crate) fn join(&mut self, inbox: u64, desk: &mut Desk<'_>) {
        self.record.inbox = Some(inbox);
        self.put_record(desk);
    }

    /// The device is gone: what it did not acknowledge is written.
    pub(crate) fn detach(&mut self, desk: &mut Desk<'_>) {
        self.start_over();
        self.write_held(desk);
    }

    fn start_over(&mut self) {
        for queue in &mut self.lanes {
            (queue.sent, queue.sent_bytes) = (0, 0);
            queue.entries.iter_mut().for_each(|entry| entry.sent = None);
        }
        if let Some(pending) = &mut self.gap {
            pending.sent = false;
        }
    }

    /// The device's application has everything of a lane up to a position.
    pub(crate) fn ack(
        &mut self,
        ack: Ack,
        session: &Session,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        while let Some(entry) = self.pop_acked(ack) {
            if let Some(sent) = entry.sent {
                self.grace.measured(desk.now.time.since(sent));
            }
            match entry.state {
                State::Held(..) => desk.tally.forwarded += 1,
                State::Writing(_) | State::Stored => desk.tally.drained += 1,
            }
            self.remove(ack.lane, &entry, desk);
            answers.part_ended(entry.answer, Outcome::Delivered, entry.is_stored());
        }
        self.ack_gap(ack, desk);
        self.pump(session, answers, desk);
    }

    fn pop_acked(&mut self, ack: Ack) -> Option<Entry> {
        let queue = &mut self.lanes[ack.lane as usize];
        if queue.sent == 0 || queue.entries.front()?.position > ack.through {
            return None;
        }
        let entry = queue.entries.pop_front()?;
        queue.sent -= 1;
        queue.sent_bytes -= entry.bytes;
        Some(entry)
    }

    fn ack_gap(&mut self, ack: Ack, desk: &mut Desk<'_>) {
        let acked = self.gap.take_if(|pending| {
            pending.sent && ack.lane == Lane::Message && pending.gap.position <= ack.through
        });
        if let Some(pending) = acked {
            self.record.missed = self.record.missed.saturating_sub(pending.gap.missed);
            self.put_record(desk);
        }
    }

    /// What is held too long is written; what is past its time to live is dropped.
    pub(crate) fn tick(
        &mut self,
        session: Option<&Session>,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        if self
            .oldest_held()
            .is_some_and(|since| desk.now.time >= since + self.grace.span())
        {
            self.write_held(desk);
        }
        self.expire(answers, desk);
        if let Some(session) = session {
            self.pump(session, answers, desk);
        }
    }

    /// Whether [`tick`](Self::tick) may have something to write soon.
    pub(crate) fn holds(&self) -> bool {
        self.oldest_held().is_some()
    }

    fn oldest_held(&self) -> Option<Time> {
        let since = |entry: &Entry| match entry.state {
            State::Held(_, since) => Some(since),
            State::Writing(_) | State::Stored => None,
        };
        self.lanes
            .iter()
            .filter_map(|queue| queue.entries.iter().find_map(since))
            .min()
    }

    /// A write of this mailbox's has become durable.
    pub(crate) fn stored(
        &mut self,
        lane: Lane,
        position: u64,
        answers: &mut Answers,
        held: &mut u64,
    ) {
        let queue = &mut self.lanes[lane as usize];
        let Ok(index) = queue.find(position) else {
            return;
        };
        let entry = &mut queue.entries[index];
        if let State::Writing(body) = &entry.state {
            self.held_bytes -= body.len() as u64;
            *held -= body.len() as u64;
            entry.state = State::Stored;
            answers.part_stored(entry.answer);
        }
    }

    /// Hands over as much as the window takes.
    pub(crate) fn pump(&mut self, session: &Session, answers: &mut Answers, desk: &mut Desk<'_>) {
        for lane in Lane::ALL {
            while self.send_next(lane, session, answers, desk) {}
        }
        self.send_gap(session, desk);
    }

    fn send_next(
        &mut self,
        lane: Lane,
        session: &Session,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) -> bool {
        let queue = &mut self.lanes[lane as usize];
        let Some(next) = queue.entries.get(queue.sent) else {
            return false;
        };
        if next.header.has_expired(desk.now.wall_ms) {
            self.drop_unsent(
                lane,
                queue_index(&self.lanes, lane),
                Outcome::Expired,
                answers,
                desk,
            );
            return true;
        }
        let (bytes, body) = (next.bytes, next.body(&self.owner, lane));
        let Some(body) = body.filter(|_| queue.has_room(lane, bytes)) else {
            return false;
        };
        let entry = &mut queue.entries[queue.sent];
        entry.sent = Some(desk.now.time);
        let deliver = entry.header.deliver(entry.position);
        queue.sent += 1;
        queue.sent_bytes += bytes;
        session.outlet.push(Outbound::Deliver {
            session: session.id,
            lane,
            deliver,
            body,
        });
        true
    }

    /// The gap's turn comes when everything of the `message` lane that was accepted before it was
    /// known has been handed over.
    fn send_gap(&mut self, session: &Session, desk: &mut Desk<'_>) {
        if self.gap.is_none() && self.record.missed > 0 {
            let position = desk.positions.take();
            let gap = Gap {
                position,
                missed: self.record.missed,
            };
            self.gap = Some(PendingGap { gap, sent: false });
        }
        let queue = &self.lanes[Lane::Message as usize];
        let next = queue.entries.get(queue.sent).map(|entry| entry.position);
        let Some(pending) = self.gap.as_mut().filter(|pending| !pending.sent) else {
            return;
        };
        if next.is_none_or(|next| next > pending.gap.position) {
            pending.sent = true;
            session.outlet.push(Outbound::Gap {
                session: session.id,
                gap: pending.gap,
            });
        }
    }

    /// A newer message of a key takes the place of those that wait, from the same account.
    fn collapse(&mut self, newer: &Header, answers: &mut Answers, desk: &mut Desk<'_>) {
        let Some(key) = &newer.options.key else {
            return;
        };
        for lane in Lane::ALL {
            let replaced = |entry: &Entry| is_of_key(&entry.header, &newer.id.sender, key);
            self.drop_unsent_where(lane, Outcome::Replaced, replaced, answers, desk);
        }
    }

    fn expire(&mut self, answers: &mut Answers, desk: &mut Desk<'_>) {
        let wall_ms = desk.now.wall_ms;
        for lane in Lane::ALL {
            let expired = |entry: &Entry| entry.header.has_expired(wall_ms);
            self.drop_unsent_where(lane, Outcome::Expired, expired, answers, desk);
        }
    }

    fn drop_unsent_where(
        &mut self,
        lane: Lane,
        outcome: Outcome,
        mut condition: impl FnMut(&Entry) -> bool,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        let mut index = self.lanes[lane as usize].sent;
        while let Some(entry) = self.lanes[lane as usize].entries.get(index) {
            if condition(entry) {
                self.drop_unsent(lane, index, outcome, answers, desk);
            } else {
                index += 1;
            }
        }
    }

    fn drop_unsent(
        &mut self,
        lane: Lane,
        index: usize,
        outcome: Outcome,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        let Some(entry) = self.lanes[lane as usize].entries.remove(index) else {
            return;
        };
        self.remove(lane, &entry, desk);
        answers.part_ended(entry.answer, outcome, entry.is_stored());
        if outcome == Outcome::Expired {
            desk.tally.expired += 1;
            self.record.missed += 1;
            self.put_record(desk);
        } else {
            desk.tally.replaced += 1;
        }
    }

    fn may_hold(&self, bytes: usize, desk: &Desk<'_>) -> bool {
        let after = self.held_bytes + bytes as u64;
        after <= desk.rules.max_held_bytes_per_device && desk.may_hold(bytes)
    }

    /// Writes everything held, with how far its sources have come.
    fn write_held(&mut self, desk: &mut Desk<'_>) {
        let mut sources: Vec<Source> = Vec::new();
        for lane in Lane::ALL {
            for entry in &mut self.lanes[lane as usize].entries {
                let State::Held(body, _) = &mut entry.state else {
                    continue;
                };
                entry.state = State::Writing(std::mem::take(body));
                desk.tally.stored += 1;
                write_entry(&self.owner, lane, entry, desk);
                let source = Source::from(&entry.header.id);
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
        for source in sources {
            self.put_mark(source, desk);
        }
    }

    fn write(&self, lane: Lane, entry: &Entry, desk: &mut Desk<'_>) {
        desk.tally.stored += 1;
        write_entry(&self.owner, lane, entry, desk);
        self.put_mark(Source::from(&entry.header.id), desk);
    }

    fn put_mark(&self, source: Source, desk: &mut Desk<'_>) {
        let mark = self.marks.get(&source);
        desk.writes.push(Write::PutMark {
            device: self.owner.clone(),
            source,
            mark,
        });
    }

    fn put_record(&self, desk: &mut Desk<'_>) {
        let (device, record) = (self.owner.clone(), self.record.clone());
        desk.writes.push(Write::PutDevice { device, record });
    }

    fn count_in(&mut self, entry: &Entry, desk: &mut Desk<'_>) {
        self.waiting += 1;
        self.waiting_bytes += entry.cost();
        desk.tally.mailbox_bytes += entry.cost().cast_signed();
    }

    /// Gives back what an entry that left its queue has taken.
    fn remove(&mut self, lane: Lane, entry: &Entry, desk: &mut Desk<'_>) {
        self.waiting -= 1;
        self.waiting_bytes -= entry.cost();
        desk.tally.mailbox_bytes -= entry.cost().cast_signed();
        if let State::Held(body, _) | State::Writing(body) = &entry.state {
            self.held_bytes -= body.len() as u64;
            *desk.held -= body.len() as u64;
        }
        if !matches!(entry.state, State::Held(..)) {
            desk.writes.push(Write::DeleteMessage(place(
                &self.owner,
                lane,
                entry.position,
            )));
        }
    }
}

/// A message that was admitted.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its place in the account's order.
    pub(crate) position: u64,
    /// What is kept besides the body.
    pub(crate) header: Header,
    /// The body.
    pub(crate) body: Bytes,
    /// Who waits to hear what becomes of it.
    pub(crate) answer: Option<AnswerId>,
    /// Not to be handed over before it is durable.
    pub(crate) guarded: bool,
}

fn queue_index(lanes: &[Queue; 2], lane: Lane) -> usize {
    lanes[lane as usize].sent
}

fn place(owner: &Device, lane: Lane, position: u64) -> Place {
    Place::Mailbox {
        device: owner.clone(),
        lane,
        position,
    }
}

fn write_entry(owner: &Device, lane: Lane, entry: &Entry, desk: &mut Desk<'_>) {
    let State::Writing(body) = &entry.state else {
        return;
    };
    let (position, header) = (entry.position, entry.header.clone());
    let (place, body) = (place(owner, lane, position), body.clone());
    desk.writes.push(Write::PutMessage {
        place,
        position,
        lane,
        header,
        body,
    });
    desk.durable.push(Durable::Stored {
        device: owner.device.clone(),
        lane,
        position,
    });
}

fn is_from(header: &Header, source: &Source, seq: u64) -> bool {
    let id = &header.id;
    id.seq == seq && id.epoch == source.epoch && id.sender == source.sender
}

/// Whether a message has this key, from a sender of the same account (or the same service).
fn is_of_key(header: &Header, sender: &Sender, key: &Key) -> bool {
    let same = match (header.id.sender.account(), sender.account()) {
        (Some(one), Some(other)) => one == other,
        _ => header.id.sender == *sender,
    };
    same && header.options.key.as_ref() == Some(key)
}
