//! A disk that fails, and one that is full: the relay says so and stops, and has what it promised when it
//! is started again on a disk that does what it is told. Where only the new log fails that its store is
//! about to move into, it may say so and go on.

use std::{fmt, path::Path};

use holdfast_relay::Config;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    disk::{Disk, DiskError},
    ledger::Verdict,
    role::Program,
    scene::{self, Scene},
};
use crate::{
    daemon::Daemon,
    net::{PATIENCE, eventually},
};

/// How many messages are sent while the disk is well, and then while it is not.
const MESSAGES: [usize; 2] = [60, 300];

/// How large a disk is that gets full.
const SMALL_DISK: u64 = 160 * 1024 * 1024;

/// What is taken from it, and given back so that there is room again.
const BALLAST: usize = 112 * 1024 * 1024;

/// Nothing is left on a disk with so much written in it.
const ALL_OF_IT: u64 = 4 * SMALL_DISK;

/// What the relay says when the fault has come about.
const CAME_ABOUT: &str = "the disk fails";

/// Which call fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    call: &'static str,
    number: u32,
    error: Error,
    lasts: bool,
    /// Only in the log that the store is about to move into.
    moving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    NoSpace = libc::ENOSPC as isize,
    Io = libc::EIO as isize,
}

impl Error {
    fn words(self) -> &'static str {
        match self {
            Self::NoSpace => "No space left on device",
            Self::Io => "Input/output error",
        }
    }
}

impl Fault {
    /// Any of those that a relay meets while it opens its store or soon after.
    pub fn some(rng: &mut impl Rng) -> Self {
        let (call, most) = match rng.random_ratio(1, 2) {
            true => ("write", 80),
            false => ("sync", 60),
        };
        Self {
            call,
            number: rng.random_range(1..=most),
            error: match rng.random_ratio(1, 2) {
                true => Error::NoSpace,
                false => Error::Io,
            },
            lasts: rng.random_ratio(1, 2),
            moving: false,
        }
    }

    /// Any of those that a relay meets while its store moves into a new log.
    pub fn some_in_a_move(rng: &mut impl Rng) -> Self {
        let fault = Self::some(rng);
        Self {
            number: rng.random_range(1..=4),
            moving: true,
            ..fault
        }
    }

    /// Whether it is one of those.
    pub fn is_in_a_move(&self) -> bool {
        self.moving
    }

    /// As `relay-on-bad-disk` wants it, for a store of this relay's.
    fn setting(&self, config: &Config) -> String {
        let how = if self.lasts { "from" } else { "once" };
        let setting = format!("{},{},{},{how}", self.call, self.number, self.error as i32);
        match self.moving {
            true => format!("{setting},{}", scene::next_folder(&config.data)),
            false => setting,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.lasts { "from" } else { "at" };
        let Self {
            call,
            number,
            error,
            ..
        } = self;
        let place = if self.moving { " of a move" } else { "" };
        write!(f, "{error:?} {how} {call} {number}{place}")
    }
}

/// What came of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the relay said by the end, if the fault came about at all.
    pub said: Option<Vec<String>>,
    /// Whether that names the error.
    pub named: bool,
    /// What was promised and what came, once the disk was well.
    pub verdict: Verdict,
}

/// Runs a relay on a disk with this fault, then on one without.
pub async fn run(fault: Fault, bad: &Path, good: &Path, seed: u64) -> Outcome {
    let mut scene = Scene::set(seed, 0).await;
    let mut config = scene::restless(scene.net.relay_config("r1", scene::limits()));
    let relay = start(good, &mut config).await;
    scene.net.leased("r1").await;
    scene.gather().await;
    send(&scene, MESSAGES[0]).await;
    relay.kill().await;
    let said = suffer(fault, bad, &config, &scene).await;
    let relay = start(good, &mut config).await;
    scene.back("r1");
    let verdict = scene.end().await;
    relay.kill().await;
    let named = |line: &String| line.contains(fault.error.words());
    Outcome {
        named: said.iter().flatten().any(named),
        said,
        verdict,
    }
}

