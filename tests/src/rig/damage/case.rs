//! One case: a copy, a wound, a relay on it, and a look at what it has to say.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use holdfast::{Client, Config, SendOptions};
use holdfast_relay::Config as RelayConfig;
use rand::{SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::task::JoinSet;

use super::{
    End,
    recovery::{self, Recovery},
    store::{self, ACCOUNTS, Store, Stores},
    wound::Wound,
};
use crate::{
    daemon::{Daemon, NotListening},
    guide::Guide,
    net::LOOPBACK,
    rig::{
        ledger::{Key, Ledger, SMALLEST},
        role::Program,
        scene,
        sender::SMALL_BULK,
    },
};

/// The number in the book of whoever sends the last messages.
const CLOSER: u16 = u16::MAX;

/// How long nothing may come from a relay that has said that it started: longer than a busy machine lets a
/// process wait for its turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where no allocator is. A relay that has nobody else to ask takes mail only for the accounts that are in
/// its store, so one that has forgotten an account is found out, even if nothing waited for it.
const NOBODY: SocketAddr = LOOPBACK;

/// One of the words that say what to do.
const WAYS_OUT: [&str; 2] = ["restore", "recover"];

/// One case.
pub(super) struct Case {
    stores: Arc<Stores>,
    which: usize,
    rng: SmallRng,
    data: PathBuf,
}

impl Case {
    pub(super) fn new(stores: Arc<Stores>, seed: u64, number: u32) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(number));
        let which: Vec<usize> = (0..stores.all.len()).collect();
        Self {
            which: *which.choose(&mut rng).expect("a store"),
            data: stores.scratch(&format!("case-{number}/mail")),
            stores,
            rng,
        }
    }

    /// Starts a relay on a copy without a wound, and tells what came.
    pub(super) async fn whole(stores: Arc<Stores>, which: usize) -> Arc<Ledger> {
        let case = Self {
            which,
            rng: SmallRng::seed_from_u64(0),
            data: stores.scratch("whole/mail"),
            stores,
        };
        store::copy(&case.store().path, &case.data).expect("a copy");
        let mut relay = case.launch(NOBODY);
        let listening = relay.listening().await;
        listening.expect("a relay starts on a store that is whole");
        let (ledger, came) = case.fetch(&relay).await;
        assert!(came, "a relay delivers what is in a store that is whole");
        case.end(relay).await;
        ledger
    }

    /// What was done, and how it ended.
    pub(super) async fn run(mut self) -> (String, End) {
        let what = self.inflict();
        let mut relay = self.launch(NOBODY);
        let end = match relay.listening().await {
            Err(ended) => self.judge_refusal(&ended).await,
            Ok(_) => self.judge_delivery(&relay).await,
        };
        let end = match end {
            End::Silent(why) => End::Silent(format!("{why}; it said: {:#?}", relay.log())),
            end => end,
        };
        self.end(relay).await;
        (what, end)
    }

    fn launch(&self, allocator: SocketAddr) -> Daemon {
        let config = RelayConfig {
            data: self.data.clone(),
            allocators: vec![allocator],
            ..self.stores.net.relay_config("r1", scene::limits())
        };
        Daemon::launch(Program::Own.command(), &config)
    }

    async fn end(self, relay: Daemon) {
        relay.kill().await;
        let folder = self.data.parent().expect("a folder");
        fs::remove_dir_all(folder).expect("a folder of this case's own");
    }

    fn store(&self) -> &Store {
        &self.stores.all[self.which]
    }

    fn inflict(&mut self) -> String {
        let stores = self.stores.clone();
        let store = &stores.all[self.which];
        store::copy(&store.path, &self.data).expect("a copy");
        let wound = Wound::some(&mut self.rng);
        let done = wound.inflict(&mut self.rng, &self.data, &store.older);
        format!("{:?}, {}", store.left, done.expect("a wound"))
    }

    /// A relay that does not start has to say which file or folder is damaged, and what to do; and what
    /// it says has to help.
    async fn judge_refusal(&self, ended: &NotListening) -> End {
        let Some(status) = ended.status else {
            return End::Silent("it neither starts nor ends".to_owned());
        };
        let place = self.data.display().to_string();
        let way_out = |line: &&String| WAYS_OUT.iter().any(|word| line.contains(word));
        let said = ended.log.iter().filter(|line| line.contains(&place));
        match said.filter(way_out).count() {
            0 => End::Silent(format!("{status}, without saying what to do")),
            _ => self.recover().await.unwrap_or_else(End::Silent),
        }
    }

    /// A store that was salvaged has to open, with nothing in it but what was sent. What was delivered
    /// and deleted may have come back. Accounts may be lost too, where it was said that something is;
    /// then the relay has somebody to ask where they are at home.
    async fn recover(&self) -> Result<End, String> {
        let Recovery::Salvaged { complete } = recovery::recover(&self.data).await? else {
            return Ok(End::Refused);
        };
        let teller = Guide::start(&self.stores.net.pki, &[("r1", LOOPBACK)]).await;
        let mut relay = self.launch(match complete {
            true => NOBODY,
            false => teller.address(),
        });
        let listening = relay.listening().await;
        listening.map_err(|ended| format!("what was salvaged does not open: {ended}"))?;
        let (ledger, came) = self.fetch(&relay).await;
        let said = format!("{:#?}; {:#?}", ledger.findings(), relay.log());
        relay.kill().await;
        let lost = ledger.owed(&Vec::from_iter(0..ACCOUNTS));
        match (came, ledger.wrongs()) {
            (false, _) => Err(format!("what was salvaged is not delivered: {said}")),
            (true, 1..) => Err(format!("what was salvaged is not what was sent: {said}")),
            (true, 0) if complete && lost > 0 => {
                Err(format!("recover says that nothing is lost, and {lost} are"))
            }
            (true, 0) => Ok(End::Salvaged),
        }
    }

    /// A relay that starts has to deliver everything that waits, and nothing else.
    async fn judge_delivery(&self, relay: &Daemon) -> End {
        let (ledger, came) = self.fetch(relay).await;
        let verdict = ledger.verdict();
        match (came, verdict.is_clean()) {
            (true, true) => End::Recovered,
            (true, false) => End::Silent(verdict.findings.join("; ")),
            (false, _) => End::Silent("it started, and does not deliver".to_owned()),
        }
    }

    /// Fetches everything, and enters it into a copy of the book. A last message to everybody in each
    /// lane, behind all that waits, tells when that is done; whether it came.
    async fn fetch(&self, relay: &Daemon) -> (Arc<Ledger>, bool) {
        let ledger = Arc::new(self.store().ledger.copy());
        let guide = Guide::start(&self.stores.net.pki, &[("r1", relay.address())]).await;
        let connect = async |name: &str| {
            let config = Config {
                allocators: vec![guide.address()],
                ..self.stores.net.config(name)
            };
            Client::connect(config).await.expect("a client")
        };
        let closer = connect("service/closer").await;
        let last = close(&closer, &ledger).await;
        let mut reading = JoinSet::new();
        for number in 0..ACCOUNTS {
            let client = connect(&store::name(number)).await;
            reading.spawn(read(client, number, ledger.clone()));
        }
        let all = || last.iter().all(|key| ledger.has_come(*key));
        let came = ledger.reached(PATIENCE, all).await;
        (ledger, came)
    }
}

async fn close(closer: &Client, ledger: &Ledger) -> Vec<Key> {
    let mut last = Vec::new();
    for recipient in 0..ACCOUNTS {
        for len in [SMALLEST, SMALL_BULK] {
            let key = Key {
                sender: CLOSER,
                recipient,
                number: last.len() as u32 + 1,
            };
            let body = ledger.enter(key, len);
            let to = store::name(recipient);
            let sent = closer.send(&to, body, SendOptions::default()).await;
            sent.expect("in the outbox");
            last.push(key);
        }
    }
    last
}

async fn read(client: Client, me: u16, ledger: Arc<Ledger>) {
    while let Some(message) = client.next().await {
        ledger.arrived(me, message.lane(), message.body());
        if message.done().await.is_err() {
            return;
        }
    }
}
