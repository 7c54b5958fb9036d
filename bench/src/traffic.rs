//! Numbered messages from one client to another, and what became of each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast::{Client, Received, SendOptions};
use holdfast_tests::net::within;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use crate::figure::{Figure, Goal};

/// How many came how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    pub(crate) lost: u64,
    pub(crate) twice: u64,
}

impl Fates {
    /// Under these two names.
    pub(crate) fn figures(self, [lost, twice]: [&'static str; 2]) -> [Figure; 2] {
        let figure = |name, count| Figure::new(name, count as f64, "count", Goal::AtMost(0.0));
        [figure(lost, self.lost), figure(twice, self.twice)]
    }
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
    sent: Sent,
    arrivals: watch::Receiver<Arrivals>,
    stop: Arc<AtomicBool>,
    sending: JoinHandle<()>,
    receiving: JoinHandle<()>,
}

/// When each message was sent, by its number.
type Sent = Arc<Mutex<Vec<Instant>>>;

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
        Self::start_later(from, to, other, (load, Duration::ZERO))
    }

    /// The same, but the first message is sent after a while.
    pub(crate) fn start_later(
        from: &Client,
        to: &str,
        other: &Client,
        (load, offset): (Load, Duration),
    ) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Sent::default());
        let (noted, arrivals) = watch::channel(Arrivals::default());
        let sender = send(
            from.clone(),
            to.to_owned(),
            (load, offset),
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
        (self.sent.lock().len() as u64).saturating_sub(1)
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

    /// Sends no more from now on.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Sends no more, waits until all that was sent has come, or half a minute, and says what came of
    /// it.
    pub(crate) async fn finish(self) -> Fates {
        self.finish_timed().await.0
    }

    /// The same, and says when each message that came was sent, and how long it took.
    pub(crate) async fn finish_timed(mut self) -> (Fates, Vec<(Instant, Duration)>) {
        self.stop();
        self.sending.await.expect("it sent");
        let moments = std::mem::take(&mut *self.sent.lock());
        let sent = moments.len() as u64;
        let all = self.arrivals.wait_for(|a| a.last.len() as u64 >= sent);
        // What has not come by then is lost, and told as such.
        let _ = tokio::time::timeout(holdfast_tests::net::PATIENCE, all).await;
        self.receiving.abort();
        let arrivals = self.arrivals.borrow();
        let fates = Fates {
            lost: sent.saturating_sub(arrivals.last.len() as u64),
            twice: arrivals.twice,
        };
        let took = |(at, number): (Instant, u64)| {
            let arrived = arrivals.last.get(&number)?;
            Some((at, arrived.duration_since(at)))
        };
        let times = moments.into_iter().zip(0..).filter_map(took).collect();
        (fates, times)
    }
}

async fn send(
    from: Client,
    to: String,
    (load, offset): (Load, Duration),
    stop: Arc<AtomicBool>,
    sent: Sent,
) {
    let mut pace = tokio::time::interval_at(tokio::time::Instant::now() + offset, load.every);
    for number in 0_u64.. {
        pace.tick().await;
        if stop.load(Ordering::Acquire) {
            return;
        }
        let mut body = number.to_le_bytes().to_vec();
        body.resize(load.bytes.max(8), 0);
        let at = Instant::now();
        let queued = from.send(&to, body, SendOptions::default()).await;
        queued.expect("room in the outbox");
        sent.lock().push(at);
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
