//! One connection: from its handshake to a session or a link.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{Identity, Name, Sender},
    server::{Server, ServerConfig},
    version,
};
use holdfast_transport::{
    Ending,
    ending::error_code,
    identity::peer_identity,
    live::{Admission, LiveCredentials},
    port,
    wire::Wire,
};
use quinn::{Connecting, Connection, ConnectionError, crypto::rustls::HandshakeData};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::Instrument;

use crate::{
    clock::Clock,
    core::{
        Manners,
        end::Tide,
        link::{MAX_BULK_STREAM, home::Home},
        router::Router,
        session::Session,
    },
    metrics::{Metrics, label},
    pump::Pump,
};

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Context {
    /// Whose certificates are taken, and which were revoked.
    pub(crate) credentials: Arc<LiveCredentials>,
    /// How long a handshake may take.
    pub(crate) handshake_time: Duration,
    /// What is asked of each session.
    pub(crate) manners: Arc<Manners>,
    /// What each session is told.
    pub(crate) server: ServerConfig,
    /// Where requests go.
    pub(crate) router: Router,
    /// The clocks.
    pub(crate) clock: Clock,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the relay goes on.
    pub(crate) tide: watch::Receiver<Tide>,
}

impl Context {
    /// Serves whoever dials, from the answer to its first packet to the end. `handshake` is let go when
    /// the handshake is over.
    pub(crate) async fn serve(
        self,
        remote: SocketAddr,
        accepted: Result<Connecting, ConnectionError>,
        handshake: OwnedSemaphorePermit,
    ) {
        let span = tracing::info_span!("connection", %remote, who = tracing::field::Empty);
        async {
            let shaken = self.shake_hands(accepted).await;
            drop(handshake);
            match shaken {
                Ok((connection, identity, _admission)) => {
                    tracing::Span::current().record("who", tracing::field::display(&identity));
                    self.serve_identity(connection, identity).await;
                }
                Err(ending) => {
                    self.metrics.handshake_failed(label(&ending));
                    tracing::info!(%ending, "no session");
                }
            }
        }
        .instrument(span)
        .await;
    }

    /// Completes the handshake and reads who it is; tells them, if it is nobody we serve.
    async fn shake_hands(
        &self,
        accepted: Result<Connecting, ConnectionError>,
    ) -> Result<(Connection, Identity, Admission), Ending> {
        let connection = tokio::time::timeout(self.handshake_time, accepted?)
            .await
            .map_err(|_| {
                Violation::new(CloseCode::HelloTimeout, "the handshake took too long")
            })??;
        let admitted = peer_identity(&connection, self.credentials.trust_domain())
            .and_then(|identity| check_kind(&connection, identity))
            .and_then(|identity| Ok((identity, self.credentials.admit(&connection)?)));
        match admitted {
            Ok((identity, admission)) => {
                port::widen(&connection);
                Ok((connection, identity, admission))
            }
            Err(violation) => {
                connection.close(error_code(violation.code), violation.what.as_bytes());
                Err(violation.into())
            }
        }
    }

    async fn serve_identity(self, connection: Connection, identity: Identity) {
        let metrics = self.metrics.clone();
        let (gauge, ending) = match sender(identity) {
            Ok(sender) => (&metrics.sessions, {
                metrics.sessions.inc();
                self.serve_session(connection, sender).await
            }),
            Err(relay) => (&metrics.links, {
                metrics.links.inc();
                self.serve_link(connection, relay).await
            }),
        };
        gauge.dec();
        metrics.session_ended(&ending);
        tracing::info!(%ending, "ended");
    }

    async fn serve_session(self, connection: Connection, sender: Sender) -> Ending {
        let limit = Server::new(self.server.clone(), self.clock.time()).max_bulk_stream();
        // Until the control stream comes there is nothing to pump; a device that never opens one
        // is dropped like one that never says hello.
        let accepted = tokio::time::timeout(
            holdfast_protocol::limits::HELLO_TIMEOUT,
            Wire::accept(connection.clone(), limit),
        );
        let wire = match accepted.await {
            Ok(Ok(wire)) => wire.with_pace(self.manners.pace()),
            Ok(Err(ending)) => return ending,
            Err(_) => {
                let what = "no control stream was opened";
                let violation = Violation::new(CloseCode::HelloTimeout, what);
                connection.close(error_code(violation.code), what.as_bytes());
                return violation.into();
            }
        };
        let session = Session::new(
            self.router,
            self.server,
            sender,
            &self.manners,
            self.clock.now(),
        );
        Pump::new(wire, session, self.clock)
            .with_tide(self.tide)
            .run()
            .await
    }

    async fn serve_link(self, connection: Connection, relay: Name) -> Ending {
        match Wire::accept(connection, MAX_BULK_STREAM).await {
            Ok(wire) => {
                Pump::new(wire, Home::new(self.router, relay), self.clock)
                    .run()
                    .await
            }
            Err(ending) => ending,
        }
    }
}

/// Devices and services may open sessions, relays links.
fn check_kind(connection: &Connection, identity: Identity) -> Result<Identity, Violation> {
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    let fits = match identity {
        Identity::Device(_) | Identity::Service(_) => protocol == version::SESSION,
        Identity::Relay(_) => protocol == version::PEER,
        Identity::Allocator(_) => false,
    };
    if fits {
        return Ok(identity);
    }
    let protocol = String::from_utf8_lossy(&protocol);
    let what = format!("{identity} may not speak {protocol} with a relay");
    Err(Violation::new(CloseCode::WrongKind, what))
}

/// Who opens a session; else the name of the relay that opens a link.
fn sender(identity: Identity) -> Result<Sender, Name> {
    match identity {
        Identity::Device(device) => Ok(Sender::Device(device)),
        Identity::Service(name) => Ok(Sender::Service(name)),
        Identity::Relay(name) | Identity::Allocator(name) => Err(name),
    }
}
