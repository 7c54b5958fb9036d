//! One attempt at one address: a connection, proof of who answers there, and then a session with a
//! relay or an answer from an allocator.

use std::{
    fmt, io,
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

use crate::{itinerary::Stop, session::Session};

/// How long the sockets may take to say goodbye to the other side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody answered, or not in a way that says that another attempt would fail, too.
    Unreachable(String),
    /// Whoever answered is not whom we look for.
    Untrusted(String),
    /// We were turned away for a reason that only a person can lift.
    Refused(String),
    /// A newer session of this device has taken this one's place.
    Superseded,
}

impl Failure {
    /// What the end of a connection with `who` means.
    pub(crate) fn from_ending(who: &dyn fmt::Display, ending: &Ending) -> Self {
        match ending {
            Ending::Closed {
                code: CloseCode::Superseded,
                ..
            } => Self::Superseded,
            ending if is_refusal(ending) => {
                Self::Refused(format!("{who}: {ending}; {}", advice(ending)))
            }
            ending => Self::Unreachable(format!("{who}: {ending}")),
        }
    }

    /// What the failure of a handshake means: if we sent the alert, it was we who did not trust.
    fn from_handshake(who: &dyn fmt::Display, error: quinn::ConnectionError) -> Self {
        let ours = matches!(error, quinn::ConnectionError::TransportError(_));
        match Ending::from(error) {
            ending @ Ending::Handshake { .. } if ours => {
                Self::Untrusted(format!("{who}: {ending}; {}", advice(&ending)))
            }
            ending => Self::from_ending(who, &ending),
        }
    }
}

/// Some endings blame us for silence that a bad network explains as well.
fn is_refusal(ending: &Ending) -> bool {
    let silence = [CloseCode::HelloTimeout, CloseCode::Unresponsive];
    match ending {
        Ending::Closed { code, .. } if silence.contains(code) => false,
        ending => ending.is_our_fault(),
    }
}

/// What a person can do about a refusal.
fn advice(ending: &Ending) -> &'static str {
    const EXPIRED: u8 = 45;
    const REVOKED: u8 = 44;
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    match ending {
        Ending::Handshake { alert: EXPIRED, .. } => {
            "a certificate has run out: renew this device's or the server's, or set the clock"
        }
        Ending::Handshake { alert: REVOKED, .. }
        | Ending::Closed {
            code: CloseCode::Revoked,
            ..
        } => "this certificate was revoked: have a new one issued",
        Ending::Handshake {
            alert: NO_APPLICATION_PROTOCOL,
            ..
        } => "the server speaks another version: update the app, or the server",
        Ending::Handshake { .. } => {
            "the two sides do not trust the same authority: see to the certificate and authority files"
        }
        Ending::Closed {
            code:
                CloseCode::IdentityMissing
                | CloseCode::IdentityAmbiguous
                | CloseCode::IdentityMalformed
                | CloseCode::ForeignTrustDomain
                | CloseCode::WrongKind,
            ..
        } => "use a device's or a service's certificate of the server's trust domain",
        _ => "the two sides understand the protocol differently: update the app, or the server",
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: CloseCode) -> Failure {
        let ending = Ending::Closed {
            code,
            reason: "why".to_owned(),
        };
        Failure::from_ending(&"relay r1", &ending)
    }

    #[test]
    fn a_refusal_says_who_why_and_what_to_do() {
        let Failure::Refused(text) = closed(CloseCode::Revoked) else {
            panic!("not a refusal");
        };
        for part in ["relay r1", "Revoked", "why", "have a new one issued"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_a_bad_network_explains_is_no_refusal() {
        use CloseCode::{HelloTimeout, Overloaded, PingTimeout, SlowReader, Unresponsive};
        for code in [
            HelloTimeout,
            Overloaded,
            PingTimeout,
            SlowReader,
            Unresponsive,
        ] {
            assert!(matches!(closed(code), Failure::Unreachable(_)), "{code}");
        }
        assert_eq!(closed(CloseCode::Superseded), Failure::Superseded);
    }
}
