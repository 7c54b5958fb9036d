//! One asker: from the handshake to the last answer. Nothing is decided here but who may stay.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_durable::Closed;
use holdfast_protocol::{
    allocation::{Lease, Locate},
    close::{CloseCode, Violation},
    frame::{FrameType, Header, RawFrame},
    id::Identity,
    time::Time,
};
use holdfast_transport::{
    Ending,
    ending::error_code,
    exchange::{self, ExchangeError},
    gate::Gate,
    identity::peer_identity,
    live::{Admission, LiveCredentials},
};
use parking_lot::Mutex;
use quinn::{Connection, Incoming, RecvStream, SendStream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
    time::timeout,
};
use tracing::Instrument;

use crate::{fleet::Superseded, pins::PinError, registry::Registry, turnstile::Turnstile};

/// What one asker, and all of them together, may take of the allocator.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// How long an asker may take to send a request, and to read the answer.
    pub(crate) request_time: Duration,
    /// How long a device or a service may keep a connection on which it asks nothing. Relays may
    /// for ever: they are few, and renew.
    pub(crate) silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Askers come, ask once and go. With the windows of an endpoint this many, were they
            // all to fill one stream, hold 1 GiB.
            connections: 4096,
            request_time: Duration::from_secs(5),
            silence: Duration::from_secs(30),
        }
    }
}

/// What every connection of an allocator shares.
pub(crate) struct Desk {
    pub(crate) registry: Registry,
    /// Whose certificates are taken, and which were revoked.
    pub(crate) credentials: Arc<LiveCredentials>,
    pub(crate) limits: Limits,
    /// Who may begin a handshake.
    pub(crate) gate: Arc<Gate>,
    /// How often one may ask.
    pub(crate) turnstile: Mutex<Turnstile>,
    /// How many more connections there is room for.
    pub(crate) room: Semaphore,
    /// The origin of every [`Time`] of this allocator.
    pub(crate) started: Instant,
}

impl Desk {
    /// Lets an asker through, unless it comes too often.
    fn pass(&self, asker: &Identity) -> Result<(), Violation> {
        if self.turnstile.lock().pass(asker, self.now()) {
            return Ok(());
        }
        Err(Violation::new(CloseCode::Overloaded, "ask less often"))
    }

    /// The one place where the allocator looks at the clock.
    pub(crate) fn now(&self) -> Time {
        Time::at(self.started.elapsed())
    }
}

/// Serves one asker until the connection ends. `handshake` is let go when the handshake is over.
pub(crate) async fn serve(desk: Arc<Desk>, incoming: Incoming, handshake: OwnedSemaphorePermit) {
    let connection = match shake_hands(&desk, incoming).await {
        Ok(connection) => connection,
        Err(ending) => return tracing::info!(%ending, "no handshake"),
    };
    drop(handshake);
    let outcome = match admit(&desk, &connection) {
        Ok((asker, _admission)) => converse(&desk, &connection, asker).await,
        Err(violation) => Err(violation),
    };
    if let Err(violation) = outcome {
        tracing::info!(%violation, "closed");
        connection.close(error_code(violation.code), violation.what.as_bytes());
    }
}

async fn shake_hands(desk: &Desk, incoming: Incoming) -> Result<Connection, Ending> {
    let connecting = incoming.accept().map_err(Ending::from)?;
    match timeout(desk.gate.timeout(), connecting).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(Ending::Lost("the handshake took too long".to_owned())),
    }
}

/// Who asks, if they may.
fn admit(desk: &Desk, connection: &Connection) -> Result<(Identity, Admission), Violation> {
    let asker = peer_identity(connection, desk.credentials.trust_domain())?;
    tracing::Span::current().record("asker", tracing::field::display(&asker));
    if let Identity::Allocator(_) = asker {
        let what = "an allocator has nothing to ask an allocator";
        return Err(Violation::new(CloseCode::WrongKind, what));
    }
    let admission = desk.credentials.admit(connection)?;
    desk.pass(&asker)?;
    Ok((asker, admission))
}

