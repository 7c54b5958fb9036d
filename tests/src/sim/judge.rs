//! What must hold, whatever fails: the judge sees what apps send, are told and are shown, and never
//! looks into the programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use holdfast::core::{Entry, Source};
use holdfast_protocol::{
    id::{MessageId, Name, Sender},
    limits::MAX_RETRY_AGE,
    message::{Deliver, Outcome, Refusal},
    time::Time,
};

use super::device::{Hands, Hold, id_of};

/// How much a clock that ages mail may be ahead of the true time, a restart notwithstanding.
const SLACK: Duration = Duration::from_secs(2);

/// A delivery may be under way for so long to a device that is frozen, and come after its end.
const UNDER_WAY: Duration = Duration::from_secs(120);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// When it was seen, in simulated time since the hour began.
    pub at: Duration,
    /// What was seen.
    pub what: String,
    /// The message it is about.
    pub about: Option<MessageId>,
}

/// Everything that is known of a message.
#[derive(Debug)]
struct Record {
    from: usize,
    entry: Entry,
    /// Devices it may be shown to.
    may: Vec<usize>,
    /// Devices it must be shown to, if it is accepted.
    must: Vec<usize>,
    sent: Time,
    /// The app was told that it is in the outbox.
    taken: bool,
    answer: Option<Outcome>,
    answered: Time,
    /// In which life of its sender that was said.
    refused_in: Option<u32>,
    ended: bool,
    /// What the sender's relay's clock showed when it may have been submitted first, which is in the first
    /// session since it was written: who dies in one does not remember what of it was submitted.
    submitted: Option<Duration>,
    /// Its outbox is no more.
    orphan: bool,
}

impl Record {
    fn ttl(&self) -> Option<Duration> {
        self.entry.options.ttl()
    }

    fn is_accepted(&self) -> bool {
        self.answer
            .is_some_and(|answer| !matches!(answer, Outcome::Refused(_)))
    }
}

/// What a device's apps have seen, in one installation.
#[derive(Debug, Default)]
struct Seen {
    install: u32,
    /// When it was installed.
    since: Time,
    life: u32,
    /// What is in the app's hands in this life.
    hands: Hands,
    shown: BTreeSet<MessageId>,
    /// The highest number shown of each source.
    highest: BTreeMap<Source, u64>,
    /// What the app is done with, as far as it was told that this is remembered.
    settled: BTreeSet<MessageId>,
    /// Shown in earlier installations, too.
    ever: BTreeSet<MessageId>,
    gaps: u64,
}

/// The judge.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// A relay has started with a clock that had just jumped: it may take the jump for time that it
    /// was down, and let mail expire.
    pub(crate) doubts_clocks: bool,
    /// Relays put accounts away that nobody uses, and forget with them how messages ended.
    puts_away: bool,
    /// When a relay has died last.
    pub(crate) relay_died: Time,
    records: BTreeMap<MessageId, Record>,
    devices: Vec<Seen>,
    pub(crate) breaches: Vec<Breach>,
    /// Messages that were accepted.
    pub(crate) accepted: u64,
    /// Messages that were refused.
    pub(crate) refused: u64,
    /// First showings.
    pub(crate) shows: u64,
    pub(crate) expired: u64,
    pub(crate) replaced: u64,
    pub(crate) gap_total: u64,
    now: Time,
}

impl Judge {
    pub(crate) fn new(devices: usize, puts_away: bool) -> Self {
        Self {
            puts_away,
            devices: std::iter::repeat_with(Seen::default)
                .take(devices)
                .collect(),
            ..Self::default()
        }
    }

    pub(crate) fn breach(&mut self, about: Option<&MessageId>, what: String) {
        self.breaches.push(Breach {
            at: self.now.since_origin(),
            what,
            about: about.cloned(),
        });
    }

    /// Time passes.
    pub(crate) fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// When a message was sent, and to which account.
    pub(crate) fn sent(&self, id: &MessageId) -> Option<(Time, &Name)> {
        let record = self.records.get(id)?;
        Some((record.sent, record.entry.to.account()))
    }

