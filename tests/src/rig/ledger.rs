//! What was promised, and what came: the one book of all rigs.
//!
//! Each message says in its first bytes who sent it to whom as which, and the rest follows from that
//! and the seed. So whoever receives one can tell whether it is as it was sent, and the book holds
//! no bodies.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use holdfast::{Lane, Outcome, Unsent};
use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use tokio::{sync::watch, time::timeout};

/// A body says this much of itself before it is filled up.
pub const HEADER: usize = 12;

/// The smallest body.
pub const SMALLEST: usize = 100;

/// The largest body.
pub const LARGEST: usize = 1024 * 1024;

/// A message: who sent it to whom as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which sender.
    pub sender: u16,
    /// Which recipient.
    pub recipient: u16,
    /// Which of this sender's messages, to whomever.
    pub number: u32,
}

/// What the sender knows of its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Word {
    /// Nothing yet: it is in the outbox.
    #[default]
    None,
    /// It is in an outbox that survives its owner, and is to arrive.
    Taken,
    /// It was answered, and is to arrive whatever happens.
    Promised,
    /// It was answered when nothing counted any more: see [`Ledger::darken`].
    Unheard,
}

impl Word {
    fn is_owed(self) -> bool {
        matches!(self, Self::Taken | Self::Promised)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    word: Word,
    len: usize,
    arrivals: u32,
}

#[derive(Clone, Debug, Default)]
struct Book {
    entries: HashMap<Key, Entry>,
    newest: HashMap<(u16, u16, Lane), u32>,
    /// How many messages were promised to each recipient and have not come.
    owed: HashMap<u16, usize>,
    promised: usize,
    arrived: usize,
    dark: bool,
    verdict: Verdict,
}

/// What all came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages whose sender has an answer that counts.
    pub answered: usize,
    /// Messages that were answered and did not come, or not as they were sent.
    pub lost: usize,
    /// Messages that an app got more than once, each time after the first.
    pub twice: usize,
    /// Messages that came after a later one of the same sender and lane.
    pub disordered: usize,
    /// What is wrong, in words.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Adds what another part of the run came to.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.lost += other.lost;
        self.twice += other.twice;
        self.disordered += other.disordered;
        self.findings.extend(other.findings);
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.twice, self.disordered) == (0, 0, 0)
    }
}

/// The book.
#[derive(Debug)]
pub struct Ledger {
    seed: u64,
    book: Mutex<Book>,
    /// Goes up with everything that is written into the book.
    news: watch::Sender<u64>,
}

