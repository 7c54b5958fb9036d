//! The allocator as one value: bind it, shut it down. It owns every task.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_durable::{Db, Options};
use holdfast_protocol::{close::CloseCode, id::Identity, version};
use holdfast_transport::{
    credentials::CredentialError,
    ending::error_code,
    endpoint::Requests,
    gate::{Gate, GateFigures},
    keys::{EndpointKeys, KeysError},
    line::{Admitted, Line},
    live::LiveCredentials,
    port::{self, Port},
};
use parking_lot::Mutex;
use quinn::Endpoint;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tracing::Instrument;

use crate::{
    config::{Config, ConfigError},
    connection::{self, Desk, Limits},
    fleet::RelayReport,
    pins::PinError,
    registry::Registry,
    turnstile::Turnstile,
};

/// How often it is looked whose lease has run out. Only the log waits for it.
const EXPIRY_CHECK: Duration = Duration::from_secs(1);

/// In the folder of the pins: what a restarted allocator is recognised by.
const KEYS: &str = "endpoint.keys";

/// Why an allocator cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The keys of former runs cannot be used.
    #[error("data: {0}")]
    Keys(#[from] KeysError),
    /// The certificate is somebody else's.
    #[error(
        "credentials.certificate is for {0}; an allocator needs one from `holdfast-certs issue \
         allocator NAME`"
    )]
    WrongKind(Identity),
    /// The address cannot be listened on.
    #[error("listen = \"{address}\": {why}; choose an address of this machine and a free port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// In the system's words.
        why: String,
    },
    /// The pins cannot be opened.
    #[error("data: {0}")]
    Pins(#[from] PinError),
}

/// A running allocator. Dropped without [`shutdown`](Self::shutdown) it stops all the same, but
/// tells nobody.
pub struct Allocator {
    address: SocketAddr,
    port: Port,
    store: Db,
    desk: Arc<Desk>,
    /// The one task that accepts; it owns those of the connections.
    acceptor: JoinSet<()>,
    /// The one task that looks at the files of the credentials.
    renewal: JoinSet<()>,
}

impl Allocator {
    /// Opens the pins, and listens.
    ///
    /// # Errors
    /// [`BindError`] names the key of the configuration that is to blame.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_with(config, Limits::default()).await
    }

    async fn bind_with(config: Config, limits: Limits) -> Result<Self, BindError> {
        config.check()?;
        let credentials = credentials(&config)?;
        let keys = EndpointKeys::load_or_create(&config.data.join(KEYS))?;
        let (store, registry) = open(&config).await?;
        let tls = credentials.server();
        let port = port::bind(config.listen, tls, Requests::Exchanges, &keys)
            .and_then(|port| Ok((port.endpoint().local_addr()?, port)));
        let (address, port) = port.map_err(|error| BindError::Listen {
            address: config.listen,
            why: error.to_string(),
        })?;
        let desk = Arc::new(Desk {
            registry,
            credentials: credentials.clone(),
            room: Semaphore::new(limits.connections),
            limits,
            gate: Arc::new(Gate::new(config.handshakes.clone())),
            turnstile: Mutex::new(Turnstile::new(config.requests())),
            started: Instant::now(),
        });
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(port.endpoint().clone(), desk.clone()));
        let mut renewal = JoinSet::new();
        let configure = move |tls| port::server_config(tls, Requests::Exchanges, &keys);
        renewal.spawn(
            credentials
                .clone()
                .keep_current(port.endpoint().clone(), configure),
        );
        tracing::info!(%address, identity = %credentials.identity(), "listening");
        Ok(Self {
            address,
            port,
            store,
            desk,
            acceptor,
            renewal,
        })
    }

    /// Reads the credentials that [`bind`](Self::bind) would, and starts nothing.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), but for what only shows when the socket and the store are opened.
    pub fn check(config: &Config) -> Result<(), BindError> {
        config.check()?;
        credentials(config)?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every relay it knows, by name, as they stand now.
    pub fn relays(&self) -> Vec<RelayReport> {
        self.desk.registry.report(self.desk.now())
    }

    /// Reads certificate, key, authority and list of revoked certificates again, as is done by itself
    /// when their files change. What cannot be used changes nothing; the log says why.
    pub fn reload(&self) {
        self.desk.credentials.reload();
    }

    /// Waits until it accepts nobody any more, because its socket failed: then it is of no use.
    pub async fn failed(&mut self) {
        self.acceptor.join_next().await;
    }

    /// Takes nobody in any more, says goodbye to all, and closes the store. No task is left.
    pub async fn shutdown(mut self) {
        let goodbye = error_code(CloseCode::Goodbye);
        self.port
            .endpoint()
            .close(goodbye, b"the allocator is stopping");
        while self.acceptor.join_next().await.is_some() {}
        self.renewal.shutdown().await;
        self.port.release().await;
        match spawn_blocking(move || self.store.close()).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!(%error, "the store was not closed cleanly"),
            Err(error) => tracing::error!(%error, "the store was not closed"),
        }
    }
}

fn credentials(config: &Config) -> Result<Arc<LiveCredentials>, BindError> {
    let credentials =
        LiveCredentials::load(config.credentials.clone(), &[version::ALLOCATION], None)?;
    match credentials.identity() {
        Identity::Allocator(_) => Ok(credentials),
        other => Err(BindError::WrongKind(other.clone())),
    }
}

async fn open(config: &Config) -> Result<(Db, Registry), PinError> {
    let Config {
        data,
        lease,
        retry_after,
        ..
    } = config.clone();
    let open = spawn_blocking(move || {
        let store = Db::open(&data, Options::default())?;
        let registry = Registry::open(Arc::new(store.clone()), lease, retry_after)?;
        Ok((store, registry))
    });
    match open.await {
        Ok(opened) => opened,
        // It cannot be cancelled while somebody waits for it, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Accepts until the endpoint is closed, then sees every connection off.
async fn accept(endpoint: Endpoint, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    let mut expiry = interval(EXPIRY_CHECK);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turned_away = TurnedAway::default();
    let mut line = Line::new(desk.gate.clone());
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => line.receive(incoming, &endpoint, connections.len()),
                None => break,
            },
            admitted = line.next() => begin(admitted, &desk, &mut connections),
            Some(_) = connections.join_next() => {}
            _ = expiry.tick() => {
                desk.registry.expire(desk.now());
                turned_away.say(desk.gate.figures());
            }
        }
    }
    drop(line);
    while connections.join_next().await.is_some() {}
}

/// What was said of those who were sent away.
#[derive(Default)]
struct TurnedAway(GateFigures);

impl TurnedAway {
    /// Says how many more there are, however many they are in one line.
    fn say(&mut self, figures: GateFigures) {
        let before = std::mem::replace(&mut self.0, figures);
        let retried = figures.retried - before.retried;
        let ignored = figures.ignored - before.ignored;
        let refused = figures.refused - before.refused;
        if retried + ignored + refused > 0 {
            tracing::warn!(retried, ignored, refused, "handshakes were sent away");
        }
    }
}

/// Begins a connection.
fn begin(admitted: Admitted, desk: &Arc<Desk>, connections: &mut JoinSet<()>) {
    let Admitted { incoming, permit } = admitted;
    let peer = incoming.remote_address();
    let span = tracing::info_span!("connection", %peer, asker = tracing::field::Empty);
    connections.spawn(connection::serve(desk.clone(), incoming, permit).instrument(span));
}

#[cfg(test)]
mod tests;
