//! An allocator and relays on free ports, in this process, to be stopped and started again.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use holdfast::{Client, Config, CredentialFiles, PingSchedule, Retry};
use holdfast_allocator::Allocator;
use holdfast_protocol::{
    allocation::{Allocation, Locate},
    version,
};
use holdfast_relay::{Limits, Relay};
use holdfast_transport::{credentials::Credentials, endpoint, exchange};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use crate::{guide::Guide, pki::Pki};

/// Everything a test waits for comes within this, or never.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a relay's lease lives in tests.
const LEASE: Duration = Duration::from_secs(2);

/// Any free port of this machine's.
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An allocator and relays.
pub struct Net {
    /// The authority.
    pub pki: Pki,
    dir: TempDir,
    allocator: Option<Allocator>,
    allocator_address: SocketAddr,
    /// Where the allocator runs, if not with everything else.
    office: Option<Office>,
    relays: BTreeMap<String, Node>,
}

/// A thread for the allocator alone.
struct Office(Option<Runtime>);

impl Drop for Office {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Node {
    relay: Option<Relay>,
    config: holdfast_relay::Config,
}

impl Net {
    /// An allocator and relays `r1`, `r2` …, each with its lease.
    pub async fn start(relays: usize) -> Self {
        Self::start_with(relays, test_limits()).await
    }

    /// The same, with other limits than [`test_limits`].
    pub async fn start_with(relays: usize, limits: Limits) -> Self {
        Self::start_as(relays, |config| config.limits = limits.clone()).await
    }

    /// The same, each relay with its configuration changed.
    pub async fn start_as(relays: usize, change: impl Fn(&mut holdfast_relay::Config)) -> Self {
        let (pki, dir) = (Pki::new(), tempfile::tempdir().expect("a temporary folder"));
        let mut net = Self {
            pki,
            dir,
            allocator: None,
            office: None,
            allocator_address: LOOPBACK,
            relays: BTreeMap::new(),
        };
        net.start_allocator().await;
        for number in 1..=relays {
            let name = format!("r{number}");
            let mut config = net.relay_config(&name, test_limits());
            change(&mut config);
            net.add(&name, config).await;
        }
        net
    }

    /// Adds a relay and waits for its lease.
    pub async fn add_relay(&mut self, name: &str, limits: Limits) {
        let config = self.relay_config(name, limits);
        self.add(name, config).await;
    }

    async fn add(&mut self, name: &str, config: holdfast_relay::Config) {
        self.relays.insert(
            name.to_owned(),
            Node {
                relay: None,
                config,
            },
        );
        self.start_relay(name).await;
    }

    /// What a relay is started with.
    pub fn relay_config(&self, name: &str, limits: Limits) -> holdfast_relay::Config {
        holdfast_relay::Config {
            listen: LOOPBACK,
            advertise: Vec::new(),
            admin: Some(LOOPBACK),
            data: self.dir.path().join(name),
            tickets: Some(self.dir.path().join("tickets")),
            allocators: vec![self.allocator_address],
            capacity: 1,
            threads: None,
            credentials: self.pki.relay(name),
            limits,
            sessions: Default::default(),
            handshakes: Default::default(),
            store: Default::default(),
        }
    }

    /// From now on the allocator runs on a thread of its own: beside thousands of devices on one runtime
    /// it would wait for all of them at every turn.
    pub async fn give_allocator_a_thread(&mut self) {
        self.stop_allocator().await;
        let mut builder = runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        self.office = Some(Office(Some(runtime.expect("a thread"))));
        self.start_allocator().await;
    }

    /// Starts the allocator, where it was before.
    pub async fn start_allocator(&mut self) {
        let binding = Allocator::bind(self.allocator_config());
        let allocator = match self.office.as_ref().and_then(|office| office.0.as_ref()) {
            Some(runtime) => runtime.spawn(binding).await.expect("it ends"),
            None => binding.await,
        };
        let allocator = allocator.expect("an allocator");
        self.allocator_address = allocator.address();
        self.allocator = Some(allocator);
    }

    /// What the allocator is started with.
    pub fn allocator_config(&self) -> holdfast_allocator::Config {
        holdfast_allocator::Config {
            listen: self.allocator_address,
            credentials: self.pki.allocator(),
            data: self.dir.path().join("allocator"),
            lease: LEASE,
            retry_after: Duration::from_millis(100),
            // Tests of reconnecting ask as often as they can.
            requests_per_second: 0,
            requests_burst: 0,
            handshakes: Default::default(),
        }
    }

    /// Stops the allocator.
    pub async fn stop_allocator(&mut self) {
        self.allocator
            .take()
            .expect("an allocator that runs")
            .shutdown()
            .await;
    }

    /// Where the allocator is.
    pub fn allocator_address(&self) -> SocketAddr {
        self.allocator_address
    }

    /// Starts a relay, at the address it had before, and waits until the allocator knows.
    pub async fn start_relay(&mut self, name: &str) {
        let node = self.relays.get_mut(name).expect("a relay of this name");
        let relay = Relay::bind(node.config.clone()).await.expect("a relay");
        node.config.listen = relay.address();
        node.relay = Some(relay);
        if self.allocator.is_some() {
            self.leased(name).await;
        }
    }

