//! The relay: binds, accepts, stops. It owns every task.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use holdfast_protocol::{
    close::CloseCode,
    id::{Identity, Name},
    message::RelayAddress,
    server::ServerConfig,
    version,
};
use holdfast_transport::{
    credentials::CredentialError,
    ending::error_code,
    endpoint::Requests,
    gate::Gate,
    keys::{EndpointKeys, KeysError},
    line::{Admitted, Line},
    live::{ClientTls, LiveCredentials},
    port::{self, Port},
};
use parking_lot::Mutex;
use quinn::Endpoint;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::field::display;

use crate::{
    admin::{Admin, Office},
    breath::Breath,
    clock::Clock,
    config::{Config, ConfigError},
    connection::{Arrival, Context},
    core::{
        comeback::Comeback,
        end::{Exodus, Tide},
        links::Links,
        router::Router,
        tenancy::Tenancy,
    },
    fill::{self, Disk, Reserve},
    lease::Keeper,
    metrics::Metrics,
    peers::Dialler,
    rounds,
    store::{Boot, StoreError, durable::DurableStore},
};

/// How long the allocator has to hear that the relay is stopping.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// How many handshakes are begun or sent away before those who are connected have their turn.
const BREATH: u32 = 1;

/// In the folder of the mail: what a restarted relay is recognised by.
pub(crate) const KEYS: &str = "endpoint.keys";

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The keys of former runs cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate is somebody else's.
    #[error("the certificate is {0}'s; a relay needs one that was issued to a relay")]
    NotARelay(Identity),
    /// The store cannot be used.
    #[error("the store in {}: {source}", path.display())]
    Store {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
}

impl BindError {
    /// Whether the store is damaged, so that `holdfast-relay recover` is a way out.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Store {
                source: StoreError::Open(error),
                ..
            } => error.is_damage(),
            _ => false,
        }
    }
}

/// A running relay.
pub struct Relay {
    name: Name,
    address: SocketAddr,
    port: Port,
    admin: Option<Admin>,
    store: DurableStore,
    credentials: Arc<LiveCredentials>,
    metrics: Arc<Metrics>,
    others: Arc<Mutex<Vec<RelayAddress>>>,
    clock: Clock,
    comeback: Comeback,
    drain: Duration,
    tide: watch::Sender<Tide>,
    draining: watch::Sender<bool>,
    given_up: watch::Receiver<bool>,
    accepting: JoinHandle<()>,
    dialling: JoinHandle<()>,
    background: JoinSet<()>,
}

impl Relay {
    /// Opens the store, binds the ports and begins to serve. A port 0 stands for any free one.
    ///
    /// # Errors
    /// [`BindError`] says what is missing or wrong.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        config.check()?;
        let protocols = [version::SESSION, version::PEER];
        let tickets = config.tickets();
        let credentials =
            LiveCredentials::load(config.credentials.clone(), &protocols, Some(&tickets))?;
        let name = match credentials.identity() {
            Identity::Relay(name) => name.clone(),
            other => return Err(BindError::NotARelay(other.clone())),
        };
        let keys = EndpointKeys::load_or_create(&config.data.join(KEYS))?;
        let port = port::bind(
            config.listen,
            credentials.server(),
            Requests::Control,
            &keys,
        )
        .map_err(cannot_bind(config.listen))?;
        let (store, boot) = open_store(&config).await?;
        let parts = Parts::new(&config, credentials, name, &port, (store, boot))?;
        parts.start(config, port, keys).await
    }

    /// The relay's name, as its certificate says.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where devices connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/health` and `/metrics` are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Reads certificate, key, authority and list of revoked certificates again, as is done by itself
    /// when their files change. What cannot be used changes nothing; the log says why.
    pub fn reload(&self) {
        self.credentials.reload();
    }

    /// Stops: tells the allocator and the devices, waits for them to go, writes what is held, and
    /// closes the store.
    ///
    /// # Errors
    /// When the store could not be closed in order; what was answered is on the disk nevertheless.
    pub async fn shutdown(mut self) -> Result<(), holdfast_durable::CloseError> {
        tracing::info!(relay = %self.name, sessions = self.metrics.sessions.get(), "stopping");
        self.draining.send_replace(true);
        // An allocator that cannot be reached learns it when the lease runs out.
        let _ = timeout(
            GIVE_UP_TIMEOUT,
            self.given_up.wait_for(|given_up| *given_up),
        )
        .await;
        self.tide.send_replace(Tide::Draining(self.exodus()));
        let _ = timeout(self.drain, self.sessions_gone()).await;
        self.tide.send_replace(Tide::Stopping);
        self.port
            .endpoint()
            .close(error_code(CloseCode::GoingAway), b"the relay is stopping");
        // Every connection ends now, and takes its device off the list, which writes what is held
        // for it. None is cut short.
        let _ = (&mut self.accepting).await;
        let _ = (&mut self.dialling).await;
        self.background.shutdown().await;
        if let Some(admin) = self.admin.take() {
            admin.shutdown().await;
        }
        let store = self.store.clone();
        let closing = tokio::task::spawn_blocking(move || store.close());
        self.port.release().await;
        let closed = closing.await;
        tracing::info!(relay = %self.name, "stopped");
        closed.unwrap_or(Ok(()))
    }

    fn exodus(&self) -> Exodus {
        let successors = self.others.lock().clone();
        let sessions = usize::try_from(self.metrics.sessions.get()).unwrap_or(0);
        let crowd = (sessions, self.comeback);
        Exodus::begin(self.clock.time(), self.drain, crowd, successors)
    }

    async fn sessions_gone(&self) {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while self.metrics.sessions.get() > 0 {
            poll.tick().await;
        }
    }
}

