//! Names, identities, addresses and message ids: who someone is, where a message goes, and which
//! message it is.

use std::{fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::limits::{MAX_AGENT, MAX_KEY, MAX_NAME, MAX_TRUST_DOMAIN};

/// Why a text is no name, key, address or identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a name.
    #[error("{0:?} is no name: use 1 to {MAX_NAME} of the characters A–Z a–z 0–9 . _ -")]
    Name(String),
    /// Not a trust domain.
    #[error(
        "{0:?} is no trust domain: use 1 to {MAX_TRUST_DOMAIN} of the characters a–z 0–9 . - _"
    )]
    TrustDomain(String),
    /// Not a collapse key.
    #[error("a key has 1 to {MAX_KEY} bytes; this one has {0}")]
    Key(usize),
    /// Not an agent.
    #[error("an agent has 1 to {MAX_AGENT} bytes; this one has {0}")]
    Agent(usize),
    /// Not a device's address.
    #[error("{0:?} is no device: write ACCOUNT/DEVICE, for example alice/phone")]
    Device(String),
    /// Not a SPIFFE ID of ours.
    #[error(
        "{0:?} is no Holdfast identity: expected spiffe://TRUST-DOMAIN/ followed by \
         device/ACCOUNT/DEVICE, service/NAME, relay/NAME or allocator/NAME"
    )]
    Identity(String),
}

/// A text that is checked when it is made and when it is decoded.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// The checked text.
            ///
            /// # Errors
            /// When the text breaks the rules of its kind.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                $check(text.as_ref())?;
                Ok(Self(CompactString::new(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.0.as_str(), f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(CompactString::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

checked_text! {
    /// The name of an account, device, service, relay or allocator: one segment of a SPIFFE path,
    /// 1 to [`MAX_NAME`] characters of `A–Z a–z 0–9 . _ -`, and neither `.` nor `..`.
    Name, check_name
}

checked_text! {
    /// The authority part of a SPIFFE ID (SPIFFE-ID, section 2.1): 1 to [`MAX_TRUST_DOMAIN`]
    /// characters of `a–z 0–9 . - _`. It is also the TLS server name of every relay and allocator.
    TrustDomain, check_trust_domain
}

checked_text! {
    /// A collapse key: 1 to [`MAX_KEY`] bytes of UTF-8.
    Key, check_key
}

checked_text! {
    /// What a client says it is, for the relay's log: 1 to [`MAX_AGENT`] bytes, for example
    /// `holdfast-rust/0.1.0`. Nothing is decided by it.
    Agent, check_agent
}

fn check_agent(text: &str) -> Result<(), InvalidId> {
    if (1..=MAX_AGENT).contains(&text.len()) {
        Ok(())
    } else {
        Err(InvalidId::Agent(text.len()))
    }
}

fn check_name(text: &str) -> Result<(), InvalidId> {
    let fits = (1..=MAX_NAME).contains(&text.len()) && text != "." && text != "..";
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if fits && text.bytes().all(plain) {
        Ok(())
    } else {
        Err(InvalidId::Name(excerpt(text)))
    }
}

fn check_trust_domain(text: &str) -> Result<(), InvalidId> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let fits = (1..=MAX_TRUST_DOMAIN).contains(&text.len());
    if fits && text.bytes().all(plain) {
        Ok(())
    } else {
        Err(InvalidId::TrustDomain(excerpt(text)))
    }
}

fn check_key(text: &str) -> Result<(), InvalidId> {
    if (1..=MAX_KEY).contains(&text.len()) {
        Ok(())
    } else {
        Err(InvalidId::Key(text.len()))
    }
}

/// What an error may repeat of a text somebody sent.
fn excerpt(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

/// The address of one device, written `account/device`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// The account it belongs to.
    pub account: Name,
    /// Its name within the account.
    pub device: Name,
}

impl FromStr for Device {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (account, device) = text
            .split_once('/')
            .ok_or_else(|| InvalidId::Device(excerpt(text)))?;
        Ok(Self {
            account: account.parse()?,
            device: device.parse()?,
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.device)
    }
}

/// Who sends a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sender {
    /// A device.
    Device(Device),
    /// An app's backend.
    Service(Name),
}

impl Sender {
    /// The account that the sender belongs to; a service belongs to none.
    pub fn account(&self) -> Option<&Name> {
        match self {
            Self::Device(device) => Some(&device.account),
            Self::Service(_) => None,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => device.fmt(f),
            Self::Service(name) => write!(f, "service/{name}"),
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Recipient {
    /// One device.
    Device(Device),
    /// Every device of an account, but the sender.
    Account(Name),
}

impl Recipient {
    /// The account whose home relay decides about the message.
    pub fn account(&self) -> &Name {
        match self {
            Self::Device(device) => &device.account,
            Self::Account(account) => account,
        }
    }
}

impl FromStr for Recipient {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.contains('/') {
            Ok(Self::Device(text.parse()?))
        } else {
            Ok(Self::Account(text.parse()?))
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => device.fmt(f),
            Self::Account(account) => account.fmt(f),
        }
    }
}

/// Who a certificate says its holder is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A device of an account.
    Device(Device),
    /// An app's backend, which may send to any account.
    Service(Name),
    /// A relay.
    Relay(Name),
    /// An allocator.
    Allocator(Name),
}

impl Identity {
    /// Parses a SPIFFE ID into its trust domain and the identity within it.
    ///
    /// # Errors
    /// [`InvalidId`] when the URI is no identity of ours.
    pub fn parse(uri: &str) -> Result<(TrustDomain, Self), InvalidId> {
        let invalid = || InvalidId::Identity(uri.chars().take(2 * MAX_TRUST_DOMAIN).collect());
        let rest = uri.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let mut segments = rest.split('/');
        let domain = TrustDomain::new(segments.next().unwrap_or_default())?;
        let path: Vec<&str> = segments.collect();
        let identity = match path.as_slice() {
            ["device", account, device] => Self::Device(Device {
                account: account.parse()?,
                device: device.parse()?,
            }),
            ["service", name] => Self::Service(name.parse()?),
            ["relay", name] => Self::Relay(name.parse()?),
            ["allocator", name] => Self::Allocator(name.parse()?),
            _ => return Err(invalid()),
        };
        Ok((domain, identity))
    }

    /// The SPIFFE ID of this identity in a trust domain.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        format!("spiffe://{domain}/{self}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "device/{device}"),
            Self::Service(name) => write!(f, "service/{name}"),
            Self::Relay(name) => write!(f, "relay/{name}"),
            Self::Allocator(name) => write!(f, "allocator/{name}"),
        }
    }
}

/// Which of the two orders a message belongs to. Each lane keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Bodies up to [`MAX_MESSAGE_BODY`](crate::limits::MAX_MESSAGE_BODY), on the control stream.
    Message,
    /// Larger bodies, each on a stream of its own, so that a photo never delays a chat line.
    Bulk,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Message, Self::Bulk];

    /// The lane on which a body of `bytes` travels.
    pub const fn for_body(bytes: usize) -> Self {
        if bytes <= crate::limits::MAX_MESSAGE_BODY {
            Self::Message
        } else {
            Self::Bulk
        }
    }

    /// How many of a device's messages may be unanswered, and how far apart their numbers may lie.
    pub const fn window(self) -> u64 {
        match self {
            Self::Message => crate::limits::WINDOW,
            Self::Bulk => crate::limits::BULK_WINDOW,
        }
    }
}

