//! The stores that are damaged: made by a relay, each with a book of what it holds.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_relay::Config;
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    net::{Net, PATIENCE},
    rig::{
        crowd::{Feed, Feeder, Reader},
        ledger::Ledger,
        role::Program,
        scene,
        sender::Target,
    },
};
use tokio::sync::Semaphore;

/// Whose mail is in them: a device each.
pub(super) const ACCOUNTS: u16 = 3;

/// How many messages are sent at a time.
const MESSAGES: usize = 40;

/// How a store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The relay was asked to stop.
    Stopped,
    /// The relay was killed when everything had been answered.
    Killed,
    /// The relay was killed under load.
    KilledUnderLoad,
}

/// A store that nobody has open.
pub(super) struct Store {
    /// How it was left.
    pub(super) left: Left,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// The same store, some time before.
    pub(super) older: PathBuf,
    /// What it holds.
    pub(super) ledger: Ledger,
}

/// All of them, and the certificates of those whose mail is in them.
pub(super) struct Stores {
    pub(super) net: Net,
    pub(super) all: Vec<Store>,
    folder: TempDir,
}

impl Stores {
    pub(super) async fn make(seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let net = Net::start(0).await;
        let (mut all, ways) = (
            Vec::new(),
            [Left::Stopped, Left::Killed, Left::KilledUnderLoad],
        );
        for (number, left) in (0_u64..).zip(ways) {
            let making =
                Making::begin(&net, folder.path().join(format!("{left:?}")), seed ^ number);
            all.push(making.await.finish(left).await);
        }
        // Whoever is asked for certificates that are not there would make them.
        for name in (0..ACCOUNTS).map(name) {
            net.pki.sender(&name);
        }
        net.pki.sender("service/closer");
        Self { net, all, folder }
    }

    /// Where a case may put its copy.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The device of an account.
pub(super) fn name(number: u16) -> String {
    format!("a{number}/phone")
}

/// A store that is being made.
struct Making<'a> {
    net: &'a Net,
    path: PathBuf,
    config: Config,
    relay: Daemon,
    ledger: Arc<Ledger>,
    seed: u64,
    round: u16,
}

impl<'a> Making<'a> {
    async fn begin(net: &'a Net, path: PathBuf, seed: u64) -> Self {
        let config = Config {
            data: path.join("mail"),
            ..net.relay_config("r1", scene::limits())
        };
        fs::create_dir_all(&path).expect("a folder");
        let mut relay = Daemon::launch(Program::Own.command(), &config);
        let listen = relay.listening().await.expect("a relay starts");
        Self {
            net,
            path,
            config: Config { listen, ..config },
            relay,
            ledger: Arc::new(Ledger::new(seed)),
            seed,
            round: 0,
        }
    }

    /// Mail comes, some of it is fetched, more comes; a copy is put by; and all of that again.
    async fn finish(mut self, left: Left) -> Store {
        self.fill_and_fetch().await;
        let older = self.path.join("older");
        self = self.put_by(&older).await;
        self.fill_and_fetch().await;
        match left {
            Left::Stopped => assert!(self.relay.terminate().await, "an orderly stop"),
            Left::Killed => self.relay.kill().await,
            Left::KilledUnderLoad => {
                let (feeder, _feed) = self.feeder(4 * MESSAGES).await;
                self.relay.kill().await;
                feeder.finish(Duration::ZERO).await;
            }
        }
        Store {
            left,
            path: self.config.data,
            older,
            ledger: self.ledger.copy(),
        }
    }

    async fn fill_and_fetch(&mut self) {
        self.fill().await;
        self.fetch(self.round % ACCOUNTS).await;
        // What was deleted is on the disk when what came afterwards is.
        self.fill().await;
    }

    async fn fill(&mut self) {
        let (feeder, feed) = self.feeder(MESSAGES).await;
        feed.budget.close();
        assert!(feeder.finish(PATIENCE).await, "everything is answered");
    }

    async fn feeder(&mut self, messages: usize) -> (Feeder, Feed) {
        let feed = Feed {
            ledger: self.ledger.clone(),
            budget: Arc::new(Semaphore::new(0)),
            seed: self.seed,
        };
        let number = self.round;
        self.round += 1;
        let config = self.net.config(&format!("service/s{number}"));
        let targets = (0..ACCOUNTS)
            .map(|number| Target(number, name(number)))
            .collect();
        let feeder = Feeder::start(config, number, targets, &feed).await;
        let before = self.ledger.promises();
        feed.budget.add_permits(messages);
        let some = || self.ledger.promises() >= before + MESSAGES / 2;
        assert!(self.ledger.reached(PATIENCE, some).await, "answers come");
        (feeder, feed)
    }

    async fn fetch(&self, number: u16) {
        let directory = self.path.join(format!("device-{number}"));
        let mut reader = Reader::new(&name(number), number, directory, self.ledger.clone());
        reader.come(self.net).await;
        assert!(self.ledger.paid(&[number], PATIENCE).await, "all comes");
        reader.go().await;
    }

    /// Puts a copy of the store by, as it is when the relay has stopped.
    async fn put_by(self, older: &Path) -> Self {
        assert!(self.relay.terminate().await, "an orderly stop");
        copy(&self.config.data, older).expect("a copy");
        let mut relay = Daemon::launch(Program::Own.command(), &self.config);
        relay.listening().await.expect("a relay starts again");
        Self { relay, ..self }
    }
}

/// Copies a folder, and leaves holes where there is nothing but zeros: sled makes its log larger than
/// what is in it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => copy_file(&entry.path(), &target)?,
        }
    }
    Ok(())
}

/// Copies a file likewise.
pub(super) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let len = from.metadata()?.len();
    let (mut block, mut at) = (vec![0; 64 * 1024], 0);
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            return to.set_len(len);
        }
        if block[..read].iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(&block[..read])?;
        }
        at += read as u64;
    }
}