/// What the tasks of a relay are made from.
struct Parts {
    name: Name,
    boot: u64,
    clock: Clock,
    endpoint: Endpoint,
    address: SocketAddr,
    gate: Arc<Gate>,
    credentials: Arc<LiveCredentials>,
    allocation_tls: ClientTls,
    store: DurableStore,
    metrics: Arc<Metrics>,
    dialler: Dialler,
    links: Links,
    router: Router,
}

impl Parts {
    fn new(
        config: &Config,
        credentials: Arc<LiveCredentials>,
        name: Name,
        port: &Port,
        (store, boot): (DurableStore, Boot),
    ) -> Result<Self, BindError> {
        let endpoint = port.endpoint().clone();
        let address = endpoint.local_addr().map_err(cannot_bind(config.listen))?;
        let (clock, metrics) = (Clock::start(), Arc::new(Metrics::default()));
        let dialler = Dialler {
            endpoint: endpoint.clone(),
            tls: credentials.client(version::PEER)?,
            credentials: credentials.clone(),
            clock,
            metrics: metrics.clone(),
        };
        let links = Links::new(rand::random());
        let router = Router::new(
            (name.clone(), boot),
            config.rules(),
            Arc::new(store.clone()),
            metrics.clone(),
            links.clone(),
        );
        Ok(Self {
            name,
            boot: boot.number,
            clock,
            endpoint,
            address,
            gate: Arc::new(Gate::new(config.handshakes.clone())),
            allocation_tls: credentials.client(version::ALLOCATION)?,
            credentials,
            store,
            metrics,
            dialler,
            links,
            router,
        })
    }

    async fn start(
        self,
        config: Config,
        port: Port,
        keys: EndpointKeys,
    ) -> Result<Relay, BindError> {
        let (tide, tide_seen) = watch::channel(Tide::Running);
        let (draining, draining_seen) = watch::channel(false);
        let (given_up, given_up_seen) = watch::channel(false);
        let admin = match config.admin {
            Some(address) => Some(
                Admin::bind(address, self.office(tide_seen.clone()))
                    .await
                    .map_err(cannot_bind(address))?,
            ),
            None => None,
        };
        let keeper = self.keeper(&config, draining_seen, given_up);
        let others = keeper.others.clone();
        let context = Arc::new(self.context(&config, tide_seen.clone()));
        let (router, boot, address) = (self.router, self.boot, self.address);
        let mut background = JoinSet::new();
        background.spawn(fill::watch(
            router.clone(),
            self.metrics.clone(),
            Disk {
                data: config.data.clone(),
                store: Arc::new(self.store.clone()),
            },
            Reserve {
                max_fill: config.limits.max_disk_fill,
                bytes: config.limits.disk_reserve,
            },
        ));
        background.spawn(rounds::run(router, self.clock));
        background.spawn(keeper.run());
        background.spawn(
            self.credentials
                .clone()
                .keep_current(self.endpoint.clone(), move |tls| {
                    port::server_config(tls, Requests::Control, &keys)
                }),
        );
        let office = admin.as_ref().map(|admin| display(admin.address));
        tracing::info!(relay = %self.name, boot, %address, admin = office, "started");
        Ok(Relay {
            name: self.name,
            address,
            port,
            admin,
            store: self.store,
            credentials: self.credentials,
            metrics: self.metrics,
            others,
            clock: self.clock,
            comeback: context.comeback,
            drain: config.limits.drain,
            tide,
            draining,
            given_up: given_up_seen,
            accepting: tokio::spawn(accept(self.endpoint, self.gate, context)),
            dialling: tokio::spawn(self.dialler.run(self.links, tide_seen)),
            background,
        })
    }

