//! The load: clients that send all the time, and clients that come to fetch.

use std::{future::poll_fn, panic, path::PathBuf, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use holdfast::{Client, Config, Outcome, State, Unsent};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    ledger::{Key, Ledger},
    sender::{Book, Sender, Target},
};
use crate::net::Net;

/// Somebody who sends.
pub struct Feeder {
    client: Client,
    task: JoinHandle<()>,
}

/// What feeders have in common.
#[derive(Clone)]
pub struct Feed {
    /// The book.
    pub ledger: Arc<Ledger>,
    /// A message each; closed, it lets the feeders come to their end.
    pub budget: Arc<Semaphore>,
    /// What is sent follows from it.
    pub seed: u64,
}

impl Feeder {
    /// Begins to send.
    pub async fn start(config: Config, number: u16, targets: Vec<Target>, feed: &Feed) -> Self {
        let client = Client::connect(config).await.expect("a client");
        let sender = Sender::new(client.clone(), number, 1, feed.ledger.clone());
        let rng = SmallRng::seed_from_u64(feed.seed ^ u64::from(number));
        let task = tokio::spawn(sender.run(targets, feed.budget.clone(), rng));
        Self { client, task }
    }

    /// Looks for a relay now, if it has none, or a session with this one, which is another process.
    pub fn back(&self, relay: &str) {
        look_again(&self.client, relay);
    }

    /// Waits until it has sent the last of each kind to everybody and has every answer, as it does
    /// once the budget is closed. Whether it came to that in time.
    pub async fn finish(self, patience: Duration) -> bool {
        let Self { client, mut task } = self;
        let finished = match timeout(patience, &mut task).await {
            Ok(ended) => ended.is_ok(),
            Err(_) => {
                stop(task).await;
                false
            }
        };
        client.close().await;
        finished
    }

    /// Stops, whatever it was at.
    pub async fn leave(self) {
        stop(self.task).await;
    }
}

impl Book for Arc<Ledger> {
    fn intend(&self, key: Key, len: usize) -> Bytes {
        self.enter(key, len)
    }

    fn sent(&self, _: Key) {}

    fn told(&self, key: Key, answer: Result<Outcome, Unsent>) {
        Ledger::told(self, key, answer);
    }
}

/// Somebody who fetches, now and then or all the time, and remembers on a disk of its own.
pub struct Reader {
    name: String,
    number: u16,
    directory: PathBuf,
    ledger: Arc<Ledger>,
    reading: Option<Reading>,
}

struct Reading {
    client: Client,
    enough: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Somebody who is away.
    pub fn new(name: &str, number: u16, directory: PathBuf, ledger: Arc<Ledger>) -> Self {
        Self {
            name: name.to_owned(),
            number,
            directory,
            ledger,
            reading: None,
        }
    }

    /// Who it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the book.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.reading.is_some()
    }

    /// Comes, and fetches from now on.
    pub async fn come(&mut self, net: &Net) {
        if self.is_there() {
            return;
        }
        let config = Config {
            directory: Some(self.directory.clone()),
            ..net.config(&self.name)
        };
        let client = Client::connect(config).await.expect("a client");
        let (enough, leaving) = watch::channel(false);
        let reading = read(client.clone(), self.number, self.ledger.clone(), leaving);
        self.reading = Some(Reading {
            client,
            enough,
            task: tokio::spawn(reading),
        });
    }

    /// Where it stands, in words.
    pub fn standing(&self) -> String {
        match &self.reading {
            Some(Reading { client, .. }) => {
                let (state, trip) = (client.state(), client.round_trip());
                format!("{state:?}, last round trip {trip:?}")
            }
            None => "away".to_owned(),
        }
    }

    /// As [`Feeder::back`], if it is there.
    pub fn back(&self, relay: &str) {
        if let Some(reading) = &self.reading {
            look_again(&reading.client, relay);
        }
    }

    /// Goes, having finished with the message it is at.
    pub async fn go(&mut self) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        reading.enough.send_replace(true);
        reading.task.await.expect("it reads");
        reading.client.close().await;
    }

    /// Stops, if it is there, whatever it was at.
    pub async fn leave(self) {
        if let Some(reading) = self.reading {
            stop(reading.task).await;
        }
    }
}

/// Ends a task, and comes back when it is gone. Told to end, it still finishes what it is at, with a client
/// that it takes for running; so nobody may end that before.
async fn stop(task: JoinHandle<()>) {
    task.abort();
    if let Err(ended) = task.await
        && ended.is_panic()
    {
        panic::resume_unwind(ended.into_panic());
    }
}

fn look_again(client: &Client, relay: &str) {
    match client.state() {
        State::Attached { relay: other } if other.as_str() != relay => {}
        _ => client.reconnect(),
    }
}

async fn read(client: Client, me: u16, ledger: Arc<Ledger>, mut leaving: watch::Receiver<bool>) {
    let (mut remembering, mut states) = (JoinSet::new(), client.states());
    loop {
        let message = tokio::select! {
            biased;
            _ = leaving.wait_for(|leaving| *leaving) => break,
            Some(state) = states.changed() => {
                // Nobody else has its certificate: it would be its own older session that threw it out.
                if state == State::Superseded {
                    ledger.wrong(format!("{me} was told of a newer session that there is not"));
                }
                continue;
            }
            message = client.next() => message.expect("a client that runs"),
        };
        ledger.arrived(me, message.lane(), message.body());
        // Said in order, by being polled here; remembered many at a time.
        let mut done = Box::pin(message.done());
        if poll_fn(|cx| Poll::Ready(done.as_mut().poll(cx)))
            .await
            .is_pending()
        {
            remembering.spawn(done);
        }
    }
    for remembered in remembering.join_all().await {
        remembered.expect("a client that runs");
    }
}

/// So many of them, at random.
pub fn some<'a, T>(rng: &mut impl Rng, of: &'a mut [T], count: usize) -> Vec<&'a mut T> {
    let chosen = rand::seq::index::sample(rng, of.len(), count.min(of.len())).into_vec();
    let all = of.iter_mut().enumerate();
    let some = all.filter(|(at, _)| chosen.contains(at));
    some.map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_stopped_finishes_what_it_is_at_and_is_gone_then() {
        let ((begin, begun), (let_end, ends)) = (oneshot::channel(), mpsc::channel());
        let is_done = Arc::new(AtomicBool::new(false));
        let done = is_done.clone();
        let task = tokio::spawn(async move {
            begin.send(()).unwrap();
            ends.recv().unwrap();
            done.store(true, Ordering::Release);
        });
        begun.await.unwrap();
        let mut stopping = pin!(stop(task));
        let first = poll_fn(|cx| Poll::Ready(stopping.as_mut().poll(cx))).await;
        assert!(first.is_pending(), "it is still at it");
        let_end.send(()).unwrap();
        stopping.await;
        assert!(is_done.load(Ordering::Acquire));
    }
}
