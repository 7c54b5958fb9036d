//! Power cuts: a relay on a disk of its own, under load, and suddenly there is no power.
//!
//! A cut is the file system shut down as it is, without its log ([`Disk::cut`]), then the process
//! killed, the disk mounted again, the relay started again. What was promised before the cut has to
//! come, as it was sent, and nothing may come twice. A store lives through several cuts, so that it
//! has some size and some history; then all of it is fetched, the book is closed, and the next one
//! begins.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use holdfast_relay::{Config, Limits};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tempfile::TempDir;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    crowd::{Feed, Feeder, Reader, some},
    disk::{Disk, DiskError},
    ledger::{Ledger, Verdict},
    role::Program,
};
use crate::{
    daemon::Daemon,
    net::{Net, PATIENCE, test_limits},
};

/// How large a disk is. Only what is written takes room.
const DISK_BYTES: u64 = 1024 * 1024 * 1024;

/// Backends that write to every recipient.
const FEEDERS: u16 = 3;

/// Devices that are mostly away, each of an account of its own.
const AWAY: u16 = 8;

/// Devices that are always there.
const THERE: u16 = 2;

/// How many messages may be sent between two cuts.
const MESSAGES: usize = 500;

/// What a relay without real syncs says when it has made the first of those it makes instead.
const UNSYNCED: &str = "a sync that is none";

/// What is asked of the rig.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many cuts.
    pub cuts: u32,
    /// What is sent and when it is cut follows from it.
    pub seed: u64,
    /// The relay.
    pub relay: Program,
    /// Whether the relay is one whose syncs are not real. Then everything is looked at after each
    /// cut, and the first loss is the end.
    pub without_barrier: bool,
}

/// What came of the cuts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many there were.
    pub cuts: u32,
    /// What was promised and what came.
    pub verdict: Verdict,
    /// How often the relay could not open its store again.
    pub unopened: u32,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            answered,
            lost,
            twice,
            ..
        } = self.verdict;
        let (cuts, unopened) = (self.cuts, self.unopened);
        write!(
            f,
            "cuts {cuts} answered {answered} lost {lost} twice {twice} unopened {unopened}"
        )
    }
}

impl Outcome {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.unopened == 0
    }

    /// Whether a promise was broken.
    pub fn has_losses(&self) -> bool {
        self.verdict.lost > 0 || self.unopened > 0
    }
}

/// Cuts the power so often, and says what it does.
///
/// # Errors
/// [`DiskError`] when there is no disk to cut.
pub async fn run(options: &Options, say: &mut impl FnMut(String)) -> Result<Outcome, DiskError> {
    let mut outcome = Outcome::default();
    let mut rng = SmallRng::seed_from_u64(options.seed);
    while outcome.cuts < options.cuts {
        let cuts = rng.random_range(3..=8).min(options.cuts - outcome.cuts);
        let mut life = Life::begin(options, rng.random()).await?;
        for _ in 0..cuts {
            outcome.cuts += 1;
            say(format!("cut {}: {}", outcome.cuts, life.cut().await?));
            if life.is_over() {
                break;
            }
        }
        outcome.unopened += u32::from(life.relay.is_none());
        let verdict = life.end().await;
        verdict.findings.iter().for_each(|what| say(what.clone()));
        outcome.verdict.add(verdict);
        if options.without_barrier && outcome.has_losses() {
            break;
        }
    }
    Ok(outcome)
}

/// When the blow falls.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While mail comes in.
    Load,
    /// While the relay, killed before, opens its store.
    Opening,
    /// While mail is fetched.
    Drain,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "during the load",
            Self::Opening => "during the opening",
            Self::Drain => "during a drain",
        })
    }
}

/// One store, from its first message to its last.
struct Life {
    rng: SmallRng,
    program: Program,
    without_barrier: bool,
    ledger: Arc<Ledger>,
    net: Net,
    disk: Disk,
    config: Config,
    relay: Option<Daemon>,
    feed: Feed,
    feeders: Vec<Feeder>,
    readers: Vec<Reader>,
    _folder: TempDir,
}