    fn office(&self, tide: watch::Receiver<Tide>) -> Office {
        Office {
            relay: self.name.clone(),
            boot: self.boot,
            clock: self.clock,
            metrics: self.metrics.clone(),
            store: Arc::new(self.store.clone()),
            gate: self.gate.clone(),
            credentials: self.credentials.clone(),
            tide,
        }
    }

    fn keeper(
        &self,
        config: &Config,
        draining: watch::Receiver<bool>,
        given_up: watch::Sender<bool>,
    ) -> Keeper {
        Keeper {
            endpoint: self.endpoint.clone(),
            tls: self.allocation_tls.clone(),
            credentials: self.credentials.clone(),
            allocators: config.allocators.clone(),
            tenancy: Tenancy::new(self.boot, advertised(config, self.address), config.capacity),
            metrics: self.metrics.clone(),
            router: self.router.clone(),
            links: self.links.clone(),
            clock: self.clock,
            others: Arc::default(),
            draining,
            given_up,
        }
    }

    fn context(&self, config: &Config, tide: watch::Receiver<Tide>) -> Context {
        Context {
            credentials: self.credentials.clone(),
            handshake_time: self.gate.timeout(),
            manners: Arc::new(config.sessions.clone()),
            comeback: Comeback {
                per_second: config.handshakes.rate,
            },
            server: ServerConfig {
                relay: self.name.clone(),
                boot: self.boot,
                max_body: config.limits.max_body,
                ping_grace: config.limits.ping_grace,
            },
            router: self.router.clone(),
            clock: self.clock,
            metrics: self.metrics.clone(),
            tide,
        }
    }
}

fn cannot_bind(address: SocketAddr) -> impl FnOnce(io::Error) -> BindError {
    move |source| BindError::Bind { address, source }
}

/// Accepts connections for ever; their tasks end with it.
async fn accept(endpoint: Endpoint, gate: Arc<Gate>, context: Arc<Context>) {
    let (mut connections, mut breath) = (JoinSet::new(), Breath::of(BREATH));
    let mut line = Line::new(gate);
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => line.receive(incoming, &endpoint, connections.len()),
                None => break,
            },
            Admitted { incoming, permit } = line.next() => {
                // The key exchange and the signature are made here, one after the other, so that not
                // every task that could run is a handshake.
                let (remote, accepted) = (incoming.remote_address(), incoming.accept());
                let arrival = accepted.map(Arrival::of);
                connections.spawn(context.clone().serve(remote, arrival, permit));
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
        }
        breath.spend().await;
    }
    drop(line);
    while connections.join_next().await.is_some() {}
}

/// Opening reads the whole store, which is nothing to hold up other tasks for.
async fn open_store(config: &Config) -> Result<(DurableStore, Boot), BindError> {
    let (path, compaction) = (config.data.clone(), config.store.compaction());
    let opened = tokio::task::spawn_blocking(move || {
        let store = DurableStore::open(&path, compaction)?;
        let boot = store.begin_boot()?;
        Ok((store, boot))
    });
    let opened: Result<_, StoreError> = match opened.await {
        Ok(opened) => opened,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    opened.map_err(|source| BindError::Store {
        path: config.data.clone(),
        source,
    })
}

fn advertised(config: &Config, bound: SocketAddr) -> Vec<SocketAddr> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    vec![SocketAddr::new(config.listen.ip(), bound.port())]
}