    /// A message has got its number. It may be shown to some devices, and must be to some; its sender has
    /// a session at this time by the clock of its relay, if it has one.
    pub(crate) fn numbered(
        &mut self,
        from: usize,
        id: &MessageId,
        entry: &Entry,
        (may, must): (Vec<usize>, Vec<usize>),
        relay_time: Option<Duration>,
    ) {
        let record = Record {
            from,
            entry: entry.clone(),
            may,
            must,
            sent: self.now,
            taken: false,
            answer: None,
            answered: self.now,
            refused_in: None,
            ended: false,
            submitted: relay_time,
            orphan: false,
        };
        // A number whose message did not reach the disk may be drawn again: nobody was told of it.
        let before = self.records.insert(id.clone(), record);
        if before.is_some_and(|before| before.taken) {
            self.breach(Some(id), "a number is drawn twice".to_owned());
        }
    }

    /// The app was told that a message is in the outbox.
    pub(crate) fn taken(&mut self, id: &MessageId) {
        if let Some(record) = self.records.get_mut(id) {
            record.taken = true;
        }
    }

    /// A device's program has started.
    pub(crate) fn restarted(&mut self, d: usize) {
        self.devices[d].hands.clear();
        self.devices[d].life += 1;
    }

    /// It has died: what its app had in hands may come again.
    pub(crate) fn crashed(&mut self, d: usize) {
        self.devices[d].hands.clear();
    }

    /// A device has lost its disk.
    pub(crate) fn reinstalled(&mut self, d: usize, sender: &Sender, outbox: u64) {
        let seen = &mut self.devices[d];
        let ever = std::mem::take(&mut seen.ever);
        let shown = std::mem::take(&mut seen.shown);
        *seen = Seen {
            install: seen.install + 1,
            since: self.now,
            life: seen.life,
            gaps: seen.gaps,
            ever: ever.into_iter().chain(shown).collect(),
            ..Seen::default()
        };
        for (id, record) in &mut self.records {
            if id.sender == *sender && id.epoch == outbox {
                record.orphan = true;
            }
        }
    }

    /// The app is shown a message.
    pub(crate) fn shown(
        &mut self,
        d: usize,
        id: &MessageId,
        deliver: &Deliver,
        body: &Bytes,
        durable: u64,
    ) {
        let wrong = self.find_wrong(d, id, deliver, body, durable);
        let is_keepsake = self.is_keepsake(d, id);
        let seen = &mut self.devices[d];
        seen.hands.insert(id.clone(), Hold::Open);
        let source = source_of(id);
        if seen.shown.insert(id.clone()) {
            self.shows += 1;
        }
        if !is_keepsake {
            let highest = seen.highest.entry(source).or_default();
            *highest = (*highest).max(id.seq);
        }
        if let Some(what) = wrong {
            self.breach(Some(id), format!("{what}: shown to device d{}", d + 1));
        }
    }

    fn find_wrong(
        &self,
        d: usize,
        id: &MessageId,
        deliver: &Deliver,
        body: &Bytes,
        durable: u64,
    ) -> Option<String> {
        let Some(record) = self.records.get(id) else {
            return Some("nobody has sent this".to_owned());
        };
        let seen = &self.devices[d];
        if !record.may.contains(&d) {
            return Some(format!(
                "it is for {}, and for nobody else",
                record.entry.to
            ));
        }
        if record.entry.body != *body {
            return Some(format!("{} bytes, and not as sent", body.len()));
        }
        let options = &record.entry.options;
        if deliver.options.key != options.key || deliver.options.priority != options.priority {
            return Some("its options are not as sent".to_owned());
        }
        if seen.settled.contains(id) || id.seq <= durable {
            return Some("twice: the app was done with it, and was told so".to_owned());
        }
        if matches!(seen.hands.get(id), Some(Hold::Open | Hold::Done)) {
            return Some("twice: the app has it already".to_owned());
        }
        let highest = seen
            .highest
            .get(&source_of(id))
            .copied()
            .unwrap_or_default();
        if !seen.shown.contains(id) && id.seq < highest && !self.is_keepsake(d, id) {
            return Some(format!("out of order: {highest} came before"));
        }
        if let (Some(Outcome::Refused(why)), Some(life)) = (record.answer, record.refused_in) {
            let sender = &self.devices[record.from];
            // A sender that died before its disk forgot a refused message sends it again.
            if sender.life == life {
                return Some(format!("it was refused ({why})"));
            }
        }
        let is_over = record.answer == Some(Outcome::Expired) && record.ended;
        let late = self.now.since(record.answered) > UNDER_WAY;
        if is_over && late && !seen.ever.contains(id) {
            return Some("it had expired".to_owned());
        }
        None
    }