/// Which message this is, for ever: a retry carries the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// Who sent it.
    pub sender: Sender,
    /// Which outbox of the sender's it came from; a new outbox (a reinstalled app) has a new one.
    pub epoch: u64,
    /// The lane it travels on.
    pub lane: Lane,
    /// Its number in that outbox and lane: the first is 1, each next one larger by one.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lane = match self.lane {
            Lane::Message => "m",
            Lane::Bulk => "b",
        };
        write!(f, "{}#{:x}.{lane}{}", self.sender, self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identity_survives_its_uri() {
        for text in [
            "device/alice/phone",
            "service/push",
            "relay/r1",
            "allocator/a.1",
        ] {
            let uri = format!("spiffe://example.org/{text}");
            let (domain, identity) = Identity::parse(&uri).unwrap();
            assert_eq!(domain.as_str(), "example.org");
            assert_eq!(identity.to_string(), text);
            assert_eq!(identity.uri(&domain), uri);
        }
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for uri in [
            "",
            "https://example.org/device/alice/phone",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/device/alice",
            "spiffe://example.org/device/alice/phone/x",
            "spiffe://example.org/device/alice/..",
            "spiffe://example.org/device//phone",
            "spiffe://Example.org/relay/r1",
            "spiffe:///relay/r1",
            "spiffe://example.org/relay/r 1",
            "spiffe://example.org/robot/r1",
        ] {
            assert!(Identity::parse(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn a_recipient_is_a_device_or_an_account() {
        assert_eq!(
            "alice".parse(),
            Ok(Recipient::Account("alice".parse().unwrap()))
        );
        assert_eq!(
            "alice/phone".parse(),
            Ok(Recipient::Device("alice/phone".parse().unwrap()))
        );
        assert!("alice/phone/x".parse::<Recipient>().is_err());
        assert!("/phone".parse::<Recipient>().is_err());
    }

    proptest! {
        #[test]
        fn a_decoded_name_obeys_the_rules(text in "\\PC{0,70}") {
            let bytes = postcard::to_allocvec(&text).unwrap();
            let decoded = postcard::from_bytes::<Name>(&bytes);
            prop_assert_eq!(decoded.ok(), Name::new(&text).ok());
        }
    }
}
