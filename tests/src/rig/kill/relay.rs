//! One of two relays is killed: under load, while it opens its store, while mail is fetched.

use std::fmt;

use holdfast_relay::Config;
use rand::Rng;
use tokio::time::{Instant, sleep};

use crate::{
    daemon::Daemon,
    net::PATIENCE,
    rig::{
        inquest,
        ledger::Verdict,
        role::Program,
        scene::{self, Scene},
    },
};

/// How many messages may be sent between two kills.
const MESSAGES: usize = 200;

#[derive(Clone, Copy, Debug)]
enum Moment {
    Load,
    Opening,
    Drain,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "under load",
            Self::Opening => "while it opens its store",
            Self::Drain => "while mail is fetched",
        })
    }
}

/// Two relays and a crowd.
pub(super) struct Life {
    scene: Scene,
    relays: [Node; 2],
    /// How often a kill met a store while it moved into a new log.
    moving: u32,
}

struct Node {
    name: &'static str,
    config: Config,
    daemon: Option<Daemon>,
}

impl Node {
    fn launch(&mut self) {
        self.daemon = Some(Daemon::launch(Program::Own.command(), &self.config));
    }

    async fn listening(&mut self) -> Result<(), String> {
        let daemon = self.daemon.as_mut().expect("a relay that was launched");
        let listening = daemon.listening().await;
        self.config.listen = listening.map_err(|ended| ended.to_string())?;
        Ok(())
    }

    async fn kill(&mut self) {
        let daemon = self.daemon.take().expect("a relay that runs");
        daemon.kill().await;
    }
}

impl super::Life for Life {
    async fn begin(seed: u64) -> Self {
        let mut scene = Scene::set(seed, 0).await;
        let mut relays = ["r1", "r2"].map(|name| Node {
            name,
            config: scene::restless(scene.net.relay_config(name, scene::limits())),
            daemon: None,
        });
        for relay in &mut relays {
            relay.launch();
            let started = relay.listening().await;
            started.expect("a relay starts with an empty store");
            scene.net.leased(relay.name).await;
        }
        scene.gather().await;
        Self {
            scene,
            relays,
            moving: 0,
        }
    }

    async fn kill(&mut self) -> Result<String, String> {
        let (began, moment) = (Instant::now(), self.moment());
        let which = self.scene.rng.random_range(0..self.relays.len());
        self.scene.allow(MESSAGES);
        sleep(self.scene.a_while(50..300)).await;
        match moment {
            Moment::Load => {}
            Moment::Opening => {
                self.relays[which].kill().await;
                self.relays[which].launch();
                sleep(self.scene.a_while(0..80)).await;
            }
            Moment::Drain => {
                self.scene.begin_to_fetch(3).await;
                sleep(self.scene.a_while(20..150)).await;
            }
        }
        let relay = &mut self.relays[which];
        relay.kill().await;
        self.moving += u32::from(scene::was_moving(&relay.config.data));
        let promised = self.scene.ledger.promises();
        relay.launch();
        relay.listening().await?;
        self.scene.back(relay.name);
        let fetched = self.scene.fetch(3, PATIENCE).await;
        let took = began.elapsed().as_millis();
        Ok(format!(
            "{} {moment}, {promised} promised by then, {fetched} fetched after, {took} ms",
            self.relays[which].name
        ))
    }

    fn moving(&self) -> u32 {
        self.moving
    }

    async fn end(mut self) -> Verdict {
        if !self.relays.iter().all(|relay| relay.daemon.is_some()) {
            return self.scene.abandon().await;
        }
        let unanswered = self.scene.wind_up().await;
        let findings = match self.scene.owed() {
            0 => Vec::new(),
            _ => self.inquire().await,
        };
        let mut verdict = self.scene.close(unanswered).await;
        verdict.findings.extend(findings);
        verdict
    }
}

impl Life {
    /// What can be found out about what has not come: where its recipients stand, what the relays count,
    /// whether it comes later, and what is left in the stores.
    async fn inquire(&mut self) -> Vec<String> {
        let mut findings = self.scene.waiting();
        for relay in &self.relays {
            let daemon = relay.daemon.as_ref().expect("a relay that runs");
            findings.extend(inquest::of_relay(relay.name, daemon).await);
        }
        let began = Instant::now();
        let paid = self.scene.paid(PATIENCE).await;
        findings.push(format!("{:?} later, all had come: {paid}", began.elapsed()));
        for relay in &mut self.relays {
            relay.kill().await;
            findings.extend(inquest::of_store(relay.name, &relay.config.data).await);
        }
        findings
    }

    fn moment(&mut self) -> Moment {
        match self.scene.rng.random_range(0..10) {
            0..5 => Moment::Load,
            5..7 => Moment::Opening,
            _ => Moment::Drain,
        }
    }
}