    /// Whether a device may have a message from what its account retains, which is no part of any order.
    fn is_keepsake(&self, d: usize, id: &MessageId) -> bool {
        self.records.get(id).is_some_and(|record| {
            let is_new = !record.must.contains(&d) || record.sent < self.devices[d].since;
            record.entry.options.retain && is_new
        })
    }

    /// The app does something with a message.
    pub(crate) fn holds(&mut self, d: usize, id: &MessageId, hold: Hold) {
        self.devices[d].hands.insert(id.clone(), hold);
    }

    /// `done` has returned.
    pub(crate) fn remembered(&mut self, d: usize, id: &MessageId) {
        let seen = &mut self.devices[d];
        let first = MessageId {
            seq: 0,
            ..id.clone()
        };
        // A later one that is done waits for the earlier ones.
        let earlier = seen.hands.range(first..=id.clone());
        let is_open = |(_, hold): (&MessageId, &Hold)| *hold != Hold::Done;
        if earlier.clone().any(is_open) {
            return;
        }
        let settled: Vec<MessageId> = earlier.map(|(id, _)| id.clone()).collect();
        seen.settled.extend(settled);
    }

    /// The app is told of messages that will not come.
    pub(crate) fn gap(&mut self, d: usize, missed: u64) {
        let seen = &mut self.devices[d];
        seen.gaps += missed;
        self.gap_total += missed;
        // The app may have seen some of them: what was not acknowledged before a session ended
        // expires like what was not shown.
        let records = self.records.values();
        let gone =
            records.filter(|record| record.may.contains(&d) && self.may_have_expired(record));
        let most = gone.count() as u64;
        if missed > most {
            let what = format!(
                "d{} hears of {missed} expired messages; {most} can be",
                d + 1
            );
            self.breach(None, what);
        }
    }

    /// The sender's app is told what became of a message.
    pub(crate) fn answered(
        &mut self,
        id: &MessageId,
        outcome: Outcome,
        last: bool,
        is_marked: impl Fn(usize, &Source, u64) -> bool,
    ) {
        let wrong = self.find_untrue(id, outcome, is_marked);
        let Some(record) = self.records.get_mut(id) else {
            return self.breach(Some(id), format!("{outcome:?}, for nothing that was sent"));
        };
        let is_first = record.answer.is_none();
        record.answer = Some(outcome);
        record.answered = self.now;
        record.ended |= last;
        if let Outcome::Refused(_) = outcome {
            record.refused_in = Some(self.devices[record.from].life);
        }
        if is_first {
            match outcome {
                Outcome::Refused(_) => self.refused += 1,
                _ => self.accepted += 1,
            }
        }
        match outcome {
            Outcome::Expired => self.expired += 1,
            Outcome::Replaced => self.replaced += 1,
            _ => {}
        }
        if let Some(what) = wrong {
            self.breach(Some(id), what);
        }
    }

    /// A device has a session, at this time by the clock of its relay.
    pub(crate) fn welcomed(&mut self, d: usize, relay_time: Duration) {
        let records = self.records.values_mut();
        for record in records.filter(|record| record.from == d && !record.ended) {
            record.submitted.get_or_insert(relay_time);
        }
    }