/// Answers until the connection ends, or gives the reason to end it.
async fn converse(
    desk: &Arc<Desk>,
    connection: &Connection,
    asker: Identity,
) -> Result<(), Violation> {
    let _room = desk
        .room
        .try_acquire()
        .map_err(|_| Violation::new(CloseCode::Overloaded, "no room for another connection"))?;
    let is_relay = matches!(asker, Identity::Relay(_));
    let asker = Arc::new(asker);
    // At most as many as the endpoint lets the other side open streams.
    let mut exchanges = JoinSet::new();
    loop {
        let may_leave = exchanges.is_empty() && !is_relay;
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok(stream) => {
                    let exchange = exchange(desk.clone(), asker.clone(), stream);
                    exchanges.spawn(exchange.in_current_span());
                }
                Err(error) => {
                    tracing::debug!(ending = %Ending::from(error), "ended");
                    break;
                }
            },
            Some(outcome) = exchanges.join_next() => outcome.unwrap_or_else(|_| Err(failed()))?,
            // Begins anew with whatever happens above, so it measures the silence since then.
            () = tokio::time::sleep(desk.limits.silence), if may_leave => {
                return Err(Violation::new(CloseCode::Goodbye, "nothing was asked"));
            }
        }
    }
    exchanges.shutdown().await;
    Ok(())
}

/// One request and its answer. An asker that goes before the end is no violation.
async fn exchange(
    desk: Arc<Desk>,
    asker: Arc<Identity>,
    (mut send, recv): (SendStream, RecvStream),
) -> Result<(), Violation> {
    let Some(frame) = request(&desk, recv).await? else {
        return Ok(());
    };
    desk.pass(&asker)?;
    match frame.kind {
        FrameType::Locate => {
            let locate = frame.header::<Locate>()?;
            let (tell, told) = oneshot::channel();
            desk.registry
                .locate(desk.now(), &asker, &locate, answer_to(tell));
            let answer = told.await.unwrap_or(Err(Closed.into()));
            reply(&desk, &mut send, &answer.map_err(store_failed)?).await
        }
        FrameType::Lease => {
            let Identity::Relay(relay) = &*asker else {
                let what = format!("{asker} holds no lease; only a relay does");
                return Err(Violation::new(CloseCode::WrongKind, what));
            };
            let lease = frame.header::<Lease>()?;
            let (tell, told) = oneshot::channel();
            desk.registry
                .lease(desk.now(), relay, &lease, answer_to(tell));
            let answer = told.await.map_err(|_| failed())?;
            reply(&desk, &mut send, &answer.map_err(no_lease)?).await
        }
        other => Err(Violation::unexpected(format!("{other} is no request"))),
    }
}

/// The request, unless the asker went.
async fn request(desk: &Desk, recv: RecvStream) -> Result<Option<RawFrame>, Violation> {
    match timeout(desk.limits.request_time, exchange::read(recv)).await {
        Ok(Ok(frame)) => Ok(Some(frame)),
        Ok(Err(ExchangeError::Violation(violation))) => Err(violation),
        Ok(Err(ExchangeError::Ended(_))) => Ok(None),
        Err(_) => Err(Violation::new(
            CloseCode::HelloTimeout,
            "the request took too long",
        )),
    }
}

async fn reply<H: Header>(desk: &Desk, send: &mut SendStream, answer: &H) -> Result<(), Violation> {
    match timeout(desk.limits.request_time, exchange::reply(send, answer)).await {
        // An answer that cannot be written has nobody to read it.
        Ok(_) => Ok(()),
        Err(_) => Err(Violation::new(
            CloseCode::SlowReader,
            "the answer was not read",
        )),
    }
}

/// Hands an answer to the task that waits for it, unless it has ended.
fn answer_to<T>(task: oneshot::Sender<T>) -> impl FnOnce(T) {
    move |answer| {
        let _ = task.send(answer);
    }
}

fn store_failed(error: PinError) -> Violation {
    tracing::error!(%error, "a pin cannot be told");
    failed()
}

fn no_lease(error: Superseded) -> Violation {
    Violation::new(CloseCode::Superseded, error.to_string())
}

fn failed() -> Violation {
    Violation::new(CloseCode::InternalError, "the allocator failed")
}
