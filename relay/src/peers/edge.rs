//! The edge of a link: passes messages on to their home, and serves devices for it.
//!
//! What was passed and not answered is kept, in order. When the link breaks it is dialled again,
//! the devices are attached again, and everything unanswered is passed again: the home recognises
//! what it has seen. So a message never overtakes an older one of its sender's.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use holdfast_protocol::{
    close::{CloseCode, Violation},
    frame::{self, Encoded, FrameReader, FrameType, RawFrame},
    id::{Identity, Lane, Name, TrustDomain},
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_HEADER},
    message::{Ack, Outcome, RelayAddress},
    peer::{Attach, Detach, Evict, Pass, Passed, PeerAck, PeerAllow, PeerDeliver, PeerGap},
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

use crate::{
    clock::Clock,
    mail::{
        message::Message,
        outlet::{Asker, Body, Outbound, Outlet, SessionId},
    },
    metrics::Metrics,
    request::{Attachment, Request},
};

/// How long one address is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two tries, at first and at most; the actual pause is random below it (full jitter).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What may wait to be passed on over one link, in bytes. Past it, senders are turned away.
const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;

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
    state: Mutex<State>,
    /// There is something in [`State::outgoing`].
    wake: Notify,
}

#[derive(Default)]
struct State {
    connected: bool,
    next_tag: u64,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    sessions: BTreeMap<SessionId, Attachment>,
    outgoing: Vec<(Lane, Encoded)>,
}

/// Something that was passed on, until its answer.
struct Pending {
    tag: u64,
    lane: Lane,
    /// What to pass again if the link breaks; `None` once the home has it on its disk.
    frame: Option<Encoded>,
    asker: Asker,
    /// The sender wants to hear the end, too.
    notify: bool,
}

