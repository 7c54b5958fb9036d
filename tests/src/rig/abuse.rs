//! What the others notice of an attack: how long their messages take, and what the relay holds in
//! memory, with and without, turn by turn on the same relay.
//!
//! The attackers run on this machine, too, and take processor time from the relay and from those who
//! are measured; what is printed is therefore an upper bound.

use std::{
    fmt,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use holdfast::{Client, CredentialFiles, SendOptions};
use holdfast_protocol::{frame, message::Ping};
use tokio::{net::UdpSocket, runtime, task::JoinSet, time::timeout};

use super::role::Program;
use crate::{
    daemon::Daemon,
    initials::first_packets,
    net::{Net, PATIENCE, attached, test_limits, within},
    raw::Raw,
};

/// How many take part in an attack.
const ATTACKERS: usize = 16;

/// Handshakes that are begun a second.
const HANDSHAKES: usize = 5_000;

/// How much worse the slowest of a hundred messages may get.
const RATIO: f64 = 2.0;

/// By how much the relay's memory may grow, in bytes: what the attackers' sessions may hold.
const GROWTH: u64 = 256 * 1024 * 1024;

/// What is done to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Nothing: what the machine does by itself.
    None,
    /// Handshakes are begun from many subnets, and never completed.
    Handshakes,
    /// All streams are opened, and get a byte now and then.
    Trickle,
    /// Devices with much mail attach, and do not read.
    Deaf,
    /// Pings without end.
    Datagrams,
    /// Messages without end.
    Messages,
}

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
    quiet: Latencies,
    attacked: Latencies,
    before: u64,
    most: u64,
}

impl Outcome {
    /// Whether the others noticed little, and memory stayed bounded.
    pub fn is_borne(&self) -> bool {
        self.ratio() <= RATIO && self.most.saturating_sub(self.before) <= GROWTH
    }

    fn ratio(&self) -> f64 {
        self.attacked.p99().as_secs_f64() / self.quiet.p99().as_secs_f64()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        write!(
            f,
            "{:<10} quiet p50 {:.2?} p99 {:.2?}  attacked p50 {:.2?} p99 {:.2?}  ratio {:.2}  memory \
             {} MiB, at most {} MiB",
            format!("{:?}", self.attack).to_lowercase(),
            self.quiet.p50(),
            self.quiet.p99(),
            self.attacked.p50(),
            self.attacked.p99(),
            self.ratio(),
            mib(self.before),
            mib(self.most),
        )
    }
}

#[derive(Debug, Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn add(&mut self, measured: Vec<Duration>) {
        self.0.extend(measured);
        self.0.sort_unstable();
    }

    fn p50(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }
}

/// Runs one attack against a relay of its own.
pub async fn run(attack: Attack, options: &Options) -> Outcome {
    let net = Net::start(0).await;
    let config = net.relay_config("r1", test_limits());
    let mut relay = Daemon::launch(Program::Own.command(), &config);
    let address = relay.listening().await.expect("a relay");
    net.leased("r1").await;
    let pair = Pair {
        pc: attached(net.config("alice/pc")).await,
        phone: attached(net.config("alice/phone")).await,
    };
    let arms = Arc::new(Arms::gather(&net, attack, address).await);
    pair.measure(options.messages).await;
    let mut outcome = Outcome {
        attack,
        quiet: Latencies::default(),
        attacked: Latencies::default(),
        before: relay.resident_bytes(),
        most: 0,
    };
    for _ in 0..options.rounds {
        outcome.quiet.add(pair.measure(options.messages).await);
        let mallory = Mallory::begin(arms.clone(), attack);
        outcome.attacked.add(pair.measure(options.messages).await);
        outcome.most = outcome.most.max(relay.resident_bytes());
        mallory.end();
    }
    pair.pc.close().await;
    pair.phone.close().await;
    relay.kill().await;
    net.stop().await;
    outcome
}

/// Two devices that do nothing wrong.
struct Pair {
    pc: Client,
    phone: Client,
}

impl Pair {
    /// How long messages take from one app to the other, one after the other.
    async fn measure(&self, messages: usize) -> Vec<Duration> {
        let mut measured = Vec::with_capacity(messages);
        for _ in 0..messages {
            let begun = Instant::now();
            let sent = self.pc.send("alice/phone", "hello", SendOptions::default());
            let sent = sent.await.expect("sent");
            let received = match timeout(PATIENCE, self.phone.next()).await {
                Ok(received) => received,
                Err(_) => panic!(
                    "no message, but {:?}",
                    timeout(PATIENCE, sent.stored()).await
                ),
            };
            measured.push(begun.elapsed());
            received.expect("a message").done().await.expect("done");
            within("a receipt", sent.stored()).await.expect("a receipt");
        }
        measured
    }
}

