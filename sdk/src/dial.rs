//! One attempt at one address: a connection, proof of who answers there, and then a wire to a relay or
//! an answer from an allocator.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use holdfast_protocol::{
    allocation::{Allocation, Locate},
    close::{CloseCode, Violation},
    id::{Identity, TrustDomain},
    limits::{MAX_BULK_BODY, MAX_HEADER},
    version,
};
use holdfast_transport::{
    Ending,
    credentials::{CredentialError, Credentials, ResumingClient},
    ending::error_code,
    endpoint,
    exchange::{self, ExchangeError},
    identity::peer_identity,
    wire::{Wire, goodbye},
};
use quinn::{Connecting, Connection, Endpoint, ZeroRttAccepted, crypto::rustls::QuicClientConfig};
use tokio::{sync::Notify, time::timeout};

use crate::core::{Failure, Stop, advice};

/// How long the sockets may take to say goodbye to the other side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Any address and port, of either family.
const ANY_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const ANY_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// What came of an attempt.
pub(crate) enum Dialled {
    /// A relay takes a session over this.
    Relay(Box<Wire>),
    /// An allocator has answered.
    Allocator(Allocation),
    /// It failed.
    Nobody(Failure),
}

/// Makes connections.
pub(crate) struct Dialler {
    sockets: Sockets,
    to_relays: ResumingClient,
    to_allocators: Arc<QuicClientConfig>,
    trust_domain: TrustDomain,
    patience: Duration,
}

impl Dialler {
    /// With these credentials; an address that does not answer within `patience` has failed.
    pub(crate) fn new(
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<Self, CredentialError> {
        Ok(Self {
            sockets: Sockets::default(),
            to_relays: credentials.resuming_client(version::SESSION)?,
            to_allocators: credentials.client(version::ALLOCATION)?,
            trust_domain: credentials.trust_domain().clone(),
            patience,
        })
    }

    /// Dials a relay, says hello, and waits for what it answers, so that a connection that stands need
    /// not be left before. Dropping the future gives up.
    pub(crate) fn dial(
        &mut self,
        stop: &Stop,
        hello: Bytes,
    ) -> impl Future<Output = Dialled> + use<> {
        let who = format!("relay {} at {}", stop.relay, stop.address);
        let tls = self.to_relays.toward(&stop.relay);
        let attempt = self.attempt(who, tls, stop.address);
        let relay = Identity::Relay(stop.relay.clone());
        async move {
            match attempt.reach(&relay, hello).await {
                Ok(wire) => Dialled::Relay(Box::new(wire)),
                Err(failure) => Dialled::Nobody(failure),
            }
        }
    }

    /// Asks an allocator where to connect. Dropping the future gives up.
    pub(crate) fn ask(&mut self, allocator: SocketAddr) -> impl Future<Output = Dialled> + use<> {
        let who = format!("the allocator at {allocator}");
        let tls = Ok(self.to_allocators.clone());
        let attempt = self.attempt(who, tls, allocator);
        async move {
            match attempt.ask().await {
                Ok(allocation) => Dialled::Allocator(allocation),
                Err(failure) => Dialled::Nobody(failure),
            }
        }
    }

    /// Moves to new sockets, with every connection.
    pub(crate) fn rebind(&self) {
        let Sockets { v4, v6, failed } = &self.sockets;
        for (endpoint, any) in [(v4, ANY_V4), (v6, ANY_V6)] {
            let Some(endpoint) = endpoint else {
                continue;
            };
            if let Err(error) = endpoint::move_device(endpoint, any, failed.clone()) {
                // The old one goes on; if it is of no use, the pings find out.
                tracing::warn!(%error, "no new socket could be opened");
            }
        }
    }

    /// Waits until a packet cannot be sent. Cancel safe.
    pub(crate) async fn send_failed(&self) {
        self.sockets.failed.notified().await;
    }

    /// Gives up the sockets, after a word to those on the other side.
    pub(crate) async fn close(self) {
        let Sockets { v4, v6, .. } = self.sockets;
        for endpoint in [v4, v6].into_iter().flatten() {
            endpoint.close(error_code(CloseCode::Goodbye), b"");
            // Past the time, the other side finds out by itself.
            let _ = timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
        }
    }

    fn attempt(&mut self, who: String, tls: Tls, address: SocketAddr) -> Attempt {
        Attempt {
            socket: self.sockets.toward(address).cloned(),
            who,
            tls,
            address,
            trust_domain: self.trust_domain.clone(),
            patience: self.patience,
        }
    }
}

type Tls = Result<Arc<QuicClientConfig>, CredentialError>;

/// One attempt at one address.
struct Attempt {
    who: String,
    socket: io::Result<Endpoint>,
    tls: Tls,
    address: SocketAddr,
    trust_domain: TrustDomain,
    patience: Duration,
}

impl Attempt {
    /// Says hello as soon as there is somebody to say it to: with the first packet, if there is a
    /// session to resume.
    async fn reach(self, relay: &Identity, hello: Bytes) -> Result<Wire, Failure> {
        let reached = match self.begin()?.into_0rtt() {
            Ok((connection, accepted)) => {
                timeout(self.patience, self.resume(connection, accepted, hello)).await
            }
            Err(connecting) => {
                let connection = self.complete(connecting).await?;
                self.expect(&connection, |identity| identity == relay)?;
                timeout(self.patience, self.open(connection, hello)).await
            }
        };
        reached.map_err(|_| self.no_answer())?
    }

