//! The relay's side of its conversation with the allocator: keeps the lease, and asks where
//! accounts are at home.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased, Locate},
    close::{CloseCode, Violation},
    id::{Identity, Name},
    message::RelayAddress,
};
use holdfast_transport::{
    Ending,
    ending::error_code,
    endpoint,
    exchange::{self, ExchangeError},
    identity::peer_identity,
    live::{Admission, ClientTls, LiveCredentials},
};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    clock::Clock,
    core::{links::Links, router::Router},
    metrics::Metrics,
};

/// How long one allocator is tried, and how long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Before the next allocator is tried.
const PAUSE: Duration = Duration::from_millis(500);

/// How many homes are asked for at a time.
const MAX_ASKING: usize = 64;

/// What the allocator is told, and who is told what it says.
pub(crate) struct Keeper {
    /// The socket.
    pub(crate) endpoint: Endpoint,
    /// Our credentials, for the allocation protocol.
    pub(crate) tls: ClientTls,
    /// Whose certificates we take, and which were revoked.
    pub(crate) credentials: Arc<LiveCredentials>,
    /// The allocators, in the order in which they are tried.
    pub(crate) allocators: Vec<SocketAddr>,
    /// Which run of the relay this is.
    pub(crate) boot: u64,
    /// Where the relay can be reached.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Its share of accounts.
    pub(crate) capacity: u32,
    /// How many sessions there are.
    pub(crate) metrics: Arc<Metrics>,
    /// Waits for homes.
    pub(crate) router: Router,
    /// Wants to know where relays are.
    pub(crate) links: Links,
    /// The clocks.
    pub(crate) clock: Clock,
    /// The other live relays, as last heard.
    pub(crate) others: Arc<Mutex<Vec<RelayAddress>>>,
    /// The relay is stopping, and whether the allocator knows.
    pub(crate) draining: watch::Receiver<bool>,
    /// Set once the allocator knows that the relay is stopping.
    pub(crate) given_up: watch::Sender<bool>,
}

/// What came of asking for a home.
type Found = (Name, Result<Allocation, ExchangeError>);

