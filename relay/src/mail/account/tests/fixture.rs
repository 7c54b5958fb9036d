//! An account with everything around it: the desk, a disk that can crash, senders and devices.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Key, Lane, MessageId, Name, Recipient, Sender},
    message::{Ack, Gap, Options, Outcome, Priority},
    time::Time,
};

use crate::{
    mail::{
        account::Account,
        clock::{MailClock, Reading},
        desk::{Desk, Durable, Moment, Positions, Shelf, Tally, Write},
        message::{Message, Place},
        online::Session,
        outlet::{Asker, Body, Outbound, Outlet, Question, SessionId},
        policy::Rules,
    },
    store::{MailboxStore, memory::MemoryStore},
};

/// The wall clock at the start.
pub(super) const START_MS: u64 = 1_700_000_000_000;

/// Alice's account, at home.
pub(super) struct Home {
    pub(super) account: Account,
    pub(super) rules: Rules,
    pub(super) disk_full: bool,
    pub(super) now: Moment,
    mail_clock: MailClock,
    /// What of the clock is on the disk.
    reading: Option<Reading>,
    pub(super) held: u64,
    pub(super) tally: Tally,
    positions: Positions,
    boot: u64,
    sessions: SessionId,
    /// What survives a crash for sure.
    disk: MemoryStore,
    /// What a read sees.
    view: MemoryStore,
    /// What was handed to the store and is not durable.
    pub(super) tail: Vec<(Vec<Write>, Vec<Durable>)>,
}

struct View(MemoryStore);

impl Shelf for View {
    fn body(&self, place: &Place) -> Option<Bytes> {
        self.0.body(place).unwrap()
    }
}