impl Ledger {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            book: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }

    /// The body of a message, entered as one that is about to be sent.
    pub fn enter(&self, key: Key, len: usize) -> Bytes {
        self.expect(key, len);
        body(self.seed, key, len)
    }

    /// Enters a message that somebody else is about to send.
    pub fn expect(&self, key: Key, len: usize) {
        let entry = Entry {
            len,
            ..Entry::default()
        };
        self.write(|book| book.entries.insert(key, entry));
    }

    /// Writes down that a message is in an outbox that survives its owner.
    pub fn taken(&self, key: Key) {
        self.write(|book| book.answer(key, Word::Taken));
    }

    /// Writes down what a sender was told.
    pub fn told(&self, key: Key, answer: Result<Outcome, Unsent>) {
        self.write(|book| {
            let word = match answer {
                Ok(Outcome::Stored | Outcome::Delivered) if book.dark => Word::Unheard,
                Ok(Outcome::Stored | Outcome::Delivered) => Word::Promised,
                Err(Unsent::Closed) => return,
                other => return book.complain(format!("{key:?} was answered with {other:?}")),
            };
            book.answer(key, word);
        });
    }

    /// Writes down what an app got.
    pub fn arrived(&self, recipient: u16, lane: Lane, body: &[u8]) {
        let sent = self.read(recipient, body);
        self.write(|book| match sent {
            Ok(key) => book.arrival(key, lane),
            Err(what) => book.wrong(what),
        });
    }

    /// Writes down what another app got, which has looked at it itself.
    pub fn seen(&self, key: Key, lane: Lane) {
        self.write(|book| match book.entries.contains_key(&key) {
            true => book.arrival(key, lane),
            false => book.wrong(format!("{key:?} came and was never sent")),
        });
    }

    /// Writes down that something came that was not sent like that.
    pub fn wrong(&self, what: String) {
        self.write(|book| book.wrong(what));
    }

    /// What is wrong so far, in words; refusals are.
    pub fn findings(&self) -> Vec<String> {
        self.book.lock().verdict.findings.clone()
    }

    /// How often something came that was not sent like that.
    pub fn wrongs(&self) -> usize {
        self.book.lock().verdict.lost
    }

    /// Whether a message has come.
    pub fn has_come(&self, key: Key) -> bool {
        let book = self.book.lock();
        book.entries
            .get(&key)
            .is_some_and(|entry| entry.arrivals > 0)
    }

    /// A book of its own that says the same.
    pub fn copy(&self) -> Self {
        Self {
            seed: self.seed,
            book: Mutex::new(self.book.lock().clone()),
            news: watch::Sender::new(0),
        }
    }

    /// Takes what came twice in another copy of this book for what has not come yet: its recipient
    /// had it, and was cut off before it could say so.
    pub fn expect_again(&self, other: &Self) {
        let other = other.book.lock();
        let twice = |(key, entry): (&Key, &Entry)| (entry.arrivals > 1).then_some(*key);
        self.write(|book| {
            for key in other.entries.iter().filter_map(twice) {
                let entry = book.entries.entry(key).or_default();
                (entry.arrivals, book.newest) = (0, HashMap::new());
                book.arrived -= 1;
                *book.owed.entry(key.recipient).or_default() += usize::from(entry.word.is_owed());
            }
        });
    }

    /// What bodies follow from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// From now on an answer is no promise: its sender may have got it after the lights went out.
    pub fn darken(&self) {
        self.book.lock().dark = true;
    }

    /// From now on an answer is a promise again.
    pub fn lighten(&self) {
        self.book.lock().dark = false;
    }

    /// How many messages have come.
    pub fn arrivals(&self) -> usize {
        self.book.lock().arrived
    }

    /// How many messages have been answered.
    pub fn promises(&self) -> usize {
        self.book.lock().promised
    }

    /// How many messages were promised to these recipients and have not come.
    pub fn owed(&self, recipients: &[u16]) -> usize {
        let book = self.book.lock();
        let owed = |recipient| book.owed.get(recipient).copied().unwrap_or_default();
        recipients.iter().map(owed).sum()
    }

    /// Waits until these recipients have all that was promised to them, or nothing has happened for
    /// so long. Whether they have all.
    pub async fn paid(&self, recipients: &[u16], patience: Duration) -> bool {
        self.reached(patience, || self.owed(recipients) == 0).await
    }

    /// Waits for something that changes with what is written here, or until nothing has been written
    /// for so long. Whether it holds.
    pub async fn reached(&self, patience: Duration, holds: impl Fn() -> bool) -> bool {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            if holds() {
                return true;
            }
            if !matches!(timeout(patience, news.changed()).await, Ok(Ok(()))) {
                return holds();
            }
        }
    }

    /// Closes the book.
    pub fn verdict(&self) -> Verdict {
        let book = self.book.lock();
        let mut verdict = book.verdict.clone();
        verdict.answered = book.promised;
        let mut lost: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for key in book.missing() {
            let flow = lost.entry((key.sender, key.recipient)).or_default();
            flow.push(key.number);
            verdict.lost += 1;
        }
        for ((sender, recipient), mut numbers) in lost {
            numbers.sort_unstable();
            let what = format!("lost from {sender} to {recipient}: {numbers:?}");
            verdict.findings.push(what);
        }
        verdict
    }

    fn write<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let changed = change(&mut self.book.lock());
        self.news.send_modify(|news| *news += 1);
        changed
    }

    fn read(&self, recipient: u16, found: &[u8]) -> Result<Key, String> {
        let len = found.len();
        let Some(key) = key(found) else {
            return Err(format!("{recipient} got {len} bytes that nobody sent"));
        };
        let sent = self.book.lock().entries.get(&key).copied();
        match sent {
            _ if key.recipient != recipient => Err(format!("{recipient} got {key:?}")),
            None => Err(format!("{key:?} came and was never sent")),
            Some(sent) if sent.len != len || body(self.seed, key, len) != found => {
                Err(format!("{key:?} of {} came as {len} other bytes", sent.len))
            }
            Some(_) => Ok(key),
        }
    }
}

impl Book {
    fn missing(&self) -> impl Iterator<Item = &Key> {
        let missing = |entry: &Entry| entry.word.is_owed() && entry.arrivals == 0;
        let entries = self.entries.iter();
        entries.filter_map(move |(key, entry)| missing(entry).then_some(key))
    }

    fn answer(&mut self, key: Key, word: Word) {
        let entry = self.entries.entry(key).or_default();
        let (owed, due) = (entry.word.is_owed(), word.is_owed());
        entry.word = word;
        self.promised += usize::from(word == Word::Promised);
        if due && !owed && entry.arrivals == 0 {
            *self.owed.entry(key.recipient).or_default() += 1;
        }
    }