/// What the relay says when it meets the fault; nothing when it does not come about.
async fn suffer(fault: Fault, bad: &Path, config: &Config, scene: &Scene) -> Option<Vec<String>> {
    let mut command = Program::At(bad.to_owned()).command();
    command.env("HOLDFAST_BAD_DISK", fault.setting(config));
    let mut relay = Daemon::launch(command, config);
    if let Err(ended) = relay.listening().await {
        return Some(ended.log);
    }
    scene.back("r1");
    tokio::select! {
        (status, log) = relay.ended() => {
            assert!(!status.success(), "{log:#?}");
            return Some(log);
        }
        () = send(scene, MESSAGES[1]) => {}
    }
    let log = relay.log();
    relay.kill().await;
    log.iter()
        .any(|line| line.contains(CAME_ABOUT))
        .then_some(log)
}

async fn start(binary: &Path, config: &mut Config) -> Daemon {
    let relay = Daemon::start(binary, config).await;
    config.listen = relay.address();
    relay
}

/// Has so many messages sent and answered.
async fn send(scene: &Scene, messages: usize) {
    let before = scene.ledger.promises();
    scene.allow(messages);
    let answered = || scene.ledger.promises() >= before + messages;
    eventually("answers", async || answered()).await;
}

/// When a disk gets full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// When there is so much mail.
    AtLast,
    /// At once, while the store moves into a new log.
    InAMove,
}

/// Fills a small disk until the relay refuses mail or stops, makes room, and sees what comes.
///
/// # Errors
/// [`DiskError`] when there is no disk to fill.
pub async fn fill(good: &Path, full: Full, seed: u64) -> Result<(Vec<String>, Verdict), DiskError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::make(folder.path(), SMALL_DISK)?;
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST]).expect("room for ballast");
    let mut scene = Scene::set(seed, 0).await;
    let config = Config {
        data: disk.path().join("mail"),
        ..scene.net.relay_config("r1", scene::limits())
    };
    let mut config = match full {
        Full::AtLast => config,
        Full::InAMove => scene::restless(config),
    };
    let relay = start(good, &mut config).await;
    scene.net.leased("r1").await;
    scene.gather().await;
    if full == Full::InAMove {
        take_all(&ballast, &config, &scene).await;
    }
    let said = fill_up(relay, &scene).await;
    std::fs::remove_file(ballast).expect("ballast");
    let relay = start(good, &mut config).await;
    scene.back("r1");
    let mut verdict = scene.end().await;
    if !verdict.is_clean() {
        verdict.findings.extend(relay.log());
    }
    relay.kill().await;
    Ok((said, verdict))
}

/// Takes all the room there is when the store is about to move.
async fn take_all(ballast: &Path, config: &Config, scene: &Scene) {
    scene.allow(SMALL_DISK as usize);
    eventually("a move", async || scene::was_moving(&config.data)).await;
    let ballast = std::fs::File::options().append(true).open(ballast);
    let ballast = ballast.expect("ballast");
    // It takes what it can get before it fails.
    let taken = rustix::fs::fallocate(ballast, rustix::fs::FallocateFlags::empty(), 0, ALL_OF_IT);
    assert_eq!(taken, Err(rustix::io::Errno::NOSPC));
}

/// Sends until there is no room. What the relay says when it stops, or a sender when it is refused.
async fn fill_up(mut relay: Daemon, scene: &Scene) -> Vec<String> {
    scene.allow(SMALL_DISK as usize);
    let refused = || !scene.ledger.findings().is_empty();
    tokio::select! {
        (status, log) = relay.ended() => {
            assert!(!status.success(), "{log:#?}");
            return log;
        }
        true = scene.ledger.reached(PATIENCE, refused) => {}
    }
    relay.kill().await;
    scene.ledger.findings()
}

/// So many faults, from a seed; every other one while the store moves.
pub fn faults(seed: u64, count: usize) -> Vec<Fault> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let fault = |number: usize| match number.is_multiple_of(2) {
        true => Fault::some(&mut rng),
        false => Fault::some_in_a_move(&mut rng),
    };
    (0..count).map(fault).collect()
}