/// What the attackers have.
struct Arms {
    relay: SocketAddr,
    files: Vec<CredentialFiles>,
    configs: Vec<holdfast::Config>,
    packets: Vec<Vec<u8>>,
}

impl Arms {
    async fn gather(net: &Net, attack: Attack, relay: SocketAddr) -> Self {
        let name = |number| format!("m{number}/phone");
        let files = (0..ATTACKERS).map(|number| net.pki.sender(&name(number)));
        let packets = match attack {
            Attack::Handshakes => first_packets(&net.pki, 1_000).await,
            _ => Vec::new(),
        };
        if attack == Attack::Deaf {
            let friend = attached(net.config("service/friend")).await;
            for number in 0..ATTACKERS {
                for _ in 0..4 {
                    let body = vec![1; 1024 * 1024];
                    let options = SendOptions::default();
                    let sent = friend.send(&name(number), body, options).await;
                    let stored = sent.expect("sent");
                    within("a receipt", stored.stored()).await.expect("stored");
                }
            }
            friend.close().await;
        }
        Self {
            relay,
            files: files.collect(),
            configs: (0..ATTACKERS)
                .map(|number| net.config(&name(number)))
                .collect(),
            packets,
        }
    }

    async fn session(&self, number: usize) -> Option<Raw> {
        let mut raw = Raw::dial(&self.files[number], self.relay).await.ok()?;
        raw.is_welcome().await.then_some(raw)
    }
}

/// The attackers, on a thread of their own.
struct Mallory(runtime::Runtime);

impl Mallory {
    fn begin(arms: Arc<Arms>, attack: Attack) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        match attack {
            Attack::None => {}
            Attack::Handshakes => drop(runtime.spawn(handshakes(arms))),
            Attack::Messages => {
                for (number, config) in arms.configs.iter().enumerate() {
                    runtime.spawn(messages(config.clone(), number));
                }
            }
            _ => {
                for number in 0..ATTACKERS {
                    runtime.spawn(again_and_again(arms.clone(), number, attack));
                }
            }
        }
        Self(runtime)
    }

    fn end(self) {
        self.0.shutdown_background();
    }
}

async fn again_and_again(arms: Arc<Arms>, number: usize, attack: Attack) {
    loop {
        let Some(raw) = arms.session(number).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let until_closed = raw.connection().clone();
        let attacking: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match attack {
            Attack::Trickle => Box::pin(trickle(&raw)),
            Attack::Datagrams => Box::pin(datagrams(&raw)),
            _ => Box::pin(std::future::pending()),
        };
        tokio::select! {
            () = attacking => {}
            _ = until_closed.closed() => {}
        }
    }
}

async fn handshakes(arms: Arc<Arms>) {
    let mut sockets = Vec::new();
    for number in 1..=250 {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, number, 1), 0)).await;
        sockets.push(socket.expect("a socket"));
    }
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for (number, packet) in arms.packets.iter().cycle().enumerate() {
        if number % (HANDSHAKES / 500) == 0 {
            pace.tick().await;
        }
        let socket = &sockets[number % sockets.len()];
        // A full buffer is part of the attack.
        let _ = socket.try_send_to(packet, arms.relay);
    }
}

async fn trickle(raw: &Raw) {
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let Ok(mut stream) = raw.connection().open_uni().await else {
            return;
        };
        streams.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while stream.write_all(&[3]).await.is_ok() {
                pace.tick().await;
            }
        });
    }
    while streams.join_next().await.is_some() {}
}

async fn datagrams(raw: &Raw) {
    let ping = frame::encode(&Ping {
        seq: 1,
        next_within_ms: 60_000,
    });
    while raw.try_datagram(ping.clone()) {
        tokio::task::yield_now().await;
    }
}

/// An app that sends as fast as its client takes it, to a device that never comes.
async fn messages(config: holdfast::Config, number: usize) {
    let client = attached(config).await;
    let to = format!("m{number}/tablet");
    while client
        .send(&to, vec![5; 100], SendOptions::default())
        .await
        .is_ok()
    {}
}