impl Edge {
    pub(super) fn new(relay: RelayAddress) -> Self {
        Self {
            name: relay.name,
            addresses: Mutex::new(relay.addresses),
            state: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(super) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock() = addresses;
    }

    pub(super) fn request(&self, request: Request) {
        let mut state = self.state.lock();
        match request {
            Request::Submit { message, asker } => state.pass(message, asker),
            Request::Attach(attachment) => state.attach(attachment),
            Request::Allow {
                account,
                sender,
                allowed,
                asker,
            } => {
                let encode = |tag| {
                    let head = frame::encode(&PeerAllow {
                        tag,
                        account,
                        sender,
                        allowed,
                    });
                    Encoded {
                        head,
                        body: Bytes::new(),
                    }
                };
                state.keep(Lane::Message, encode, asker, false);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn ack(&self, session: SessionId, ack: Ack) {
        self.state.lock().send(&PeerAck { session, ack });
        self.wake.notify_one();
    }

    pub(super) fn detach(&self, session: SessionId) {
        let mut state = self.state.lock();
        if state.sessions.remove(&session).is_some() {
            state.send(&Detach { session });
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn forget(&self, outlet: &Outlet) {
        let mut state = self.state.lock();
        state
            .pending
            .retain(|pending| pending.asker.outlet != *outlet);
        state.pending_bytes = state.pending.iter().map(Pending::len).sum();
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
                    self.state.lock().disconnect();
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
        self.state.lock().connect(clock);
        let mut reader = FrameReader::new(MAX_CONTROL_PAYLOAD);
        loop {
            for (lane, frame) in std::mem::take(&mut self.state.lock().outgoing) {
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
                    self.handle_frame(Lane::Message, &frame)?;
                }
                Ok(())
            }
            Incoming::Bulk(bytes) => {
                let frame = RawFrame::whole(bytes, MAX_HEADER + MAX_BULK_BODY)?;
                self.handle_frame(Lane::Bulk, &frame)
            }
            Incoming::Datagram(_) => Ok(()),
        }
    }

    fn handle_frame(&self, lane: Lane, frame: &RawFrame) -> Result<(), Violation> {
        let mut state = self.state.lock();
        match frame.kind {
            FrameType::Passed => state.answered(frame.header()?),
            FrameType::PeerDeliver => {
                let (PeerDeliver { session, deliver }, body) = frame.decode()?;
                let body = Body::Held(body);
                state.hand_over(
                    session,
                    Outbound::Deliver {
                        session,
                        lane,
                        deliver,
                        body,
                    },
                );
            }
            FrameType::PeerGap => {
                let PeerGap { session, gap } = frame.header()?;
                state.hand_over(session, Outbound::Gap { session, gap });
            }
            FrameType::Evict => {
                let Evict { session } = frame.header()?;
                state.hand_over(session, Outbound::Superseded { session });
                state.sessions.remove(&session);
            }
            FrameType::Unknown(_) => {}
            kind => return Err(Violation::unexpected(format!("{kind} from a home relay"))),
        }
        Ok(())
    }
}

impl State {
    fn pass(&mut self, message: Message, asker: Asker) {
        let Message {
            id,
            to,
            options,
            body,
        } = message;
        let (lane, notify) = (id.lane, options.notify);
        let encode = |tag| {
            frame::encode_with_body(
                &Pass {
                    tag,
                    id,
                    to,
                    options,
                },
                body,
            )
        };
        self.keep(lane, encode, asker, notify);
    }

    /// Passes something on and keeps it until its answer, or turns its sender away.
    fn keep(
        &mut self,
        lane: Lane,
        encode: impl FnOnce(u64) -> Encoded,
        asker: Asker,
        notify: bool,
    ) {
        if self.pending_bytes > MAX_PENDING_BYTES {
            return asker.outlet.shut();
        }
        self.next_tag += 1;
        let tag = self.next_tag;
        let frame = encode(tag);
        self.pending_bytes += frame.len();
        if self.connected {
            self.outgoing.push((lane, frame.clone()));
        }
        self.pending.push_back(Pending {
            tag,
            lane,
            frame: Some(frame),
            asker,
            notify,
        });
    }

    fn attach(&mut self, attachment: Attachment) {
        if self.connected {
            self.send(&attach_frame(&attachment, Duration::ZERO));
        }
        self.sessions.insert(attachment.session.id, attachment);
    }

    fn send<H: frame::Header>(&mut self, header: &H) {
        if self.connected {
            let head = frame::encode(header);
            self.outgoing.push((
                Lane::Message,
                Encoded {
                    head,
                    body: Bytes::new(),
                },
            ));
        }
    }

    /// The link is up: attaches every device, then passes on everything unanswered.
    fn connect(&mut self, clock: Clock) {
        self.connected = true;
        self.outgoing.clear();
        let now = clock.time();
        let attaches: Vec<Attach> = self
            .sessions
            .values()
            .map(|attachment| attach_frame(attachment, now.since(attachment.session.since)))
            .collect();
        attaches.iter().for_each(|attach| self.send(attach));
        for pending in &self.pending {
            let frame = pending.frame.clone();
            self.outgoing
                .extend(frame.map(|frame| (pending.lane, frame)));
        }
    }

    /// The link is down. Senders that only wait for the end of a stored message do not hear of it
    /// over this link any more; they ask in their next session.
    fn disconnect(&mut self) {
        self.connected = false;
        self.outgoing.clear();
        self.pending.retain(|pending| pending.frame.is_some());
    }

    fn answered(&mut self, Passed { tag, outcome }: Passed) {
        let Ok(index) = self
            .pending
            .binary_search_by_key(&tag, |pending| pending.tag)
        else {
            return;
        };
        let pending = &mut self.pending[index];
        pending.asker.answer(outcome);
        self.pending_bytes -= pending.len();
        pending.frame = None;
        if outcome != Outcome::Stored || !pending.notify {
            self.pending.remove(index);
        }
    }

    fn hand_over(&self, session: SessionId, outbound: Outbound) {
        if let Some(attachment) = self.sessions.get(&session) {
            attachment.session.outlet.push(outbound);
        }
    }
}

impl Pending {
    fn len(&self) -> usize {
        self.frame.as_ref().map_or(0, Encoded::len)
    }
}

fn attach_frame(attachment: &Attachment, age: Duration) -> Attach {
    Attach {
        session: attachment.session.id,
        device: attachment.device.clone(),
        outbox: attachment.outbox,
        inbox: attachment.inbox,
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    }
}