    /// Greets before the relay has answered, and again if it would not hear that. The session that is
    /// resumed may have been one with a relay that shares its tickets with this one, so the name that
    /// was proved then may be another.
    async fn resume(
        &self,
        connection: Connection,
        accepted: ZeroRttAccepted,
        hello: Bytes,
    ) -> Result<Wire, Failure> {
        let mut early = self.greet(connection.clone(), hello.clone()).await?;
        let accepted = accepted.await;
        if let Some(reason) = connection.close_reason() {
            return Err(handshake_failure(&self.who, reason));
        }
        self.expect(&connection, |identity| {
            matches!(identity, Identity::Relay(_))
        })?;
        if !accepted {
            return self.open(connection, hello).await;
        }
        self.hear(&mut early).await?;
        Ok(early)
    }

    /// Greets, and waits for the answer.
    async fn open(&self, connection: Connection, hello: Bytes) -> Result<Wire, Failure> {
        let mut wire = self.greet(connection, hello).await?;
        self.hear(&mut wire).await?;
        Ok(wire)
    }

    async fn hear(&self, wire: &mut Wire) -> Result<(), Failure> {
        let heard = wire.listen().await;
        heard.map_err(|ending| Failure::from_ending(&self.who, &ending))
    }

    async fn greet(&self, connection: Connection, hello: Bytes) -> Result<Wire, Failure> {
        let greeted = async {
            let mut wire = Wire::open(connection, MAX_HEADER + MAX_BULK_BODY).await?;
            wire.control(hello);
            wire.flush().await?;
            Ok(wire)
        };
        greeted
            .await
            .map_err(|ending: Ending| Failure::from_ending(&self.who, &ending))
    }

    async fn ask(self) -> Result<Allocation, Failure> {
        let connection = self.complete(self.begin()?).await?;
        self.expect(&connection, |identity| {
            matches!(identity, Identity::Allocator(_))
        })?;
        let question = Locate { account: None };
        let asked = exchange::ask::<_, Allocation>(&connection, &question);
        let answer = timeout(self.patience, asked).await;
        // A stream that breaks off says less than the connection it broke off with.
        let reason = connection.close_reason();
        close(&connection, &goodbye());
        let who = self.who;
        match answer {
            Ok(Ok(allocation)) => Ok(allocation),
            Ok(Err(ExchangeError::Ended(ending))) => {
                let ending = reason.map_or(ending, Ending::from);
                Err(Failure::from_ending(&who, &ending))
            }
            Ok(Err(error)) => Err(Failure::Unreachable(format!("{who}: {error}"))),
            Err(_) => Err(Failure::Unreachable(format!("{who}: no answer in time"))),
        }
    }

    fn begin(&self) -> Result<Connecting, Failure> {
        let who = &self.who;
        let socket = self.socket.as_ref().map_err(|error| {
            Failure::Unreachable(format!("{who}: no socket could be opened: {error}"))
        })?;
        let tls = self.tls.as_ref();
        let tls = tls.map_err(|error| Failure::Unreachable(format!("{who}: {error}")))?;
        endpoint::dial(socket, tls.clone(), self.address, &self.trust_domain)
            .map_err(|ending| Failure::from_ending(who, &ending))
    }

    async fn complete(&self, connecting: Connecting) -> Result<Connection, Failure> {
        match timeout(self.patience, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(handshake_failure(&self.who, error)),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::Unreachable(format!("{}: no answer in time", self.who))
    }

    fn expect(
        &self,
        connection: &Connection,
        right: impl Fn(&Identity) -> bool,
    ) -> Result<(), Failure> {
        let violation = match peer_identity(connection, &self.trust_domain) {
            Ok(identity) if right(&identity) => return Ok(()),
            Ok(identity) => Violation::new(CloseCode::WrongKind, format!("this is {identity}")),
            Err(violation) => violation,
        };
        close(connection, &violation);
        Err(Failure::Untrusted(format!(
            "{}: {violation}; its operator has to see to its certificate",
            self.who
        )))
    }
}

/// What the failure of a handshake means: if we sent the alert, it was we who did not trust.
fn handshake_failure(who: &str, error: quinn::ConnectionError) -> Failure {
    let ours = matches!(error, quinn::ConnectionError::TransportError(_));
    match Ending::from(error) {
        ending @ Ending::Handshake { .. } if ours => {
            Failure::Untrusted(format!("{who}: {ending}; {}", advice(&ending)))
        }
        ending => Failure::from_ending(&who, &ending),
    }
}

fn close(connection: &Connection, violation: &Violation) {
    connection.close(error_code(violation.code), violation.what.as_bytes());
}

/// One socket for each family of addresses, bound when first needed: not every device has both.
#[derive(Debug, Default)]
struct Sockets {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
    /// Rings when a packet cannot be sent.
    failed: Arc<Notify>,
}

impl Sockets {
    fn toward(&mut self, address: SocketAddr) -> io::Result<&Endpoint> {
        let (socket, any) = match address {
            SocketAddr::V4(_) => (&mut self.v4, ANY_V4),
            SocketAddr::V6(_) => (&mut self.v6, ANY_V6),
        };
        match socket {
            Some(endpoint) => Ok(endpoint),
            None => Ok(socket.insert(endpoint::bind_device(any, self.failed.clone())?)),
        }
    }
}
