//! The allocator is killed, while relays and devices ask it and accounts are pinned. Every pin that it
//! ever named has to hold.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use holdfast_protocol::{
    allocation::{Allocation, Locate},
    id::Name,
    version,
};
use holdfast_transport::{credentials::Credentials, endpoint, exchange};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint};
use rand::Rng;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    daemon::Daemon,
    net::{LOOPBACK, PATIENCE, eventually},
    rig::{ledger::Verdict, role, scene::Scene},
};

/// How many messages may be sent between two kills.
const MESSAGES: usize = 200;

/// Homes, as they were first named.
type Pins = Arc<Mutex<BTreeMap<Name, Name>>>;

/// An allocator, two relays and a crowd.
pub(super) struct Life {
    scene: Scene,
    config: holdfast_allocator::Config,
    allocator: Option<Daemon>,
    asker: Asker,
    pins: Pins,
    moved: Vec<String>,
    pinning: JoinHandle<()>,
}

impl super::Life for Life {
    async fn begin(seed: u64) -> Self {
        let mut scene = Scene::set(seed, 2).await;
        scene.gather().await;
        // From here on it is a process of its own, with the store and the address that it had.
        scene.net.stop_allocator().await;
        let (config, pins) = (scene.net.allocator_config(), Pins::default());
        let asker = Asker::new(&scene, config.listen);
        let mut life = Self {
            config,
            allocator: None,
            pinning: tokio::spawn(pin(asker.clone(), pins.clone())),
            asker,
            pins,
            moved: Vec::new(),
            scene,
        };
        life.launch();
        life.listening().await.expect("an allocator starts");
        life
    }

    async fn kill(&mut self) -> Result<String, String> {
        let began = Instant::now();
        self.scene.allow(MESSAGES);
        sleep(self.scene.a_while(50..300)).await;
        let opening = self.scene.rng.random_ratio(1, 3);
        if opening {
            self.stop().await;
            self.launch();
            sleep(self.scene.a_while(0..60)).await;
        }
        self.stop().await;
        self.launch();
        self.listening().await?;
        let pins = self.check_pins().await;
        let fetched = self.scene.fetch(3, PATIENCE).await;
        let moment = if opening {
            "while it opens its store"
        } else {
            "while it is asked"
        };
        let took = began.elapsed().as_millis();
        Ok(format!(
            "{moment}, {pins} pins hold, {fetched} fetched after, {took} ms"
        ))
    }

    async fn end(self) -> Verdict {
        self.pinning.abort();
        let mut verdict = match self.allocator {
            Some(_) => self.scene.end().await,
            None => self.scene.abandon().await,
        };
        verdict.lost += self.moved.len();
        verdict.findings.extend(self.moved);
        verdict
    }
}

impl Life {
    fn launch(&mut self) {
        let command = role::allocator();
        self.allocator = Some(Daemon::launch_allocator(command, &self.config));
    }

    async fn listening(&mut self) -> Result<(), String> {
        let allocator = self.allocator.as_mut().expect("one that was launched");
        let listening = allocator.listening().await;
        listening.map_err(|ended| ended.to_string())?;
        Ok(())
    }

    async fn stop(&mut self) {
        let allocator = self.allocator.take().expect("an allocator that runs");
        allocator.kill().await;
    }

    /// Asks again for every account whose home was ever named. How many there are.
    async fn check_pins(&mut self) -> usize {
        let pins = self.pins.lock().clone();
        let connection = self.connected().await;
        for (account, home) in &pins {
            let now = home_of(&connection, account.clone()).await;
            if now.as_ref() != Some(home) {
                let what = format!("{account} was at home at {home}, and is at {now:?}");
                self.moved.push(what);
            }
        }
        pins.len()
    }

    async fn connected(&self) -> Connection {
        let mut connection = None;
        eventually("a connection to the allocator", async || {
            connection = self.asker.connect().await;
            connection.is_some()
        })
        .await;
        connection.expect("a connection")
    }
}

/// Somebody who may ask for any account: a relay.
#[derive(Clone)]
struct Asker {
    credentials: Arc<Credentials>,
    socket: Endpoint,
    allocator: SocketAddr,
}

impl Asker {
    fn new(scene: &Scene, allocator: SocketAddr) -> Self {
        let credentials = Credentials::load(&scene.net.pki.relay("r1")).expect("credentials");
        Self {
            credentials: Arc::new(credentials),
            socket: endpoint::bind_client(LOOPBACK).expect("a socket"),
            allocator,
        }
    }

    async fn connect(&self) -> Option<Connection> {
        let tls = self.credentials.client(version::ALLOCATION);
        let tls = tls.expect("a configuration");
        let domain = self.credentials.trust_domain();
        let dialled = endpoint::dial(&self.socket, tls, self.allocator, domain);
        let connecting = tokio::time::timeout(PATIENCE / 60, dialled.expect("dialled"));
        connecting.await.ok()?.ok()
    }
}

async fn home_of(connection: &Connection, account: Name) -> Option<Name> {
    let request = Locate {
        account: Some(account),
    };
    let asked = tokio::time::timeout(PATIENCE / 30, exchange::ask(connection, &request));
    match asked.await.ok()?.ok()? {
        Allocation::Relays { home, .. } => home,
        _ => None,
    }
}

/// Asks for one new account after the other, whenever there is an allocator, and notes the answers.
async fn pin(asker: Asker, pins: Pins) {
    let mut number = 0;
    loop {
        let Some(connection) = asker.connect().await else {
            continue;
        };
        while connection.close_reason().is_none() {
            let account: Name = format!("new{number}").parse().expect("a name");
            let Some(home) = home_of(&connection, account.clone()).await else {
                break;
            };
            pins.lock().insert(account, home);
            number += 1;
        }
        connection.close(0_u32.into(), b"");
    }
}