    /// Waits until the allocator takes a relay for live.
    pub async fn leased(&self, name: &str) {
        let allocator = self.allocator.as_ref().expect("an allocator that runs");
        let live = || {
            let live = holdfast_allocator::Standing::Live;
            allocator
                .relays()
                .iter()
                .any(|r| r.relay.name.as_str() == name && r.standing == live)
        };
        eventually("a lease", async || live()).await;
    }

    /// Stops a relay in order.
    pub async fn stop_relay(&mut self, name: &str) {
        let node = self.relays.get_mut(name).expect("a relay of this name");
        let relay = node.relay.take().expect("a relay that runs");
        relay.shutdown().await.expect("an orderly stop");
    }

    /// Where a relay listens.
    pub fn relay_address(&self, name: &str) -> SocketAddr {
        self.relays[name].config.listen
    }

    /// Where a relay's metrics are.
    pub fn admin_address(&self, name: &str) -> SocketAddr {
        let relay = self.relays[name].relay.as_ref().expect("a relay that runs");
        relay.admin_address().expect("an admin port")
    }

    /// The relay where an account is at home, and another one.
    pub async fn home_and_other(&self, account: &str) -> (String, String) {
        let home = self.home(account).await;
        let other = self
            .relays
            .keys()
            .find(|name| **name != home)
            .expect("two relays")
            .clone();
        (home, other)
    }

    /// The relay where an account is at home.
    pub async fn home(&self, account: &str) -> String {
        let files = self.pki.sender(&format!("{account}/asker"));
        match locate(&files, self.allocator_address).await {
            Allocation::Relays {
                home: Some(home), ..
            } => home.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// What a device or service is started with.
    pub fn config(&self, name: &str) -> Config {
        client_config(self.pki.sender(name), self.allocator_address)
    }

    /// The same, with its memory on the disk.
    pub fn config_on_disk(&self, name: &str) -> Config {
        Config {
            directory: Some(self.directory(name)),
            ..self.config(name)
        }
    }

    /// Where a device's memory lies.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.dir.path().join("devices").join(name)
    }

    /// A device or service that is attached wherever it likes.
    pub async fn client(&self, name: &str) -> Client {
        attached(self.config(name)).await
    }

    /// A device or service that knows of one relay only. The guide goes with it.
    pub async fn client_at(&self, name: &str, relay: &str) -> (Client, Guide) {
        let guide = Guide::start(&self.pki, &[(relay, self.relay_address(relay))]).await;
        let config = Config {
            allocators: vec![guide.address()],
            ..self.config(name)
        };
        (attached(config).await, guide)
    }

    /// Stops everything in order.
    pub async fn stop(mut self) {
        let names: Vec<String> = self.relays.keys().cloned().collect();
        for name in names {
            if self.relays[&name].relay.is_some() {
                self.stop_relay(&name).await;
            }
        }
        if self.allocator.is_some() {
            self.stop_allocator().await;
        }
    }
}

/// Pings that notice a lost relay within a second.
pub fn quick_pings() -> PingSchedule {
    PingSchedule {
        interval: Duration::from_millis(500),
        longest: Duration::from_millis(500),
        timeout: Duration::from_millis(200),
        attempts: 3,
    }
}

/// What a device or service is started with that notices soon what goes wrong, and tries again soon.
pub fn client_config(credentials: CredentialFiles, allocator: SocketAddr) -> Config {
    Config {
        pings: quick_pings(),
        retry: Retry {
            base: Duration::from_millis(20),
            cap: Duration::from_millis(200),
            seed: Some(1),
        },
        dial_timeout: Duration::from_secs(1),
        ..Config::new(credentials, vec![allocator])
    }
}

/// Limits that drop a silent device soon, and do not wait for devices when a relay stops.
pub fn test_limits() -> Limits {
    Limits {
        ping_grace: Duration::from_millis(500),
        drain: Duration::from_millis(500),
        // How full the machine's own disk is, is nobody's concern.
        max_disk_fill: 1.0,
        ..Limits::default()
    }
}

/// A client that has a session.
pub async fn attached(config: Config) -> Client {
    let client = Client::connect(config).await.expect("a client");
    within("a session", client.attached())
        .await
        .expect("a session");
    client
}

/// Asks an allocator for the asker's own account.
pub async fn locate(files: &holdfast::CredentialFiles, allocator: SocketAddr) -> Allocation {
    let credentials = Credentials::load(files).expect("credentials");
    let socket = endpoint::bind_client(LOOPBACK).expect("a socket");
    let tls = credentials
        .client(version::ALLOCATION)
        .expect("a configuration");
    let connecting =
        endpoint::dial(&socket, tls, allocator, credentials.trust_domain()).expect("dialled");
    let connection = within("the allocator", connecting)
        .await
        .expect("a connection");
    let asked = exchange::ask(&connection, &Locate { account: None });
    within("an answer", asked).await.expect("an answer")
}

/// What comes of a future, if it comes at all.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Waits for something that can only be asked for again and again.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while !holds().await {
            pace.tick().await;
        }
    };
    within(what, asking).await;
}
