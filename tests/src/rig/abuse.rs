//! What the others notice of an attack: how long their messages take, what the relay holds in memory
//! and what it counts, with and without, turn by turn on the same relay.
//!
//! Three processes share this machine's processors: the relay; the rig, with the devices that are
//! measured; and the attackers, at the lowest priority there is, so that they take from the others only
//! what reaches them through the relay. Attackers elsewhere would take no processor from the relay's
//! machine at all. What the devices send is not kept on their disk: that is this machine's, too, and
//! the relay's.
//!
//! Two pairs of devices are measured: one at the distance of a mobile network, for what its users
//! notice; and one beside the relay, of whose messages all the time is the relay's and the machine's.

mod mallory;
mod pair;
mod weapons;

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use holdfast::SendOptions;
use tempfile::TempDir;

use self::{
    mallory::Mallory,
    pair::{Distant, Pair},
};
pub use self::{
    mallory::{Arguments, main},
    weapons::Attack,
};
use super::role::Program;
use crate::{
    daemon::Daemon,
    initials::first_packets,
    net::{Net, attached, eventually, test_limits, within},
    rig::abuse::weapons::ATTACKERS,
    scrape,
};

/// How much worse the slowest of a hundred messages between distant devices may get, and by how much
/// what is measured without an attack may differ between the halves of a run that is worth anything.
const RATIO: f64 = 2.0;

/// By how much the relay's memory may grow, in bytes: what the attackers' sessions may hold.
const GROWTH: u64 = 256 * 1024 * 1024;

/// How many devices are measured.
const DEVICES: f64 = 4.0;

/// What tells of attacks, among all that a relay counts.
const TELLING: [&str; 6] = [
    "handshakes_",
    "sessions_ended",
    "throttled",
    "yielded",
    "datagrams_dropped",
    "refused",
];

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Turns without and with each attack.
    pub rounds: usize,
    /// Messages in each turn.
    pub messages: usize,
}

/// What came of one attack.
#[derive(Debug)]
pub struct Outcome {
    attack: Attack,
    distant: Contrast,
    beside: Contrast,
    before: u64,
    most: u64,
    strikes: u64,
    /// How long the attack lasted in all.
    lasted: Duration,
    counted: Counts,
}

impl Outcome {
    /// Whether the others noticed little, and memory stayed bounded.
    pub fn is_borne(&self) -> bool {
        self.ratio() <= RATIO && self.most.saturating_sub(self.before) <= GROWTH
    }

    /// How much worse the slowest of a hundred messages between distant devices got.
    pub fn ratio(&self) -> f64 {
        self.distant.ratio()
    }

    /// Whether the machine was so restless by itself that nothing can be said.
    pub fn is_unsteady(&self) -> bool {
        let (first, second) = self.distant.quiet.halves();
        let (first, second) = (first.as_secs_f64(), second.as_secs_f64());
        first.max(second) > RATIO * first.min(second)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        write!(
            f,
            "{:<10} distant {}  beside {}  memory {} MiB, at most {} MiB  strikes {} ({:.0}/s)  \
             counted {}",
            format!("{:?}", self.attack).to_lowercase(),
            self.distant,
            self.beside,
            mib(self.before),
            mib(self.most),
            self.strikes,
            self.strikes as f64 / self.lasted.as_secs_f64(),
            self.counted,
        )
    }
}

/// How long messages took without and with an attack.
#[derive(Debug, Default)]
struct Contrast {
    quiet: Latencies,
    attacked: Latencies,
}

impl Contrast {
    /// How much worse the slowest of a hundred got.
    fn ratio(&self) -> f64 {
        self.attacked.p99().as_secs_f64() / self.quiet.p99().as_secs_f64()
    }
}

impl fmt::Display for Contrast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "quiet p50 {:.2?} p99 {:.2?} attacked p50 {:.2?} p99 {:.2?} ratio {:.2}",
            self.quiet.p50(),
            self.quiet.p99(),
            self.attacked.p50(),
            self.attacked.p99(),
            self.ratio(),
        )
    }
}

/// How long messages took, in the order in which they were sent.
#[derive(Debug, Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn p50(&self) -> Duration {
        percentile(&self.0, 50)
    }

    fn p99(&self) -> Duration {
        percentile(&self.0, 99)
    }

    fn halves(&self) -> (Duration, Duration) {
        let (first, second) = self.0.split_at(self.0.len() / 2);
        (percentile(first, 99), percentile(second, 99))
    }
}

fn percentile(measured: &[Duration], percent: usize) -> Duration {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() * percent / 100]
}

/// By how much the relay's counters grew.
#[derive(Debug, Default)]
struct Counts(BTreeMap<String, f64>);

impl Counts {
    async fn read(admin: SocketAddr) -> Self {
        let (_, text) = scrape::get(admin, "/metrics").await;
        let telling = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("holdfast_relay_")?.rsplit_once(' ')?;
            let tells = name.contains("_total") && TELLING.iter().any(|t| name.starts_with(t));
            tells.then(|| (name.replace("_total", ""), value.parse().expect("a number")))
        });
        Self(telling.collect())
    }

    fn add(&mut self, before: &Self, after: &Self) {
        for (name, value) in &after.0 {
            let grown = value - before.0.get(name).copied().unwrap_or_default();
            *self.0.entry(name.clone()).or_default() += grown;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grown = self.0.iter().filter(|(_, value)| **value > 0.0);
        let grown: Vec<String> = grown
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        f.write_str(if grown.is_empty() { "nothing" } else { "" })?;
        f.write_str(&grown.join(", "))
    }
}

