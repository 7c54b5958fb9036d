//! An account at its home relay: its devices, what it retains, whom it allows.
//!
//! Everything that concerns an account is decided here, in one order: fan-out to its devices,
//! duplicates, refusals, retained state. One call is one change to the store.

mod rows;
mod trail;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use holdfast_protocol::{
    id::{Device, Name, Recipient, Sender},
    message::{Ack, Options, Outcome, Refusal},
    time::Time,
};
use litemap::LiteMap;

pub(crate) use self::rows::{Rows, StoredRow};
use self::trail::Trail;
use super::{
    answers::{AnswerId, Answers},
    desk::{Desk, Durable, Write},
    mailbox::{Arrival, Known, Mailbox},
    message::{Header, Message, Party, Source},
    online::{Attached, Online, Session, USUAL_DEVICES},
    outlet::{Asker, SessionId},
    policy,
    refusals::RefusalBook,
    retained::Retained,
    room::Repeats,
};

/// One account.
#[derive(Debug)]
pub(crate) struct Account {
    name: Name,
    /// A list, and boxed: most accounts have two devices, and a tree makes room for eleven at once.
    mailboxes: LiteMap<Name, Box<Mailbox>>,
    online: Online,
    retained: Retained,
    allowed: BTreeSet<Name>,
    refusals: RefusalBook,
    repeats: Repeats,
    answers: Answers,
}

impl Account {
    /// An account as the store knows it.
    pub(crate) fn restore(name: Name, rows: Rows) -> Self {
        let mut account = Self {
            retained: Retained::new(name.clone()),
            name,
            mailboxes: LiteMap::with_capacity(USUAL_DEVICES),
            online: Online::default(),
            allowed: rows.allowed.into_iter().collect(),
            refusals: RefusalBook::default(),
            repeats: Repeats::default(),
            answers: Answers::default(),
        };
        for (device, record) in rows.devices {
            account.mailbox(&device).restore_record(record);
        }
        for (device, source, mark) in rows.marks {
            match device {
                Some(device) => account.mailbox(&device).restore_mark(source, mark),
                None => account.retained.restore_mark(source, mark),
            }
        }
        for row in rows.messages {
            let mailbox = account.mailbox(&row.device);
            mailbox.restore(row.position, row.header, row.bytes);
        }
        for (key, position, header, bytes) in rows.retained {
            account.retained.restore(key, position, header, bytes);
        }
        for (source, refusals) in rows.refusals {
            account.refusals.restore(source, refusals);
        }
        account
    }

    /// Takes a message in: for one mailbox, for every device's, and for those yet to come.
    pub(crate) fn submit(&mut self, message: Message, asker: Asker, desk: &mut Desk<'_>) {
        let source = Source::from(&message.id);
        if let Some(refusal) = self.refusals.find(&source, message.id.seq) {
            desk.tally.duplicates += 1;
            return asker.answer(Outcome::Refused(refusal));
        }
        let trail = self.trail(&message, &source);
        if !trail.is_fresh() {
            desk.tally.duplicates += 1;
            return self.accept_again(message, &source, trail, asker, desk);
        }
        match self.admit(&message, &trail, desk) {
            Ok(()) => {
                let notify = message.options.notify;
                let answer = self.answers.open(asker, trail.parts(), notify);
                self.accept(message, &source, trail, answer, desk);
            }
            Err(refusal) => {
                desk.tally.refused.push(refusal);
                let today = desk.now.today();
                self.refusals.note(source, message.id.seq, refusal, today);
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
        if !self.mailbox(device).knows_inbox(inbox) {
            let keepsakes = self.retained.keepsakes(desk);
            self.mailbox(device).join(inbox, keepsakes, desk);
        }
        self.mailbox(device).attach(&session, desk);
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
        if !allowed {
            self.allowed.remove(&sender);
        }
        desk.writes.push(Write::PutAllowed {
            account: self.name.clone(),
            sender: sender.clone(),
            allowed,
        });
        desk.durable.push(Durable::Allowed {
            sender,
            allowed,
            asker,
        });
    }

    /// A permission counts from when it is durable: what a device was handed before could be refused
    /// after a crash.
    fn allowed(&mut self, sender: &Name, allowed: bool, asker: &Asker) {
        if allowed {
            self.allowed.insert(sender.clone());
        } else {
            self.allowed.remove(sender);
        }
        asker.answer(Outcome::Stored);
    }

    /// Time has passed: what is held too long is written.
    pub(crate) fn tick(&mut self, desk: &mut Desk<'_>) {
        for (device, mailbox) in self.mailboxes.iter_mut() {
            mailbox.tick(self.online.get(device), desk);
        }
    }

    /// When the next [`tick`](Self::tick) will have something to write.
    pub(crate) fn due(&self) -> Option<Time> {
        self.mailboxes
            .values()
            .filter_map(|mailbox| mailbox.due())
            .min()
    }

    /// Now and then: drops what has expired, and what nobody waits for.
    pub(crate) fn sweep(&mut self, desk: &mut Desk<'_>) {
        self.tick(desk);
        for (device, mailbox) in self.mailboxes.iter_mut() {
            mailbox.sweep(self.online.get(device).is_some(), desk);
        }
        self.mailboxes.retain(|_, mailbox| !mailbox.is_forgotten());
        self.retained.expire(desk);
        self.refusals.expire(&self.name, desk);
        self.answers.sweep();
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
                mailbox.stored(*lane, *position, &mut self.answers, desk);
                if let Some(session) = self.online.get(device) {
                    mailbox.pump(session, desk);
                }
            }
            Durable::Ended {
                answer,
                outcome,
                was_safe,
            } => self.answers.part_ended(Some(*answer), *outcome, *was_safe),
            Durable::Retained { position } => self.retained.stored(*position, &mut self.answers),
            Durable::Refusals { source, number } => self.refusals.written(source, *number),
            Durable::Joined { device } => {
                if let Some(mailbox) = self.mailboxes.get_mut(device) {
                    mailbox.joined(self.online.get(device), desk);
                }
            }
            Durable::Allowed {
                sender,
                allowed,
                asker,
            } => self.allowed(sender, *allowed, asker),
        }
    }

