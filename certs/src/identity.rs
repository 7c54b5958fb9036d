//! Who a certificate speaks for: one of four kinds of identity within a trust domain.
//!
//! An identity stands in a certificate as a SPIFFE ID, the one URI among its alternative names
//! (SPIFFE-ID specification, section 2). Every value here is valid by construction, so an identity can
//! become a URI or a path without further checks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The longest name of an account, device, service, relay or allocator, in bytes.
pub const MAX_NAME: usize = 64;

/// The longest trust domain, in bytes. SPIFFE allows 255; a TLS server name, which the trust domain
/// also is, has at most 253 (RFC 1035 section 2.3.4, less the length and the root).
pub const MAX_TRUST_DOMAIN: usize = 253;

/// The longest part of a trust domain between two dots, in bytes (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

const SCHEME: &str = "spiffe://";

/// The name of an account, a device, a service, a relay or an allocator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed);
        if !fits || text == "." || text == ".." {
            return Err(Error::BadName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The domain an authority answers for, which is also the TLS server name of its relays and
/// allocators.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI that names the trust domain itself, as its authority's certificate carries it.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// Reads what [`uri`](Self::uri) wrote.
    pub(crate) fn from_uri(uri: &str) -> Result<Self> {
        let bad = || Error::BadUri(uri.to_owned());
        uri.strip_prefix(SCHEME)
            .ok_or_else(bad)?
            .parse()
            .map_err(|_| bad())
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| lower(byte) || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label of digits alone would make TLS libraries read an IPv4 address.
        let numeric_end = text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.parse::<u64>().is_ok());
        if text.len() > MAX_TRUST_DOMAIN || numeric_end || !text.split('.').all(label) {
            return Err(Error::BadTrustDomain(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an identity is allowed to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A relay, which devices connect to.
    Relay,
    /// An allocator, which tells devices where to connect.
    Allocator,
    /// One device of one account.
    Device,
    /// An app's backend, which may send to any account.
    Service,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Relay, Self::Allocator, Self::Device, Self::Service];

    /// The word for it in URIs, paths and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Allocator => "allocator",
            Self::Device => "device",
            Self::Service => "service",
        }
    }

    /// Whether it accepts connections: such a certificate serves as a TLS server's, too.
    pub fn is_server(self) -> bool {
        matches!(self, Self::Relay | Self::Allocator)
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let unknown = || Error::UnknownWord {
            word: word.to_owned(),
            what: "kind of identity",
        };
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(unknown)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom a certificate speaks for. Displayed and parsed as `kind:name`, for example
/// `device:alice/phone`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// One device of one account.
    Device {
        /// Whose it is.
        account: Name,
        /// Which of the account's devices.
        device: Name,
    },
    /// An app's backend, which may send to any account.
    Service {
        /// Its name.
        name: Name,
    },
    /// A relay.
    Relay {
        /// Its name.
        name: Name,
    },
    /// An allocator.
    Allocator {
        /// Its name.
        name: Name,
    },
}

impl Identity {
    /// The device `account/device`.
    ///
    /// # Errors
    /// [`Error::BadName`] for a name outside 1 to 64 characters of `[A-Za-z0-9._-]`, or `.` or `..`.
    pub fn device(account: &str, device: &str) -> Result<Self> {
        Ok(Self::Device {
            account: account.parse()?,
            device: device.parse()?,
        })
    }

    /// The service `name`.
    ///
    /// # Errors
    /// As [`device`](Self::device).
    pub fn service(name: &str) -> Result<Self> {
        Ok(Self::Service {
            name: name.parse()?,
        })
    }

    /// The relay `name`.
    ///
    /// # Errors
    /// As [`device`](Self::device).
    pub fn relay(name: &str) -> Result<Self> {
        Ok(Self::Relay {
            name: name.parse()?,
        })
    }

    /// The allocator `name`.
    ///
    /// # Errors
    /// As [`device`](Self::device).
    pub fn allocator(name: &str) -> Result<Self> {
        Ok(Self::Allocator {
            name: name.parse()?,
        })
    }

    /// Reads a name as a person writes it: `account/device` for a device, a single name otherwise.
    ///
    /// # Errors
    /// [`Error::BadDevice`] for a device without an account, [`Error::BadName`] for a bad name.
    pub fn parse(kind: Kind, name: &str) -> Result<Self> {
        match kind {
            Kind::Relay => Self::relay(name),
            Kind::Allocator => Self::allocator(name),
            Kind::Service => Self::service(name),
            Kind::Device => {
                let (account, device) = name
                    .split_once('/')
                    .ok_or_else(|| Error::BadDevice(name.to_owned()))?;
                Self::device(account, device)
            }
        }
    }

    /// Reads a SPIFFE ID.
    ///
    /// # Errors
    /// [`Error::BadUri`] for everything that is not exactly one of the four forms.
    pub fn from_uri(uri: &str) -> Result<(TrustDomain, Self)> {
        let parse = || {
            let (domain, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
            let (kind, name) = path.split_once('/')?;
            let identity = Self::parse(kind.parse().ok()?, name).ok()?;
            Some((domain.parse().ok()?, identity))
        };
        parse().ok_or_else(|| Error::BadUri(uri.to_owned()))
    }

    /// The SPIFFE ID of this identity in `domain`.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        format!("{SCHEME}{domain}/{}/{}", self.kind(), self.name())
    }

    /// Which of the four kinds it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Device { .. } => Kind::Device,
            Self::Service { .. } => Kind::Service,
            Self::Relay { .. } => Kind::Relay,
            Self::Allocator { .. } => Kind::Allocator,
        }
    }

    /// The name without its kind: `alice/phone`, `r1`.
    pub fn name(&self) -> String {
        match self {
            Self::Device { account, device } => format!("{account}/{device}"),
            Self::Service { name } | Self::Relay { name } | Self::Allocator { name } => {
                name.to_string()
            }
        }
    }

    /// The identity as a relative path, `device/alice/phone`: one folder per part of the name, so that
    /// no two identities share one.
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::from(self.kind().as_str());
        match self {
            Self::Device { account, device } => path.extend([account.as_str(), device.as_str()]),
            Self::Service { name } | Self::Relay { name } | Self::Allocator { name } => {
                path.push(name.as_str());
            }
        }
        path
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadIdentity(text.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(bad)?;
        Self::parse(kind.parse().map_err(|_| bad())?, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    #[test]
    fn every_kind_survives_its_uri_and_its_text() {
        let long = "x".repeat(MAX_NAME);
        for identity in [
            Identity::device("alice", "phone").unwrap(),
            Identity::device(&long, &long).unwrap(),
            Identity::service("billing").unwrap(),
            Identity::relay("r-1.eu_west").unwrap(),
            Identity::allocator("...").unwrap(),
        ] {
            assert_eq!(
                Identity::from_uri(&identity.uri(&domain())),
                Ok((domain(), identity.clone()))
            );
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    #[test]
    fn a_uri_is_spelled_as_the_specification_says() {
        let phone = Identity::device("alice", "phone").unwrap();
        assert_eq!(
            phone.uri(&domain()),
            "spiffe://example.org/device/alice/phone"
        );
        assert_eq!(phone.to_string(), "device:alice/phone");
        assert_eq!(domain().uri(), "spiffe://example.org");
    }

    #[test]
    fn names_that_would_be_a_path_or_an_escape_are_refused() {
        let long = "x".repeat(MAX_NAME + 1);
        for bad in [
            "", ".", "..", "a b", "a/b", "ä", "a%2f", "a\n", "a:b", "a\\b", &long,
        ] {
            assert_eq!(
                Identity::relay(bad),
                Err(Error::BadName(bad.to_owned())),
                "{bad:?}"
            );
            assert_eq!(
                Identity::device("alice", bad),
                Err(Error::BadName(bad.to_owned()))
            );
        }
        assert_eq!(
            Identity::parse(Kind::Device, "alice"),
            Err(Error::BadDevice("alice".to_owned()))
        );
        assert_eq!(
            Identity::parse(Kind::Device, "alice/phone/x"),
            Err(Error::BadName("phone/x".to_owned()))
        );
    }

    #[test]
    fn uris_outside_the_four_forms_are_refused() {
        for bad in [
            "",
            "https://example.org/relay/r1",
            "SPIFFE://example.org/relay/r1",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/relay",
            "spiffe://example.org/relay/",
            "spiffe://example.org/relay/r1/",
            "spiffe://example.org/relay/r1/x",
            "spiffe://example.org//relay/r1",
            "spiffe://example.org/device/alice",
            "spiffe://example.org/device/alice/../bob",
            "spiffe://example.org/admin/root",
            "spiffe://example.org:443/relay/r1",
            "spiffe://user@example.org/relay/r1",
            "spiffe://Example.org/relay/r1",
            "spiffe:///relay/r1",
            "spiffe://example.org/relay/r1?x=y",
            "spiffe://example.org/relay/r1#x",
            "spiffe://example.org/relay/r%31",
        ] {
            assert_eq!(
                Identity::from_uri(bad),
                Err(Error::BadUri(bad.to_owned())),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_trust_domain_is_a_lower_case_dns_name() {
        let longest = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61),
        ]
        .join(".");
        assert_eq!(longest.len(), MAX_TRUST_DOMAIN);
        for good in [
            "example.org",
            "localhost",
            "a-b.c",
            "1.example",
            "xn--bcher-kva.de",
            &longest,
        ] {
            assert_eq!(good.parse::<TrustDomain>().unwrap().as_str(), good);
        }
        let too_long = format!("{longest}d");
        let label = "a".repeat(64);
        for bad in [
            "",
            "Example.org",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "a_b",
            "bücher.de",
            "127.0.0.1",
            "a b",
            "a/b",
            "a:1",
            "1",
            &too_long,
            &label,
        ] {
            assert_eq!(
                bad.parse::<TrustDomain>(),
                Err(Error::BadTrustDomain(bad.to_owned())),
                "{bad}"
            );
        }
    }

    #[test]
    fn paths_never_collide() {
        let one = Identity::device("alice-b", "c").unwrap().path();
        let other = Identity::device("alice", "b-c").unwrap().path();
        assert_ne!(one, other);
        assert_eq!(one, PathBuf::from("device/alice-b/c"));
    }

    #[test]
    fn words_that_are_no_kind_are_refused() {
        for bad in ["alice/phone", "phone:alice", "Relay:r1", ":r1"] {
            assert_eq!(
                bad.parse::<Identity>(),
                Err(Error::BadIdentity(bad.to_owned()))
            );
        }
    }
}
