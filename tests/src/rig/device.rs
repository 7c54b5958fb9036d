//! A device as a process of its own: an app that sends when it is told to, and writes down whatever it
//! does. The rig starts itself again as one ([`super::role`]), and kills it.

use std::{
    io::stdin,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use clap::Parser;
use holdfast::{Client, Config, CredentialFiles, Outcome, Received, Unsent};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
};

use super::{
    journal::{self, Step, Writer},
    ledger::{self, Key},
    sender::{Book, Sender, Target},
};
use crate::net::client_config;

/// What a device is told when it starts; afterwards it is told on standard input: a number allows it so
/// many messages more, and `farewell` lets it come to its end.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Where its outbox and its inbox are.
    #[arg(long)]
    pub directory: PathBuf,
    /// What it writes down.
    #[arg(long)]
    pub journal: PathBuf,
    /// Who it is.
    #[arg(long)]
    pub certificate: PathBuf,
    /// And can prove it.
    #[arg(long)]
    pub key: PathBuf,
    /// Whom it trusts.
    #[arg(long)]
    pub authority: PathBuf,
    /// Where it asks for a relay.
    #[arg(long)]
    pub allocator: SocketAddr,
    /// Its number in the book, as a sender.
    #[arg(long)]
    pub number: u16,
    /// What it sends follows from it.
    #[arg(long)]
    pub seed: u64,
    /// Whom it writes to: number in the book and name.
    #[arg(long)]
    pub target: Vec<Target>,
}

impl Arguments {
    /// As they are written.
    pub fn words(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut words = vec![
            format!("--directory={}", path(&self.directory)),
            format!("--journal={}", path(&self.journal)),
            format!("--certificate={}", path(&self.certificate)),
            format!("--key={}", path(&self.key)),
            format!("--authority={}", path(&self.authority)),
            format!("--allocator={}", self.allocator),
            format!("--number={}", self.number),
            format!("--seed={}", self.seed),
        ];
        words.extend(
            self.target
                .iter()
                .map(|target| format!("--target={target}")),
        );
        words
    }
}

/// Is a device until it is killed, or nobody tells it anything any more.
#[tokio::main]
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whatever an earlier run may have sent, this one counts on.
    let number = journal::read(&arguments.journal)
        .iter()
        .filter_map(intended)
        .max();
    let journal = Arc::new(Writer::open(&arguments.journal));
    journal.note(Step::Run);
    let client = Client::connect(config(&arguments)).await.expect("a client");
    let notes = Notes {
        journal: journal.clone(),
        seed: arguments.seed,
    };
    let next = number.unwrap_or_default() + 1;
    let sender = Sender::new(client.clone(), arguments.number, next, notes);
    let rng = rng(&arguments.seed, number);
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(client, journal.clone(), arguments.seed));
    let budget = Arc::new(Semaphore::new(0));
    let sending = sender.run(arguments.target, budget.clone(), rng);
    tasks.spawn(async move {
        sending.await;
        journal.note(Step::Farewell);
    });
    let listening = spawn_blocking(move || listen(&budget));
    listening.await.expect("it listens");
    // Before the client, which would end under their hands.
    tasks.shutdown().await;
    ExitCode::SUCCESS
}

fn intended(step: &Step) -> Option<u32> {
    match step {
        Step::Intend(key, _) => Some(key.number),
        _ => None,
    }
}

fn rng(seed: &u64, number: Option<u32>) -> SmallRng {
    SmallRng::seed_from_u64(seed ^ u64::from(number.unwrap_or_default()))
}

fn config(arguments: &Arguments) -> Config {
    let credentials = CredentialFiles {
        certificate: arguments.certificate.clone(),
        key: arguments.key.clone(),
        authority: arguments.authority.clone(),
        revoked: None,
    };
    Config {
        directory: Some(arguments.directory.clone()),
        ..client_config(credentials, arguments.allocator)
    }
}

/// What the rig says.
fn listen(budget: &Semaphore) {
    for line in stdin().lines().map_while(Result::ok) {
        match line.parse() {
            Ok(messages) => budget.add_permits(messages),
            Err(_) => budget.close(),
        }
    }
}

async fn receive(client: Client, journal: Arc<Writer>, seed: u64) {
    while let Some(message) = client.next().await {
        let key = ledger::key(message.body());
        let key = key.expect("a message of the rig's");
        journal.note(look(seed, key, &message));
        message.done().await.expect("a client that runs");
        journal.note(Step::Done(key));
    }
}

fn look(seed: u64, key: Key, message: &Received) -> Step {
    let len = message.body().len();
    match ledger::body(seed, key, len) == *message.body() {
        true => Step::Seen(key, len),
        false => Step::Wrong(key),
    }
}

/// An app's journal, as a sender writes it.
#[derive(Clone)]
struct Notes {
    journal: Arc<Writer>,
    seed: u64,
}

impl Book for Notes {
    fn intend(&self, key: Key, len: usize) -> Bytes {
        self.journal.note(Step::Intend(key, len));
        ledger::body(self.seed, key, len)
    }

    fn sent(&self, key: Key) {
        self.journal.note(Step::Sent(key));
    }

    fn told(&self, key: Key, answer: Result<Outcome, Unsent>) {
        self.journal.note(match answer {
            Ok(_) => Step::Answered(key),
            Err(_) => Step::Refused(key),
        });
    }
}
