//! The devices that are measured: two of an account, which do nothing wrong and write to each other.

use std::{net::SocketAddr, time::Duration};

use holdfast::{Client, Config, SendOptions};
use tokio::time::{Instant, interval, timeout};

use crate::{
    net::{Net, PATIENCE, attached, within},
    way::Way,
};

/// From a distant device to the relay and back: a good mobile network.
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// Between two messages of distant devices.
const PACE: Duration = Duration::from_millis(2);

/// Both of them.
pub(super) struct Pair {
    pc: Client,
    phone: Client,
    /// Its name.
    to: String,
}

impl Pair {
    /// On the relay's own machine.
    pub(super) async fn beside(net: &Net, account: &str) -> Self {
        Self::attached(account, |name| net.config(name)).await
    }

    async fn attached(account: &str, config: impl Fn(&str) -> Config) -> Self {
        let to = format!("{account}/phone");
        Self {
            pc: attached(config(&format!("{account}/pc"))).await,
            phone: attached(config(&to)).await,
            to,
        }
    }

    /// How long messages take from one app to the other, each sent when the one before is answered.
    pub(super) async fn measure(&self, messages: usize) -> Vec<Duration> {
        let mut measured = Vec::with_capacity(messages);
        for _ in 0..messages {
            let begun = Instant::now();
            let sent = self.pc.send(&self.to, "hello", SendOptions::default());
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

    pub(super) async fn close(self) {
        self.pc.close().await;
        self.phone.close().await;
    }
}

/// The same, with a network between them and the relay.
pub(super) struct Distant {
    pair: Pair,
    way: Way,
}

impl Distant {
    /// A round trip from the relay.
    pub(super) async fn start(net: &Net, account: &str, relay: (&str, SocketAddr)) -> Self {
        let way = Way::open(&net.pki, relay, (ROUND_TRIP, 0)).await;
        let config = |name: &str| Config {
            allocators: vec![way.allocator()],
            ..net.config(name)
        };
        Self {
            pair: Pair::attached(account, config).await,
            way,
        }
    }

    /// How long messages take from one app to the other, from when each was due: one after the other
    /// comes, whatever becomes of those before.
    pub(super) async fn measure(&self, messages: usize) -> Vec<Duration> {
        let (due, came) = tokio::join!(self.send(messages), self.receive(messages));
        due.into_iter()
            .zip(came)
            .map(|(due, came)| came - due)
            .collect()
    }

    /// When each was due. All are answered.
    async fn send(&self, messages: usize) -> Vec<Instant> {
        let (mut due, mut sent) = (Vec::new(), Vec::new());
        let mut pace = interval(PACE);
        for _ in 0..messages {
            due.push(pace.tick().await);
            let Pair { pc, to, .. } = &self.pair;
            let queued = pc.send(to, "hello", SendOptions::default()).await;
            sent.push(queued.expect("sent"));
        }
        for sent in sent {
            within("a receipt", sent.stored()).await.expect("a receipt");
        }
        due
    }

    /// When each came: they come in order.
    async fn receive(&self, messages: usize) -> Vec<Instant> {
        let mut came = Vec::with_capacity(messages);
        for _ in 0..messages {
            let received = within("a message", self.pair.phone.next()).await;
            came.push(Instant::now());
            received.expect("a message").done().await.expect("done");
        }
        came
    }

    pub(super) async fn close(self) {
        self.pair.close().await;
        self.way.close().await;
    }
}