impl Keeper {
    /// Keeps the lease for ever, with whichever allocator answers.
    pub(crate) async fn run(mut self) {
        let mut unknown = Unknown::default();
        for turn in 0.. {
            let address = self.allocators[turn % self.allocators.len()];
            let ending = match self.connect(address).await {
                Ok((connection, _admission)) => {
                    self.keep(&connection, &mut unknown).await.to_string()
                }
                Err(ending) => ending.to_string(),
            };
            tracing::warn!(%address, ending, "no lease: devices may not be told of this relay");
            sleep(PAUSE).await;
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<(Connection, Admission), Ending> {
        let trust_domain = self.credentials.trust_domain();
        let connecting =
            endpoint::dial_watched(&self.endpoint, self.tls.now(), address, trust_domain)?;
        let connection = timeout(TIMEOUT, connecting)
            .await
            .map_err(|_| Ending::Lost("it did not answer".to_owned()))??;
        let admitted = peer_identity(&connection, trust_domain)
            .and_then(is_allocator)
            .and_then(|()| self.credentials.admit(&connection));
        let refused = match admitted {
            Ok(admission) => return Ok((connection, admission)),
            Err(violation) => violation,
        };
        connection.close(error_code(refused.code), refused.what.as_bytes());
        Err(Ending::Lost(refused.what))
    }

    /// Renews the lease at a third of its term, and asks for homes meanwhile.
    async fn keep(&mut self, connection: &Connection, unknown: &mut Unknown) -> ExchangeError {
        let (asks, mut asking) = (self.router.asking(), JoinSet::new());
        unknown.ask_all_again();
        let mut renewal = Instant::now();
        loop {
            unknown.ask(connection, &mut asking);
            let kept = tokio::select! {
                () = sleep_until(renewal) => self.renew(connection).await.map(|at| renewal = at),
                () = asks.rung() => {
                    unknown.add(self.router.take_asks());
                    Ok(())
                }
                Ok(()) = self.draining.changed() => {
                    self.renew(connection).await.map(|at| renewal = at)
                }
                Some(Ok(found)) = asking.join_next() => self.found(unknown, found),
                () = unknown.pause_is_over() => Ok(()),
            };
            if let Err(error) = kept {
                return error;
            }
        }
    }

    async fn renew(&self, connection: &Connection) -> Result<Instant, ExchangeError> {
        let draining = *self.draining.borrow();
        let lease = Lease {
            boot: self.boot,
            addresses: self.addresses.clone(),
            capacity: self.capacity,
            sessions: u32::try_from(self.metrics.sessions.get()).unwrap_or(0),
            draining,
        };
        let asked = timeout(TIMEOUT, exchange::ask::<_, Leased>(connection, &lease));
        let leased = asked
            .await
            .map_err(|_| Ending::Lost("it did not answer".to_owned()))??;
        tracing::debug!(
            valid_ms = leased.valid_ms,
            others = leased.others.len(),
            "leased"
        );
        leased
            .others
            .iter()
            .for_each(|relay| self.links.update(relay));
        *self.others.lock() = leased.others;
        if draining {
            self.given_up.send_replace(true);
        }
        Ok(Instant::now() + Duration::from_millis(leased.valid_ms.into()) / 3)
    }

    fn found(&self, unknown: &mut Unknown, (account, answer): Found) -> Result<(), ExchangeError> {
        match answer? {
            Allocation::Relays {
                home: Some(home),
                relays,
            } => {
                unknown.remove(&account);
                let known = relays.into_iter().find(|relay| relay.name == home);
                let home = known.unwrap_or(RelayAddress {
                    name: home,
                    addresses: Vec::new(),
                });
                if let Err(error) = self.router.found(self.clock.now(), &account, &home) {
                    tracing::error!(%account, %error, "mail for an account could not be routed");
                }
            }
            Allocation::NoRelay { retry_after_ms } => {
                unknown.pause(account, Duration::from_millis(retry_after_ms.into()));
            }
            Allocation::Relays { home: None, .. } | Allocation::Denied => {
                tracing::error!(%account, "the allocator does not tell where an account is");
                unknown.pause(account, PAUSE);
            }
        }
        Ok(())
    }
}

fn is_allocator(identity: Identity) -> Result<(), Violation> {
    match identity {
        Identity::Allocator(_) => Ok(()),
        other => {
            let what = format!("{other} is no allocator");
            Err(Violation::new(CloseCode::WrongKind, what))
        }
    }
}

/// Accounts whose homes are not known yet.
#[derive(Default)]
struct Unknown {
    /// To be asked now.
    next: BTreeSet<Name>,
    /// Asked, and not answered.
    asked: BTreeSet<Name>,
    /// To be asked later.
    paused: BTreeMap<Name, Instant>,
}

impl Unknown {
    fn add(&mut self, names: Vec<Name>) {
        self.next.extend(names);
    }

    /// The connection is another one: what was asked on the last is asked anew.
    fn ask_all_again(&mut self) {
        self.next.append(&mut self.asked);
    }

    fn ask(&mut self, connection: &Connection, asking: &mut JoinSet<Found>) {
        while asking.len() < MAX_ASKING
            && let Some(account) = self.next.pop_first()
        {
            self.asked.insert(account.clone());
            let connection = connection.clone();
            asking.spawn(async move {
                let locate = Locate {
                    account: Some(account.clone()),
                };
                let answer = timeout(TIMEOUT, exchange::ask(&connection, &locate)).await;
                let late = || Ending::Lost("it did not answer".to_owned()).into();
                (account, answer.unwrap_or_else(|_| Err(late())))
            });
        }
    }

    fn remove(&mut self, account: &Name) {
        self.asked.remove(account);
    }

    fn pause(&mut self, account: Name, span: Duration) {
        self.asked.remove(&account);
        self.paused.insert(account, Instant::now() + span);
    }

    /// Waits until a paused account is to be asked again; for ever, if there is none.
    async fn pause_is_over(&mut self) {
        let Some(at) = self.paused.values().min().copied() else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        let now = Instant::now();
        let over: Vec<Name> = self
            .paused
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            self.paused.remove(&name);
            self.next.insert(name);
        }
    }
}
