//! One device's waiting messages: order, windows, expiry, collapse keys.
//!
//! A message for an attached device is *held* in memory; it is *written* when the device does not
//! answer in time, goes away, or memory runs short, and *stored* when the write is durable. Before
//! anything of a mailbox is written, everything held is: what is on the disk has no holes, so the
//! highest number per source ([`Marks`]) tells a retry from a new message after a crash, too. It is that
//! of a message that is on the disk, or is written down when the last such message leaves it.

mod gap;
mod queue;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Device, Lane},
    message::{Ack, Outcome, Refusal},
    time::Time,
};

use self::{
    gap::PendingGap,
    queue::{Entry, Queue, Slot, State},
};
use super::{
    answers::{AnswerId, Answers},
    desk::{Day, Desk, DeviceRecord, Durable, Grace, Write, day_of, days},
    ledger::{Mark, Marks, Trace},
    message::{Header, Message, Party, Place, Source},
    online::Session,
    outlet::{Body, Outbound},
    retained::Keepsake,
    room::Load,
};

/// What became of a message that was accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It waits, and was asked about.
    Waiting(Option<AnswerId>),
    /// It is not here any more, and came to this end; `None`: in an earlier run, and nobody knows.
    Ended(Option<Outcome>),
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
    pub(crate) answer: AnswerId,
    /// Not to be handed over before it is durable.
    pub(crate) guarded: bool,
}

/// What an acknowledgement covers of what has rows.
#[derive(Default)]
struct Acked {
    count: usize,
    bytes: u64,
    last: Option<Slot>,
}

impl Acked {
    fn add(&mut self, entry: &Entry) {
        if !entry.is_held() {
            self.count += 1;
            self.bytes += entry.load().bytes;
            self.last = Some(entry.slot());
        }
    }
}

/// One device's mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    owner: Device,
    record: DeviceRecord,
    queue: Queue,
    marks: Marks,
    gap: PendingGap,
    grace: Grace,
    /// How many times the device has joined without that being durable.
    joining: usize,
    /// The day of the last [`sweep`](Self::sweep).
    swept: Day,
    forgotten: bool,
}

impl Mailbox {
    /// An empty mailbox.
    pub(crate) fn new(owner: Device) -> Self {
        Self {
            owner,
            record: DeviceRecord::default(),
            queue: Queue::default(),
            marks: Marks::default(),
            gap: PendingGap::default(),
            grace: Grace::new(),
            joining: 0,
            swept: 0,
            forgotten: false,
        }
    }

    /// Takes back what is kept of the device.
    pub(crate) fn restore_record(&mut self, record: DeviceRecord) {
        self.record = record;
    }

    /// Takes back how far a source had come; before its messages.
    pub(crate) fn restore_mark(&mut self, source: Source, mark: Mark) {
        self.marks.restore(source, mark);
    }

    /// Takes back a stored message.
    pub(crate) fn restore(&mut self, position: u64, header: Header, bytes: usize) {
        let (source, seq) = (Source::from(&header.id), header.id.seq);
        let day = day_of(header.since_ms);
        self.marks.restore_waiting(source, seq, position, day);
        self.queue.insert(Entry::stored(position, header, bytes));
    }

    /// Whether the device has ever attached.
    pub(crate) fn has_joined(&self) -> bool {
        self.record.inbox.is_some()
    }

    /// Whether this is the device's memory of received messages that is known here.
    pub(crate) fn knows_inbox(&self, inbox: u64) -> bool {
        self.record.inbox == Some(inbox)
    }

