//! One connection: from its handshake to a session or a link, and the only pump between QUIC and
//! the relay's half of a session.

use std::{future, net::SocketAddr, sync::Arc, time::Duration};

use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{Identity, MessageId, Sender, TrustDomain},
    message::{Ack, Allow, Hello, Outcome, Receipt, RelayAddress, Submit},
    server::{Action, Event, Server, ServerConfig},
    version,
};
use holdfast_transport::{
    Ending,
    identity::peer_identity,
    wire::{Incoming, Wire},
};
use quinn::{Connection, crypto::rustls::HandshakeData};
use tokio::sync::watch;
use tracing::Instrument;

use crate::{
    clock::Clock,
    mail::{
        message::Message,
        online::Session,
        outlet::{Asker, Body, Outbound, Outlet, Question},
    },
    metrics::{Metrics, label},
    peers::home::Link,
    request::{Attachment, Request, SessionIds},
    router::Router,
    store::StoreError,
};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What may be queued for one device. The windows keep it far below, unless the device does not
/// read: two lanes of deliveries, and answers of a few bytes each.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;

/// Whether the relay goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tide {
    /// It does.
    #[default]
    Running,
    /// It is stopping: devices are to go elsewhere.
    Draining {
        /// How long they have.
        within: Duration,
        /// Where to.
        successors: Vec<RelayAddress>,
    },
    /// It stops now.
    Stopping,
}

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Context {
    /// Whose certificates are taken.
    pub(crate) trust_domain: TrustDomain,
    /// What each session is told.
    pub(crate) server: ServerConfig,
    /// Where requests go.
    pub(crate) router: Router,
    /// Numbers for sessions.
    pub(crate) ids: SessionIds,
    /// The clocks.
    pub(crate) clock: Clock,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the relay goes on.
    pub(crate) tide: watch::Receiver<Tide>,
}

