//! What an operator decides: the configuration file, read once and checked before anything starts.
//!
//! ```toml
//! listen = "127.0.0.2:7440"
//! data = "allocator-data"     # the pins, which are as precious as the mail
//! lease = "15s"
//! retry_after = "1s"
//! requests_per_second = 20    # of one device or service
//!
//! [credentials]
//! certificate = "allocator/a1.pem"
//! key = "allocator/a1.key"
//! authority = "authority.pem"
//! revoked = "revoked.crl"     # may be left out
//! ```
//!
//! Relative paths are taken from the folder of the file, so that a deployment can be moved as one.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_protocol::pace::Rate;
use holdfast_transport::{credentials::CredentialFiles, gate::HandshakeLimits};
use serde::Deserialize;

/// How long a lease lives unless configured otherwise.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(15);

/// When an asker that was told of no relay should ask again, unless configured otherwise.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often a second one asker may connect and ask, unless configured otherwise.
pub const DEFAULT_REQUESTS_PER_SECOND: u64 = 20;

/// The same, at once.
pub const DEFAULT_REQUESTS_BURST: u64 = 400;

/// The longest span that can be configured. On the wire they are milliseconds in 32 bits.
pub const MAX_SPAN: Duration = Duration::from_secs(3600);

/// What an allocator is started with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who the allocator is, and whom it trusts.
    pub credentials: CredentialFiles,
    /// The directory that holds the pins.
    pub data: PathBuf,
    /// How long a relay counts as live after it was last heard; at most [`MAX_SPAN`].
    #[serde(default = "default_lease", with = "humantime_serde")]
    pub lease: Duration,
    /// When an asker that was told of no relay should ask again; at most [`MAX_SPAN`].
    #[serde(default = "default_retry_after", with = "humantime_serde")]
    pub retry_after: Duration,
    /// How often a second one device or service may connect and ask, on average; 0 for no limit.
    #[serde(default = "default_requests_per_second")]
    pub requests_per_second: u64,
    /// The same, at once.
    #[serde(default = "default_requests_burst")]
    pub requests_burst: u64,
    /// What may come in at a time.
    #[serde(default)]
    pub handshakes: HandshakeLimits,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {why}; name an existing file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        why: String,
    },
    /// The file is no configuration.
    #[error("{}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it, and what is wrong there.
        why: String,
    },
    /// Nobody could connect.
    #[error("handshakes.max = 0: at least 1, or nobody can connect")]
    NoHandshakes,
    /// A span is zero, or too long.
    #[error("{key} = {given:?}: write a span from 1ms to {MAX_SPAN:?}, for example \"15s\"")]
    Span {
        /// The key.
        key: &'static str,
        /// Its value.
        given: Duration,
    },
}

impl Config {
    /// Reads a configuration file; relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the key in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        config.check()?;
        Ok(config.resolve(path.parent().unwrap_or(Path::new(""))))
    }

    /// What the types alone do not say.
    ///
    /// # Errors
    /// [`ConfigError::Span`] for a span that is zero or over [`MAX_SPAN`],
    /// [`ConfigError::NoHandshakes`] if none may be under way.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.handshakes.max == 0 {
            return Err(ConfigError::NoHandshakes);
        }
        for (key, given) in [("lease", self.lease), ("retry_after", self.retry_after)] {
            if !(Duration::from_millis(1)..=MAX_SPAN).contains(&given) {
                return Err(ConfigError::Span { key, given });
            }
        }
        Ok(())
    }

    /// How often one may connect and ask.
    pub(crate) fn requests(&self) -> Rate {
        Rate {
            per_second: self.requests_per_second,
            burst: self.requests_burst,
        }
    }

    fn resolve(self, base: &Path) -> Self {
        Self {
            credentials: self.credentials.resolve(base),
            data: base.join(self.data),
            ..self
        }
    }
}

fn default_requests_per_second() -> u64 {
    DEFAULT_REQUESTS_PER_SECOND
}

fn default_requests_burst() -> u64 {
    DEFAULT_REQUESTS_BURST
}

fn default_lease() -> Duration {
    DEFAULT_LEASE
}

fn default_retry_after() -> Duration {
    DEFAULT_RETRY_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        listen = "127.0.0.1:0"
        data = "pins"
        [credentials]
        certificate = "a.pem"
        key = "/keys/a.key"
        authority = "authority.pem"
    "#;

    fn load(text: &str) -> (tempfile::TempDir, Result<Config, ConfigError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("allocator.toml");
        fs::write(&path, text).unwrap();
        let config = Config::load(&path);
        (dir, config)
    }

    fn why(text: &str) -> String {
        load(text).1.unwrap_err().to_string()
    }

    #[test]
    fn paths_are_taken_from_the_files_folder() {
        let (dir, config) = load(LEAST);
        let config = config.unwrap();
        assert_eq!(config.data, dir.path().join("pins"));
        assert_eq!(config.credentials.certificate, dir.path().join("a.pem"));
        assert_eq!(config.credentials.key, Path::new("/keys/a.key"));
        assert_eq!(config.credentials.revoked, None);
    }

    #[test]
    fn spans_are_written_as_people_write_them() {
        let (_dir, config) = load(LEAST);
        let config = config.unwrap();
        assert_eq!(config.lease, DEFAULT_LEASE);
        assert_eq!(config.retry_after, DEFAULT_RETRY_AFTER);
        let (_dir, config) = load(&format!(
            "lease = \"1m 30s\"\nretry_after = \"250ms\"{LEAST}"
        ));
        let config = config.unwrap();
        assert_eq!(config.lease, Duration::from_secs(90));
        assert_eq!(config.retry_after, Duration::from_millis(250));
    }

    #[test]
    fn what_may_come_in_has_defaults_and_cannot_be_nothing() {
        let (_dir, config) = load(LEAST);
        let config = config.unwrap();
        assert_eq!(config.handshakes, HandshakeLimits::default());
        assert_eq!(config.requests_per_second, DEFAULT_REQUESTS_PER_SECOND);
        let (_dir, config) = load(&format!("{LEAST}\n[handshakes]\nmax = 0"));
        assert_eq!(config, Err(ConfigError::NoHandshakes));
    }

    #[test]
    fn a_span_out_of_range_is_named() {
        for (key, text, given) in [
            ("lease", "0s", Duration::ZERO),
            ("retry_after", "61m", Duration::from_secs(3660)),
        ] {
            let (_dir, config) = load(&format!("{key} = \"{text}\"{LEAST}"));
            assert_eq!(config, Err(ConfigError::Span { key, given }));
        }
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        assert!(why(&format!("leese = \"15s\"{LEAST}")).contains("unknown field `leese`"));
        assert!(why(&format!("lease = \"soon\"{LEAST}")).contains("lease = \"soon\""));
        assert!(why(&LEAST.replace("data = \"pins\"", "")).contains("missing field `data`"));
        assert!(why(&LEAST.replace("key =", "kee =")).contains("unknown field `kee`"));
        assert!(why(&LEAST.replace(":0\"", "\"")).contains("listen = \"127.0.0.1\""));
    }

    #[test]
    fn a_missing_file_is_named() {
        let path = Path::new("nowhere/allocator.toml");
        let error = Config::load(path).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }));
        assert!(error.to_string().contains("nowhere/allocator.toml"));
    }
}
