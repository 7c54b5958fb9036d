//! Devices that speak the protocol and do nothing else: they write nothing down, find no other relay, and
//! are done with what comes as soon as it is there. They cost the load generator little, so that it is the
//! relay that is measured, and not the client library beside it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use holdfast::{Config, PingSchedule};
use holdfast_protocol::{
    allocation::{Allocation, Locate},
    client::{Action, Client, ClientConfig, Event},
    id::{Lane, Recipient},
    limits::MAX_BULK_BODY,
    message::{Ack, Options, Outcome, Receipt, Submit},
    time::Time,
    version,
};
use holdfast_transport::{
    Ending,
    credentials::Credentials,
    endpoint, exchange,
    wire::{Incoming, Wire},
};
use quinn::{Connection, Endpoint};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    task::JoinSet,
    time::sleep_until,
};

use super::{Problem, audience::Progress, pair::Pair, target::Site};

/// How many messages are taken from the app at a time.
const BATCH: usize = 256;

/// A message of the app's, and who waits for the answer.
struct Order {
    body: Bytes,
    answered: oneshot::Sender<Outcome>,
}

/// Two devices of an account.
pub(crate) struct LeanDevices {
    orders: UnboundedSender<Order>,
    _sessions: JoinSet<Ending>,
}

impl LeanDevices {
    /// So many pairs, attached.
    pub(crate) async fn attach(
        site: &Site,
        pairs: u32,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Self>, Problem> {
        let mut attached = Vec::new();
        for number in 0..pairs {
            let account = format!("bench-{number}");
            let [pc, phone] = ["pc", "phone"].map(|device| format!("{account}/{device}"));
            let writer = Session::begin(&site.device(&account, "pc")?, &phone).await?;
            let reader = Session::begin(&site.device(&account, "phone")?, &pc).await?;
            attached.push(Self::new(writer, reader));
            progress.add(2.0);
        }
        Ok(attached)
    }

    fn new(writer: Session, reader: Session) -> Self {
        let (orders, taken) = mpsc::unbounded_channel();
        // The reader's app writes nothing.
        let (_, none) = mpsc::unbounded_channel();
        let mut sessions = JoinSet::new();
        sessions.spawn(writer.run(taken));
        sessions.spawn(reader.run(none));
        Self {
            orders,
            _sessions: sessions,
        }
    }
}

impl Pair for LeanDevices {
    async fn exchange(&self, body: Bytes) -> Result<(), Problem> {
        let (answered, hears) = oneshot::channel();
        let order = Order { body, answered };
        self.orders.send(order).map_err(|_| Problem::Lost)?;
        match hears.await.map_err(|_| Problem::Lost)? {
            Outcome::Delivered => Ok(()),
            Outcome::Refused(refusal) => Err(Problem::Refused(refusal)),
            Outcome::Stored | Outcome::Expired | Outcome::Replaced => Err(Problem::Lost),
        }
    }
}

/// One device's session.
struct Session {
    wire: Wire,
    client: Client,
    origin: Instant,
    to: Recipient,
    /// The number of the next message.
    next: u64,
    waiting: VecDeque<Order>,
    unanswered: BTreeMap<u64, oneshot::Sender<Outcome>>,
    _socket: Endpoint,
}

impl Session {
    /// Asks for a relay, dials it, and is welcomed. What it writes goes to one device.
    async fn begin(config: &Config, to: &str) -> Result<Self, Problem> {
        let credentials = Credentials::load(&config.credentials);
        let credentials = credentials.map_err(lean)?;
        let socket = endpoint::bind_client(any(config.allocators[0]));
        let socket = socket.map_err(Problem::io("a socket"))?;
        let relay = locate(&socket, &credentials, config.allocators[0]).await?;
        let connection = dial(&socket, &credentials, version::SESSION, relay).await?;
        let wire = Wire::open(connection, MAX_BULK_BODY).await.map_err(lean)?;
        let client = Client::new(ClientConfig {
            agent: "holdfast-bench".parse().map_err(lean)?,
            outbox: rand::random(),
            inbox: rand::random(),
            pings: PingSchedule::default(),
        });
        let mut session = Self {
            wire,
            client,
            origin: Instant::now(),
            to: to.parse().map_err(lean)?,
            next: 1,
            waiting: VecDeque::new(),
            unanswered: BTreeMap::new(),
            _socket: socket,
        };
        session.client.start(session.now());
        while !session.client.is_attached() {
            session.act();
            let incoming = session.wire.next().await.map_err(lean)?;
            session.hear(incoming);
        }
        Ok(session)
    }

    fn now(&self) -> Time {
        Time::at(self.origin.elapsed())
    }