impl Home {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules::default();
        change(&mut rules);
        Self {
            account: Account::restore(name("alice"), crate::mail::account::Rows::default()),
            mail_clock: MailClock::resume(None, rules.max_ttl),
            reading: None,
            rules,
            now: Moment {
                time: Time::ZERO,
                wall_ms: START_MS,
            },
            held: 0,
            disk_full: false,
            tally: Tally::default(),
            positions: Positions::of_boot(1),
            boot: 1,
            sessions: 0,
            disk: MemoryStore::default(),
            view: MemoryStore::default(),
            tail: Vec::new(),
        }
    }

    fn call(&mut self, rule: impl FnOnce(&mut Account, &mut Desk<'_>)) {
        let view = View(self.view.clone());
        self.reading = self.mail_clock.record(self.now).or(self.reading);
        let mut desk = Desk::new(
            self.mail_clock.read(self.now),
            &self.rules,
            &mut self.positions,
            &mut self.held,
            &view,
        );
        desk.disk_full = self.disk_full;
        rule(&mut self.account, &mut desk);
        let Desk {
            writes,
            durable,
            tally,
            ..
        } = desk;
        assert!(durable.is_empty() || !writes.is_empty(), "{durable:?}");
        self.tally.mailbox_bytes += tally.mailbox_bytes;
        self.tally.forwarded += tally.forwarded;
        self.tally.stored += tally.stored;
        self.tally.drained += tally.drained;
        self.tally.duplicates += tally.duplicates;
        self.tally.expired += tally.expired;
        self.tally.replaced += tally.replaced;
        self.tally.superseded += tally.superseded;
        if !writes.is_empty() {
            self.view.write(writes.clone());
            self.tail.push((writes, durable));
        }
    }

    pub(super) fn submit(&mut self, message: Message, outlet: &Outlet) {
        let (lane, seq) = (message.id.lane, message.id.seq);
        let asker = Asker {
            outlet: outlet.clone(),
            question: Question::Submitted { lane, seq },
        };
        self.call(|account, desk| account.submit(message, asker, desk));
    }

    /// Submits from a session that does nothing else, and tells the answers so far.
    pub(super) fn send(&mut self, mail: Mail) -> Vec<Outcome> {
        let outlet = Outlet::new();
        self.submit(mail.into(), &outlet);
        outcomes(&outlet)
    }

    /// A device attaches; that it joins is durable at once, if nothing else is under way.
    pub(super) fn attach(&mut self, device: &str) -> Device {
        let idle = self.tail.is_empty();
        let device = self.attach_with_inbox(device, 1);
        if idle {
            self.commit();
        }
        device
    }

    pub(super) fn attach_with_inbox(&mut self, device: &str, inbox: u64) -> Device {
        self.sessions += 1;
        let session = Session {
            id: self.sessions,
            outlet: Outlet::new(),
            since: self.now.time,
            via: None,
        };
        let device = Device {
            name: name(device),
            session: session.clone(),
        };
        self.call(|account, desk| account.attach(&device.name, inbox, session, desk));
        device
    }

    pub(super) fn detach(&mut self, device: &Device) {
        let (name, id) = (device.name.clone(), device.session.id);
        self.call(|account, desk| account.detach(&name, id, desk));
    }

    pub(super) fn ack(&mut self, device: &Device, lane: Lane, through: u64) {
        let (name, id) = (device.name.clone(), device.session.id);
        let ack = Ack { lane, through };
        self.call(|account, desk| account.ack(&name, id, ack, desk));
    }

    pub(super) fn allow(&mut self, sender: &str, allowed: bool) -> Outlet {
        let outlet = Outlet::new();
        let asker = Asker {
            outlet: outlet.clone(),
            question: Question::Allow { tag: 1 },
        };
        self.call(|account, desk| account.allow(name(sender), allowed, asker, desk));
        outlet
    }

    /// Time passes.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now.time = self.now.time + span;
        self.now.wall_ms += u64::try_from(span.as_millis()).unwrap();
        self.call(Account::sweep);
    }

    /// The wall clock shows what has passed since the start.
    pub(super) fn correct_wall_clock(&mut self) {
        let passed = self.now.time.since_origin().as_millis();
        self.now.wall_ms = START_MS + u64::try_from(passed).unwrap();
    }

    /// The oldest change that is not durable becomes so.
    pub(super) fn commit_one(&mut self) -> bool {
        if self.tail.is_empty() {
            return false;
        }
        let (writes, durable) = self.tail.remove(0);
        self.disk.write(writes);
        self.call(|account, desk| durable.iter().for_each(|done| account.stored(done, desk)));
        true
    }

    pub(super) fn commit(&mut self) {
        while self.commit_one() {}
    }

    /// What the last call has deleted of mailboxes.
    pub(super) fn deletions(&self) -> Vec<Write> {
        let (writes, _) = self.tail.last().unwrap();
        let is_deletion =
            |write: &&Write| matches!(write, Write::DeleteMessage(_) | Write::DeleteThrough { .. });
        writes.iter().filter(is_deletion).cloned().collect()
    }

    /// The relay is killed, and starts again. Of the changes that were not durable the disk has
    /// the first `kept`.
    pub(super) fn crash(&mut self, kept: usize) {
        for (writes, _) in self.tail.drain(..).take(kept) {
            self.disk.write(writes);
        }
        self.boot += 1;
        self.mail_clock = MailClock::resume(self.reading, self.rules.max_ttl);
        self.mail_clock.read(self.now);
        self.view = self.disk.fork();
        self.positions = Positions::of_boot(self.boot);
        self.held = 0;
        let rows = self.view.load(&name("alice")).unwrap();
        self.account = Account::restore(name("alice"), rows);
        self.tally.mailbox_bytes = self.account.waiting_bytes().cast_signed();
    }

    /// What a device was handed since it was last asked.
    pub(super) fn take(&self, device: &Device) -> Vec<Seen> {
        let outbound = device.session.outlet.take().into_iter();
        outbound.map(|outbound| self.see(outbound)).collect()
    }

    fn see(&self, outbound: Outbound) -> Seen {
        match outbound {
            Outbound::Deliver {
                lane,
                deliver,
                body,
                ..
            } => {
                let body = match body {
                    Body::Held(body) => body,
                    Body::Stored(place) => self.view.body(&place).unwrap().unwrap(),
                };
                let id = MessageId {
                    sender: deliver.from,
                    epoch: deliver.epoch,
                    lane,
                    seq: deliver.seq,
                };
                Seen::Message {
                    position: deliver.position,
                    id,
                    body,
                }
            }
            Outbound::Gap { gap, .. } => Seen::Gap(gap),
            Outbound::Superseded { .. } => Seen::Superseded,
            other => panic!("{other:?}"),
        }
    }

    /// The numbers of the messages that a device was handed since it was last asked.
    pub(super) fn seqs(&self, device: &Device) -> Vec<u64> {
        let seq = |seen| match seen {
            Seen::Message { id, .. } => Some(id.seq),
            Seen::Gap(_) | Seen::Superseded => None,
        };
        self.take(device).into_iter().filter_map(seq).collect()
    }

    /// Acknowledges everything of the `message` lane until nothing comes any more; tells the
    /// numbers.
    pub(super) fn drain(&mut self, device: &Device) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            let seen = self.take(device);
            let Some(last) = seen.iter().filter_map(Seen::position).max() else {
                return seqs;
            };
            seqs.extend(seen.iter().filter_map(|seen| match seen {
                Seen::Message { id, .. } => Some(id.seq),
                Seen::Gap(_) | Seen::Superseded => None,
            }));
            for lane in Lane::ALL {
                self.ack(device, lane, last);
            }
        }
    }

    /// The account is dropped from memory and loaded again, if it may be.
    pub(super) fn reload(&mut self) {
        if self.account.is_settled() {
            let rows = self.view.load(&name("alice")).unwrap();
            let waiting = self.account.waiting_bytes();
            self.account = Account::restore(name("alice"), rows);
            assert_eq!(self.account.waiting_bytes(), waiting);
        }
    }

    /// Whether nothing is left anywhere.
    #[track_caller]
    pub(super) fn assert_empty(&self) {
        assert_eq!(self.held, 0, "bytes held");
        assert_eq!(self.account.waiting_bytes(), 0, "bytes waiting");
        assert_eq!(self.tally.mailbox_bytes, 0, "bytes told to the metrics");
        let rows = self.view.load(&name("alice")).unwrap();
        assert_eq!(rows.messages, []);
        assert_eq!(self.account.due(), None);
    }

    /// What of the account is on the disk for sure.
    pub(super) fn rows(&self) -> crate::mail::account::Rows {
        self.disk.load(&name("alice")).unwrap()
    }
}

