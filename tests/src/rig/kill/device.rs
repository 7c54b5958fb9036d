//! One of three devices is killed, each an app in a process of its own, with its outbox and its inbox on
//! the disk. They are of one account and write to each other, and two services write to them.

use std::{path::PathBuf, process::Stdio, time::Duration};

use rand::Rng;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
    time::{Instant, interval, sleep},
};

use crate::{
    net::PATIENCE,
    rig::{device::Arguments, journal::Clerk, ledger::Verdict, role, scene::Scene, sender::Target},
};

/// How many messages everybody may send between two kills.
const MESSAGES: usize = 60;

/// The first service's number in the book: devices send, too, under their own.
const FIRST_SERVICE: u16 = 10;

/// How often the journals are looked into, at the end.
const PACE: Duration = Duration::from_millis(50);

/// Three devices, two services, two relays.
pub(super) struct Life {
    scene: Scene,
    apps: Vec<App>,
    clerk: Clerk,
}

struct App {
    arguments: Arguments,
    process: Option<(Child, ChildStdin)>,
}

impl App {
    fn start(&mut self) {
        let mut command = role::device(&self.arguments);
        let started = command.stdin(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = started.expect("a process");
        let stdin = child.stdin.take().expect("its ear");
        self.process = Some((child, stdin));
    }

    async fn tell(&mut self, what: &str) {
        let (_, stdin) = self.process.as_mut().expect("an app that runs");
        let told = stdin.write_all(format!("{what}\n").as_bytes()).await;
        told.expect("an app that runs");
    }

    async fn kill(&mut self) {
        let (mut child, _stdin) = self.process.take().expect("an app that runs");
        let ended = child.try_wait().expect("a process");
        assert_eq!(ended, None, "it ran until it was killed");
        child.kill().await.expect("killed");
    }
}

impl super::Life for Life {
    async fn begin(seed: u64) -> Self {
        let mut scene = Scene::set(seed, 2).await;
        let names = [0, 1, 2].map(|number: u16| Target(number, format!("d/d{number}")));
        for number in 0..2 {
            let name = format!("service/s{number}");
            scene
                .add_feeder(&name, FIRST_SERVICE + number, names.to_vec())
                .await;
        }
        let mut apps = Vec::new();
        for Target(number, name) in &names {
            let mut app = App {
                arguments: arguments(&scene, *number, name, &names),
                process: None,
            };
            app.start();
            apps.push(app);
        }
        let journal = |app: &App| app.arguments.journal.clone();
        let clerk = Clerk::new(apps.iter().map(journal).collect());
        Self { scene, apps, clerk }
    }

    async fn kill(&mut self) -> Result<String, String> {
        let began = Instant::now();
        self.scene.allow(MESSAGES);
        for app in &mut self.apps {
            app.tell(&MESSAGES.to_string()).await;
        }
        sleep(self.scene.a_while(20..600)).await;
        let which = self.scene.rng.random_range(0..self.apps.len());
        self.apps[which].kill().await;
        self.clerk.catch_up(&self.scene.ledger);
        self.apps[which].start();
        let (promised, came) = (self.scene.ledger.promises(), self.scene.ledger.arrivals());
        let took = began.elapsed().as_millis();
        Ok(format!(
            "d{which}, {promised} promised and {came} seen by then, {took} ms"
        ))
    }

    async fn end(mut self) -> Verdict {
        let unanswered = self.scene.stop_feeding().await;
        for app in &mut self.apps {
            app.tell("farewell").await;
        }
        self.settle().await;
        let said = self.clerk.all_said_farewell();
        for app in &mut self.apps {
            app.kill().await;
        }
        self.clerk.catch_up(&self.scene.ledger);
        let mut verdict = self.scene.abandon().await;
        if unanswered > 0 || !said {
            verdict.lost += 1;
            let what = "somebody waits for an answer that does not come";
            verdict.findings.push(what.to_owned());
        }
        verdict
    }
}

impl Life {
    /// Waits until all is answered and all has come, or nothing happens any more.
    async fn settle(&mut self) {
        let everybody = [0, 1, 2];
        let (mut pace, mut last, mut since) = (interval(PACE), 0, Instant::now());
        while since.elapsed() < PATIENCE {
            pace.tick().await;
            self.clerk.catch_up(&self.scene.ledger);
            let ledger = &self.scene.ledger;
            if self.clerk.all_said_farewell() && ledger.owed(&everybody) == 0 {
                return;
            }
            let so_far = ledger.arrivals() + ledger.promises();
            if so_far > last {
                (last, since) = (so_far, Instant::now());
            }
        }
    }
}

fn arguments(scene: &Scene, number: u16, name: &str, everybody: &[Target]) -> Arguments {
    let files = scene.net.pki.sender(name);
    let directory = scene.net.directory(name);
    let others = everybody.iter().filter(|Target(other, _)| *other != number);
    Arguments {
        journal: journal(&directory),
        directory,
        certificate: files.certificate,
        key: files.key,
        authority: files.authority,
        allocator: scene.net.allocator_address(),
        number,
        seed: scene.ledger.seed(),
        target: others.cloned().collect(),
    }
}

/// Beside the directory, which is the client's alone.
fn journal(directory: &std::path::Path) -> PathBuf {
    let parent = directory.parent().expect("a folder");
    std::fs::create_dir_all(parent).expect("a folder");
    directory.with_extension("journal")
}
