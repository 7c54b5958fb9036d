//! What an operator decides: one TOML file.

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use holdfast_durable::Compaction;
use holdfast_protocol::{heartbeat::Deadline, limits};
use holdfast_transport::{credentials::CredentialFiles, gate::HandshakeLimits};
use serde::Deserialize;

use crate::core::Manners;
use crate::mail::{
    policy::{MESSAGE_OVERHEAD, Rules, Strangers},
    room::Load,
};

/// A relay's configuration. Relative paths are taken from the file's folder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where devices and other relays connect (UDP).
    pub listen: SocketAddr,
    /// Where they are told to, best first, if that is not where the relay listens.
    #[serde(default)]
    pub advertise: Vec<SocketAddr>,
    /// Where `/health` and `/metrics` are served (TCP, no authentication: a loopback address).
    pub admin: Option<SocketAddr>,
    /// Where mail waits.
    pub data: PathBuf,
    /// Where TLS sessions are kept that devices may resume; if not said, `tickets` in `data`. Relays
    /// that share it resume each other's.
    #[serde(default)]
    pub tickets: Option<PathBuf>,
    /// The allocators, in the order in which they are tried.
    pub allocators: Vec<SocketAddr>,
    /// The relay's share of accounts, in proportion to other relays' figures.
    #[serde(default = "one")]
    pub capacity: u32,
    /// How many threads carry messages; if not said, one less than there are processors, and at least
    /// one: the store has threads of its own, and each further one is woken for what another has in
    /// hand already.
    pub threads: Option<NonZeroUsize>,
    /// Certificate, key, authority and list of revoked certificates.
    pub credentials: CredentialFiles,
    /// How much may wait, and for how long.
    #[serde(default)]
    pub limits: Limits,
    /// What a session may take of the relay.
    #[serde(default)]
    pub sessions: Manners,
    /// What may come in at a time.
    #[serde(default)]
    pub handshakes: HandshakeLimits,
    /// How the store is kept.
    #[serde(default)]
    pub store: Upkeep,
}

/// When the store gives back to the disk what was deleted, by moving what is left into a new log:
/// when the old one takes more than both of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upkeep {
    /// So many bytes. While nothing is written, more than 24 MiB are too many, too.
    pub compact_above: u64,
    /// So many times what is live in it; at least 1.
    pub compact_factor: u64,
}

impl Default for Upkeep {
    fn default() -> Self {
        let Compaction {
            spare_bytes: compact_above,
            factor: compact_factor,
            ..
        } = Compaction::default();
        Self {
            compact_above,
            compact_factor,
        }
    }
}

impl Upkeep {
    pub(crate) fn compaction(self) -> Compaction {
        let usual = Compaction::default();
        Compaction {
            spare_bytes: self.compact_above,
            idle_spare_bytes: usual.idle_spare_bytes.min(self.compact_above),
            factor: self.compact_factor,
            ..usual
        }
    }
}