/// Runs one attack against a relay of its own; once more if it was not borne and the machine was
/// restless by itself.
pub async fn run(attack: Attack, options: &Options) -> Outcome {
    let outcome = run_once(attack, options).await;
    match outcome.is_unsteady() && !outcome.is_borne() {
        true => run_once(attack, options).await,
        false => outcome,
    }
}

async fn run_once(attack: Attack, options: &Options) -> Outcome {
    let net = Net::start(0).await;
    let config = net.relay_config("r1", test_limits());
    let mut relay = Daemon::launch(Program::Own.command(), &config);
    let address = relay.listening().await.expect("a relay");
    net.leased("r1").await;
    let pairs = Pairs {
        distant: Distant::start(&net, "bob", ("r1", address)).await,
        beside: Pair::beside(&net, "alice").await,
        messages: options.messages,
    };
    let (arguments, _packets) = prepare(&net, attack, address).await;
    let mut turns = Turns {
        mallory: Mallory::hire(&arguments),
        admin: relay.admin_address().expect("an admin port"),
        pairs,
    };
    turns.pairs.measure().await;
    let mut outcome = Outcome {
        attack,
        distant: Contrast::default(),
        beside: Contrast::default(),
        before: relay.resident_bytes(),
        most: 0,
        strikes: 0,
        lasted: Duration::ZERO,
        counted: Counts::default(),
    };
    for _ in 0..options.rounds {
        turns.quiet(&mut outcome).await;
        turns.attacked(&mut outcome, &relay).await;
    }
    outcome.strikes = turns.mallory.strikes;
    turns.pairs.distant.close().await;
    turns.pairs.beside.close().await;
    relay.kill().await;
    net.stop().await;
    outcome
}

struct Turns {
    mallory: Mallory,
    admin: SocketAddr,
    pairs: Pairs,
}

impl Turns {
    /// Measures when nothing is left of the attack before.
    async fn quiet(&self, outcome: &mut Outcome) {
        eventually("the end of an attack", async || {
            let sessions = scrape::metric(self.admin, "sessions").await;
            sessions == DEVICES && scrape::metric(self.admin, "handshakes").await == 0.0
        })
        .await;
        let [distant, beside] = self.pairs.measure().await;
        outcome.distant.quiet.0.extend(distant);
        outcome.beside.quiet.0.extend(beside);
    }

    async fn attacked(&mut self, outcome: &mut Outcome, relay: &Daemon) {
        let before = Counts::read(self.admin).await;
        let begun = Instant::now();
        self.mallory.begin().await;
        let [distant, beside] = self.pairs.measure().await;
        outcome.distant.attacked.0.extend(distant);
        outcome.beside.attacked.0.extend(beside);
        outcome.most = outcome.most.max(relay.resident_bytes());
        self.mallory.end().await;
        outcome.lasted += begun.elapsed();
        let after = Counts::read(self.admin).await;
        outcome.counted.add(&before, &after);
    }
}

/// Who is measured.
struct Pairs {
    distant: Distant,
    beside: Pair,
    messages: usize,
}

impl Pairs {
    /// First these, then those.
    async fn measure(&self) -> [Vec<Duration>; 2] {
        [
            self.distant.measure(self.messages).await,
            self.beside.measure(self.messages).await,
        ]
    }
}

/// What the attackers are to be told; the folder has to outlive them.
async fn prepare(net: &Net, attack: Attack, relay: SocketAddr) -> (Arguments, TempDir) {
    let packets = tempfile::tempdir().expect("a temporary folder");
    match attack {
        Attack::Handshakes => {
            for (number, packet) in first_packets(&net.pki, 1_000).await.iter().enumerate() {
                fs::write(packets.path().join(number.to_string()), packet).expect("written");
            }
        }
        Attack::Deaf => fill_mailboxes(net).await,
        _ => {}
    }
    let files = (0..ATTACKERS).map(|number| net.pki.sender(&attacker(number)));
    let arguments = Arguments {
        attack,
        relay,
        identity: files
            .flat_map(|files| [files.certificate, files.key, files.authority])
            .collect(),
        packets: packets.path().to_owned(),
    };
    (arguments, packets)
}

fn attacker(number: usize) -> String {
    format!("m{number}/phone")
}

async fn fill_mailboxes(net: &Net) {
    let friend = attached(net.config("service/friend")).await;
    for number in 0..ATTACKERS {
        for _ in 0..4 {
            let body = vec![1; 1024 * 1024];
            let options = SendOptions::default();
            let sent = friend.send(&attacker(number), body, options).await;
            let stored = sent.expect("sent");
            within("a receipt", stored.stored()).await.expect("stored");
        }
    }
    friend.close().await;
}
