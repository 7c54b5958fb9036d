//! The allocator as one value: bind it, shut it down. It owns every task.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_protocol::{close::CloseCode, id::Identity, version};
use holdfast_transport::{
    credentials::{CredentialError, Credentials},
    ending::error_code,
    endpoint::{self, Port, Requests},
};
use quinn::{Endpoint, Incoming};
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
};

/// How often it is looked whose lease has run out. Only the log waits for it.
const EXPIRY_CHECK: Duration = Duration::from_secs(1);

/// Why an allocator cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
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
    desk: Arc<Desk>,
    /// The one task that accepts; it owns those of the connections.
    acceptor: JoinSet<()>,
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
        let tls = credentials.server(&[version::ALLOCATION])?;
        let registry = open(&config).await?;
        let port = endpoint::bind_server(config.listen, tls, Requests::Exchanges)
            .and_then(|port| Ok((port.endpoint().local_addr()?, port)));
        let (address, port) = port.map_err(|error| BindError::Listen {
            address: config.listen,
            why: error.to_string(),
        })?;
        let desk = Arc::new(Desk {
            registry,
            trust_domain: credentials.trust_domain().clone(),
            room: Semaphore::new(limits.connections),
            limits,
            started: Instant::now(),
        });
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(port.endpoint().clone(), desk.clone()));
        tracing::info!(%address, identity = %credentials.identity(), "listening");
        Ok(Self {
            address,
            port,
            desk,
            acceptor,
        })
    }

    /// Reads the credentials that [`bind`](Self::bind) would, and starts nothing.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), but for what only shows when the socket and the store are opened.
    pub fn check(config: &Config) -> Result<(), BindError> {
        config.check()?;
        credentials(config)?.server(&[version::ALLOCATION])?;
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
        self.port.release().await;
        let desk = self.desk.clone();
        match spawn_blocking(move || desk.registry.close()).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!(%error, "the store was not closed cleanly"),
            Err(error) => tracing::error!(%error, "the store was not closed"),
        }
    }
}

fn credentials(config: &Config) -> Result<Credentials, BindError> {
    let credentials = Credentials::load(&config.credentials)?;
    match credentials.identity() {
        Identity::Allocator(_) => Ok(credentials),
        other => Err(BindError::WrongKind(other.clone())),
    }
}

async fn open(config: &Config) -> Result<Registry, BindError> {
    let Config {
        data,
        lease,
        retry_after,
        ..
    } = config.clone();
    let open = spawn_blocking(move || Registry::open(&data, lease, retry_after));
    match open.await {
        Ok(registry) => Ok(registry?),
        // It cannot be cancelled while somebody waits for it, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Accepts until the endpoint is closed, then sees every connection off.
async fn accept(endpoint: Endpoint, desk: Arc<Desk>) {
    let handshakes = Arc::new(Semaphore::new(desk.limits.handshakes));
    let mut connections = JoinSet::new();
    let mut expiry = interval(EXPIRY_CHECK);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => receive(incoming, &handshakes, &desk, &mut connections),
                None => break,
            },
            Some(_) = connections.join_next() => {}
            _ = expiry.tick() => desk.registry.expire(desk.now()),
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Begins a connection, unless too many are beginning.
fn receive(
    incoming: Incoming,
    handshakes: &Arc<Semaphore>,
    desk: &Arc<Desk>,
    connections: &mut JoinSet<()>,
) {
    let Ok(handshake) = handshakes.clone().try_acquire_owned() else {
        return incoming.refuse();
    };
    let running = desk.limits.handshakes - handshakes.available_permits();
    let may_retry = incoming.may_retry() && !incoming.remote_address_validated();
    if running > desk.limits.unproven_handshakes && may_retry {
        // Fails only if it may not be retried, which was asked.
        let _ = incoming.retry();
        return;
    }
    let peer = incoming.remote_address();
    let span = tracing::info_span!("connection", %peer, asker = tracing::field::Empty);
    connections.spawn(connection::serve(desk.clone(), incoming, handshake).instrument(span));
}

#[cfg(test)]
mod tests;