/// How much may wait, and for how long.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Who may write across accounts: `allowed` senders only, or `open` to all.
    pub strangers: Strangers,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// How many messages may wait for one device.
    pub max_messages: usize,
    /// How many bytes may wait for one device.
    pub max_bytes: u64,
    /// How many of a device's messages may come from one account or service; if not said, a quarter
    /// of `max_messages`, but at least 256.
    pub max_pair_messages: Option<usize>,
    /// How many of a device's bytes may come from one account or service; if not said, a quarter of
    /// `max_bytes`, but at least four of the largest bodies.
    pub max_pair_bytes: Option<u64>,
    /// How many devices an account may have.
    pub max_devices: usize,
    /// How many keys an account may retain.
    pub max_retained: usize,
    /// How many bytes an account may retain.
    pub max_retained_bytes: u64,
    /// How long a message may wait, at most and unless its sender says less.
    #[serde(with = "humantime_serde")]
    pub max_ttl: Duration,
    /// How long a device may be away before it is forgotten, with what waits for it; in whole days,
    /// rounded up.
    #[serde(with = "humantime_serde")]
    pub forget_device_after: Duration,
    /// How many bytes may be held in memory while attached devices are awaited.
    pub max_held_bytes: u64,
    /// From which fill of the disk on new mail is refused, from 0 to 1, unless as much is free as
    /// [`disk_reserve`](Self::disk_reserve) says.
    pub max_disk_fill: f64,
    /// How many bytes suffice to be free on any disk, beside those that the store needs to move into a new
    /// log.
    pub disk_reserve: u64,
    /// Added to one and a half times its announced interval before a silent device is dropped.
    #[serde(with = "humantime_serde")]
    pub ping_grace: Duration,
    /// How long sessions have to go elsewhere when the relay is asked to stop, at most; they set out over
    /// three quarters of it, or sooner if the other relays can take them sooner.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let rules = Rules::default();
        Self {
            strangers: rules.strangers,
            max_body: rules.max_body,
            max_messages: rules.mailbox.messages,
            max_bytes: rules.mailbox.bytes,
            max_pair_messages: None,
            max_pair_bytes: None,
            max_devices: rules.max_devices,
            max_retained: rules.max_retained,
            max_retained_bytes: rules.max_retained_bytes,
            max_ttl: rules.max_ttl,
            forget_device_after: rules.forget_device_after,
            max_held_bytes: rules.max_held_bytes,
            max_disk_fill: 0.85,
            disk_reserve: 4 * 1024 * 1024 * 1024,
            ping_grace: Deadline::DEFAULT_GRACE,
            drain: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Small mailboxes are not divided: a sender that keeps its window full must not be refused
    /// while there is room.
    fn pair(&self) -> Load {
        let least = Load {
            messages: limits::WINDOW as usize,
            bytes: 4 * (self.max_body as u64 + MESSAGE_OVERHEAD),
        };
        let messages = (self.max_messages / 4).max(least.messages);
        let bytes = (self.max_bytes / 4).max(least.bytes);
        Load {
            messages: self.max_pair_messages.unwrap_or(messages),
            bytes: self.max_pair_bytes.unwrap_or(bytes),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// A value is out of range.
    #[error("{key}: {what}")]
    OutOfRange {
        /// Which value.
        key: &'static str,
        /// What it has to be.
        what: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file or the value, and says what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Invalid {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let config = config.resolve(path.parent().unwrap_or(Path::new("")));
        config.check()?;
        Ok(config)
    }

    fn resolve(self, base: &Path) -> Self {
        let (data, credentials) = (base.join(&self.data), self.credentials.resolve(base));
        Self {
            data,
            tickets: self.tickets.map(|tickets| base.join(tickets)),
            credentials,
            ..self
        }
    }

    /// Checks what types do not say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let out_of_range = |key, what: String| Err(ConfigError::OutOfRange { key, what });
        if self.allocators.is_empty() {
            return out_of_range(
                "allocators",
                "name at least one, as \"HOST:PORT\"".to_owned(),
            );
        }
        if self.capacity == 0 {
            return out_of_range("capacity", "has to be at least 1".to_owned());
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_empty() {
            let what = format!("{} is no address to connect to: name one", self.listen);
            return out_of_range("advertise", what);
        }
        if self.advertise.len() > limits::MAX_ADDRESSES {
            return out_of_range("advertise", format!("{} at most", limits::MAX_ADDRESSES));
        }
        if !(self.limits.max_disk_fill > 0.0 && self.limits.max_disk_fill <= 1.0) {
            let what = "has to be above 0, and 1 at most".to_owned();
            return out_of_range("limits.max_disk_fill", what);
        }
        let bodies = limits::MAX_MESSAGE_BODY..=limits::MAX_BULK_BODY;
        if !bodies.contains(&self.limits.max_body) {
            let what = format!(
                "has to be from {} to {} bytes",
                bodies.start(),
                bodies.end()
            );
            return out_of_range("limits.max_body", what);
        }
        if self.store.compact_factor == 0 {
            let what = "has to be at least 1: what is live stays".to_owned();
            return out_of_range("store.compact_factor", what);
        }
        if self.handshakes.max == 0 {
            return out_of_range("handshakes.max", "has to be at least 1".to_owned());
        }
        if self.sessions.datagrams_per_second == 0 || self.sessions.datagrams_burst == 0 {
            let what = "pings have to come through".to_owned();
            return out_of_range("sessions.datagrams_per_second", what);
        }
        if self.limits.max_ttl > limits::MAX_TTL {
            let days = limits::MAX_TTL.as_secs() / 86_400;
            return out_of_range("limits.max_ttl", format!("has to be at most {days} days"));
        }
        Ok(())
    }

    /// How many threads carry messages.
    pub(crate) fn threads(&self) -> usize {
        let spare = || thread::available_parallelism().map_or(1, |all| all.get() - 1);
        self.threads.map_or_else(spare, NonZeroUsize::get).max(1)
    }

    pub(crate) fn tickets(&self) -> PathBuf {
        let own = || self.data.join("tickets");
        self.tickets.clone().unwrap_or_else(own)
    }

    pub(crate) fn rules(&self) -> Rules {
        let limits = &self.limits;
        Rules {
            strangers: limits.strangers,
            max_body: limits.max_body,
            mailbox: Load {
                messages: limits.max_messages,
                bytes: limits.max_bytes,
            },
            pair: limits.pair(),
            max_devices: limits.max_devices,
            max_retained: limits.max_retained,
            max_retained_bytes: limits.max_retained_bytes,
            max_ttl: limits.max_ttl,
            forget_device_after: limits.forget_device_after,
            max_held_bytes: limits.max_held_bytes,
            ..Rules::default()
        }
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        listen = "127.0.0.2:4433"
        data = "mail"
        allocators = ["127.0.0.4:4434"]

        [credentials]
        certificate = "relay/r1.pem"
        key = "relay/r1.key"
        authority = "authority.pem"
    "#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        fs::write(&path, text).unwrap();
        let config = Config::load(&path)?;
        assert_eq!(
            config.data,
            dir.path().join("mail"),
            "paths are taken from the file's folder"
        );
        Ok(config)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = load(MINIMAL).unwrap();
        assert_eq!(config.capacity, 1);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.sessions, Manners::default());
        assert_eq!(config.handshakes, HandshakeLimits::default());
        assert_eq!(config.rules(), Rules::default());
        assert_eq!(config.store.compaction(), Compaction::default());
    }

    #[test]
    fn a_store_is_compacted_when_the_operator_says() {
        let text = format!("{MINIMAL}\n[store]\ncompact_above = 1000\ncompact_factor = 2\n");
        let compaction = load(&text).unwrap().store.compaction();
        assert_eq!((compaction.spare_bytes, compaction.factor), (1000, 2));
        assert_eq!(
            compaction.idle_spare_bytes, 1000,
            "nor more while nothing is written"
        );
    }

    #[test]
    fn a_pair_has_a_quarter_of_the_mailbox_unless_that_is_little_or_it_is_said() {
        let pair = |limits: &str| {
            let text = format!("{MINIMAL}\n[limits]\nmax_body = 20000\n{limits}\n");
            let Load { messages, bytes } = load(&text).unwrap().rules().pair;
            (messages, bytes)
        };
        let (little, window) = (4 * (20_000 + MESSAGE_OVERHEAD), 256);
        assert_eq!(pair("max_messages = 4000"), (1000, 64 << 20));
        assert_eq!(pair("max_messages = 10\nmax_bytes = 99"), (window, little));
        let said = "max_pair_messages = 7\nmax_pair_bytes = 70";
        assert_eq!(pair(said), (7, 70));
    }

    #[test]
    fn tickets_lie_with_the_mail_unless_relays_are_to_share_them() {
        let config = load(MINIMAL).unwrap();
        assert_eq!(config.tickets(), config.data.join("tickets"));
        let shared = load(&format!("tickets = \"fleet\"\n{MINIMAL}")).unwrap();
        assert_eq!(shared.tickets(), shared.data.with_file_name("fleet"));
    }

    #[test]
    fn the_store_has_a_processor_to_itself_unless_there_is_only_one() {
        let all = thread::available_parallelism().unwrap().get();
        assert_eq!(load(MINIMAL).unwrap().threads(), (all - 1).max(1));
        let said = load(&format!("threads = 3\n{MINIMAL}")).unwrap();
        assert_eq!(said.threads(), 3);
    }

    #[test]
    fn durations_are_written_for_people() {
        let text = format!("{MINIMAL}\n[limits]\nmax_ttl = \"7days\"\nstrangers = \"open\"\n");
        let limits = load(&text).unwrap().limits;
        assert_eq!(limits.max_ttl, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(limits.strangers, Strangers::Open);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (change, expected) in [
            (MINIMAL.replace("data", "dta"), "unknown field `dta`"),
            (
                MINIMAL.replace("[\"127.0.0.4:4434\"]", "[]"),
                "allocators: name at least one",
            ),
            (
                MINIMAL.replace("127.0.0.2", "0.0.0.0"),
                "advertise: 0.0.0.0:4433 is no address",
            ),
            (
                format!("threads = 0\n{MINIMAL}"),
                "expected a nonzero usize",
            ),
            (
                format!("{MINIMAL}\n[limits]\nmax_body = 1\n"),
                "limits.max_body: has to be from",
            ),
            (
                format!("{MINIMAL}\n[limits]\nmax_disk_fill = 85.0\n"),
                "limits.max_disk_fill: has to be above 0",
            ),
            (
                format!("{MINIMAL}\n[handshakes]\nmax = 0\n"),
                "handshakes.max: has to be at least 1",
            ),
            (
                format!("{MINIMAL}\n[store]\ncompact_factor = 0\n"),
                "store.compact_factor: has to be at least 1",
            ),
            (
                format!("{MINIMAL}\n[sessions]\ndatagrams_burst = 0\n"),
                "sessions.datagrams_per_second: pings have to come through",
            ),
            (
                format!("{MINIMAL}\n[limits]\nmax_ttl = \"366days\"\n"),
                "limits.max_ttl: has to be at most",
            ),
        ] {
            let error = load(&change).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