    /// How many bytes wait here.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.queue.load().bytes
    }

    /// Whether everything that is here is also on the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.is_stored() && self.joining == 0
    }

    /// What became of a message, if it was accepted before.
    pub(crate) fn known(&self, source: &Source, seq: u64) -> Option<Known> {
        Some(match self.marks.trace(source, seq)? {
            Trace::Waiting(position) => {
                let lane = source.lane;
                let entry = self.queue.get(Slot { position, lane });
                Known::Waiting(entry.and_then(|entry| entry.answer))
            }
            Trace::Ended(outcome) => Known::Ended(outcome),
        })
    }

    /// Whoever sent a stored message wants to hear its end.
    pub(crate) fn watch(&mut self, source: &Source, seq: u64, answer: AnswerId) {
        if let Some(Trace::Waiting(position)) = self.marks.trace(source, seq) {
            let lane = source.lane;
            self.queue.watch(Slot { position, lane }, answer);
        }
    }

    /// Whether another message may wait here, in place of what it replaces.
    pub(crate) fn admit(&self, message: &Message, desk: &Desk<'_>) -> Result<(), Refusal> {
        let (id, options) = (&message.id, &message.options);
        let mut waiting = self.queue.waiting(&Party::from(&id.sender));
        for slot in self.queue.replaced_by(id, options) {
            let freed = self.queue.get(slot).map(Entry::load).unwrap_or_default();
            waiting.all -= freed;
            waiting.of_sender -= freed;
        }
        let load = Load::of_body(message.body.len());
        waiting.admit(load, options.priority, desk.rules)
    }

    /// Appends a message that was admitted. `guarded` messages are written before they are handed
    /// over, and so is everything while no device is attached. What replaces another one is
    /// written with it: the sender of that one may never send again.
    pub(crate) fn accept(
        &mut self,
        arrival: Arrival,
        session: Option<&Session>,
        desk: &mut Desk<'_>,
    ) {
        let Arrival {
            position,
            header,
            body,
            answer,
            guarded,
        } = arrival;
        self.note_first(desk);
        let replaced = self.queue.replaced_by(&header.id, &header.options);
        let hold =
            session.is_some() && !guarded && replaced.is_empty() && self.may_hold(body.len(), desk);
        for slot in replaced {
            self.drop_unsent(slot, Outcome::Replaced, desk);
        }
        let mut entry = Entry::held(position, header, body, desk.now.time);
        (entry.answer, entry.guarded) = (Some(answer), guarded);
        self.take_in(entry, desk);
        if !hold {
            self.write_held(desk);
        }
        if let Some(session) = session {
            self.pump(session, desk);
        }
    }

    /// A device attaches whose memory of received messages is not the one that was known: it is
    /// given what the account retains, each message at the place where it was accepted.
    pub(crate) fn join(&mut self, inbox: u64, keepsakes: Vec<Keepsake>, desk: &mut Desk<'_>) {
        self.rewind();
        for Keepsake {
            position,
            header,
            body,
        } in keepsakes
        {
            let entry = Entry::held(position, header, body, desk.now.time);
            if self.queue.get(entry.slot()).is_none() {
                self.take_in(entry, desk);
            }
        }
        self.write_held(desk);
        self.record.inbox = Some(inbox);
        self.record.seen = desk.now.today();
        self.put_record(desk);
        self.joining += 1;
        desk.durable.push(Durable::Joined {
            device: self.owner.device.clone(),
        });
    }

    /// That the device has joined is durable.
    pub(crate) fn joined(&mut self, session: Option<&Session>, desk: &mut Desk<'_>) {
        self.joining -= 1;
        if let Some(session) = session {
            self.pump(session, desk);
        }
    }

    /// The device is attached: everything is handed over anew, oldest first.
    pub(crate) fn attach(&mut self, session: &Session, desk: &mut Desk<'_>) {
        self.note_seen(desk);
        self.rewind();
        self.pump(session, desk);
    }

    /// The device is gone: what it did not acknowledge is written.
    pub(crate) fn detach(&mut self, desk: &mut Desk<'_>) {
        self.note_seen(desk);
        self.rewind();
        self.write_held(desk);
    }

    /// The device's application has everything of a lane up to a position.
    pub(crate) fn ack(
        &mut self,
        ack: Ack,
        session: &Session,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        let mut acked = Acked::default();
        while let Some(entry) = self.queue.take_acked(ack) {
            if let Some(sent) = entry.sent {
                self.grace.measured(desk.now.time.since(sent));
            }
            if entry.is_held() {
                desk.tally.forwarded += 1;
            } else {
                desk.tally.drained += 1;
            }
            acked.add(&entry);
            self.count_out(&entry, Outcome::Delivered, desk);
            answers.part_ended(entry.answer, Outcome::Delivered, entry.is_stored());
        }
        self.delete_acked(acked, desk);
        if let Some(told) = self.gap.take_acked(ack) {
            self.record.missed = self.record.missed.saturating_sub(told);
            self.put_record(desk);
        }
        self.pump(session, desk);
    }

    /// What is held too long is written; what is past its time to live is dropped.
    pub(crate) fn tick(&mut self, session: Option<&Session>, desk: &mut Desk<'_>) {
        if self.due().is_some_and(|due| desk.now.time >= due) {
            self.write_held(desk);
        }
        match session {
            Some(session) => self.pump(session, desk),
            None => self.expire(desk),
        }
    }

    /// Once a day: forgets what cannot matter any more, and a device that has been away for too long.
    pub(crate) fn sweep(&mut self, attached: bool, desk: &mut Desk<'_>) {
        let today = desk.now.today();
        if self.swept == today {
            return;
        }
        self.swept = today;
        for source in self.marks.forget_outdated(today) {
            self.put_mark(source, None, desk);
        }
        if attached || self.record.seen == 0 {
            self.note_seen(desk);
        }
        if today.saturating_sub(self.record.seen) > days(desk.rules.forget_device_after) {
            self.give_up(desk);
        }
    }

    /// Whether the device is forgotten, and nothing is left of it.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// The device is away for good, as it seems: its mail expires. Should it come back after all, it
    /// hears of that for as long again.
    fn give_up(&mut self, desk: &mut Desk<'_>) {
        if self.record.inbox.take().is_some() {
            for slot in self.queue.slots() {
                self.record.missed += 1;
                self.drop_unsent(slot, Outcome::Expired, desk);
            }
            self.record.seen = desk.now.today();
            self.put_record(desk);
        } else if self.queue.load() == Load::default() && self.marks.is_empty() {
            self.forgotten = true;
            desk.writes.push(Write::PutDevice {
                device: self.owner.clone(),
                record: None,
            });
        }
    }

    /// When what is held will have been held for too long.
    pub(crate) fn due(&self) -> Option<Time> {
        let since = self.queue.held_since()?;
        Some(since + self.grace.span())
    }

    /// A message of this mailbox's has become durable.
    pub(crate) fn stored(
        &mut self,
        lane: Lane,
        position: u64,
        answers: &mut Answers,
        desk: &mut Desk<'_>,
    ) {
        if let Some((freed, answer)) = self.queue.written(Slot { position, lane }) {
            *desk.held -= freed;
            answers.part_stored(answer);
        }
    }

    /// Hands over as much as the window takes.
    pub(crate) fn pump(&mut self, session: &Session, desk: &mut Desk<'_>) {
        self.expire(desk);
        for lane in Lane::ALL {
            while self.send_next(lane, session, desk) {}
        }
    }

    fn send_next(&mut self, lane: Lane, session: &Session, desk: &mut Desk<'_>) -> bool {
        let next = self.queue.next_unsent(lane);
        let position = next.map(|entry| entry.position);
        if lane == Lane::Message
            && let Some(gap) = self.gap.turn(self.record.missed, position, desk.positions)
        {
            let session_id = session.id;
            session.outlet.push(Outbound::Gap {
                session: session_id,
                gap,
            });
        }
        let Some(entry) = next.filter(|entry| self.queue.has_room(lane, entry.bytes)) else {
            return false;
        };
        let Some(body) = self.body(entry) else {
            return false;
        };
        let (slot, deliver) = (entry.slot(), entry.header.deliver(entry.position));
        self.queue.sent(slot, desk.now.time);
        session.outlet.push(Outbound::Deliver {
            session: session.id,
            lane,
            deliver,
            body,
        });
        true
    }

    /// What can be handed over of a message now. While a crash could still forget the device, nothing
    /// that comes again then: nobody would be there to take it.
    fn body(&self, entry: &Entry) -> Option<Body> {
        match &entry.state {
            State::Held(..) | State::Writing(_) if self.joining > 0 && entry.answer.is_some() => {
                None
            }
            State::Writing(_) if entry.guarded => None,
            State::Held(body, _) | State::Writing(body) => Some(Body::Held(body.clone())),
            State::Stored => Some(Body::Stored(self.place(entry.slot()))),
        }
    }

    fn expire(&mut self, desk: &mut Desk<'_>) {
        let missed = self.record.missed;
        while let Some(slot) = self.queue.expired(desk.now.mail_ms) {
            self.record.missed += 1;
            self.drop_unsent(slot, Outcome::Expired, desk);
        }
        if self.record.missed > missed {
            self.put_record(desk);
        }
    }

    /// Drops a message that was not handed over. Its sender hears of it when that is durable.
    fn drop_unsent(&mut self, slot: Slot, outcome: Outcome, desk: &mut Desk<'_>) {
        let Some(entry) = self.queue.remove(slot) else {
            return;
        };
        self.let_go(&entry, outcome, desk);
        match outcome {
            Outcome::Expired => desk.tally.expired += 1,
            _ => desk.tally.replaced += 1,
        }
        desk.durable
            .extend(entry.answer.map(|answer| Durable::Ended {
                answer,
                outcome,
                was_safe: entry.is_stored(),
            }));
    }

    fn may_hold(&self, bytes: usize, desk: &Desk<'_>) -> bool {
        let after = self.queue.in_memory() + bytes as u64;
        after <= desk.rules.max_held_bytes_per_device && desk.may_hold(bytes)
    }

    /// Writes everything held.
    fn write_held(&mut self, desk: &mut Desk<'_>) {
        for slot in self.queue.write_held() {
            if let Some(entry) = self.queue.get(slot) {
                desk.tally.stored += 1;
                self.put_message(entry, desk);
            }
        }
    }

    /// Writes down how far a source has come, when its message of this number leaves the disk and none
    /// stays there that says so.
    fn note_mark(&mut self, source: Source, seq: u64, desk: &mut Desk<'_>) {
        let lane = source.lane;
        let newest = self.marks.newest_waiting(&source);
        let says_so = newest.is_some_and(|(newest, position)| {
            let entry = self.queue.get(Slot { position, lane });
            newest > seq && entry.is_some_and(|entry| !entry.is_held())
        });
        if says_so {
            return;
        }
        if let Some(mark) = self.marks.note(&source, seq) {
            self.put_mark(source, Some(mark), desk);
        }
    }

    /// Writes down that a message has gone of which its sender did not say how long it may wait.
    fn note_lapse(&mut self, source: Source, seq: u64, desk: &mut Desk<'_>) {
        if let Some(mark) = self.marks.lapse(&source, seq) {
            self.put_mark(source, Some(mark), desk);
        }
    }

    fn put_mark(&self, source: Source, mark: Option<Mark>, desk: &mut Desk<'_>) {
        desk.writes.push(Write::PutMark {
            account: self.owner.account.clone(),
            device: Some(self.owner.device.clone()),
            source,
            mark,
        });
    }

    /// Notes that somebody writes to a device that never attached.
    fn note_first(&mut self, desk: &mut Desk<'_>) {
        if self.record.seen == 0 {
            self.note_seen(desk);
        }
    }

    /// Notes, once a day, that the device is there.
    fn note_seen(&mut self, desk: &mut Desk<'_>) {
        let today = desk.now.today();
        if self.record.seen < today {
            self.record.seen = today;
            self.put_record(desk);
        }
    }

    fn put_message(&self, entry: &Entry, desk: &mut Desk<'_>) {
        let State::Writing(body) = &entry.state else {
            return;
        };
        let Slot { position, lane } = entry.slot();
        desk.writes.push(Write::PutMessage {
            place: self.place(entry.slot()),
            position,
            lane,
            header: entry.header.clone(),
            body: body.clone(),
        });
        desk.durable.push(Durable::Stored {
            device: self.owner.device.clone(),
            lane,
            position,
        });
    }

    fn put_record(&self, desk: &mut Desk<'_>) {
        let (device, record) = (self.owner.clone(), Some(self.record.clone()));
        desk.writes.push(Write::PutDevice { device, record });
    }

    fn rewind(&mut self) {
        self.queue.rewind();
        self.gap.rewind();
    }

    /// Counts a message in.
    fn take_in(&mut self, entry: Entry, desk: &mut Desk<'_>) {
        let (source, seq) = (Source::from(&entry.header.id), entry.header.id.seq);
        let today = desk.now.today();
        self.marks.advance(source, seq, entry.position, today);
        *desk.held += entry.in_memory();
        desk.tally.mailbox_bytes += entry.load().bytes.cast_signed();
        self.queue.insert(entry);
    }

    /// Gives back what a message that left the queue has taken.
    fn let_go(&mut self, entry: &Entry, outcome: Outcome, desk: &mut Desk<'_>) {
        self.count_out(entry, outcome, desk);
        if !entry.is_held() {
            let place = self.place(entry.slot());
            desk.writes.push(Write::DeleteMessage(place));
        }
    }

    /// Counts a message out that has left the queue; its row is still to be deleted.
    fn count_out(&mut self, entry: &Entry, outcome: Outcome, desk: &mut Desk<'_>) {
        let (source, seq) = (Source::from(&entry.header.id), entry.header.id.seq);
        self.marks.ended(&source, seq, outcome);
        *desk.held -= entry.in_memory();
        desk.tally.mailbox_bytes -= entry.load().bytes.cast_signed();
        if !entry.is_held() {
            if outcome == Outcome::Expired && entry.header.may_wait_longest(desk.rules.max_ttl) {
                self.note_lapse(source, seq, desk);
            } else {
                self.note_mark(source, seq, desk);
            }
        }
    }

    /// Deletes the rows of what was acknowledged, and with them whatever stands before: it was
    /// acknowledged, too, or has left. What waited all alone is deleted by itself.
    fn delete_acked(&self, acked: Acked, desk: &mut Desk<'_>) {
        let Some(last) = acked.last else {
            return;
        };
        let first_left = self.queue.first(last.lane);
        debug_assert!(first_left.is_none_or(|left| left > last.position));
        let is_only_one = acked.count == 1 && first_left.is_none();
        desk.writes.push(match is_only_one {
            true => Write::DeleteMessage(self.place(last)),
            false => Write::DeleteThrough {
                device: self.owner.clone(),
                lane: last.lane,
                position: last.position,
                bytes: acked.bytes,
            },
        });
    }

    fn place(&self, slot: Slot) -> Place {
        Place::Mailbox {
            device: self.owner.clone(),
            lane: slot.lane,
            position: slot.position,
        }
    }
}
