//! Whatever happens, in whatever order: senders that send again what was not answered, devices that
//! drop what they have seen, a disk that finishes when it likes, and a relay that is killed at any
//! point. Checked all the way and at the end:
//!
//! - nothing that was answered `stored` or `delivered` is lost, except to a published time to live
//!   (then it is in a gap) or to a newer message of its key;
//! - `delivered` is not said before every device has shown the message;
//! - each source's messages are shown in order: the devices' own rule drops what comes late, so a
//!   wrong order is a loss;
//! - what was refused is never shown, even if it was handed over before a crash and is refused after;
//! - nothing expires before its time, however the wall clock jumps;
//! - a late device gets the newest of each retained key;
//! - when all is drained, nothing is held, nothing waits, nobody waits.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Recipient},
    limits::BULK_DELIVERY_WINDOW,
    message::{Outcome, Priority},
    time::Time,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::fixture::{Device, Home, Mail, START_MS, Seen, mail};
use crate::mail::{
    message::{Message, Source},
    outlet::{Outbound, Outlet, Question},
};

/// How many cases an ordinary run tries; `HOLDFAST_CASES` sets another number.
const CASES: u64 = 400;

const SENDERS: [&str; 4] = ["alice/pc", "alice/phone", "bob/pc", "service/push"];
const DEVICES: [&str; 4] = ["pc", "phone", "tablet", "watch"];

/// Which message: the sender, the lane, the number.
type Id = (usize, Lane, u64);

/// What is known of a message outside.
struct Record {
    message: Message,
    /// Devices that had certainly joined when it was submitted first.
    required: BTreeSet<usize>,
    /// When it was submitted, first and last, in steps.
    submitted: Option<(u64, u64)>,
    /// When it was submitted first.
    since: Time,
    /// The answers that its sender heard.
    answers: Vec<Outcome>,
    /// The relay has crashed since: it does not know the end, and may have to guess it.
    guessed: bool,
    /// It was too old to be submitted again.
    given_up: bool,
}

impl Record {
    fn is_closed(&self) -> bool {
        match self.answers.last() {
            _ if self.given_up => true,
            None => false,
            Some(answer) => answer.is_final() || !self.message.options.notify,
        }
    }

    fn was_refused(&self) -> bool {
        matches!(self.answers[..], [Outcome::Refused(_)])
    }
}

#[derive(Default)]
struct Outbox {
    last: [u64; 2],
    session: Option<Outlet>,
    /// What this session is yet to submit.
    queues: [VecDeque<u64>; 2],
}

#[derive(Default)]
struct Inbox {
    number: u64,
    session: Option<Device>,
    /// What came in this session and was not shown.
    arrived: VecDeque<Seen>,
    /// The last place of each lane that came, and that was shown, in this session.
    last: [u64; 2],
    done: [u64; 2],
    unacked: [usize; 2],
    marks: BTreeMap<Source, u64>,
    shown: BTreeSet<(Source, u64)>,
    missed: u64,
}