    /// A message is submitted, at this time by the clock of the sender's relay.
    pub(crate) fn submitted(&mut self, id: &MessageId, relay_time: Duration) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        let first = *record.submitted.get_or_insert(relay_time);
        if relay_time.saturating_sub(first) > MAX_RETRY_AGE {
            let days = (relay_time - first).as_secs() / DAY.as_secs();
            self.breach(
                Some(id),
                format!("it is submitted again {days} days after the first time"),
            );
        }
    }

    /// The sender gives a message up, at this time by the clock of its relay.
    pub(crate) fn given_up(
        &mut self,
        id: &MessageId,
        relay_time: Option<Duration>,
        clocks_are_right: bool,
    ) {
        let Some(record) = self.records.get_mut(id) else {
            return self.breach(Some(id), "given up, and nobody has sent it".to_owned());
        };
        record.ended = true;
        let age = relay_time
            .zip(record.submitted)
            .map(|(now, first)| now.saturating_sub(first));
        // Messages of one day are given up together.
        let is_old = age.is_some_and(|age| age + DAY >= MAX_RETRY_AGE);
        if clocks_are_right && !is_old {
            self.breach(
                Some(id),
                format!("given up too early, at an age of {age:?}"),
            );
        }
    }

    fn find_untrue(
        &self,
        id: &MessageId,
        outcome: Outcome,
        is_marked: impl Fn(usize, &Source, u64) -> bool,
    ) -> Option<String> {
        let record = self.records.get(id)?;
        match outcome {
            Outcome::Delivered if record.ttl().is_none() && record.entry.options.key.is_none() => {
                let source = source_of(id);
                let lacks = record.must.iter().find(|d| {
                    let seen = &self.devices[**d];
                    let shown = seen.shown.contains(id) || seen.ever.contains(id);
                    let marked = is_marked(**d, &source, id.seq) || seen.install > 0;
                    !(shown && marked)
                });
                lacks.map(|d| format!("its sender hears that d{} has it, and it has not", d + 1))
            }
            Outcome::Expired if !self.may_be_called_expired(record) => {
                Some("its sender hears that it has expired, before its time".to_owned())
            }
            Outcome::Replaced if record.entry.options.key.is_none() => {
                Some("its sender hears that it was replaced, and it has no key".to_owned())
            }
            Outcome::Refused(Refusal::Unknown(reason)) => {
                Some(format!("it is refused for no known reason, {reason}"))
            }
            _ => None,
        }
    }

    /// Everything has come to rest: what was promised must have been kept.
    pub(crate) fn close(&mut self, is_marked: impl Fn(usize, &Source, u64) -> bool) {
        let mut found: Vec<(MessageId, String)> = Vec::new();
        let mut expired = vec![0; self.devices.len()];
        for (id, record) in &self.records {
            if record.taken && !record.ended && !record.orphan {
                let what = "its sender never hears what became of it".to_owned();
                found.push((id.clone(), what));
            }
            if !record.is_accepted() {
                continue;
            }
            for d in &record.must {
                let seen = &self.devices[*d];
                let is_shown = seen.shown.contains(id) || seen.ever.contains(id);
                let is_done = seen.install > 0 || is_marked(*d, &source_of(id), id.seq);
                if is_shown && is_done || self.was_replaced(id, record, *d) {
                    continue;
                }
                if self.may_have_expired(record) {
                    expired[*d] += u64::from(!is_shown);
                    continue;
                }
                let what = match is_shown {
                    true => format!("acknowledged, and d{} never came to an end with it", d + 1),
                    false => format!("acknowledged, and d{} has never seen it", d + 1),
                };
                found.push((id.clone(), what));
            }
        }
        for (id, what) in found {
            self.breach(Some(&id), what);
        }
        for (d, expired) in expired.into_iter().enumerate() {
            let told = self.devices[d].gaps;
            if told < expired && self.devices[d].install == 0 {
                let what = format!(
                    "d{} missed {expired} messages that expired, and was told of {told}",
                    d + 1
                );
                self.breach(None, what);
            }
        }
    }

    fn may_have_expired(&self, record: &Record) -> bool {
        let age = self.now.since(record.sent) + SLACK;
        self.doubts_clocks || record.ttl().is_some_and(|ttl| age >= ttl)
    }

    /// Of what came to its end before a relay's restart, or before its account was put away, its sender
    /// hears the worst that is possible.
    fn may_be_called_expired(&self, record: &Record) -> bool {
        let forgotten = self.puts_away || self.relay_died > record.sent;
        self.may_have_expired(record) || forgotten && record.ttl().is_some()
    }

    /// Whether another message of its key can have taken its place.
    fn was_replaced(&self, id: &MessageId, record: &Record, d: usize) -> bool {
        let Some(key) = &record.entry.options.key else {
            return false;
        };
        self.records.iter().any(|(other_id, other)| {
            other_id != id
                && other.entry.options.key.as_ref() == Some(key)
                && origin(&other_id.sender) == origin(&id.sender)
                && other.may.contains(&d)
                && !matches!(other.answer, Some(Outcome::Refused(_)))
        })
    }

    /// How many messages apps have sent.
    pub(crate) fn messages(&self) -> u64 {
        self.records.len() as u64
    }
}

/// What the keys of a sender belong to.
fn origin(sender: &Sender) -> (Option<&Name>, Option<&Name>) {
    match sender {
        Sender::Device(device) => (Some(&device.account), None),
        Sender::Service(name) => (None, Some(name)),
    }
}

/// Where a message comes from.
pub(crate) fn source_of(id: &MessageId) -> Source {
    let source = Source {
        sender: id.sender.clone(),
        epoch: id.epoch,
        lane: id.lane,
    };
    debug_assert_eq!(id_of(&source, id.seq), *id);
    source
}