    /// The devices that are attached, in the order of their names.
    pub(crate) fn online_devices(&self) -> impl Iterator<Item = &Name> {
        self.online.devices()
    }

    /// How many devices are attached.
    pub(crate) fn online(&self) -> usize {
        self.online.len()
    }

    /// How many bytes wait in its mailboxes.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.mailboxes
            .values()
            .map(|mailbox| mailbox.waiting_bytes())
            .sum()
    }

    /// Whether nobody is here or waits for anything, and the store was told all that matters, so
    /// that the account can be dropped from memory.
    pub(crate) fn is_settled(&self) -> bool {
        self.online.len() == 0
            && self.answers.is_empty()
            && self.retained.is_settled()
            && self.mailboxes.values().all(|mailbox| mailbox.is_settled())
    }

    fn mailbox(&mut self, device: &Name) -> &mut Mailbox {
        let account = &self.name;
        self.mailboxes.entry(device.clone()).or_insert_with(|| {
            let account = account.clone();
            let device = device.clone();
            Box::new(Mailbox::new(Device { account, device }))
        })
    }

    /// The devices a message is for: the one it names, or all that ever attached but the sender.
    fn targets(&self, message: &Message) -> Vec<Name> {
        match &message.to {
            Recipient::Device(device) => vec![device.device.clone()],
            Recipient::Account(_) => {
                let joined = self.mailboxes.iter().filter(|(name, mailbox)| {
                    mailbox.has_joined() && !self.is_sender(name, &message.id.sender)
                });
                joined.map(|(name, _)| name.clone()).collect()
            }
        }
    }

    fn is_sender(&self, device: &Name, sender: &Sender) -> bool {
        matches!(sender, Sender::Device(from) if from.account == self.name && from.device == *device)
    }

    fn trail(&self, message: &Message, source: &Source) -> Trail {
        let (mut trail, seq) = (Trail::default(), message.id.seq);
        for name in self.targets(message) {
            let mailbox = self.mailboxes.get(&name);
            match mailbox.and_then(|mailbox| mailbox.known(source, seq)) {
                None => trail.new.push(name),
                Some(Known::Waiting(Some(answer))) if self.answers.is_open(answer) => {
                    trail.awaited = Some(answer);
                }
                // An answer that nobody waits for any more was `stored`.
                Some(Known::Waiting(_)) => trail.stored.push(name),
                Some(Known::Ended(outcome)) => trail.ends.push(outcome),
            }
        }
        if message.options.retain {
            match self.retained.awaited(source, seq) {
                Some(answer) => trail.awaited = Some(answer),
                None if self.retained.has_seen(source, seq) => {
                    trail.ends.push(Some(Outcome::Delivered));
                }
                None => trail.retain = true,
            }
        }
        trail
    }

    /// A message of which some part was accepted before. That was for good: what has not seen it
    /// takes it now, without asking whether there is room.
    fn accept_again(
        &mut self,
        message: Message,
        source: &Source,
        trail: Trail,
        asker: Asker,
        desk: &mut Desk<'_>,
    ) {
        let Options { notify, .. } = message.options;
        let (parts, end) = (trail.parts(), trail.end(&message.options));
        let answer = match trail.awaited {
            Some(answer) => {
                self.answers.ask_again(answer, asker, parts);
                answer
            }
            None if trail.stored.is_empty() && parts == 0 => return asker.answer(end),
            None => {
                let counts = (trail.stored.len(), parts);
                self.answers.reopen(asker, counts, notify, end)
            }
        };
        for name in &trail.stored {
            self.mailbox(name).watch(source, message.id.seq, answer);
        }
        if parts > 0 {
            self.accept(message, source, trail, answer, desk);
        }
    }

    fn admit(&mut self, message: &Message, trail: &Trail, desk: &Desk<'_>) -> Result<(), Refusal> {
        policy::may_write(desk.rules, &self.allowed, &message.id.sender, &self.name)?;
        policy::check(desk.rules, message)?;
        if trail.parts() == 0 {
            return Err(Refusal::NoDevice);
        }
        let is_new = |target: &&Name| !self.mailboxes.contains_key(*target);
        let devices = self.mailboxes.len() + trail.new.iter().filter(is_new).count();
        if devices > desk.rules.max_devices.max(self.mailboxes.len()) {
            return Err(Refusal::TooManyDevices);
        }
        self.find_room(message, trail, desk)
            .or_else(|refusal| self.take_without_room(message).ok_or(refusal))
    }

    fn find_room(&self, message: &Message, trail: &Trail, desk: &Desk<'_>) -> Result<(), Refusal> {
        if desk.disk_full {
            return Err(Refusal::DiskFull);
        }
        if message.options.retain {
            self.retained.admit(message, desk)?;
        }
        let mut known = trail.new.iter().filter_map(|name| self.mailboxes.get(name));
        known.try_for_each(|mailbox| mailbox.admit(message, desk))
    }

    /// What comes again may have been handed over by an earlier run, which forgot that it took room.
    fn take_without_room(&mut self, message: &Message) -> Option<()> {
        let (party, lane) = (Party::from(&message.id.sender), message.id.lane);
        if !message.again || !self.repeats.allow(&party, lane) {
            return None;
        }
        self.repeats.note(party, lane);
        Some(())
    }

    /// Takes in those parts of a message that are new.
    fn accept(
        &mut self,
        message: Message,
        source: &Source,
        trail: Trail,
        answer: AnswerId,
        desk: &mut Desk<'_>,
    ) {
        let Message {
            id, options, body, ..
        } = message;
        let mut header = Header {
            id,
            accepted_ms: desk.now.wall_ms,
            since_ms: desk.now.mail_ms,
            options,
        };
        let position = desk.positions.take();
        let guarded = self.write_refusals(source, desk);
        if trail.retain {
            let (header, body) = (header.clone(), body.clone());
            self.retained.accept(position, header, body, answer, desk);
        }
        limit_ttl(&mut header, desk);
        for target in &trail.new {
            let arrival = Arrival {
                position,
                header: header.clone(),
                body: body.clone(),
                answer,
                guarded,
            };
            let session = self.online.get(target).cloned();
            self.mailbox(target).accept(arrival, session.as_ref(), desk);
        }
    }

    /// Refusals are written with the next message that is accepted from their source, and that one
    /// is written before it is handed over, as are all that follow until then. Otherwise a crash
    /// could forget a refusal, take its retry for new, and hand it to a device that has seen a
    /// later number and drops it.
    fn write_refusals(&mut self, source: &Source, desk: &mut Desk<'_>) -> bool {
        if let Some((refusals, number)) = self.refusals.take_unwritten(source) {
            let (account, source) = (self.name.clone(), source.clone());
            desk.durable.push(Durable::Refusals {
                source: source.clone(),
                number,
            });
            desk.writes.push(Write::PutRefusals {
                account,
                source,
                refusals: Some(refusals),
            });
        }
        self.refusals.guards(source)
    }
}

/// What waits in a mailbox expires at last; what is retained only if its sender says so.
fn limit_ttl(header: &mut Header, desk: &Desk<'_>) {
    let most = u32::try_from(desk.rules.max_ttl.as_secs()).unwrap_or(u32::MAX);
    let asked = header.options.ttl_s.unwrap_or(most);
    header.options.ttl_s = Some(asked.min(most));
}
