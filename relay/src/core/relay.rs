//! A whole relay without I/O: the halves that the daemon drives from many tasks, driven one step
//! after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use holdfast_durable::Store;
use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased},
    close::{CloseCode, Violation},
    frame::Encoded,
    heartbeat::Deadline,
    id::{Identity, Name, Sender},
    message::RelayAddress,
    radio::RadioUses,
    server::ServerConfig,
    time::Time,
};
use holdfast_transport::gate::HandshakeLimits;

use super::{
    comeback::Comeback,
    end::{End, Exodus, Outgoing, Tide},
    link::{edge::Edge, home::Home},
    links::Links,
    manners::Manners,
    router::Router,
    session::Session,
    tenancy::{Question, Tenancy},
};
use crate::{
    mail::{desk::Moment, policy::Rules},
    metrics::Metrics,
    store::{StoreError, rows::RowStore},
};

/// One end of one connection of a relay; never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(u64);

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The relay's name.
    pub name: Name,
    /// Where devices and relays reach it, best first.
    pub addresses: Vec<SocketAddr>,
    /// How many accounts it takes, in proportion to the other relays' figures. At least 1.
    pub capacity: u32,
    /// The limits of every mailbox.
    pub rules: Rules,
    /// Added to one and a half times the announced interval before a silent device is dropped.
    pub ping_grace: Duration,
    /// What a session may take.
    pub manners: Manners,
    /// Handshakes that begin each second; 0 for no limit. Who connects is the caller's to decide; the
    /// devices are told how long all of them need.
    pub handshake_rate: u64,
    /// For the pauses between dials.
    pub seed: u64,
}

impl Settings {
    /// What holds if nobody decides otherwise. An address is still to be added.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            addresses: Vec::new(),
            capacity: 1,
            rules: Rules::default(),
            ping_grace: Deadline::DEFAULT_GRACE,
            manners: Manners::default(),
            handshake_rate: HandshakeLimits::default().rate,
            seed: 0,
        }
    }
}

/// What the caller is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this to the connection's control stream.
    Control {
        /// Which connection.
        conn: Conn,
        /// What.
        bytes: Bytes,
    },
    /// Write this to a unidirectional stream of its own; streams in the order of these.
    Bulk {
        /// Which connection.
        conn: Conn,
        /// What.
        frame: Encoded,
    },
    /// Send this datagram.
    Datagram {
        /// Which connection.
        conn: Conn,
        /// What.
        bytes: Bytes,
    },
    /// Close the connection. What comes of it afterwards is ignored.
    Close {
        /// Which connection.
        conn: Conn,
        /// Why.
        why: Violation,
    },
    /// Dial this relay; answer with [`Relay::linked`] or [`Relay::unlinked`].
    Dial(RelayAddress),
    /// Ask the allocator for this lease; answer with [`Relay::leased`].
    Lease(Lease),
    /// Ask the allocator for this account's home; answer with [`Relay::located`].
    Locate(Name),
}

/// One run of a relay. After each call take its [`Output`]s until there are no more, and call
/// [`timeout`](Self::timeout) when the [`deadline`](Self::deadline) has come.
///
/// To crash it, drop it.
pub struct Relay {
    boot: u64,
    is_ready: Arc<AtomicBool>,
    server: ServerConfig,
    manners: Manners,
    comeback: Comeback,
    metrics: Arc<Metrics>,
    router: Router,
    links: Links,
    tenancy: Tenancy,
    /// The other live relays, as last heard.
    others: Vec<RelayAddress>,
    edges: Vec<Edge>,
    tide: Tide,
    last_conn: u64,
    connections: BTreeMap<Conn, Connection>,
    outputs: VecDeque<Output>,
}

struct Connection {
    end: Box<dyn End + Send>,
    /// Who opened a session; `None` for a link.
    sender: Option<Sender>,
}

