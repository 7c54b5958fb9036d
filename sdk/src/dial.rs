//! One attempt at one address: a connection, proof of who answers there, and then a session with a
//! relay or an answer from an allocator.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use holdfast_protocol::{
    allocation::{Allocation, Locate},
    client::ClientConfig,
    close::{CloseCode, Violation},
    id::{Identity, TrustDomain},
    limits::{MAX_BULK_BODY, MAX_HEADER},
    message::Welcome,
    version,
};
use holdfast_transport::{
    Ending,
    credentials::{CredentialError, Credentials},
    ending::error_code,
    endpoint,
    exchange::{self, ExchangeError},
    identity::peer_identity,
    wire::{Wire, goodbye},
};
use quinn::{Connection, Endpoint, crypto::rustls::QuicClientConfig};
use tokio::time::timeout;

use crate::{failure::Failure, itinerary::Stop, session::Session};

/// How long the sockets may take to say goodbye to the other side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes connections.
pub(crate) struct Dialler {
    sockets: Sockets,
    to_relays: Arc<QuicClientConfig>,
    to_allocators: Arc<QuicClientConfig>,
    trust_domain: TrustDomain,
    patience: Duration,
    session: ClientConfig,
}

impl Dialler {
    /// With these credentials; an address that does not answer within `patience` has failed.
    pub(crate) fn new(
        credentials: &Credentials,
        patience: Duration,
        session: ClientConfig,
    ) -> Result<Self, CredentialError> {
        Ok(Self {
            sockets: Sockets::default(),
            to_relays: credentials.client(version::SESSION)?,
            to_allocators: credentials.client(version::ALLOCATION)?,
            trust_domain: credentials.trust_domain().clone(),
            patience,
            session,
        })
    }

    /// Opens a session with a relay.
    pub(crate) async fn attach(&mut self, stop: &Stop) -> Result<(Session, Welcome), Failure> {
        let who = format!("relay {} at {}", stop.relay, stop.address);
        let tls = self.to_relays.clone();
        let connection = self.connect(&who, tls, stop.address).await?;
        self.expect(&who, &connection, |identity| {
            *identity == Identity::Relay(stop.relay.clone())
        })?;
        let failure = |ending| Failure::from_ending(&who, &ending);
        let wire = Wire::open(connection, MAX_HEADER + MAX_BULK_BODY);
        let wire = wire.await.map_err(failure)?;
        let greeted = Session::greet(wire, self.session.clone());
        greeted.await.map_err(failure)
    }

    /// Asks an allocator where to connect.
    pub(crate) async fn ask(&mut self, allocator: SocketAddr) -> Result<Allocation, Failure> {
        let who = format!("the allocator at {allocator}");
        let tls = self.to_allocators.clone();
        let connection = self.connect(&who, tls, allocator).await?;
        self.expect(&who, &connection, |identity| {
            matches!(identity, Identity::Allocator(_))
        })?;
        let question = Locate { account: None };
        let asked = exchange::ask::<_, Allocation>(&connection, &question);
        let answer = timeout(self.patience, asked).await;
        // A stream that breaks off says less than the connection it broke off with.
        let reason = connection.close_reason();
        close(&connection, &goodbye());
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

    /// Gives up the sockets, after a word to those on the other side.
    pub(crate) async fn close(self) {
        let Sockets { v4, v6 } = self.sockets;
        for endpoint in [v4, v6].into_iter().flatten() {
            endpoint.close(error_code(CloseCode::Goodbye), b"");
            // Past the time, the other side finds out by itself.
            let _ = timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
        }
    }

    async fn connect(
        &mut self,
        who: &str,
        tls: Arc<QuicClientConfig>,
        address: SocketAddr,
    ) -> Result<Connection, Failure> {
        let socket = self.sockets.toward(address).map_err(|error| {
            Failure::Unreachable(format!("{who}: no socket could be opened: {error}"))
        })?;
        let connecting = endpoint::dial(socket, tls, address, &self.trust_domain)
            .map_err(|ending| Failure::from_ending(&who, &ending))?;
        match timeout(self.patience, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::from_handshake(&who, error)),
            Err(_) => Err(Failure::Unreachable(format!("{who}: no answer in time"))),
        }
    }

    fn expect(
        &self,
        who: &str,
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
            "{who}: {violation}; its operator has to see to its certificate"
        )))
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
}

impl Sockets {
    fn toward(&mut self, address: SocketAddr) -> io::Result<&Endpoint> {
        let (socket, any) = match address {
            SocketAddr::V4(_) => (&mut self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&mut self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        match socket {
            Some(endpoint) => Ok(endpoint),
            None => Ok(socket.insert(endpoint::bind_client(any)?)),
        }
    }
}