impl Life {
    async fn begin(options: &Options, seed: u64) -> Result<Self, DiskError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Disk::make(folder.path(), DISK_BYTES)?;
        let net = Net::start(0).await;
        let ledger = Arc::new(Ledger::new(seed));
        let feed = Feed {
            ledger: ledger.clone(),
            budget: Arc::new(Semaphore::new(0)),
            seed,
        };
        let mut life = Self {
            rng: SmallRng::seed_from_u64(seed),
            program: options.relay.clone(),
            without_barrier: options.without_barrier,
            ledger,
            config: config(&net, disk.path().join("mail")),
            net,
            disk,
            relay: None,
            feed,
            feeders: Vec::new(),
            readers: Vec::new(),
            _folder: folder,
        };
        life.start().await;
        assert!(life.relay.is_some(), "a relay starts on an empty disk");
        life.net.leased("r1").await;
        life.gather().await;
        Ok(life)
    }

    /// Lets everybody in. Accounts `a0` … have a phone each; `a0` and `a1` have a PC that writes to
    /// it, and services write to all of them.
    async fn gather(&mut self) {
        for number in 0..AWAY + THERE {
            let name = format!("a{number}/phone");
            let directory = self.net.directory(&name);
            let reader = Reader::new(&name, number, directory, self.ledger.clone());
            self.readers.push(reader);
        }
        for reader in &mut self.readers[usize::from(AWAY)..] {
            reader.come(&self.net).await;
        }
        let all = |reader: &Reader| (reader.number(), reader.name().to_owned());
        let all: Vec<_> = self.readers.iter().map(all).collect();
        for number in 0..FEEDERS {
            self.add_feeder(&format!("service/s{number}"), number, all.clone())
                .await;
        }
        for number in 0..2 {
            let own = vec![all[usize::from(number)].clone()];
            self.add_feeder(&format!("a{number}/pc"), FEEDERS + number, own)
                .await;
        }
    }

    async fn add_feeder(&mut self, name: &str, number: u16, targets: Vec<(u16, String)>) {
        let config = self.net.config(name);
        let feeder = Feeder::start(config, number, targets, &self.feed).await;
        self.feeders.push(feeder);
    }

    /// One cut, and what it was like.
    async fn cut(&mut self) -> Result<String, DiskError> {
        let (began, moment) = (Instant::now(), self.moment());
        self.feed.budget.add_permits(MESSAGES);
        self.live(moment).await;
        self.ledger.darken();
        self.disk.cut();
        let promised = self.ledger.promises();
        self.leave_dark().await?;
        let refused = self.start().await;
        let fetched = match refused {
            None => self.fetch().await,
            Some(_) => 0,
        };
        let took = began.elapsed().as_millis();
        let refused = refused.map_or_else(String::new, |why| format!("; NOT OPENED: {why}"));
        Ok(format!(
            "{moment}, {promised} promised by then, {fetched} fetched after, {took} ms{refused}"
        ))
    }

    fn moment(&mut self) -> Moment {
        match self.rng.random_range(0..10) {
            0..6 => Moment::Load,
            6..8 => Moment::Opening,
            _ => Moment::Drain,
        }
    }

    /// Lets things run until the moment of the cut, which is anywhere.
    async fn live(&mut self, moment: Moment) {
        sleep(self.a_while(50..400)).await;
        match moment {
            Moment::Load => {}
            Moment::Opening => {
                self.relay.take().expect("a relay that runs").kill().await;
                self.relay = Some(Daemon::launch(self.program.command(), &self.config));
                sleep(self.a_while(0..80)).await;
            }
            Moment::Drain => {
                for reader in some(&mut self.rng, &mut self.readers, 3) {
                    reader.come(&self.net).await;
                }
                sleep(self.a_while(20..150)).await;
            }
        }
    }

    fn a_while(&mut self, ms: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(self.rng.random_range(ms.start * 1000..ms.end * 1000))
    }

    /// Takes away the process, which may well have gone by itself, and brings the disk back.
    async fn leave_dark(&mut self) -> Result<(), DiskError> {
        self.relay.take().expect("a relay").kill().await;
        self.disk.remount()?;
        self.ledger.lighten();
        Ok(())
    }

    /// Starts the relay, and tells everybody. What it says if it does not start.
    async fn start(&mut self) -> Option<String> {
        let mut relay = Daemon::launch(self.program.command(), &self.config);
        match relay.listening().await {
            Ok(address) => self.config.listen = address,
            Err(refused) => return Some(refused.to_string()),
        }
        let unsynced = relay.log().iter().any(|line| line == UNSYNCED);
        assert_eq!(unsynced, self.without_barrier, "{:#?}", relay.log());
        self.relay = Some(relay);
        self.feeders.iter().for_each(Feeder::reconnect);
        self.readers.iter().for_each(Reader::reconnect);
        None
    }

    /// Lets some who are away, or all, fetch what was promised to them. How many messages came.
    async fn fetch(&mut self) -> usize {
        let before = self.ledger.arrivals();
        let (count, patience) = match self.without_barrier {
            true => (usize::from(AWAY), PATIENCE / 10),
            false => (3, PATIENCE),
        };
        let mut numbers = Vec::new();
        for reader in some(&mut self.rng, &mut self.readers[..usize::from(AWAY)], count) {
            reader.come(&self.net).await;
            numbers.push(reader.number());
        }
        self.ledger.paid(&numbers, patience).await;
        for reader in &mut self.readers[..usize::from(AWAY)] {
            reader.go().await;
        }
        self.ledger.arrivals() - before
    }

    /// Whether it makes no sense to go on with this store.
    fn is_over(&self) -> bool {
        let everybody = Vec::from_iter(0..AWAY + THERE);
        self.relay.is_none() || (self.without_barrier && self.ledger.owed(&everybody) > 0)
    }

    /// Lets everybody send their last and fetch the rest, and closes the book. What lies in a store
    /// that does not open is not counted as lost, but as a store that does not open.
    async fn end(mut self) -> Verdict {
        let mut unanswered = 0;
        if !self.is_over() {
            unanswered = self.say_farewell().await;
        }
        let mut verdict = self.ledger.verdict();
        let Some(relay) = self.relay else {
            (verdict.lost, verdict.findings) = (0, Vec::new());
            return verdict;
        };
        if unanswered > 0 {
            verdict.lost += unanswered;
            let what = format!("{unanswered} senders wait for an answer that does not come");
            verdict.findings.push(what);
        }
        relay.kill().await;
        self.net.stop().await;
        verdict
    }

    /// The last messages of all, sent and fetched. How many senders wait in vain.
    async fn say_farewell(&mut self) -> usize {
        self.feed.budget.close();
        let mut unanswered = 0;
        for feeder in std::mem::take(&mut self.feeders) {
            unanswered += usize::from(!feeder.finish(PATIENCE).await);
        }
        for reader in &mut self.readers {
            reader.come(&self.net).await;
        }
        let everybody = Vec::from_iter(0..AWAY + THERE);
        self.ledger.paid(&everybody, PATIENCE / 3).await;
        for reader in &mut self.readers {
            reader.go().await;
        }
        unanswered
    }
}

fn config(net: &Net, data: PathBuf) -> Config {
    let limits = Limits {
        max_messages: 1_000_000,
        ..test_limits()
    };
    Config {
        data,
        ..net.relay_config("r1", limits)
    }
}
