//! Somebody who sends all the time, by a seed, and has every step written down.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use holdfast::{Client, Outcome, SendOptions, Unsent};
use rand::{rngs::SmallRng, seq::IndexedRandom};
use tokio::{sync::Semaphore, task::JoinSet};

use super::ledger::{Key, SMALLEST, some_len};

/// How many messages of one sender may be without an answer.
const WINDOW: usize = 48;

/// A body of the bulk lane, if only just.
pub const SMALL_BULK: usize = 17 * 1024;

/// Somebody to write to, by number in the book and name; in text `number=account/device`.
#[derive(Clone, Debug)]
pub struct Target(pub u16, pub String);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, name) = self;
        write!(f, "{number}={name}")
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(number, name)| {
            let number = number.parse().ok()?;
            Some(Self(number, name.to_owned()))
        });
        parts.ok_or_else(|| format!("{text}: not number=account/device"))
    }
}

/// Where a sender's steps are written down.
pub trait Book: Clone + Send + Sync + 'static {
    /// It is about to send a message of this length, with the body that this gives.
    fn intend(&self, key: Key, len: usize) -> Bytes;
    /// The message is in its outbox.
    fn sent(&self, key: Key);
    /// The message was answered.
    fn told(&self, key: Key, answer: Result<Outcome, Unsent>);
}

/// Somebody who sends.
pub struct Sender<B> {
    client: Client,
    number: u16,
    next: u32,
    book: B,
    answers: JoinSet<()>,
}

impl<B: Book> Sender<B> {
    /// Somebody with this number in the book, whose next message has this one.
    pub fn new(client: Client, number: u16, next: u32, book: B) -> Self {
        Self {
            client,
            number,
            next,
            book,
            answers: JoinSet::new(),
        }
    }

    /// Sends a message for each permit of the budget, and when that is closed, the last of each kind
    /// to everybody. Comes back with every answer.
    pub async fn run(mut self, targets: Vec<Target>, budget: Arc<Semaphore>, mut rng: SmallRng) {
        while let Ok(permit) = budget.acquire().await {
            permit.forget();
            let to = targets.choose(&mut rng).expect("somebody");
            self.send(to, some_len(&mut rng)).await;
        }
        for to in &targets {
            self.send(to, SMALLEST).await;
            self.send(to, SMALL_BULK).await;
        }
        while self.answers.join_next().await.is_some() {}
    }

    async fn send(&mut self, Target(recipient, name): &Target, len: usize) {
        while self.answers.len() >= WINDOW {
            self.answers.join_next().await;
        }
        let key = Key {
            sender: self.number,
            recipient: *recipient,
            number: self.next,
        };
        self.next += 1;
        let body = self.book.intend(key, len);
        let sent = self.client.send(name, body, SendOptions::default()).await;
        let sent = sent.expect("in the outbox");
        self.book.sent(key);
        let book = self.book.clone();
        self.answers
            .spawn(async move { book.told(key, sent.stored().await) });
    }
}
