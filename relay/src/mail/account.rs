//! An account at its home relay: its devices, what it retains, whom it allows.
//!
//! Everything that concerns an account is decided here, in one order: fan-out to its devices,
//! duplicates, refusals, retained state. One call is one change to the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Device, Key, Lane, MessageId, Name, Recipient, Sender},
    message::{Ack, Outcome, Refusal},
};

use super::{
    answers::{AnswerId, Answers},
    desk::{Desk, DeviceRecord, Durable, Write},
    ledger::{Mark, Refusals},
    mailbox::{Arrival, Known, Mailbox},
    message::{Header, Message, Place, Source},
    online::{Attached, Online, Session},
    outlet::{Asker, SessionId},
    policy,
};

/// A message that an account keeps for devices that join it later.
#[derive(Debug)]
struct Retained {
    position: u64,
    header: Header,
    bytes: usize,
    /// The body while it is not durable.
    unwritten: Option<Bytes>,
}

/// What the store knows of an account.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Its devices.
    pub(crate) devices: Vec<(Name, DeviceRecord)>,
    /// How far each source has come in each mailbox.
    pub(crate) marks: Vec<(Name, Source, Mark)>,
    /// Stored messages, in the order of positions within each mailbox and lane.
    pub(crate) messages: Vec<StoredRow>,
    /// Retained messages.
    pub(crate) retained: Vec<(Key, u64, Header, usize)>,
    /// Allowed senders.
    pub(crate) allowed: Vec<Name>,
    /// Refused messages.
    pub(crate) refusals: Vec<(Source, Refusals)>,
}

/// A stored message, without its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    /// Whose mailbox.
    pub(crate) device: Name,
    /// Which lane.
    pub(crate) lane: Lane,
    /// Its position there.
    pub(crate) position: u64,
    /// What is kept besides the body.
    pub(crate) header: Header,
    /// The body's size.
    pub(crate) bytes: usize,
}

/// One account.
#[derive(Debug)]
pub(crate) struct Account {
    name: Name,
    mailboxes: BTreeMap<Name, Mailbox>,
    online: Online,
    retained: BTreeMap<Key, Retained>,
    allowed: BTreeSet<Name>,
    refusals: HashMap<Source, Refusals>,
    answers: Answers,
}

impl Account {
    /// An account as the store knows it.
    pub(crate) fn restore(name: Name, rows: Rows) -> Self {
        let mut account = Self {
            name,
            mailboxes: BTreeMap::new(),
            online: Online::default(),
            retained: BTreeMap::new(),
            allowed: rows.allowed.into_iter().collect(),
            refusals: rows.refusals.into_iter().collect(),
            answers: Answers::default(),
        };
        for (device, record) in rows.devices {
            account.mailbox(&device).restore_record(record);
        }
        for (device, source, mark) in rows.marks {
            account.mailbox(&device).restore_mark(source, mark);
        }
        for row in rows.messages {
            let mailbox = account.mailbox(&row.device);
            mailbox.restore(row.lane, row.position, row.header, row.bytes);
        }
        for (key, position, header, bytes) in rows.retained {
            let retained = Retained {
                position,
                header,
                bytes,
                unwritten: None,
            };
            account.retained.insert(key, retained);
        }
        account
    }

    /// Takes a message in: for one mailbox, for every device's, and for those yet to come.
    pub(crate) fn submit(&mut self, message: Message, asker: Asker, desk: &mut Desk<'_>) {
        let source = Source::from(&message.id);
        if let Some(refusal) = self.refused_before(&source, message.id.seq) {
            desk.tally.duplicates += 1;
            return asker.answer(Outcome::Refused(refusal));
        }
        let targets = self.targets(&message);
        if self.answer_retry(&message, &source, &targets, &asker, desk) {
            return;
        }
        match self.admit(&message, &targets, desk) {
            Ok(()) => self.accept(message, &source, &targets, asker, desk),
            Err(refusal) => {
                desk.tally.refused.push(refusal);
                self.refusals
                    .entry(source)
                    .or_default()
                    .note(message.id.seq, refusal);
                asker.answer(Outcome::Refused(refusal));
            }
        }
    }

