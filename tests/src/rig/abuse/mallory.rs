//! The attackers: a process of their own, which yields to everything else. So what is measured is what
//! the relay does about them, and not whom the scheduler prefers.

use std::{
    fs,
    io::{Write, stdin, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use holdfast::CredentialFiles;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    runtime::Runtime,
    sync::Semaphore,
};

use super::weapons::{self, ATTACKERS, Arms, Attack};
use crate::{
    courtesy,
    net::within,
    rig::role::{self},
};

/// What the attackers are told when they start; afterwards they are told on standard input to `begin`
/// and to `end`, and say on standard output when they have, and how often they struck.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// What they do.
    #[arg(long, value_enum)]
    pub attack: Attack,
    /// To whom.
    #[arg(long)]
    pub relay: SocketAddr,
    /// Where each one's certificate and key are, and the authority's certificate.
    #[arg(long, num_args = 3)]
    pub identity: Vec<PathBuf>,
    /// A folder of first packets.
    #[arg(long)]
    pub packets: PathBuf,
}

impl Arguments {
    /// As they are written.
    pub fn words(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let attack = self.attack.to_possible_value().expect("a name");
        let mut words = vec![
            format!("--attack={}", attack.get_name()),
            format!("--relay={}", self.relay),
            format!("--packets={}", text(&self.packets)),
        ];
        for files in self.identity.chunks(3) {
            words.push("--identity".to_owned());
            words.extend(files.iter().map(|path| text(path)));
        }
        words
    }

    fn arms(&self) -> Arms {
        let files = self.identity.chunks(3).map(|files| CredentialFiles {
            certificate: files[0].clone(),
            key: files[1].clone(),
            authority: files[2].clone(),
            revoked: None,
        });
        let packets = fs::read_dir(&self.packets).expect("a folder");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            fs::read(entry.expect("a file").path()).expect("a packet")
        };
        Arms {
            relay: self.relay,
            files: files.collect(),
            packets: packets.map(read).map(Bytes::from).collect(),
            strikes: AtomicU64::new(0),
            begun: Semaphore::new(0),
            next: (0..ATTACKERS).map(|_| AtomicU64::new(1)).collect(),
        }
    }
}

/// Is all attackers until nobody tells it anything any more.
pub fn main() -> ExitCode {
    courtesy::give_way();
    let arguments = Arguments::parse();
    let (runtime, arms) = (Runtime::new().expect("a runtime"), arguments.arms());
    let (arms, mut attack) = (Arc::new(arms), None);
    for line in stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "begin" => {
                let begun = async {
                    let attack = weapons::attack(&arms, arguments.attack);
                    let all = arms.begun.acquire_many(ATTACKERS as u32);
                    within("the attack", all).await.expect("open").forget();
                    attack
                };
                attack = Some(runtime.block_on(begun));
            }
            _ => {
                // Aborted, each lets go of its connection, which says goodbye.
                if let Some(mut attack) = attack.take() {
                    runtime.block_on(attack.shutdown());
                }
            }
        }
        say(arms.strikes.load(Ordering::Relaxed));
    }
    ExitCode::SUCCESS
}

fn say(strikes: u64) {
    let mut out = stdout().lock();
    writeln!(out, "{strikes}").expect("a rig that listens");
    out.flush().expect("a rig that listens");
}

/// The attackers' process, as the rig sees it.
pub(super) struct Mallory {
    _child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
    /// How often they have struck.
    pub(super) strikes: u64,
}

impl Mallory {
    /// Starts it; nothing happens to the relay yet.
    pub(super) fn hire(arguments: &Arguments) -> Self {
        let mut child = role::attackers(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let reports = BufReader::new(child.stdout.take().expect("its reports")).lines();
        Self {
            orders: child.stdin.take().expect("its orders"),
            _child: child,
            reports,
            strikes: 0,
        }
    }

    /// Returns when the attack is under way.
    pub(super) async fn begin(&mut self) {
        self.order("begin\n").await;
    }

    /// Returns when nothing more is sent.
    pub(super) async fn end(&mut self) {
        self.order("end\n").await;
    }

    async fn order(&mut self, order: &str) {
        let sent = self.orders.write_all(order.as_bytes()).await;
        sent.expect("attackers that run");
        let report = within("a report", self.reports.next_line()).await;
        let report = report.expect("a report").expect("attackers that run");
        self.strikes = report.parse().expect("a number");
    }
}
