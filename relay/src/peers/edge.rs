//! The edge of a link: passes messages on to their home, and serves devices for it.
//!
//! What is to be passed is decided by the [`Backlog`]; here it is dialled, written and read.

mod backlog;

use std::{mem, net::SocketAddr, sync::Arc, time::Duration};

use holdfast_protocol::{
    close::{CloseCode, Violation},
    frame::{FrameReader, RawFrame},
    id::{Identity, Lane, Name, TrustDomain},
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_HEADER},
    message::{Ack, RelayAddress},
};
use holdfast_transport::{
    Ending, endpoint,
    identity::peer_identity,
    wire::{Incoming, Wire},
};
use parking_lot::Mutex;
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rand::Rng;
use tokio::sync::Notify;

use self::backlog::Backlog;
use crate::{
    clock::Clock,
    mail::outlet::{Outlet, SessionId},
    metrics::Metrics,
    request::Request,
};

/// How long one address is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two tries, at first and at most; the actual pause is random below it (full jitter).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What it takes to dial another relay.
#[derive(Clone)]
pub(crate) struct Dialler {
    /// The socket.
    pub(crate) endpoint: Endpoint,
    /// Our credentials, for the relay–relay protocol.
    pub(crate) tls: Arc<QuicClientConfig>,
    /// Whose certificates we take.
    pub(crate) trust_domain: TrustDomain,
    /// For the age of sessions.
    pub(crate) clock: Clock,
}

impl Dialler {
    /// Dials a relay, and makes sure that it is the one that was meant.
    async fn dial(&self, name: &Name, address: SocketAddr) -> Result<Wire, Ending> {
        let connecting = endpoint::dial_watched(
            &self.endpoint,
            self.tls.clone(),
            address,
            &self.trust_domain,
        )?;
        let connection = tokio::time::timeout(DIAL_TIMEOUT, connecting)
            .await
            .map_err(|_| Ending::Lost(format!("{address} did not answer")))??;
        let is_meant = match peer_identity(&connection, &self.trust_domain) {
            Ok(Identity::Relay(relay)) if relay == *name => Ok(()),
            Ok(other) => {
                let what = format!("{other} answers where relay/{name} should");
                Err(Violation::new(CloseCode::WrongKind, what))
            }
            Err(violation) => Err(violation),
        };
        let wire = Wire::open(connection, MAX_HEADER + MAX_BULK_BODY).await?;
        match is_meant {
            Ok(()) => Ok(wire),
            Err(violation) => {
                wire.close(&violation);
                Err(Ending::Lost(violation.what))
            }
        }
    }
}

/// One link, seen from the edge.
pub(super) struct Edge {
    name: Name,
    addresses: Mutex<Vec<SocketAddr>>,
    backlog: Mutex<Backlog>,
    /// There is something to write.
    wake: Notify,
}

impl Edge {
    /// A link that is not up yet.
    pub(super) fn new(relay: RelayAddress) -> Self {
        Self {
            name: relay.name,
            addresses: Mutex::new(relay.addresses),
            backlog: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Where the relay is to be dialled from now on.
    pub(super) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock() = addresses;
    }

    /// Passes a request on.
    pub(super) fn request(&self, request: Request) {
        self.backlog.lock().request(request);
        self.wake.notify_one();
    }

    /// Passes on what a device acknowledged.
    pub(super) fn ack(&self, session: SessionId, ack: Ack) {
        self.backlog.lock().ack(session, ack);
        self.wake.notify_one();
    }

    /// Passes on that a session has ended.
    pub(super) fn detach(&self, session: SessionId) {
        self.backlog.lock().detach(session);
        self.wake.notify_one();
    }

    /// Nobody is there any more at this outlet.
    pub(super) fn forget(&self, outlet: &Outlet) {
        self.backlog.lock().forget(outlet);
    }

    /// How many requests wait for an answer.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.backlog.lock().waiting()
    }

    /// Keeps the link up for ever.
    pub(super) async fn run(&self, dialler: &Dialler, metrics: &Metrics) {
        let mut failures = 0;
        loop {
            match self.connect(dialler).await {
                Ok(wire) => {
                    failures = 0;
                    metrics.links.inc();
                    let ending = self.carry(wire, dialler.clock).await;
                    metrics.links.dec();
                    tracing::info!(peer = %self.name, %ending, "the link to a relay broke");
                    self.backlog.lock().disconnect();
                }
                Err(ending) => {
                    tracing::debug!(peer = %self.name, %ending, "a relay cannot be reached");
                }
            }
            let most = BACKOFF
                .0
                .saturating_mul(1 << failures.min(10))
                .min(BACKOFF.1);
            failures += 1;
            let pause = rand::rng().random_range(Duration::ZERO..=most);
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self, dialler: &Dialler) -> Result<Wire, Ending> {
        let addresses = self.addresses.lock().clone();
        let mut last = Ending::Lost("it has no address".to_owned());
        for address in addresses {
            match dialler.dial(&self.name, address).await {
                Ok(wire) => return Ok(wire),
                Err(ending) => last = ending,
            }
        }
        Err(last)
    }

    /// Carries frames both ways until the link breaks.
    async fn carry(&self, mut wire: Wire, clock: Clock) -> Ending {
        tracing::info!(peer = %self.name, "linked to a relay");
        self.backlog.lock().connect(clock.time());
        let mut reader = FrameReader::new(MAX_CONTROL_PAYLOAD);
        loop {
            let outgoing = mem::take(&mut self.backlog.lock().outgoing);
            for (lane, frame) in outgoing {
                match lane {
                    Lane::Message => {
                        wire.control(frame.head);
                        wire.control(frame.body);
                    }
                    Lane::Bulk => wire.bulk(frame),
                }
            }
            let handled = tokio::select! {
                incoming = wire.next() => match incoming {
                    Ok(incoming) => self.handle(&mut reader, incoming),
                    Err(ending) => return ending,
                },
                () = self.wake.notified() => Ok(()),
            };
            if let Err(violation) = handled {
                wire.close(&violation);
                return Ending::Lost(violation.to_string());
            }
        }
    }

    fn handle(&self, reader: &mut FrameReader, incoming: Incoming) -> Result<(), Violation> {
        match incoming {
            Incoming::Control(bytes) => {
                reader.push(bytes);
                while let Some(frame) = reader.next()? {
                    self.backlog.lock().handle(Lane::Message, &frame)?;
                }
                Ok(())
            }
            Incoming::Bulk(bytes) => {
                let frame = RawFrame::whole(bytes, MAX_HEADER + MAX_BULK_BODY)?;
                self.backlog.lock().handle(Lane::Bulk, &frame)
            }
            Incoming::Datagram(_) => Ok(()),
        }
    }
}
