//! What an app decides before it connects.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use holdfast_protocol::{heartbeat::PingSchedule, id::Agent, limits::MAX_PING_INTERVAL};
use holdfast_transport::credentials::CredentialFiles;

use crate::ConnectError;

/// What a [`Client`](crate::Client) is made from. [`Config::new`] fills in what most apps want:
///
/// ```
/// use holdfast::{Config, CredentialFiles};
///
/// let credentials = CredentialFiles {
///     certificate: "device/alice/phone.pem".into(),
///     key: "device/alice/phone.key".into(),
///     authority: "authority.pem".into(),
///     revoked: None,
/// };
/// let config = Config {
///     directory: Some("holdfast".into()),
///     ..Config::new(credentials, vec!["192.0.2.1:4400".parse().unwrap()])
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The device's or service's certificate and key, and the authority it trusts.
    pub credentials: CredentialFiles,
    /// Where the allocators listen; they are asked in this order. At least one.
    pub allocators: Vec<SocketAddr>,
    /// Where the outbox and the inbox are kept; made when it is not there. It belongs to one
    /// identity, and to one process at a time.
    ///
    /// `None` keeps both in memory: what was not handed over before the process ends is lost, and
    /// what was not acknowledged before it ends is received again.
    pub directory: Option<PathBuf>,
    /// What the app says it is, for the relay's log: 1 to 64 bytes. Nothing is decided by it.
    pub agent: String,
    /// How to ping, at most every 600 s.
    pub pings: PingSchedule,
    /// How long to wait between two rounds of attempts to connect.
    pub retry: Retry,
    /// How long one address may take to answer before another is tried. A relay to which many come at
    /// once lets them wait for up to a second, so not less than two.
    pub dial_timeout: Duration,
}

impl Config {
    /// Pings every 25 s, gives an address 5 s to answer, and keeps everything in memory.
    pub fn new(credentials: CredentialFiles, allocators: Vec<SocketAddr>) -> Self {
        Self {
            credentials,
            allocators,
            directory: None,
            agent: concat!("holdfast-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            pings: PingSchedule::default(),
            retry: Retry::default(),
            dial_timeout: Duration::from_secs(5),
        }
    }

    /// Whether it can be used at all; the agent, checked.
    pub(crate) fn check(&self) -> Result<Agent, ConnectError> {
        if self.allocators.is_empty() {
            return Err(ConnectError::NoAllocator);
        }
        let pings = &self.pings;
        if pings.interval > MAX_PING_INTERVAL || pings.attempts == 0 || pings.timeout.is_zero() {
            return Err(ConnectError::BadPings);
        }
        self.agent.parse().map_err(ConnectError::Agent)
    }
}

/// How long to wait before the next round, when every relay and every allocator has failed: at
/// random between nothing and `base`, then twice `base`, and so on up to `cap` ("full jitter", from
/// the AWS Architecture Blog's "Exponential Backoff and Jitter", 2015), so that a fleet that lost
/// its relay does not come back all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// Makes the waits repeatable, for tests; random without one.
    pub seed: Option<u64>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            seed: None,
        }
    }
}