    /// A device has attached. Gives it what it is to have, and everything that waits.
    pub(crate) fn attach(
        &mut self,
        device: &Name,
        inbox: u64,
        session: Session,
        desk: &mut Desk<'_>,
    ) {
        match self.online.attach(device, session.clone()) {
            Attached::Refused => return,
            Attached::InsteadOf(_) => desk.tally.superseded += 1,
            Attached::First => {}
        }
        if self.mailbox(device).record().inbox != Some(inbox) {
            self.give_retained(device, desk);
            self.mailbox(device).join(inbox, desk);
        }
        if let Some(mailbox) = self.mailboxes.get_mut(device) {
            mailbox.attach(&session, &mut self.answers, desk);
        }
    }

    /// A session has ended.
    pub(crate) fn detach(&mut self, device: &Name, id: SessionId, desk: &mut Desk<'_>) {
        if !self.online.detach(device, id) {
            return;
        }
        if let Some(mailbox) = self.mailboxes.get_mut(device) {
            mailbox.detach(desk);
        }
    }

    /// A device's application has messages.
    pub(crate) fn ack(&mut self, device: &Name, id: SessionId, ack: Ack, desk: &mut Desk<'_>) {
        let Some(session) = self.online.current(device, id) else {
            return;
        };
        if let Some(mailbox) = self.mailboxes.get_mut(device) {
            mailbox.ack(ack, session, &mut self.answers, desk);
        }
    }

    /// Changes the list of allowed senders; answered when that is durable.
    pub(crate) fn allow(&mut self, sender: Name, allowed: bool, asker: Asker, desk: &mut Desk<'_>) {
        if allowed {
            self.allowed.insert(sender.clone());
        } else {
            self.allowed.remove(&sender);
        }
        desk.writes.push(Write::PutAllowed {
            account: self.name.clone(),
            sender,
            allowed,
        });
        desk.durable.push(Durable::Allowed(asker));
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, desk: &mut Desk<'_>) {
        for (device, mailbox) in &mut self.mailboxes {
            mailbox.tick(self.online.get(device), &mut self.answers, desk);
        }
    }

    /// A change is durable: whoever waited for it is answered, and what was held back goes out.
    pub(crate) fn stored(&mut self, done: &Durable, desk: &mut Desk<'_>) {
        match done {
            Durable::Stored {
                device,
                lane,
                position,
            } => {
                let Some(mailbox) = self.mailboxes.get_mut(device) else {
                    return;
                };
                mailbox.stored(*lane, *position, &mut self.answers, desk.held);
                if let Some(session) = self.online.get(device) {
                    mailbox.pump(session, &mut self.answers, desk);
                }
            }
            Durable::Retained {
                key,
                position,
                answer,
            } => {
                if let Some(retained) = self.retained.get_mut(key)
                    && retained.position == *position
                {
                    retained.unwritten = None;
                }
                self.answers.part_stored(Some(*answer));
            }
            Durable::Allowed(asker) => asker.answer(Outcome::Stored),
        }
    }

    /// How many devices are attached.
    pub(crate) fn online(&self) -> usize {
        self.online.len()
    }

