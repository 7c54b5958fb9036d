//! A relay and an allocator that do what a test tells them, and nothing by themselves but answering
//! hellos and pings.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use holdfast_certs::Identity;
use holdfast_protocol::{
    allocation::{Allocation, Locate},
    close::{CloseCode, Violation},
    frame::RawFrame,
    id::{Lane, Sender},
    limits::DEFAULT_BULK_BODY,
    message::{Deliver, Hello, Options, Outcome, Ping, Receipt, RelayAddress, Submit},
    server::{Action, Event, Server, ServerConfig},
    time::Time,
    version,
};
use holdfast_transport::{
    endpoint::Requests,
    exchange,
    keys::EndpointKeys,
    port,
    wire::{Incoming, Wire},
};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint};
use tokio::{sync::mpsc, task::JoinSet, time::sleep_until};

use crate::world::{World, within};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address where nobody answers. The socket keeps it taken.
pub(crate) fn nobody() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A relay under this name at this address, as an allocator lists it.
pub(crate) fn listed(name: &str, address: SocketAddr) -> RelayAddress {
    RelayAddress {
        name: name.parse().unwrap(),
        addresses: vec![address],
    }
}

type Order = Box<dyn FnOnce(&mut Server) + Send>;

/// A relay.
pub(crate) struct FakeRelay {
    name: String,
    endpoint: Endpoint,
    sessions: mpsc::UnboundedReceiver<FakeSession>,
    frozen: Arc<AtomicBool>,
    _accepting: JoinSet<()>,
}

impl FakeRelay {
    pub(crate) fn start(world: &World, name: &str) -> Self {
        Self::with_limit(world, name, DEFAULT_BULK_BODY)
    }

    /// A relay that takes bodies of so many bytes.
    pub(crate) fn with_limit(world: &World, name: &str, max_body: usize) -> Self {
        let tls = world.server(&Identity::relay(name).unwrap());
        let tls = tls.server(&[version::SESSION]).unwrap();
        let endpoint = port::bind(
            LOOPBACK,
            tls,
            Requests::Control,
            &EndpointKeys::ephemeral().unwrap(),
        )
        .unwrap();
        let endpoint = endpoint.endpoint().clone();
        let config = ServerConfig {
            relay: name.parse().unwrap(),
            boot: 1,
            max_body,
            ping_grace: Duration::from_secs(10),
        };
        let (opened, sessions) = mpsc::unbounded_channel();
        let mut accepting = JoinSet::new();
        let frozen = Arc::new(AtomicBool::new(false));
        accepting.spawn(accept(endpoint.clone(), config, frozen.clone(), opened));
        Self {
            name: name.to_owned(),
            endpoint,
            sessions,
            frozen,
            _accepting: accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    pub(crate) fn listed(&self) -> RelayAddress {
        listed(&self.name, self.address())
    }

    /// From now on nobody is answered who dials.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// The next session.
    pub(crate) async fn session(&mut self) -> FakeSession {
        within(self.sessions.recv()).await.unwrap()
    }
}

async fn accept(
    endpoint: Endpoint,
    config: ServerConfig,
    frozen: Arc<AtomicBool>,
    opened: mpsc::UnboundedSender<FakeSession>,
) {
    let mut conversations = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        if frozen.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let (config, opened) = (config.clone(), opened.clone());
        conversations.spawn(async move {
            if let Ok(connection) = incoming.await {
                converse(connection, config, opened).await;
            }
        });
    }
}

async fn converse(
    connection: Connection,
    config: ServerConfig,
    opened: mpsc::UnboundedSender<FakeSession>,
) {
    let observed = connection.remote_address();
    let origin = tokio::time::Instant::now();
    let (orders, mut ordered) = mpsc::unbounded_channel::<Option<Order>>();
    let (events, mut heard) = {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Some(receiver))
    };
    let (pings, mut pinged) = {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Some(receiver))
    };
    let mut server = Server::new(config, Time::ZERO);
    let Ok(mut wire) = Wire::accept(connection.clone(), server.max_bulk_stream()).await else {
        return;
    };
    loop {
        while let Some(action) = server.poll() {
            match action {
                Action::Control(bytes) => wire.control(bytes),
                Action::Bulk(frame) => wire.bulk(frame),
                Action::Datagram(bytes) => drop(wire.datagram(bytes)),
                Action::Event(Event::Hello(hello)) => {
                    server.welcome(0, Duration::ZERO);
                    let session = FakeSession {
                        hello,
                        events: heard.take().unwrap(),
                        pings: pinged.take().unwrap(),
                        orders: orders.clone(),
                        connection: connection.clone(),
                    };
                    opened.send(session).unwrap();
                }
                Action::Event(Event::Seen { .. }) => {}
                Action::Event(event) => drop(events.send(event)),
                Action::Close(violation) => return wire.close(&violation),
            }
        }
        let now = Time::at(origin.elapsed());
        let due = server.deadline().map(|due| origin + due.since_origin());
        tokio::select! {
            () = sleep_until(due.unwrap_or(origin)), if due.is_some() => {
                server.handle_timeout(Time::at(origin.elapsed()));
            }
            incoming = wire.next() => match incoming {
                Ok(Incoming::Control(bytes)) => server.handle_control(now, bytes),
                Ok(Incoming::Bulk(bytes)) => server.handle_bulk(bytes),
                Ok(Incoming::Datagram(bytes)) => {
                    let frame = RawFrame::whole(bytes.clone(), 256).unwrap();
                    // The test may have let go of its session.
                    let _ = pings.send(frame.header::<Ping>().unwrap());
                    server.handle_datagram(Time::at(origin.elapsed()), bytes, observed);
                }
                Err(_) => return,
            },
            order = ordered.recv() => match order.flatten() {
                Some(order) => order(&mut server),
                None => std::future::pending().await,
            }
        }
    }
}

