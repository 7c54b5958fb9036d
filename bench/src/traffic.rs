//! Numbered messages from one client to another, and what became of each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast::{Client, Received, SendOptions};
use holdfast_tests::net::within;
use tokio::{sync::watch, task::JoinHandle};

/// How many came how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    pub(crate) lost: u64,
    pub(crate) twice: u64,
}

impl std::ops::Add for Fates {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            twice: self.twice + other.twice,
        }
    }
}

/// What is sent how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Between two messages.
    pub(crate) every: Duration,
    /// The size of one; at least 8.
    pub(crate) bytes: usize,
}

/// Messages that flow in one direction, until [`Flow::finish`].
pub(crate) struct Flow {
    sent: Arc<AtomicU64>,
    arrivals: watch::Receiver<Arrivals>,
    stop: Arc<AtomicBool>,
    sending: JoinHandle<()>,
    receiving: JoinHandle<()>,
}

/// The numbers that came, and when each of them came last.
#[derive(Debug, Default)]
struct Arrivals {
    last: BTreeMap<u64, Instant>,
    twice: u64,
}

impl Flow {
    /// Begins to send from one client to the other, whose name is `to`. The other receives nothing
    /// else.
    pub(crate) fn start(from: &Client, to: &str, other: &Client, load: Load) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (noted, arrivals) = watch::channel(Arrivals::default());
        let sender = send(
            from.clone(),
            to.to_owned(),
            load,
            stop.clone(),
            sent.clone(),
        );
        Self {
            sending: tokio::spawn(sender),
            receiving: tokio::spawn(receive(other.clone(), noted)),
            sent,
            arrivals,
            stop,
        }
    }

    /// The number of the newest message that was sent: at a round trip that is longer than the time
    /// between two messages, it is on its way.
    pub(crate) fn newest(&self) -> u64 {
        self.sent.load(Ordering::Acquire).saturating_sub(1)
    }

    /// Waits for a message with this number or a higher one, that comes after a moment. How long
    /// after.
    pub(crate) async fn gap(&self, number: u64, since: Instant) -> Duration {
        let mut arrivals = self.arrivals.clone();
        let next = |arrivals: &Arrivals| {
            let mut later = arrivals.last.range(number..).map(|(_, at)| *at);
            later.find(|at| *at > since)
        };
        let arrived = within(
            "the next message",
            arrivals.wait_for(|arrivals| next(arrivals).is_some()),
        );
        let arrivals = arrived.await.expect("it is received");
        next(&arrivals).map_or(Duration::MAX, |at| at - since)
    }

    /// Sends no more, waits until all that was sent has come, or half a minute, and says what came of
    /// it.
    pub(crate) async fn finish(mut self) -> Fates {
        self.stop.store(true, Ordering::Release);
        self.sending.await.expect("it sent");
        let sent = self.sent.load(Ordering::Acquire);
        let all = self.arrivals.wait_for(|a| a.last.len() as u64 >= sent);
        // What has not come by then is lost, and told as such.
        let _ = tokio::time::timeout(holdfast_tests::net::PATIENCE, all).await;
        self.receiving.abort();
        let arrivals = self.arrivals.borrow();
        Fates {
            lost: sent.saturating_sub(arrivals.last.len() as u64),
            twice: arrivals.twice,
        }
    }
}

async fn send(from: Client, to: String, load: Load, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    let mut pace = tokio::time::interval(load.every);
    while !stop.load(Ordering::Acquire) {
        pace.tick().await;
        let mut body = sent.load(Ordering::Acquire).to_le_bytes().to_vec();
        body.resize(load.bytes.max(8), 0);
        let queued = from.send(&to, body, SendOptions::default()).await;
        queued.expect("room in the outbox");
        sent.fetch_add(1, Ordering::AcqRel);
    }
}

async fn receive(client: Client, arrivals: watch::Sender<Arrivals>) {
    while let Some(received) = client.next().await {
        let (at, number) = (Instant::now(), number(&received));
        arrivals.send_modify(|arrivals| {
            let again = arrivals.last.insert(number, at).is_some();
            arrivals.twice += u64::from(again);
        });
        received.done().await.expect("it is open");
    }
}

fn number(received: &Received) -> u64 {
    let first = received.body().first_chunk::<8>();
    u64::from_le_bytes(*first.expect("a number"))
}