    /// Until the connection ends, or nobody wants it any more.
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) -> Ending {
        let mut batch = Vec::new();
        loop {
            self.submit();
            self.act();
            let deadline = self.client.deadline().unwrap_or(Time::at(Duration::MAX));
            let far = self.origin + deadline.since_origin().min(Duration::from_secs(86_400));
            tokio::select! {
                incoming = self.wire.next() => match incoming {
                    Ok(incoming) => self.hear(incoming),
                    Err(ending) => return ending,
                },
                _ = orders.recv_many(&mut batch, BATCH), if !orders.is_closed() => {
                    self.waiting.extend(batch.drain(..));
                }
                () = sleep_until(far.into()) => self.client.handle_timeout(self.now()),
            }
        }
    }

    fn hear(&mut self, incoming: Incoming) {
        let now = self.now();
        match incoming {
            Incoming::Control(bytes) => self.client.handle_control(now, bytes),
            Incoming::Bulk(bytes) => self.client.handle_bulk(bytes),
            Incoming::Datagram(bytes) => self.client.handle_datagram(now, bytes),
        }
    }

    /// As many messages as the relay's window takes.
    fn submit(&mut self) {
        while let Some(order) = self.waiting.pop_front() {
            let submit = Submit {
                seq: self.next,
                to: self.to.clone(),
                options: Options {
                    notify: true,
                    ..Options::default()
                },
                again: false,
            };
            if self.client.submit(submit, order.body.clone()).is_err() {
                self.waiting.push_front(order);
                return;
            }
            self.unanswered.insert(self.next, order.answered);
            self.next += 1;
        }
    }

    /// Does what there is to do, and acknowledges all that came, at once.
    fn act(&mut self) {
        let mut came: [Option<Ack>; 2] = [None, None];
        while let Some(action) = self.client.poll() {
            match action {
                Action::Control(bytes) => self.wire.control(bytes),
                Action::Bulk(frame) => self.wire.bulk(frame),
                // A later one says the same.
                Action::Datagram(bytes) => drop(self.wire.datagram(bytes)),
                Action::Close(violation) => self.wire.close(&violation),
                Action::Event(Event::Receipt(receipt)) => self.answer(&receipt),
                Action::Event(Event::Message { lane, deliver, .. }) => {
                    came[lane as usize] = Some(ack(lane, deliver.position));
                }
                Action::Event(Event::Gap(gap)) => {
                    came[Lane::Message as usize] = Some(ack(Lane::Message, gap.position));
                }
                Action::Event(_) => {}
            }
        }
        for ack in came.into_iter().flatten() {
            self.client.ack(ack);
        }
        while let Some(Action::Control(bytes)) = self.client.poll() {
            self.wire.control(bytes);
        }
    }

    fn answer(&mut self, receipt: &Receipt) {
        if !receipt.outcome.is_final() {
            return;
        }
        if let Some(answered) = self.unanswered.remove(&receipt.seq) {
            // Fails only if nobody waits any more.
            let _ = answered.send(receipt.outcome);
        }
    }
}

fn ack(lane: Lane, through: u64) -> Ack {
    Ack { lane, through }
}

/// The first address of the relay that an allocator names first.
async fn locate(
    socket: &Endpoint,
    credentials: &Credentials,
    allocator: SocketAddr,
) -> Result<SocketAddr, Problem> {
    let connection = dial(socket, credentials, version::ALLOCATION, allocator).await?;
    loop {
        let asked = exchange::ask(&connection, &Locate { account: None }).await;
        match asked.map_err(lean)? {
            Allocation::Relays { relays, .. } => {
                let mut addresses = relays.iter().flat_map(|relay| relay.addresses.iter());
                return addresses.next().copied().ok_or(Problem::Lost);
            }
            Allocation::NoRelay { retry_after_ms } => {
                tokio::time::sleep(Duration::from_millis(retry_after_ms.into())).await;
            }
            Allocation::Denied => return Err(lean("the allocator does not say where a relay is")),
        }
    }
}

async fn dial(
    socket: &Endpoint,
    credentials: &Credentials,
    alpn: &[u8],
    to: SocketAddr,
) -> Result<Connection, Problem> {
    let tls = credentials.client(alpn).map_err(lean)?;
    let connecting = endpoint::dial(socket, tls, to, credentials.trust_domain());
    connecting.map_err(lean)?.await.map_err(lean)
}

/// Any address and port of the family of another.
fn any(other: SocketAddr) -> SocketAddr {
    let address = match other.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, 0)
}

fn lean(error: impl ToString) -> Problem {
    Problem::Lean(error.to_string())
}
