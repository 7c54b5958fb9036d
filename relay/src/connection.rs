//! One connection: from its handshake to a session or a link.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{Identity, Name, Sender},
    limits::HELLO_TIMEOUT,
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
use quinn::{
    Connecting, Connection, ConnectionError, ZeroRttAccepted, crypto::rustls::HandshakeData,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};
use tracing::Instrument;

use crate::{
    clock::Clock,
    core::{
        Manners,
        comeback::Comeback,
        end::Tide,
        link::{MAX_BULK_STREAM, home::Home},
        router::Router,
        session::Session,
    },
    metrics::{Metrics, label},
    pump::Pump,
};

/// What every connection shares.
pub(crate) struct Context {
    /// Whose certificates are taken, and which were revoked.
    pub(crate) credentials: Arc<LiveCredentials>,
    /// How long a handshake may take.
    pub(crate) handshake_time: Duration,
    /// What is asked of each session.
    pub(crate) manners: Arc<Manners>,
    /// How fast devices come back.
    pub(crate) comeback: Comeback,
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

/// Somebody whose first packet was taken.
pub(crate) struct Arrival {
    connection: Connection,
    /// The end of the handshake.
    completion: ZeroRttAccepted,
    /// Whether it proved who it is by that packet, which resumes a session.
    resumes: bool,
}

impl Arrival {
    /// To be called at once: before another packet comes, only who resumes a session is known.
    pub(crate) fn of(connecting: Connecting) -> Option<Self> {
        // Of a connection that was accepted this never fails.
        let (connection, completion) = connecting.into_0rtt().ok()?;
        Some(Self {
            resumes: connection.peer_identity().is_some(),
            connection,
            completion,
        })
    }
}

/// Somebody who may be served.
struct Guest {
    connection: Connection,
    identity: Identity,
    admission: Admission,
}

impl Context {
    /// Serves whoever dials, from the answer to its first packet to the end. `handshake` is let go when
    /// the handshake is over.
    pub(crate) fn serve(
        self: Arc<Self>,
        remote: SocketAddr,
        arrival: Result<Option<Arrival>, ConnectionError>,
        handshake: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> {
        let span = tracing::info_span!("connection", %remote, who = tracing::field::Empty);
        async move {
            match self.receive(arrival, handshake).await {
                Ok(guest) => self.serve_guest(guest).await,
                Err(ending) => {
                    self.metrics.handshake_failed(label(&ending));
                    tracing::info!(%ending, "no session");
                }
            }
        }
        .instrument(span)
    }

    /// Finds out who it is; tells them, if it is nobody we serve.
    async fn receive(
        &self,
        arrival: Result<Option<Arrival>, ConnectionError>,
        handshake: OwnedSemaphorePermit,
    ) -> Result<Guest, Ending> {
        let arrival = arrival?.ok_or_else(too_long)?;
        let (connection, completion) = self.shake_hands(arrival, handshake).await?;
        let admitted = peer_identity(&connection, self.credentials.trust_domain())
            .and_then(|identity| check_kind(&connection, identity))
            .and_then(|identity| Ok((identity, self.credentials.admit(&connection)?)));
        match admitted {
            Ok((identity, admission)) => {
                port::widen(&connection);
                Ok(Guest {
                    connection,
                    identity,
                    admission,
                })
            }
            Err(violation) => {
                self.turn_away(connection, completion, &violation).await;
                Err(violation.into())
            }
        }
    }

    /// Says why, once the handshake is complete: what closes a connection before must not tell
    /// (RFC 9000, section 10.2.3), and a device that does not know keeps coming.
    async fn turn_away(
        &self,
        connection: Connection,
        completion: Option<ZeroRttAccepted>,
        violation: &Violation,
    ) {
        if let Some(completion) = completion {
            // If it takes too long, the other side is closed without a reason, or gone.
            let _ = timeout(self.handshake_time, completion).await;
        }
        connection.close(error_code(violation.code), violation.what.as_bytes());
    }

    /// A connection whose other side has proved who it is. One that resumes a session has done so with
    /// its first packet, and its first words may have come along: it is served while the rest of the
    /// handshake, of which the end is handed back, takes as long as its network needs. Tickets are good
    /// for one use, so those words are nobody's replay.
    async fn shake_hands(
        &self,
        arrival: Arrival,
        handshake: OwnedSemaphorePermit,
    ) -> Result<(Connection, Option<ZeroRttAccepted>), Ending> {
        let Arrival {
            connection,
            completion,
            resumes,
        } = arrival;
        if resumes {
            self.metrics.resumed.inc();
            return Ok((connection, Some(completion)));
        }
        let completed = timeout(self.handshake_time, completion).await;
        completed.map_err(|_| too_long())?;
        drop(handshake);
        match connection.close_reason() {
            Some(reason) => Err(reason.into()),
            None => Ok((connection, None)),
        }
    }

    /// Most of a relay's connections are idle, so what is here is what they take: whatever lives across an
    /// await has its room in the connection's task, and each argument of an async function once more.
    fn serve_guest(&self, guest: Guest) -> impl Future<Output = ()> {
        let (connection, admission) = (guest.connection, guest.admission);
        tracing::Span::current().record("who", tracing::field::display(&guest.identity));
        let who = sender(guest.identity);
        let gauge = match &who {
            Ok(_) => &self.metrics.sessions,
            Err(_) => &self.metrics.links,
        };
        async move {
            gauge.inc();
            let ending = match who {
                Ok(sender) => match self.session(connection, sender).await {
                    Ok(pump) => pump.run().await,
                    Err(ending) => ending,
                },
                Err(relay) => match self.link(connection, relay).await {
                    Ok(pump) => pump.run().await,
                    Err(ending) => ending,
                },
            };
            gauge.dec();
            self.metrics.session_ended(&ending);
            tracing::info!(%ending, "ended");
            drop(admission);
        }
    }

    async fn session(
        &self,
        connection: Connection,
        sender: Sender,
    ) -> Result<Box<Pump<Session>>, Ending> {
        let wire = self.control_stream(connection).await?;
        let session = Session::new(
            self.router.clone(),
            self.server.clone(),
            sender,
            (&self.manners, self.comeback),
            self.clock.now(),
        );
        Ok(Pump::new(wire, session, self.clock).with_tide(self.tide.clone()))
    }

    /// Until a device's control stream comes there is nothing to pump; one that never opens it is
    /// dropped like one that never says hello.
    async fn control_stream(&self, connection: Connection) -> Result<Wire, Ending> {
        let limit = Server::new(self.server.clone(), self.clock.time()).max_bulk_stream();
        let accepted = Wire::accept(connection.clone(), limit);
        match timeout(HELLO_TIMEOUT, accepted).await {
            Ok(accepted) => Ok(accepted?.with_pace(self.manners.pace())),
            Err(_) => {
                let what = "no control stream was opened";
                let violation = Violation::new(CloseCode::HelloTimeout, what);
                connection.close(error_code(violation.code), what.as_bytes());
                Err(violation.into())
            }
        }
    }

    async fn link(&self, connection: Connection, relay: Name) -> Result<Box<Pump<Home>>, Ending> {
        let wire = Wire::accept(connection, MAX_BULK_STREAM).await?;
        let home = Home::new(self.router.clone(), relay);
        Ok(Pump::new(wire, home, self.clock))
    }
}

fn too_long() -> Violation {
    Violation::new(CloseCode::HelloTimeout, "the handshake took too long")
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