    /// How many bytes wait in its mailboxes.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.mailboxes.values().map(Mailbox::waiting_bytes).sum()
    }

    /// Whether [`tick`](Self::tick) may have something to write soon.
    pub(crate) fn holds(&self) -> bool {
        self.mailboxes.values().any(Mailbox::holds)
    }

    /// Whether the store knows all of it, so that it can be dropped from memory.
    pub(crate) fn is_settled(&self) -> bool {
        self.online.len() == 0
            && self.answers.is_empty()
            && self
                .retained
                .values()
                .all(|retained| retained.unwritten.is_none())
            && self.mailboxes.values().all(Mailbox::is_settled)
    }

    fn mailbox(&mut self, device: &Name) -> &mut Mailbox {
        let account = &self.name;
        self.mailboxes.entry(device.clone()).or_insert_with(|| {
            Mailbox::new(Device {
                account: account.clone(),
                device: device.clone(),
            })
        })
    }

    fn refused_before(&self, source: &Source, seq: u64) -> Option<Refusal> {
        self.refusals.get(source)?.find(seq)
    }

    /// The devices a message is for: the one it names, or all that ever attached but the sender.
    fn targets(&self, message: &Message) -> Vec<Name> {
        match &message.to {
            Recipient::Device(device) => vec![device.device.clone()],
            Recipient::Account(_) => {
                let joined = self
                    .mailboxes
                    .iter()
                    .filter(|(_, mailbox)| mailbox.has_joined());
                let names = joined.map(|(name, _)| name);
                names
                    .filter(|name| !self.is_sender(name, &message.id))
                    .cloned()
                    .collect()
            }
        }
    }

    fn is_sender(&self, device: &Name, id: &MessageId) -> bool {
        matches!(&id.sender, Sender::Device(from) if from.account == self.name && from.device == *device)
    }

    /// Answers a message that every mailbox has seen. One that some have seen, because a device
    /// joined between two tries, is new to the others.
    fn answer_retry(
        &mut self,
        message: &Message,
        source: &Source,
        targets: &[Name],
        asker: &Asker,
        desk: &mut Desk<'_>,
    ) -> bool {
        let seen = |name: &Name| self.mailboxes.get(name)?.known(source, message.id.seq);
        let Some(known) = targets.iter().map(seen).collect::<Option<Vec<Known>>>() else {
            return false;
        };
        if known.is_empty() {
            return false;
        }
        desk.tally.duplicates += 1;
        // An answer that was given and is not waited for any more was `stored`.
        let waiting = known.iter().find_map(|known| match known {
            Known::Waiting(answer) if self.answers.is_open(*answer) => Some(*answer),
            Known::Waiting(_) | Known::Stored | Known::Gone => None,
        });
        match waiting {
            Some(answer) => self.answers.ask_again(answer, asker.clone()),
            None if known.iter().any(|known| *known != Known::Gone) => {
                self.answer_stored(message, source, targets, asker);
            }
            None => asker.answer(ending(message)),
        }
        true
    }

    /// A message that was stored in an earlier run. To hear its end, its sender waits on.
    fn answer_stored(
        &mut self,
        message: &Message,
        source: &Source,
        targets: &[Name],
        asker: &Asker,
    ) {
        if !message.options.notify {
            return asker.answer(Outcome::Stored);
        }
        let answer = self.answers.open_stored(asker.clone());
        for target in targets {
            if let Some(mailbox) = self.mailboxes.get_mut(target) {
                mailbox.watch(source, message.id.seq, answer);
            }
        }
    }

    fn admit(&self, message: &Message, targets: &[Name], desk: &Desk<'_>) -> Result<(), Refusal> {
        policy::may_write(desk.rules, &self.allowed, &message.id.sender, &self.name)?;
        policy::check(desk.rules, message)?;
        if message.options.retain {
            self.admit_retained(message, desk)?;
        } else if targets.is_empty() {
            return Err(Refusal::NoDevice);
        }
        for target in targets {
            match self.mailboxes.get(target) {
                Some(mailbox) => mailbox.admit(message.body.len(), desk)?,
                None if self.mailboxes.len() >= desk.rules.max_devices => {
                    return Err(Refusal::TooManyDevices);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn admit_retained(&self, message: &Message, desk: &Desk<'_>) -> Result<(), Refusal> {
        let others = self
            .retained
            .iter()
            .filter(|(key, _)| message.options.key.as_ref() != Some(key));
        let (count, bytes) = others.fold((0, 0), |(count, bytes), (_, retained)| {
            (count + 1, bytes + retained.bytes as u64)
        });
        let after = bytes + message.body.len() as u64;
        if count < desk.rules.max_retained && after <= desk.rules.max_retained_bytes {
            Ok(())
        } else {
            Err(Refusal::RetainedFull)
        }
    }

    fn accept(
        &mut self,
        message: Message,
        source: &Source,
        targets: &[Name],
        asker: Asker,
        desk: &mut Desk<'_>,
    ) {
        let Message {
            id, options, body, ..
        } = message;
        let seq = id.seq;
        let targets: Vec<&Name> = targets
            .iter()
            .filter(|name| !self.has_seen(name, source, seq))
            .collect();
        let parts = targets.len() + usize::from(options.retain);
        let answer = self.answers.open(asker, parts, options.notify);
        let mut header = Header {
            id,
            accepted_ms: desk.now.wall_ms,
            options,
        };
        limit_ttl(&mut header, desk);
        let position = desk.positions.take();
        let guarded = self.write_refusals(source, desk);
        if header.options.retain {
            self.retain(position, &header, &body, answer, desk);
        }
        for target in targets {
            let (header, body) = (header.clone(), body.clone());
            let arrival = Arrival {
                position,
                header,
                body,
                answer: Some(answer),
                guarded,
            };
            self.mailbox(target);
            if let Some(mailbox) = self.mailboxes.get_mut(target) {
                mailbox.accept(arrival, self.online.get(target), &mut self.answers, desk);
            }
        }
    }

    fn has_seen(&self, device: &Name, source: &Source, seq: u64) -> bool {
        self.mailboxes
            .get(device)
            .is_some_and(|mailbox| mailbox.known(source, seq).is_some())
    }

    /// Refusals are written with the next message that is accepted from their source, and that one
    /// is written before it is handed over. Otherwise a crash could forget a refusal, take its
    /// retry for new, and hand it to a device that has seen a later number and drops it.
    fn write_refusals(&mut self, source: &Source, desk: &mut Desk<'_>) -> bool {
        let unwritten = self
            .refusals
            .get_mut(source)
            .and_then(Refusals::take_unwritten);
        let Some(refusals) = unwritten else {
            return false;
        };
        let (account, source) = (self.name.clone(), source.clone());
        desk.writes.push(Write::PutRefusals {
            account,
            source,
            refusals,
        });
        true
    }

    /// Keeps the newest message of a key; an empty body removes the key.
    fn retain(
        &mut self,
        position: u64,
        header: &Header,
        body: &Bytes,
        answer: AnswerId,
        desk: &mut Desk<'_>,
    ) {
        let Some(key) = header.options.key.clone() else {
            return;
        };
        let place = Place::Retained {
            account: self.name.clone(),
            key: key.clone(),
        };
        if body.is_empty() {
            self.retained.remove(&key);
            desk.writes.push(Write::DeleteMessage(place));
        } else {
            let (lane, header, body) = (header.id.lane, header.clone(), body.clone());
            let (bytes, unwritten) = (body.len(), Some(body.clone()));
            let retained = Retained {
                position,
                header: header.clone(),
                bytes,
                unwritten,
            };
            self.retained.insert(key.clone(), retained);
            desk.writes.push(Write::PutMessage {
                place,
                position,
                lane,
                header,
                body,
            });
        }
        desk.durable.push(Durable::Retained {
            key,
            position,
            answer,
        });
    }

    /// Gives a device that joins, or has lost its memory, what the account retains, each message
    /// at the place in the order where it was accepted.
    fn give_retained(&mut self, device: &Name, desk: &mut Desk<'_>) {
        let mut given = Vec::new();
        for (key, retained) in &self.retained {
            if retained.header.has_expired(desk.now.wall_ms) {
                continue;
            }
            let place = Place::Retained {
                account: self.name.clone(),
                key: key.clone(),
            };
            let body = retained
                .unwritten
                .clone()
                .or_else(|| desk.shelf.body(&place));
            given.extend(body.map(|body| (retained.position, retained.header.clone(), body)));
        }
        for (position, header, body) in given {
            self.mailbox(device)
                .insert_retained(position, header, body, desk);
        }
    }
}

/// What became of a message that was accepted and is here no more. One with a time to live or a
/// key may have come to another end than delivery, and is not said to be delivered.
fn ending(message: &Message) -> Outcome {
    let options = &message.options;
    if options.ttl_s.is_none() && options.key.is_none() {
        Outcome::Delivered
    } else {
        Outcome::Stored
    }
}

fn limit_ttl(header: &mut Header, desk: &Desk<'_>) {
    let most = u32::try_from(desk.rules.max_ttl.as_secs()).unwrap_or(u32::MAX);
    let asked = header.options.ttl_s.unwrap_or(most);
    header.options.ttl_s = Some(asked.min(most));
}