/// An attached device of Alice's.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) name: Name,
    pub(super) session: Session,
}

/// What a device is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Message {
        position: u64,
        id: MessageId,
        body: Bytes,
    },
    Gap(Gap),
    Superseded,
}

impl Seen {
    pub(super) fn position(&self) -> Option<u64> {
        match self {
            Self::Message { position, .. } => Some(*position),
            Self::Gap(gap) => Some(gap.position),
            Self::Superseded => None,
        }
    }
}

/// A message in the making.
#[derive(Clone)]
pub(super) struct Mail(pub(super) Message);

/// Mail of the outbox 7 of `alice/pc`, `bob/pc` or a service.
pub(super) fn mail(from: &str, seq: u64, to: &str) -> Mail {
    let sender = match from.strip_prefix("service/") {
        Some(service) => Sender::Service(name(service)),
        None => Sender::Device(from.parse().unwrap()),
    };
    Mail(Message {
        id: MessageId {
            sender,
            epoch: 7,
            lane: Lane::Message,
            seq,
        },
        to: to.parse::<Recipient>().unwrap(),
        options: Options::default(),
        body: Bytes::from(format!("{from} {seq}")),
        again: false,
    })
}

/// The usual: from Alice's PC to her phone.
pub(super) fn note(seq: u64) -> Mail {
    mail("alice/pc", seq, "alice/phone")
}

impl Mail {
    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.0.body = body.into();
        self
    }

    pub(super) fn again(mut self) -> Self {
        self.0.again = true;
        self
    }

    pub(super) fn bulk(mut self) -> Self {
        self.0.id.lane = Lane::Bulk;
        self
    }

    pub(super) fn ttl(mut self, seconds: u32) -> Self {
        self.0.options.ttl_s = Some(seconds);
        self
    }

    pub(super) fn key(mut self, key: &str) -> Self {
        self.0.options.key = Some(Key::new(key).unwrap());
        self
    }

    pub(super) fn retain(mut self, key: &str) -> Self {
        self.0.options.retain = true;
        self.key(key)
    }

    pub(super) fn priority(mut self, priority: Priority) -> Self {
        self.0.options.priority = priority;
        self
    }

    pub(super) fn notify(mut self) -> Self {
        self.0.options.notify = true;
        self
    }
}

impl From<Mail> for Message {
    fn from(mail: Mail) -> Self {
        mail.0
    }
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The answers in an outlet.
pub(super) fn outcomes(outlet: &Outlet) -> Vec<Outcome> {
    let outcome = |outbound| match outbound {
        Outbound::Answer { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    };
    outlet.take().into_iter().map(outcome).collect()
}