struct World {
    rng: StdRng,
    home: Home,
    step: u64,
    records: BTreeMap<Id, Record>,
    outboxes: [Outbox; SENDERS.len()],
    inboxes: [Inbox; DEVICES.len()],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let max_messages = [3, 8, 1000][rng.random_range(0..3)];
        let held_per_device = [0, 60, 1 << 20][rng.random_range(0..3)];
        let held = [100, 1 << 20][rng.random_range(0..2)];
        let pair = [2, 6, 1000][rng.random_range(0..3)];
        let mut home = Home::with(|rules| {
            rules.mailbox.messages = max_messages;
            rules.pair.messages = pair;
            rules.max_ttl = Duration::from_secs(3650 * 24 * 3600);
            rules.forget_device_after = Duration::MAX;
            rules.max_held_bytes_per_device = held_per_device;
            rules.max_held_bytes = held;
        });
        home.allow("bob", true);
        home.commit();
        Self {
            rng,
            home,
            step: 0,
            records: BTreeMap::new(),
            outboxes: Default::default(),
            inboxes: Default::default(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn act(&mut self) {
        self.step += 1;
        let sender = self.rng.random_range(0..SENDERS.len());
        let device = self.rng.random_range(0..DEVICES.len());
        match self.rng.random_range(0..100) {
            0..14 => self.write(sender),
            14..34 => self.submit(sender),
            34..44 => self.hear(sender),
            44..49 => self.open(sender),
            49..51 => self.hang_up(sender),
            51..58 => self.attach(device),
            58..61 => self.detach(device),
            61..70 => self.receive(device),
            70..80 => self.show(device),
            80..87 => self.acknowledge(device),
            87..94 => drop(self.home.commit_one()),
            94..97 => {
                let span = Duration::from_millis(self.rng.random_range(1..700));
                self.home.pass(span);
            }
            97 if self.chance(50) => self.home.reload(),
            97 => self.home.now.wall_ms = self.rng.random_range(0..2 * START_MS),
            98 if self.chance(50) => self.crash(),
            99 if self.chance(30) => self.lose_memory(),
            99 if self.chance(10) => self.let_months_pass(),
            _ => self.home.commit(),
        }
    }

    /// The sender's app writes a message.
    fn write(&mut self, sender: usize) {
        let bulk = self.chance(25);
        let lane = if bulk { Lane::Bulk } else { Lane::Message };
        let seq = self.outboxes[sender].last[lane as usize] + 1;
        self.outboxes[sender].last[lane as usize] = seq;
        let to = match self.rng.random_range(0..6) {
            0..3 => "alice",
            3 => "alice/phone",
            4 => "alice/tablet",
            _ => "alice/watch",
        };
        let mut mail = mail(SENDERS[sender], seq, to);
        mail.0.id.lane = lane;
        mail.0.body = Bytes::from(format!("{} {lane:?} {seq}", SENDERS[sender]));
        mail = self.choose_options(sender, mail);
        let record = Record {
            message: mail.0,
            required: BTreeSet::new(),
            submitted: None,
            since: self.home.now.time,
            answers: Vec::new(),
            guessed: false,
            given_up: false,
        };
        self.records.insert((sender, lane, seq), record);
        self.outboxes[sender].queues[lane as usize].push_back(seq);
    }

    fn choose_options(&mut self, sender: usize, mut mail: Mail) -> Mail {
        if self.chance(30) {
            mail = mail.notify();
        }
        mail = mail.priority(Priority::ALL[self.rng.random_range(0..3)]);
        match self.rng.random_range(0..10) {
            0 | 1 => mail.key(["k0", "k1"][self.rng.random_range(0..2)]),
            2 => mail.ttl(self.rng.random_range(1..3)),
            // One sender and one lane, so that it is clear which is the newest.
            3 | 4 if sender == 0 && mail.0.id.lane == Lane::Message => {
                mail.0.to = "alice".parse().unwrap();
                if self.chance(20) {
                    mail.0.body = Bytes::new();
                }
                mail.retain(["r0", "r1"][self.rng.random_range(0..2)])
            }
            _ => mail,
        }
    }

    fn submit(&mut self, sender: usize) {
        let outbox = &mut self.outboxes[sender];
        let Some(outlet) = outbox.session.clone() else {
            return;
        };
        let lane = Lane::ALL[self.rng.random_range(0..2)];
        let Some(seq) = outbox.queues[lane as usize].pop_front() else {
            return;
        };
        self.step += 1;
        let joined = self.joined();
        let record = self.records.get_mut(&(sender, lane, seq)).unwrap();
        record.message.again = record.submitted.is_some();
        match &mut record.submitted {
            Some((_, last)) => *last = self.step,
            None => {
                record.submitted = Some((self.step, self.step));
                record.since = self.home.now.time;
                let own = SENDERS[sender].strip_prefix("alice/");
                record.required = match &record.message.to {
                    Recipient::Account(_) => joined,
                    Recipient::Device(device) => DEVICES
                        .iter()
                        .position(|name| *name == device.device.as_str())
                        .into_iter()
                        .collect(),
                };
                if matches!(record.message.to, Recipient::Account(_)) {
                    record.required.retain(|at| Some(DEVICES[*at]) != own);
                }
            }
        }
        self.home.submit(record.message.clone(), &outlet);
    }

    /// The devices that the disk knows, with the memory that they have now.
    fn joined(&self) -> BTreeSet<usize> {
        let rows = self.home.rows();
        let is_joined = |at: &usize| {
            rows.devices.iter().any(|(name, record)| {
                name.as_str() == DEVICES[*at] && record.inbox == Some(self.inboxes[*at].number)
            })
        };
        (0..DEVICES.len()).filter(is_joined).collect()
    }

    fn hear(&mut self, sender: usize) {
        let Some(outlet) = &self.outboxes[sender].session else {
            return;
        };
        for outbound in outlet.take() {
            let Outbound::Answer {
                question: Question::Submitted { lane, seq },
                outcome,
            } = outbound
            else {
                panic!("{outbound:?}");
            };
            let record = self.records.get_mut(&(sender, lane, seq)).unwrap();
            record.answers.push(outcome);
            if outcome == Outcome::Expired && !record.guessed {
                let waited = self.home.now.time.since(record.since);
                let ttl = record.message.options.ttl().unwrap();
                assert!(waited >= ttl, "{} lived {waited:?}", record.message.id);
            }
            if outcome == Outcome::Delivered {
                let source = Source::from(&record.message.id);
                for device in &record.required {
                    assert!(
                        self.inboxes[*device].shown.contains(&(source.clone(), seq)),
                        "{} does not have {}",
                        DEVICES[*device],
                        record.message.id
                    );
                }
            }
        }
    }

    /// A new session: everything unanswered goes again, from the oldest.
    fn open(&mut self, sender: usize) {
        self.hang_up(sender);
        let outbox = &mut self.outboxes[sender];
        outbox.session = Some(Outlet::new());
        outbox.queues = Default::default();
        for ((of, lane, seq), record) in &self.records {
            if *of == sender && !record.is_closed() {
                outbox.queues[*lane as usize].push_back(*seq);
            }
        }
    }

    fn hang_up(&mut self, sender: usize) {
        if let Some(outlet) = self.outboxes[sender].session.take() {
            outlet.close();
        }
    }

    fn attach(&mut self, device: usize) {
        let number = self.inboxes[device].number;
        let session = self.home.attach_with_inbox(DEVICES[device], number);
        self.begin_session(device, Some(session));
    }

    fn detach(&mut self, device: usize) {
        if let Some(session) = self.inboxes[device].session.clone() {
            self.home.detach(&session);
            self.begin_session(device, None);
        }
    }

    fn begin_session(&mut self, device: usize, session: Option<Device>) {
        let inbox = &mut self.inboxes[device];
        inbox.session = session;
        inbox.arrived.clear();
        (inbox.last, inbox.done, inbox.unacked) = Default::default();
    }

    fn receive(&mut self, device: usize) {
        let inbox = &mut self.inboxes[device];
        let Some(session) = &inbox.session else {
            return;
        };
        for seen in self.home.take(session) {
            let (position, lane) = match &seen {
                Seen::Message { position, id, .. } => (*position, id.lane),
                Seen::Gap(gap) => (gap.position, Lane::Message),
                Seen::Superseded => panic!("by whom?"),
            };
            let last = &mut inbox.last[lane as usize];
            assert!(position > *last, "places grow: {seen:?} after {last}");
            *last = position;
            inbox.unacked[lane as usize] += 1;
            assert!(inbox.unacked[Lane::Bulk as usize] <= BULK_DELIVERY_WINDOW);
            inbox.arrived.push_back(seen);
        }
    }

    fn show(&mut self, device: usize) {
        let inbox = &mut self.inboxes[device];
        match inbox.arrived.pop_front() {
            Some(Seen::Message { position, id, body }) => {
                inbox.done[id.lane as usize] = position;
                let source = Source::from(&id);
                let mark = inbox.marks.entry(source.clone()).or_default();
                if id.seq > *mark {
                    *mark = id.seq;
                    inbox.shown.insert((source, id.seq));
                    let from = id.sender.to_string();
                    let sender = SENDERS.iter().position(|name| *name == from).unwrap();
                    let record = &self.records[&(sender, id.lane, id.seq)];
                    assert_eq!(record.message.body, body);
                    assert!(!record.was_refused(), "{id} was refused");
                }
            }
            Some(Seen::Gap(gap)) => {
                inbox.done[Lane::Message as usize] = gap.position;
                inbox.missed += gap.missed;
            }
            Some(Seen::Superseded) | None => {}
        }
    }

    fn acknowledge(&mut self, device: usize) {
        let lane = Lane::ALL[self.rng.random_range(0..2)];
        self.acknowledge_lane(device, lane);
    }

    fn acknowledge_lane(&mut self, device: usize, lane: Lane) {
        let inbox = &mut self.inboxes[device];
        let Some(session) = &inbox.session else {
            return;
        };
        let waiting = inbox.arrived.iter().filter(|seen| match seen {
            Seen::Message { id, .. } => id.lane == lane,
            _ => lane == Lane::Message,
        });
        inbox.unacked[lane as usize] = waiting.count();
        self.home.ack(session, lane, inbox.done[lane as usize]);
    }

    fn crash(&mut self) {
        let kept = self.rng.random_range(0..=self.home.tail.len());
        self.home.correct_wall_clock();
        self.home.crash(kept);
        for record in self.records.values_mut() {
            record.guessed |= record.submitted.is_some();
        }
        (0..SENDERS.len()).for_each(|sender| self.hang_up(sender));
        (0..DEVICES.len()).for_each(|device| self.begin_session(device, None));
    }

    /// The watch is reinstalled: it knows nothing of what it was shown.
    fn lose_memory(&mut self) {
        let watch = DEVICES.len() - 1;
        self.detach(watch);
        let number = self.inboxes[watch].number + 1;
        self.inboxes[watch] = Inbox {
            number,
            ..Inbox::default()
        };
        for record in self.records.values_mut() {
            record.required.remove(&watch);
        }
    }

    /// So long that the relay forgets how far everybody has come; and no sender submits again what it
    /// has submitted before.
    fn let_months_pass(&mut self) {
        let unanswered = |record: &Record| record.submitted.is_some() && !record.is_closed();
        let is_open = |record: &Record| record.message.options.retain && record.answers.is_empty();
        if self
            .records
            .values()
            .any(|record| unanswered(record) && is_open(record))
        {
            // Nobody could tell whether it was accepted.
            return;
        }
        for record in self.records.values_mut() {
            record.given_up |= unanswered(record);
        }
        for sender in 0..SENDERS.len() {
            for lane in Lane::ALL {
                let given_up = |seq: &u64| self.records[&(sender, lane, *seq)].given_up;
                self.outboxes[sender].queues[lane as usize].retain(|seq| !given_up(seq));
            }
        }
        self.home.pass(Duration::from_secs(92 * 24 * 3600));
    }

    /// Everybody is there and does what is to be done, until nothing is left.
    fn settle(&mut self) {
        (0..SENDERS.len()).for_each(|sender| self.open(sender));
        (0..DEVICES.len()).for_each(|device| self.attach(device));
        for _ in 0..1000 {
            if self.is_quiet() {
                break;
            }
            (0..SENDERS.len()).for_each(|sender| {
                self.submit(sender);
                self.hear(sender);
            });
            self.home.commit();
            for device in 0..DEVICES.len() {
                self.receive(device);
                while !self.inboxes[device].arrived.is_empty() {
                    self.show(device);
                }
                for lane in Lane::ALL {
                    self.acknowledge_lane(device, lane);
                }
            }
        }
        self.home.commit();
        (0..SENDERS.len()).for_each(|sender| self.hear(sender));
    }

    fn is_quiet(&self) -> bool {
        let mut queues = self.outboxes.iter().flat_map(|outbox| &outbox.queues);
        queues.all(VecDeque::is_empty) && self.home.account.waiting_bytes() == 0
    }

    fn check(&mut self) {
        self.home.assert_empty();
        for ((_, lane, seq), record) in &self.records {
            assert!(record.is_closed(), "{lane:?} {seq}: {:?}", record.answers);
            for device in &record.required {
                self.check_one(record, *device);
            }
            if record.was_refused() {
                let id = (Source::from(&record.message.id), *seq);
                assert!(self.inboxes.iter().all(|inbox| !inbox.shown.contains(&id)));
            }
        }
        (0..DEVICES.len()).for_each(|device| self.check_gaps(device));
        self.check_retained();
        (0..DEVICES.len()).for_each(|device| self.detach(device));
        self.home.pass(Duration::from_secs(1));
        assert!(self.home.account.is_settled());
    }

    fn has_shown(&self, record: &Record, device: usize) -> bool {
        let id = &record.message.id;
        let shown = &self.inboxes[device].shown;
        shown.contains(&(Source::from(id), id.seq))
    }

    fn check_one(&self, record: &Record, device: usize) {
        let (id, options) = (&record.message.id, &record.message.options);
        let promised = !record.was_refused() && !record.answers.is_empty();
        if !promised || self.has_shown(record, device) || options.ttl_s.is_some() {
            return;
        }
        let newer = |other: &&Record| {
            let (theirs, ours) = (other.submitted.unwrap().1, record.submitted.unwrap().0);
            other.message.options.key == options.key
                && other.message.id.sender.account() == id.sender.account()
                && theirs > ours
                && self.has_shown(other, device)
        };
        assert!(
            options.key.is_some() && self.records.values().any(|other| newer(&other)),
            "{id} was answered {:?} and is not on {}",
            record.answers,
            DEVICES[device]
        );
    }

    /// Each message that is missing for its time to live is in a gap.
    fn check_gaps(&self, device: usize) {
        let missing = self.records.values().filter(|record| {
            record.message.options.ttl_s.is_some()
                && record.required.contains(&device)
                && !record.was_refused()
                && !record.answers.is_empty()
                && !self.has_shown(record, device)
        });
        assert!(missing.count() as u64 <= self.inboxes[device].missed);
    }

    fn check_retained(&mut self) {
        let mut expected = BTreeMap::new();
        for record in self.records.values() {
            let options = &record.message.options;
            if options.retain && !record.was_refused() {
                expected.insert(options.key.clone(), record.message.body.clone());
            }
        }
        expected.retain(|_, body| !body.is_empty());
        let late = self.home.attach("late");
        let body = |seen| match seen {
            Seen::Message { body, .. } => body,
            other => panic!("{other:?}"),
        };
        let got: BTreeSet<Bytes> = self.home.take(&late).into_iter().map(body).collect();
        assert_eq!(got, expected.into_values().collect());
        self.home.ack(&late, Lane::Message, u64::MAX);
        self.home.commit();
        self.home.assert_empty();
        self.home.detach(&late);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let steps = world.rng.random_range(20..600);
    (0..steps).for_each(|_| world.act());
    world.settle();
    world.check();
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_whatever_happens() {
    let cases = std::env::var("HOLDFAST_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    for seed in 0..cases {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