impl Context {
    /// Serves whoever dials, from the first packet to the end.
    pub(crate) async fn serve(self, incoming: quinn::Incoming) {
        let remote = incoming.remote_address();
        let span = tracing::info_span!("connection", %remote, who = tracing::field::Empty);
        async {
            match self.shake_hands(incoming).await {
                Ok((connection, identity)) => {
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
        incoming: quinn::Incoming,
    ) -> Result<(Connection, Identity), Ending> {
        let connecting = incoming.accept()?;
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
            .await
            .map_err(|_| Ending::Lost("the handshake took too long".to_owned()))??;
        let identity = peer_identity(&connection, &self.trust_domain)
            .and_then(|identity| check_kind(&connection, identity));
        match identity {
            Ok(identity) => Ok((connection, identity)),
            Err(violation) => {
                let code = holdfast_transport::ending::error_code(violation.code);
                connection.close(code, violation.what.as_bytes());
                Err(Ending::Closed {
                    code: violation.code,
                    reason: violation.what,
                })
            }
        }
    }

    async fn serve_identity(self, connection: Connection, identity: Identity) {
        let metrics = self.metrics.clone();
        let (gauge, ending) = match sender(identity) {
            Some(sender) => (&metrics.sessions, {
                metrics.sessions.inc();
                self.serve_session(connection, sender).await
            }),
            None => (&metrics.links, {
                metrics.links.inc();
                self.serve_link(connection).await
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
            Ok(Ok(wire)) => wire,
            Ok(Err(ending)) => return ending,
            Err(_) => {
                let code = holdfast_transport::ending::error_code(CloseCode::HelloTimeout);
                connection.close(code, b"no control stream was opened");
                return Ending::Ours;
            }
        };
        let mut pump = Pump {
            server: Server::new(self.server.clone(), self.clock.time()),
            outlet: Outlet::new(),
            epoch: 0,
            attachment: None,
            told_to_go: false,
            context: self,
            sender,
            wire,
        };
        let ending = pump.run().await;
        pump.leave();
        ending
    }

    async fn serve_link(self, connection: Connection) -> Ending {
        match Link::accept(connection, self.router, self.clock, self.ids).await {
            Ok(mut link) => link.carry().await,
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

fn sender(identity: Identity) -> Option<Sender> {
    match identity {
        Identity::Device(device) => Some(Sender::Device(device)),
        Identity::Service(name) => Some(Sender::Service(name)),
        Identity::Relay(_) | Identity::Allocator(_) => None,
    }
}

/// Pumps bytes between a connection and the relay's half of its session.
struct Pump {
    context: Context,
    sender: Sender,
    wire: Wire,
    server: Server,
    outlet: Outlet,
    epoch: u64,
    attachment: Option<Attachment>,
    told_to_go: bool,
}

impl Pump {
    async fn run(&mut self) -> Ending {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            if let Some(ending) = self.perform() {
                return ending;
            }
            let deadline = self
                .server
                .deadline()
                .map(|time| self.context.clock.instant(time));
            if let Some(deadline) = deadline.filter(|deadline| *deadline != timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                incoming = self.wire.next() => match incoming {
                    Ok(incoming) => self.take(incoming),
                    Err(ending) => return ending,
                },
                () = self.outlet.ready() => self.hand_over(),
                () = &mut timer => self.server.handle_timeout(self.context.clock.time()),
                tide = turned(&mut self.context.tide, self.told_to_go) => self.turn(tide),
            }
        }
    }

    /// Takes what came from the device.
    fn take(&mut self, incoming: Incoming) {
        let now = self.context.clock.time();
        match incoming {
            Incoming::Control(bytes) => self.server.handle_control(now, bytes),
            Incoming::Bulk(bytes) => self.server.handle_bulk(bytes),
            Incoming::Datagram(bytes) => {
                self.server.handle_datagram(now, bytes, self.observed());
            }
        }
    }

    /// The device's address, as others write it.
    fn observed(&self) -> SocketAddr {
        let address = self.wire.connection().remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// Does what the session asks for, until it asks for nothing more or has ended.
    fn perform(&mut self) -> Option<Ending> {
        while let Some(action) = self.server.poll() {
            match action {
                Action::Control(bytes) => self.wire.control(bytes),
                Action::Bulk(frame) => self.wire.bulk(frame),
                Action::Datagram(bytes) => {
                    // A pong that cannot be sent is one that was lost: the device asks again.
                    let _ = self.wire.datagram(bytes);
                }
                Action::Event(event) => self.handle(event),
                Action::Close(violation) => {
                    self.wire.close(&violation);
                    let (code, reason) = (violation.code, violation.what);
                    return Some(Ending::Closed { code, reason });
                }
            }
        }
        if self.wire.backlog() > MAX_BACKLOG {
            self.server
                .close(Violation::new(CloseCode::SlowReader, "read faster"));
            return self.perform();
        }
        None
    }

    fn handle(&mut self, event: Event) {
        let done = match event {
            Event::Hello(hello) => self.handle_hello(hello),
            Event::Submit { lane, submit, body } => {
                let Submit { seq, to, options } = submit;
                let id = MessageId {
                    sender: self.sender.clone(),
                    epoch: self.epoch,
                    lane,
                    seq,
                };
                let asker = self.asker(Question::Submitted { lane, seq });
                let message = Message {
                    id,
                    to,
                    options,
                    body,
                };
                self.context
                    .router
                    .request(Request::Submit { message, asker })
            }
            Event::Ack(ack) => self.handle_ack(ack),
            Event::Allow(allow) => self.handle_allow(allow),
        };
        if let Err(error) = done {
            self.fail(&error);
        }
    }

    /// A device goes on the online list before it is welcomed; a service has no mailbox.
    fn handle_hello(&mut self, hello: Hello) -> Result<(), StoreError> {
        tracing::debug!(agent = %hello.agent, "hello");
        self.epoch = hello.outbox;
        if let Sender::Device(device) = &self.sender {
            let since = self.context.clock.time();
            let (id, outlet) = (self.context.ids.next(), self.outlet.clone());
            let attachment = Attachment {
                session: Session { id, outlet, since },
                device: device.clone(),
                inbox: hello.inbox,
                outbox: hello.outbox,
            };
            self.attachment = Some(attachment.clone());
            self.context.router.request(Request::Attach(attachment))?;
        }
        self.server.welcome();
        Ok(())
    }

    fn handle_ack(&mut self, ack: Ack) -> Result<(), StoreError> {
        match &self.attachment {
            Some(attachment) => self.context.router.ack(attachment, ack),
            None => Ok(()),
        }
    }

    fn handle_allow(&mut self, allow: Allow) -> Result<(), StoreError> {
        let Allow {
            tag,
            sender,
            allowed,
        } = allow;
        let Sender::Device(device) = &self.sender else {
            let what = "a service has no list of allowed senders";
            self.server.close(Violation::unexpected(what));
            return Ok(());
        };
        let (account, asker) = (device.account.clone(), self.asker(Question::Allow { tag }));
        self.context.router.request(Request::Allow {
            account,
            sender,
            allowed,
            asker,
        })
    }

    fn asker(&self, question: Question) -> Asker {
        Asker {
            outlet: self.outlet.clone(),
            question,
        }
    }

    /// Hands the device what came out of the router.
    fn hand_over(&mut self) {
        for outbound in self.outlet.take() {
            match outbound {
                Outbound::Deliver {
                    lane,
                    deliver,
                    body,
                    ..
                } => match self.read(body) {
                    Ok(Some(body)) => self.server.deliver(lane, &deliver, body),
                    Ok(None) => {}
                    Err(error) => self.fail(&error),
                },
                Outbound::Gap { gap, .. } => self.server.gap(&gap),
                Outbound::Answer { question, outcome } => self.answer(question, outcome),
                Outbound::Superseded { .. } => {
                    let what = "a newer session of this device was opened";
                    self.server
                        .close(Violation::new(CloseCode::Superseded, what));
                }
                Outbound::Overloaded => {
                    let what = "too much waits for relays that cannot be reached";
                    self.server
                        .close(Violation::new(CloseCode::Overloaded, what));
                }
            }
        }
    }

    fn read(&self, body: Body) -> Result<Option<bytes::Bytes>, StoreError> {
        match body {
            Body::Held(body) => Ok(Some(body)),
            Body::Stored(place) => self.context.router.body(&place),
        }
    }

    fn answer(&mut self, question: Question, outcome: Outcome) {
        match question {
            Question::Submitted { lane, seq } => {
                self.server.receipt(&Receipt { lane, seq, outcome });
            }
            Question::Allow { tag } => self.server.allowed(tag),
            Question::Passed { .. } => {}
        }
    }

    fn turn(&mut self, tide: Tide) {
        match tide {
            Tide::Running => {}
            Tide::Draining { within, successors } => {
                self.told_to_go = true;
                self.server.go_away(within, successors);
            }
            Tide::Stopping => {
                self.server.close(Violation::new(
                    CloseCode::GoingAway,
                    "the relay is stopping",
                ));
            }
        }
    }

    fn fail(&mut self, error: &StoreError) {
        tracing::error!(%error, "the store cannot be read");
        let what = "the store cannot be read";
        self.server
            .close(Violation::new(CloseCode::InternalError, what));
    }

    /// Takes the device off the online list, and drops what waits to be passed on for it.
    fn leave(&mut self) {
        if let Some(attachment) = self.attachment.take()
            && let Err(error) = self.context.router.detach(&attachment)
        {
            tracing::error!(%error, "the device could not be taken off the list");
        }
        self.context.router.forget(&self.outlet);
    }
}

/// Waits for the tide to turn; a session that was told to go waits for the stop.
async fn turned(tide: &mut watch::Receiver<Tide>, told_to_go: bool) -> Tide {
    let news = |tide: &Tide| match tide {
        Tide::Running => false,
        Tide::Draining { .. } => !told_to_go,
        Tide::Stopping => true,
    };
    let turned = tide.wait_for(news).await.map(|tide| tide.clone());
    match turned {
        Ok(tide) => tide,
        Err(_) => future::pending().await,
    }
}