    fn arrival(&mut self, key: Key, lane: Lane) {
        let entry = self.entries.entry(key).or_default();
        entry.arrivals += 1;
        if entry.arrivals > 1 {
            self.verdict.twice += 1;
            return self.complain(format!("{key:?} came again"));
        }
        if entry.word.is_owed() {
            *self.owed.entry(key.recipient).or_default() -= 1;
        }
        self.arrived += 1;
        self.in_order(key, lane);
    }

    fn wrong(&mut self, what: String) {
        self.verdict.lost += 1;
        self.complain(what);
    }

    fn in_order(&mut self, key: Key, lane: Lane) {
        let flow = (key.sender, key.recipient, lane);
        let newest = self.newest.entry(flow).or_default();
        if key.number >= *newest {
            *newest = key.number;
            return;
        }
        let late = format!("{key:?} came after {newest}");
        self.verdict.disordered += 1;
        self.complain(late);
    }

    fn complain(&mut self, what: String) {
        self.verdict.findings.push(what);
    }
}

/// What a message of this key and length says.
pub fn body(seed: u64, key: Key, len: usize) -> Bytes {
    let mut body = vec![0; len.max(HEADER)];
    let own = u64::from(key.number) << 32 | u64::from(key.sender) << 16 | u64::from(key.recipient);
    SmallRng::seed_from_u64(seed ^ own).fill_bytes(&mut body[HEADER..]);
    body[..2].copy_from_slice(&key.sender.to_be_bytes());
    body[2..4].copy_from_slice(&key.recipient.to_be_bytes());
    body[4..8].copy_from_slice(&key.number.to_be_bytes());
    body[8..HEADER].copy_from_slice(&(len as u32).to_be_bytes());
    body.into()
}

/// What a body says of itself.
pub fn key(body: &[u8]) -> Option<Key> {
    let (header, _) = body.split_at_checked(HEADER)?;
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some(Key {
        sender: half(0),
        recipient: half(2),
        number: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
    })
}

/// A length from 100 bytes to 1 MiB: mostly chat lines, now and then a photo.
pub fn some_len(rng: &mut impl Rng) -> usize {
    match rng.random_range(0..100) {
        0..70 => rng.random_range(SMALLEST..2048),
        70..90 => rng.random_range(2048..=16 * 1024),
        90..98 => rng.random_range(16 * 1024..128 * 1024),
        _ => rng.random_range(128 * 1024..=LARGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(10);

    fn key(number: u32) -> Key {
        Key {
            sender: 1,
            recipient: 2,
            number,
        }
    }

    fn come(ledger: &Ledger, body: &[u8]) {
        ledger.arrived(2, Lane::Message, body);
    }

    #[tokio::test]
    async fn what_was_promised_and_came_is_well() {
        let ledger = Ledger::new(7);
        for number in 0..3 {
            let body = ledger.enter(key(number), 100);
            ledger.told(key(number), Ok(Outcome::Stored));
            assert!(!ledger.paid(&[2], PATIENCE).await);
            come(&ledger, &body);
            assert!(ledger.paid(&[2], PATIENCE).await);
        }
        let expected = Verdict {
            answered: 3,
            ..Verdict::default()
        };
        assert_eq!(ledger.verdict(), expected);
    }

    #[test]
    fn what_was_promised_and_did_not_come_is_lost() {
        let ledger = Ledger::new(7);
        ledger.enter(key(1), 100);
        ledger.enter(key(2), 100);
        ledger.told(key(1), Ok(Outcome::Delivered));
        ledger.darken();
        ledger.told(key(2), Ok(Outcome::Stored));
        let verdict = ledger.verdict();
        assert_eq!((verdict.answered, verdict.lost), (1, 1));
        assert_eq!(verdict.findings, ["lost from 1 to 2: [1]"]);
    }

    #[test]
    fn what_comes_again_or_late_is_noticed() {
        let ledger = Ledger::new(7);
        let bodies: Vec<_> = (0..3).map(|n| ledger.enter(key(n), 100)).collect();
        for number in [0, 2, 1, 2] {
            come(&ledger, &bodies[number]);
        }
        let verdict = ledger.verdict();
        assert_eq!((verdict.twice, verdict.disordered), (1, 1));
    }

    #[test]
    fn what_comes_changed_is_lost() {
        let ledger = Ledger::new(7);
        let body = ledger.enter(key(1), 1000);
        let mut changed = body.to_vec();
        changed[999] ^= 1;
        for wrong in [&changed, &body[..999], &body[..5], &[0; 100]] {
            come(&ledger, wrong);
        }
        ledger.arrived(3, Lane::Message, &body);
        assert_eq!(ledger.verdict().lost, 5);
    }
}
