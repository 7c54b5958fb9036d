//! Power cuts: a relay on a disk of its own, under load, and suddenly there is no power.
//!
//! A cut is the file system shut down as it is, without its log ([`Disk::cut`]), then the process
//! killed, the disk mounted again, the relay started again. What was promised before the cut has to
//! come, as it was sent, and nothing may come twice. A store lives through several cuts, so that it
//! has some size and some history; then all of it is fetched, the book is closed, and the next one
//! begins. The store moves into a new log again and again, so that cuts meet that, too.

use std::fmt;

use holdfast_relay::Config;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    disk::{Disk, DiskError},
    ledger::Verdict,
    role::Program,
    scene::{self, Scene},
};
use crate::{daemon::Daemon, net::PATIENCE};

/// How large a disk is. Only what is written takes room.
const DISK_BYTES: u64 = 1024 * 1024 * 1024;

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
    /// How many of them met the store while it moved into a new log.
    pub moving: u32,
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
        writeln!(f, "compactions cut off {}", self.moving)?;
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
        outcome.moving += life.moving;
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
    program: Program,
    without_barrier: bool,
    scene: Scene,
    disk: Disk,
    config: Config,
    relay: Option<Daemon>,
    /// How often a cut met the store while it moved into a new log.
    moving: u32,
    _folder: TempDir,
}

impl Life {
    async fn begin(options: &Options, seed: u64) -> Result<Self, DiskError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Disk::make(folder.path(), DISK_BYTES)?;
        let scene = Scene::set(seed, 0).await;
        let config = Config {
            data: disk.path().join("mail"),
            ..scene::restless(scene.net.relay_config("r1", scene::limits()))
        };
        let mut life = Self {
            program: options.relay.clone(),
            without_barrier: options.without_barrier,
            scene,
            disk,
            config,
            relay: None,
            moving: 0,
            _folder: folder,
        };
        life.start().await;
        assert!(life.relay.is_some(), "a relay starts on an empty disk");
        life.scene.net.leased("r1").await;
        life.scene.gather().await;
        Ok(life)
    }

    /// One cut, and what it was like.
    async fn cut(&mut self) -> Result<String, DiskError> {
        let (began, moment) = (Instant::now(), self.moment());
        self.scene.allow(MESSAGES);
        self.live(moment).await;
        self.scene.ledger.darken();
        self.disk.cut();
        let promised = self.scene.ledger.promises();
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
        match self.scene.rng.random_range(0..10) {
            0..6 => Moment::Load,
            6..8 => Moment::Opening,
            _ => Moment::Drain,
        }
    }

    /// Lets things run until the moment of the cut, which is anywhere.
    async fn live(&mut self, moment: Moment) {
        sleep(self.scene.a_while(50..400)).await;
        match moment {
            Moment::Load => {}
            Moment::Opening => {
                self.relay.take().expect("a relay that runs").kill().await;
                self.relay = Some(Daemon::launch(self.program.command(), &self.config));
                sleep(self.scene.a_while(0..80)).await;
            }
            Moment::Drain => {
                self.scene.begin_to_fetch(3).await;
                sleep(self.scene.a_while(20..150)).await;
            }
        }
    }

    /// Takes away the process, which may well have gone by itself, and brings the disk back.
    async fn leave_dark(&mut self) -> Result<(), DiskError> {
        self.relay.take().expect("a relay").kill().await;
        self.disk.remount()?;
        self.moving += u32::from(scene::was_moving(&self.config.data));
        self.scene.ledger.lighten();
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
        self.scene.back("r1");
        None
    }

    /// Lets some who are away fetch what was promised to them, or all where a loss is looked for. How
    /// many messages came.
    async fn fetch(&mut self) -> usize {
        let (count, patience) = match self.without_barrier {
            true => (usize::MAX, PATIENCE / 10),
            false => (3, PATIENCE),
        };
        self.scene.fetch(count, patience).await
    }

    /// Whether it makes no sense to go on with this store.
    fn is_over(&self) -> bool {
        self.relay.is_none() || (self.without_barrier && self.scene.owed() > 0)
    }

    /// Closes the book. What lies in a store that does not open is not counted as lost, but as a
    /// store that does not open.
    async fn end(self) -> Verdict {
        let over = self.is_over();
        let verdict = match over {
            true => self.scene.abandon().await,
            false => self.scene.end().await,
        };
        match self.relay {
            Some(relay) => {
                relay.kill().await;
                verdict
            }
            None => Verdict {
                answered: verdict.answered,
                ..Verdict::default()
            },
        }
    }
}
