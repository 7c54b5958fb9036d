//! Carries the relay's conversation with the allocator; what is said is the
//! [`tenancy`](crate::core::tenancy)'s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_protocol::{
    allocation::{Allocation, Leased, Locate},
    close::{CloseCode, Violation},
    frame::Header,
    id::{Identity, Name},
    message::RelayAddress,
    time::Time,
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
    time::{sleep, sleep_until, timeout},
};

use crate::{
    clock::Clock,
    core::{
        links::Links,
        router::Router,
        tenancy::{PAUSE, Question, Tenancy},
    },
    metrics::Metrics,
};

/// How long one allocator is tried, and how long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

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
    /// What it is told and asked.
    pub(crate) tenancy: Tenancy,
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

/// What came of asking.
enum Answer {
    Lease(Result<Leased, ExchangeError>),
    Locate(Name, Result<Allocation, ExchangeError>),
}

impl Keeper {
    /// Keeps the lease for ever, with whichever allocator answers.
    pub(crate) async fn run(mut self) {
        for turn in 0.. {
            let address = self.allocators[turn % self.allocators.len()];
            let ending = match self.connect(address).await {
                Ok((connection, _admission)) => self.keep(&connection).await.to_string(),
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

    /// Asks whatever there is to ask, until the connection ends.
    async fn keep(&mut self, connection: &Connection) -> ExchangeError {
        let (asks, mut answers) = (self.router.asking(), JoinSet::new());
        self.tenancy.reconnected();
        loop {
            self.tenancy.want(self.router.take_asks());
            let sessions = u32::try_from(self.metrics.sessions.get()).unwrap_or(0);
            while let Some(question) = self.tenancy.poll(self.clock.time(), sessions) {
                answers.spawn(ask(connection.clone(), question));
            }
            let kept = tokio::select! {
                () = asks.rung() => Ok(()),
                () = due(self.clock, self.tenancy.deadline()) => Ok(()),
                Ok(()) = self.draining.changed() => {
                    self.tenancy.drain();
                    Ok(())
                }
                Some(Ok(answer)) = answers.join_next() => self.take(answer),
            };
            if let Err(error) = kept {
                return error;
            }
        }
    }

    fn take(&mut self, answer: Answer) -> Result<(), ExchangeError> {
        match answer {
            Answer::Lease(answer) => self.leased(answer?),
            Answer::Locate(account, answer) => self.located(&account, answer?),
        }
        Ok(())
    }

    fn leased(&mut self, leased: Leased) {
        let others = leased.others.len();
        tracing::debug!(valid_ms = leased.valid_ms, others, "leased");
        let knows = self.tenancy.leased(self.clock.time(), &leased);
        let others = leased.others;
        others.iter().for_each(|relay| self.links.update(relay));
        *self.others.lock() = others;
        // Last: who waits for it sends the devices to the others.
        if knows {
            self.given_up.send_replace(true);
        }
    }

    fn located(&mut self, account: &Name, answer: Allocation) {
        let now = self.clock.now();
        let Some(home) = self.tenancy.located(now.time, account, Some(answer)) else {
            return;
        };
        if let Err(error) = self.router.found(now, account, &home) {
            tracing::error!(%account, %error, "mail for an account could not be routed");
        }
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

async fn ask(connection: Connection, question: Question) -> Answer {
    match question {
        Question::Lease(lease) => Answer::Lease(exchange(&connection, &lease).await),
        Question::Locate(account) => {
            let locate = Locate {
                account: Some(account.clone()),
            };
            Answer::Locate(account, exchange(&connection, &locate).await)
        }
    }
}

async fn exchange<Q: Header, A: Header>(
    connection: &Connection,
    question: &Q,
) -> Result<A, ExchangeError> {
    let answer = timeout(TIMEOUT, exchange::ask(connection, question)).await;
    answer.unwrap_or_else(|_| Err(Ending::Lost("it did not answer".to_owned()).into()))
}

/// Waits until a moment; for ever, if there is none.
async fn due(clock: Clock, at: Option<Time>) {
    match at {
        Some(at) => sleep_until(clock.instant(at)).await,
        None => std::future::pending().await,
    }
}