/// A relay's side of a session.
pub(crate) struct FakeSession {
    pub(crate) hello: Hello,
    events: mpsc::UnboundedReceiver<Event>,
    pings: mpsc::UnboundedReceiver<Ping>,
    orders: mpsc::UnboundedSender<Option<Order>>,
    connection: Connection,
}

impl FakeSession {
    /// What the device says next, besides pings; `None` when the session is over.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        within(self.events.recv()).await
    }

    /// The next ping of an app in the background.
    pub(crate) async fn background_ping(&mut self) -> Ping {
        loop {
            let ping = within(self.pings.recv()).await.expect("a session");
            if ping.background {
                return ping;
            }
        }
    }

    /// The next message, which must be what comes next.
    pub(crate) async fn submitted(&mut self) -> (Submit, Bytes) {
        match self.next().await {
            Some(Event::Submit { submit, body, .. }) => (submit, body),
            other => panic!("{other:?}"),
        }
    }

    /// The numbers of the next messages.
    pub(crate) async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(self.submitted().await.0.seq);
        }
        seqs
    }

    /// The next acknowledgement, which must be what comes next.
    pub(crate) async fn acked(&mut self) -> u64 {
        match self.next().await {
            Some(Event::Ack(ack)) => ack.through,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn order(&self, order: impl FnOnce(&mut Server) + Send + 'static) {
        self.orders.send(Some(Box::new(order))).unwrap();
    }

    pub(crate) fn answer(&self, seq: u64, outcome: Outcome) {
        let lane = Lane::Message;
        let receipt = Receipt { lane, seq, outcome };
        self.order(move |server| server.receipt(&receipt));
    }

    /// Delivers a message of `alice/pc`'s.
    pub(crate) fn deliver(&self, position: u64, seq: u64, body: impl Into<Bytes>) {
        self.deliver_with(Options::default(), position, seq, body);
    }

    pub(crate) fn deliver_with(
        &self,
        options: Options,
        position: u64,
        seq: u64,
        body: impl Into<Bytes>,
    ) {
        let body = body.into();
        let deliver = Deliver {
            position,
            from: Sender::Device("alice/pc".parse().unwrap()),
            epoch: 5,
            seq,
            accepted_ms: 1_700_000_000_000,
            options,
        };
        let lane = Lane::for_body(body.len());
        self.order(move |server| server.deliver(lane, &deliver, body));
    }

    pub(crate) fn close(&self, code: CloseCode) {
        self.order(move |server| server.close(Violation::new(code, "told to")));
    }

    /// From now on nothing is read, written or answered, and nothing closed.
    pub(crate) fn freeze(&self) {
        self.orders.send(None).unwrap();
    }

    /// Why the device ended the session.
    pub(crate) async fn ending(&self) -> holdfast_transport::Ending {
        within(self.connection.closed()).await.into()
    }
}

/// An allocator.
pub(crate) struct FakeAllocator {
    endpoint: Endpoint,
    answer: Arc<Mutex<Allocation>>,
    asked: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl FakeAllocator {
    /// One that names these relays.
    pub(crate) fn start(world: &World, relays: &[RelayAddress]) -> Self {
        let tls = world.server(&Identity::allocator("a1").unwrap());
        let tls = tls.server(&[version::ALLOCATION]).unwrap();
        let endpoint = port::bind(
            LOOPBACK,
            tls,
            Requests::Exchanges,
            &EndpointKeys::ephemeral().unwrap(),
        )
        .unwrap();
        let endpoint = endpoint.endpoint().clone();
        let answer = Arc::new(Mutex::new(naming(relays)));
        let asked = Arc::new(AtomicUsize::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(allocate(endpoint.clone(), answer.clone(), asked.clone()));
        Self {
            endpoint,
            answer,
            asked,
            _accepting: accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    pub(crate) fn name(&self, relays: &[RelayAddress]) {
        self.answers(naming(relays));
    }

    pub(crate) fn answers(&self, allocation: Allocation) {
        *self.answer.lock() = allocation;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn naming(relays: &[RelayAddress]) -> Allocation {
    Allocation::Relays {
        home: None,
        relays: relays.to_vec(),
    }
}

async fn allocate(endpoint: Endpoint, answer: Arc<Mutex<Allocation>>, asked: Arc<AtomicUsize>) {
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.await else {
            continue;
        };
        let Ok((mut send, recv)) = connection.accept_bi().await else {
            continue;
        };
        let question = exchange::read(recv).await.unwrap();
        question.header::<Locate>().unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        let allocation = answer.lock().clone();
        exchange::reply(&mut send, &allocation).await.unwrap();
        connection.closed().await;
    }
}
