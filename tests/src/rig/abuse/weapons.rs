//! The attacks themselves: what the attacking process does to a relay, as fast as it can.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::ValueEnum;
use holdfast::CredentialFiles;
use holdfast_protocol::{
    frame::{self, Encoded, FrameType},
    id::Lane,
    message::{Options, Ping, Receipt, Submit},
};
use quinn::Connection;
use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    task::{JoinSet, yield_now},
};

use crate::raw::Raw;

/// How many take part in an attack.
pub(super) const ATTACKERS: usize = 16;

/// Handshakes that are begun a second.
const HANDSHAKES: usize = 5_000;

/// How many of its own devices, none of which ever comes, an attacker fills the mailboxes of.
const MAILBOXES: u64 = 32;

/// The size of a small and of a large body, in bytes.
const BODY: (usize, usize) = (100, 256 * 1024);

/// What is done to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Nothing: what the machine does by itself.
    None,
    /// Handshakes are begun from many subnets, and never completed.
    Handshakes,
    /// Devices that are allowed to connect do, and leave at once, again and again.
    Churn,
    /// All streams are opened, and get a byte now and then.
    Trickle,
    /// Devices with much mail attach, and do not read.
    Deaf,
    /// Pings without end.
    Datagrams,
    /// Small messages without end, to devices that never come.
    Messages,
    /// Large messages without end, to devices that never come.
    Bulk,
}

/// What the attackers have.
pub(super) struct Arms {
    pub(super) relay: SocketAddr,
    pub(super) files: Vec<CredentialFiles>,
    /// First packets of handshakes.
    pub(super) packets: Vec<Bytes>,
    /// How often somebody struck: packets, handshakes, answered messages.
    pub(super) strikes: AtomicU64,
    /// A permit for each that has begun to.
    pub(super) begun: Semaphore,
    /// The number of each attacker's next message.
    pub(super) next: Vec<AtomicU64>,
}

impl Arms {
    fn strike(&self) {
        self.strikes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has all attackers begin.
pub(super) fn attack(arms: &Arc<Arms>, attack: Attack) -> JoinSet<()> {
    let mut all = JoinSet::new();
    match attack {
        Attack::None => arms.begun.add_permits(ATTACKERS),
        Attack::Handshakes => drop(all.spawn(handshakes(arms.clone()))),
        _ => {
            for number in 0..ATTACKERS {
                all.spawn(again_and_again(arms.clone(), number, attack));
            }
        }
    }
    all
}

async fn again_and_again(arms: Arc<Arms>, number: usize, attack: Attack) {
    let mut has_begun = false;
    loop {
        let dialled = Raw::dial(&arms.files[number], arms.relay).await;
        let Ok(mut raw) = dialled else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if !raw.is_welcome().await {
            continue;
        }
        if !has_begun {
            arms.begun.add_permits(1);
            has_begun = true;
        }
        match attack {
            Attack::Trickle => trickle(&arms, raw.connection()).await,
            Attack::Datagrams => datagrams(&arms, &raw).await,
            Attack::Messages => messages(&arms, &mut raw, number, Lane::Message).await,
            Attack::Bulk => messages(&arms, &mut raw, number, Lane::Bulk).await,
            Attack::Churn => arms.strike(),
            _ => drop(raw.connection().closed().await),
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
        if number == arms.packets.len() {
            arms.begun.add_permits(ATTACKERS);
        }
        // A full buffer is part of the attack.
        let _ = sockets[number % sockets.len()].try_send_to(packet, arms.relay);
        arms.strike();
    }
}

async fn trickle(arms: &Arc<Arms>, connection: &Connection) {
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let Ok(mut stream) = connection.open_uni().await else {
            return;
        };
        let arms = arms.clone();
        streams.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while stream.write_all(&[3]).await.is_ok() {
                arms.strike();
                pace.tick().await;
            }
        });
    }
    while streams.join_next().await.is_some() {}
}

async fn datagrams(arms: &Arms, raw: &Raw) {
    let ping = frame::encode(&Ping {
        seq: 1,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background: false,
    });
    while raw.try_datagram(ping.clone()) {
        arms.strike();
        yield_now().await;
    }
}

/// Keeps the window full, as no SDK could: nothing of it is on the attacker's disk.
async fn messages(arms: &Arms, raw: &mut Raw, number: usize, lane: Lane) {
    let (next, mut unanswered) = (&arms.next[number], BTreeSet::new());
    loop {
        let oldest = |unanswered: &BTreeSet<u64>, seq| unanswered.first().copied().unwrap_or(seq);
        let mut seq = next.load(Ordering::Relaxed);
        while seq - oldest(&unanswered, seq) < lane.window() {
            submit(raw, number, lane, seq);
            unanswered.insert(seq);
            seq += 1;
        }
        next.store(seq, Ordering::Relaxed);
        let Ok(frame) = raw.next_frame().await else {
            return;
        };
        if frame.kind == FrameType::Receipt {
            let receipt: Receipt = frame.header().expect("a receipt");
            unanswered.remove(&receipt.seq);
            arms.strike();
        }
    }
}

fn submit(raw: &mut Raw, number: usize, lane: Lane, seq: u64) {
    let to = format!("m{number}/tablet-{}", seq % MAILBOXES);
    let submit = Submit {
        seq,
        to: to.parse().expect("a recipient"),
        options: Options::default(),
        again: false,
    };
    let encode = |size| -> Encoded { frame::encode_with_body(&submit, vec![5; size].into()) };
    match lane {
        Lane::Message => raw.bytes(encode(BODY.0).concat()),
        Lane::Bulk => raw.bulk(encode(BODY.1).concat()),
    }
}
