//! A device as a process of its own: an app that sends when it is told to, and writes down whatever it
//! does. The rig starts itself again as one ([`super::role`]), and kills it.

use std::{
    io::stdin,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
};

use clap::Parser;
use holdfast::{Client, Config, CredentialFiles, Received, SendOptions};
use rand::{SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
};

use super::{
    crowd::SMALL_BULK,
    journal::{self, Step, Writer},
    ledger::{self, Key, SMALLEST, some_len},
};
use crate::net::client_config;

/// How many of its messages may be without an answer.
const WINDOW: usize = 32;

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

/// Somebody to write to, as `number=account/device`.
#[derive(Clone, Debug)]
pub struct Target(pub u16, pub String);

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
        let target = |Target(number, name): &Target| format!("--target={number}={name}");
        words.extend(self.target.iter().map(target));
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
    let sender = Sender {
        client: client.clone(),
        me: arguments.number,
        seed: arguments.seed,
        next: number.unwrap_or_default() + 1,
        journal: journal.clone(),
        answers: JoinSet::new(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(client, journal, arguments.seed));
    let budget = Arc::new(Semaphore::new(0));
    tasks.spawn(sender.run(
        arguments.target,
        budget.clone(),
        rng(&arguments.seed, number),
    ));
    let listening = spawn_blocking(move || listen(&budget));
    listening.await.expect("it listens");
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

struct Sender {
    client: Client,
    me: u16,
    seed: u64,
    next: u32,
    journal: Arc<Writer>,
    answers: JoinSet<()>,
}

impl Sender {
    async fn run(mut self, targets: Vec<Target>, budget: Arc<Semaphore>, mut rng: SmallRng) {
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
        self.journal.note(Step::Farewell);
    }

    async fn send(&mut self, Target(recipient, name): &Target, len: usize) {
        while self.answers.len() >= WINDOW {
            self.answers.join_next().await;
        }
        let key = Key {
            sender: self.me,
            recipient: *recipient,
            number: self.next,
        };
        self.next += 1;
        self.journal.note(Step::Intend(key, len));
        let body = ledger::body(self.seed, key, len);
        let sent = self.client.send(name, body, SendOptions::default()).await;
        let (sent, journal) = (sent.expect("in the outbox"), self.journal.clone());
        journal.note(Step::Sent(key));
        self.answers.spawn(async move {
            match sent.stored().await {
                Ok(_) => journal.note(Step::Answered(key)),
                Err(_) => journal.note(Step::Refused(key)),
            }
        });
    }
}
