//! An allocator, everybody's certificates, and a crowd, seen through blow after blow until the book is
//! closed. The relays, and what is done to them, are each rig's own.

use std::{fs, mem, ops::Range, path::Path, sync::Arc, time::Duration};

use holdfast_relay::{Config, Limits, Upkeep};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::sync::Semaphore;

use super::{
    crowd::{Feed, Feeder, Reader, some},
    ledger::{Ledger, Verdict},
    sender::Target,
};
use crate::net::{Net, PATIENCE, test_limits};

/// Backends that write to every recipient.
const FEEDERS: u16 = 3;

/// Devices that are mostly away, each of an account of its own.
const AWAY: u16 = 8;

/// Devices that are always there.
const THERE: u16 = 2;

/// Devices that write to the other one of their account.
const SIBLINGS: u16 = 2;

/// One crowd, from its first message to its last.
pub struct Scene {
    /// Decides.
    pub rng: SmallRng,
    /// The book.
    pub ledger: Arc<Ledger>,
    /// The allocator, the certificates, and relays, if they are in this process.
    pub net: Net,
    feed: Feed,
    feeders: Vec<Feeder>,
    readers: Vec<Reader>,
}

impl Scene {
    /// Nobody is there yet but the allocator and so many relays in this process.
    pub async fn set(seed: u64, relays: usize) -> Self {
        let net = Net::start_with(relays, limits()).await;
        let ledger = Arc::new(Ledger::new(seed));
        let feed = Feed {
            ledger: ledger.clone(),
            budget: Arc::new(Semaphore::new(0)),
            seed,
        };
        Self {
            rng: SmallRng::seed_from_u64(seed),
            ledger,
            net,
            feed,
            feeders: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Lets everybody in. Accounts `a0` … have a phone each; some have a PC that writes to it, and
    /// services write to all of them.
    pub async fn gather(&mut self) {
        for number in everybody() {
            let name = format!("a{number}/phone");
            let directory = self.net.directory(&name);
            let reader = Reader::new(&name, number, directory, self.ledger.clone());
            self.readers.push(reader);
        }
        for reader in &mut self.readers[usize::from(AWAY)..] {
            reader.come(&self.net).await;
        }
        let all = |reader: &Reader| Target(reader.number(), reader.name().to_owned());
        let all: Vec<_> = self.readers.iter().map(all).collect();
        for number in 0..FEEDERS {
            let name = format!("service/s{number}");
            self.add_feeder(&name, number, all.clone()).await;
        }
        for number in 0..SIBLINGS {
            let sibling = vec![all[usize::from(number)].clone()];
            self.add_feeder(&format!("a{number}/pc"), FEEDERS + number, sibling)
                .await;
        }
    }

    /// Lets one more in who sends.
    pub async fn add_feeder(&mut self, name: &str, number: u16, targets: Vec<Target>) {
        let config = self.net.config(name);
        let feeder = Feeder::start(config, number, targets, &self.feed).await;
        self.feeders.push(feeder);
    }

    /// Allows so many messages more to be sent.
    pub fn allow(&self, messages: usize) {
        self.feed.budget.add_permits(messages);
    }

    /// A time within a range, in milliseconds, but finer: how long to let things run before the blow,
    /// which is to fall anywhere.
    pub fn a_while(&mut self, ms: Range<u64>) -> Duration {
        Duration::from_micros(self.rng.random_range(ms.start * 1000..ms.end * 1000))
    }

    /// Tells everybody that a relay has been started again, so that nobody waits to find out.
    pub fn back(&self, relay: &str) {
        self.feeders.iter().for_each(|feeder| feeder.back(relay));
        self.readers.iter().for_each(|reader| reader.back(relay));
    }

    /// Lets some of those who are away begin to fetch.
    pub async fn begin_to_fetch(&mut self, count: usize) {
        self.come(count).await;
    }

    /// Lets some of those who are away, up to all, fetch what was promised to them, and go. How many
    /// messages came meanwhile.
    pub async fn fetch(&mut self, count: usize, patience: Duration) -> usize {
        let before = self.ledger.arrivals();
        let numbers = self.come(count).await;
        self.ledger.paid(&numbers, patience).await;
        for reader in &mut self.readers[..usize::from(AWAY)] {
            reader.go().await;
        }
        self.ledger.arrivals() - before
    }

    async fn come(&mut self, count: usize) -> Vec<u16> {
        let mut numbers = Vec::new();
        let away = &mut self.readers[..usize::from(AWAY)];
        for reader in some(&mut self.rng, away, count) {
            reader.come(&self.net).await;
            numbers.push(reader.number());
        }
        numbers
    }

    /// How many messages are promised to anybody and have not come.
    pub fn owed(&self) -> usize {
        self.ledger.owed(&Vec::from_iter(everybody()))
    }

    /// The last messages of all, sent and fetched; then the book is closed.
    pub async fn end(mut self) -> Verdict {
        let unanswered = self.wind_up().await;
        self.close(unanswered).await
    }

    /// The last messages of all, sent and fetched. How many senders wait for an answer in vain.
    pub async fn wind_up(&mut self) -> usize {
        let unanswered = self.stop_feeding().await;
        for reader in &mut self.readers {
            reader.come(&self.net).await;
        }
        self.paid(PATIENCE / 3).await;
        unanswered
    }

    /// Waits until everything has come, or nothing has for so long. Whether it has.
    pub async fn paid(&self, patience: Duration) -> bool {
        let everybody = Vec::from_iter(everybody());
        self.ledger.paid(&everybody, patience).await
    }

    /// Who waits for what was promised, and where that device stands.
    pub fn waiting(&self) -> Vec<String> {
        let owed = |reader: &&Reader| self.ledger.owed(&[reader.number()]) > 0;
        let waiting = self.readers.iter().filter(owed);
        let told = waiting.map(|reader| {
            let owed = self.ledger.owed(&[reader.number()]);
            format!("{} waits for {owed}: {}", reader.name(), reader.standing())
        });
        told.collect()
    }

    /// Lets everybody go, and closes the book.
    pub async fn close(mut self, unanswered: usize) -> Verdict {
        for reader in &mut self.readers {
            reader.go().await;
        }
        let mut verdict = self.abandon().await;
        if unanswered > 0 {
            verdict.lost += unanswered;
            let what = format!("{unanswered} senders wait for an answer that does not come");
            verdict.findings.push(what);
        }
        verdict
    }

    /// Lets the senders send their last, and go. How many wait for an answer in vain.
    pub async fn stop_feeding(&mut self) -> usize {
        self.feed.budget.close();
        let mut unanswered = 0;
        for feeder in mem::take(&mut self.feeders) {
            unanswered += usize::from(!feeder.finish(PATIENCE).await);
        }
        unanswered
    }

    /// Closes the book as it is.
    pub async fn abandon(self) -> Verdict {
        let verdict = self.ledger.verdict();
        for feeder in self.feeders {
            feeder.leave().await;
        }
        for reader in self.readers {
            reader.leave().await;
        }
        self.net.stop().await;
        verdict
    }
}

/// Everybody's number in the book.
fn everybody() -> Range<u16> {
    0..AWAY + THERE
}

/// What a relay is started with whose store moves into a new log each time the log has doubled.
pub fn restless(config: Config) -> Config {
    Config {
        store: Upkeep {
            compact_above: 0,
            compact_factor: 1,
        },
        ..config
    }
}

/// Whether a relay that was cut off was just moving its store into a new log: the folders of both are
/// there.
pub fn was_moving(data: &Path) -> bool {
    folders(data).len() > 1
}

/// The folder that a relay's store moves into next, by its name: they are numbered.
pub fn next_folder(data: &Path) -> String {
    let newest = folders(data).pop().expect("a store");
    let (name, number) = newest.rsplit_once('-').expect("a number");
    let number: u32 = number.parse().expect("a number");
    format!("{name}-{:06}", number + 1)
}

fn folders(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).expect("a store");
    let entries = entries.map(|entry| entry.expect("a file"));
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|folder| folder.file_name().into_string().expect("a name"));
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("generation-"))
        .collect();
    names.sort();
    names
}

/// What relays are started with: no mailbox is ever full.
pub fn limits() -> Limits {
    Limits {
        max_messages: 1_000_000,
        max_bytes: 1 << 40,
        ..test_limits()
    }
}