impl Relay {
    /// Begins another run on what earlier ones left in the store. Nothing comes of it before it
    /// [is ready](Self::is_ready).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn boot(settings: Settings, store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let (store, is_ready) = (RowStore::new(store), Arc::new(AtomicBool::new(false)));
        let ready = is_ready.clone();
        let boot = store.next_boot(Box::new(move || ready.store(true, Ordering::Release)))?;
        let server = ServerConfig {
            relay: settings.name.clone(),
            boot: boot.number,
            max_body: settings.rules.max_body,
            ping_grace: settings.ping_grace,
        };
        let (number, links) = (boot.number, Links::new(settings.seed));
        let metrics = Arc::<Metrics>::default();
        let router = Router::new(
            (settings.name, boot),
            settings.rules,
            Arc::new(store),
            metrics.clone(),
            links.clone(),
        );
        Ok(Self {
            boot: number,
            is_ready,
            server,
            manners: settings.manners,
            comeback: Comeback {
                per_second: settings.handshake_rate,
            },
            metrics,
            router,
            links,
            tenancy: Tenancy::new(number, settings.addresses, settings.capacity),
            others: Vec::new(),
            edges: Vec::new(),
            tide: Tide::Running,
            last_conn: 0,
            connections: BTreeMap::new(),
            outputs: VecDeque::new(),
        })
    }

    /// Whether the number of this run is durable. Until then nobody is served.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// The number of this run: larger than that of any before.
    pub fn boot_number(&self) -> u64 {
        self.boot
    }

    /// Somebody has connected; `who` is what the certificate says.
    ///
    /// # Errors
    /// When nobody of this kind is served, or nobody is yet; the connection is to be closed so.
    pub fn accept(&mut self, now: Moment, who: &Identity) -> Result<Conn, Violation> {
        if !self.is_ready() {
            let what = "the relay is still starting";
            return Err(Violation::new(CloseCode::GoingAway, what));
        }
        let sender = match who {
            Identity::Device(device) => Sender::Device(device.clone()),
            Identity::Service(name) => Sender::Service(name.clone()),
            Identity::Relay(relay) => {
                let home = Home::new(self.router.clone(), relay.clone());
                return Ok(self.connect(Box::new(home), None));
            }
            Identity::Allocator(_) => {
                let what = format!("{who} may not speak with a relay");
                return Err(Violation::new(CloseCode::WrongKind, what));
            }
        };
        let (router, config) = (self.router.clone(), self.server.clone());
        let bounds = (&self.manners, self.comeback);
        let mut session = Session::new(router, config, sender.clone(), bounds, now);
        session.turn(now, self.tide.clone());
        Ok(self.connect(Box::new(session), Some(sender)))
    }

    /// Bytes of a connection's control stream.
    pub fn control(&mut self, now: Moment, conn: Conn, bytes: Bytes) {
        self.with(now, conn, |end| end.control(now, bytes));
    }

    /// A whole unidirectional stream, in the order in which the other side opened them.
    pub fn bulk(&mut self, now: Moment, conn: Conn, bytes: Bytes) {
        self.with(now, conn, |end| end.bulk(now, bytes));
    }

    /// A datagram that came from `observed`.
    pub fn datagram(&mut self, now: Moment, conn: Conn, bytes: Bytes, observed: SocketAddr) {
        self.with(now, conn, |end| end.datagram(now, bytes, observed));
    }

    /// So many bytes were given out for a connection and have not left yet.
    pub fn set_backlog(&mut self, now: Moment, conn: Conn, bytes: usize) {
        self.with(now, conn, |end| end.set_backlog(now, bytes));
    }

    /// A connection is gone.
    pub fn ended(&mut self, now: Moment, conn: Conn) {
        if let Some(connection) = self.connections.remove(&conn) {
            self.see_off(now, connection);
        }
    }

    /// The relay of an [`Output::Dial`] has answered.
    pub fn linked(&mut self, now: Moment, relay: &Name) -> Option<Conn> {
        let edge = self.links.edge(relay)?;
        edge.linked(now);
        Some(self.connect(Box::new(edge), None))
    }

    /// The relay of an [`Output::Dial`] cannot be reached.
    pub fn unlinked(&mut self, now: Moment, relay: &Name) {
        if let Some(edge) = self.links.edge(relay) {
            edge.unlinked(now);
        }
    }

    /// The allocator's answer to [`Output::Lease`]; `None` if there is none.
    pub fn leased(&mut self, now: Moment, answer: Option<Leased>) {
        let Some(leased) = answer else {
            return self.tenancy.not_leased(now.time);
        };
        self.tenancy.leased(now.time, &leased);
        leased
            .others
            .iter()
            .for_each(|relay| self.links.update(relay));
        self.others = leased.others;
    }

    /// The allocator's answer to [`Output::Locate`]; `None` if there is none.
    pub fn located(&mut self, now: Moment, account: &Name, answer: Option<Allocation>) {
        let Some(home) = self.tenancy.located(now.time, account, answer) else {
            return;
        };
        if let Err(error) = self.router.found(now, account, &home) {
            tracing::error!(%account, %error, "mail for an account could not be routed");
        }
    }

    /// Asks every device to go elsewhere, and the allocator to send no more.
    pub fn drain(&mut self, now: Moment, within: Duration) {
        self.tenancy.drain();
        let crowd = (self.session_count(), self.comeback);
        let exodus = Exodus::begin(now.time, within, crowd, self.others.clone());
        self.tide = Tide::Draining(exodus);
        self.turn(now, &self.tide.clone());
    }

    /// Ends every session, and then every link.
    pub fn stop(&mut self, now: Moment) {
        self.turn(now, &Tide::Stopping);
        for (conn, link) in std::mem::take(&mut self.connections) {
            self.see_off(now, link);
            let why = Violation::new(CloseCode::GoingAway, "the relay is stopping");
            self.outputs.push_back(Output::Close { conn, why });
        }
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Moment) {
        self.router.work(now);
        for conn in self.all() {
            self.with(now, conn, |end| {
                if end.deadline().is_some_and(|deadline| deadline <= now.time) {
                    end.timeout(now);
                }
            });
        }
    }

    /// When [`timeout`](Self::timeout) is due.
    pub fn deadline(&self) -> Time {
        let ends = self.connections.values();
        let ends = ends.filter_map(|connection| connection.end.deadline());
        let edges = self.edges.iter().filter_map(Edge::rests_until);
        let all = ends.chain(edges).chain(self.tenancy.deadline());
        all.fold(self.router.deadline(), Time::min)
    }

    /// The next thing to do; also of what the store has made durable.
    pub fn poll(&mut self, now: Moment) -> Option<Output> {
        if self.outputs.is_empty() && self.is_ready() {
            self.settle(now);
        }
        self.outputs.pop_front()
    }

    /// The devices of an account on the online list, if it is at home here, in the order of their
    /// names. Devices that are attached to another relay are on it, too.
    pub fn online(&self, account: &Name) -> Vec<Name> {
        self.router.online(account)
    }

    /// Who has a session with this relay.
    pub fn sessions(&self) -> Vec<(Conn, Sender)> {
        let sessions = self.connections.iter();
        sessions
            .filter_map(|(conn, connection)| Some((*conn, connection.sender.clone()?)))
            .collect()
    }

    /// How many bytes of bodies are held in memory while attached devices are awaited.
    pub fn held_bytes(&self) -> u64 {
        self.router.held()
    }

    /// What all sessions of devices have used of their radios in this run, as far as the relay can tell;
    /// the times are those of all devices together.
    pub fn radio_use(&self, now: Time) -> RadioUses {
        self.metrics.batteries.used(now)
    }

    fn connect(&mut self, end: Box<dyn End + Send>, sender: Option<Sender>) -> Conn {
        self.last_conn += 1;
        if sender.is_some() {
            self.metrics.sessions.inc();
        }
        let (conn, connection) = (Conn(self.last_conn), Connection { end, sender });
        self.connections.insert(conn, connection);
        conn
    }

    fn see_off(&mut self, now: Moment, mut connection: Connection) {
        connection.end.leave(now);
        if connection.sender.is_some() {
            self.metrics.sessions.dec();
        }
    }

    fn session_count(&self) -> usize {
        usize::try_from(self.metrics.sessions.get()).unwrap_or(0)
    }

    fn all(&self) -> Vec<Conn> {
        self.connections.keys().copied().collect()
    }

    fn turn(&mut self, now: Moment, tide: &Tide) {
        for conn in self.all() {
            self.with(now, conn, |end| end.turn(now, tide.clone()));
        }
    }

    /// Has one end do something, and takes what it says.
    fn with(&mut self, now: Moment, conn: Conn, act: impl FnOnce(&mut dyn End)) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        act(&mut *connection.end);
        while let Some(outgoing) = connection.end.poll() {
            match outgoing {
                Outgoing::Control(bytes) => {
                    self.outputs.push_back(Output::Control { conn, bytes });
                }
                Outgoing::Bulk(frame) => self.outputs.push_back(Output::Bulk { conn, frame }),
                Outgoing::Datagram(bytes) => {
                    self.outputs.push_back(Output::Datagram { conn, bytes });
                }
                Outgoing::Close(why) => {
                    self.outputs.push_back(Output::Close { conn, why });
                    return self.ended(now, conn);
                }
            }
        }
    }

    /// Has all parts act on what the others have done, until none has anything to do.
    fn settle(&mut self, now: Moment) {
        loop {
            let mut is_quiet = true;
            if self.router.bell().take() {
                is_quiet = false;
                self.router.work(now);
            }
            for conn in self.all() {
                let rung = self.connections.get(&conn);
                if rung.is_some_and(|connection| connection.end.bell().take()) {
                    is_quiet = false;
                    self.with(now, conn, |end| end.hand_over(now));
                }
            }
            if is_quiet {
                break;
            }
        }
        self.dial(now);
        self.ask(now);
    }

    fn dial(&mut self, now: Moment) {
        self.edges.extend(self.links.take_fresh());
        for edge in &self.edges {
            if edge.rests_until().is_some_and(|until| until <= now.time) {
                self.outputs.push_back(Output::Dial(RelayAddress {
                    name: edge.name().clone(),
                    addresses: edge.dial(),
                }));
            }
        }
    }

    fn ask(&mut self, now: Moment) {
        self.tenancy.want(self.router.take_asks());
        let sessions = u32::try_from(self.session_count()).unwrap_or(u32::MAX);
        while let Some(question) = self.tenancy.poll(now.time, sessions) {
            self.outputs.push_back(match question {
                Question::Lease(lease) => Output::Lease(lease),
                Question::Locate(account) => Output::Locate(account),
            });
        }
    }
}

#[cfg(test)]
mod tests;
