//! What a device (or service) and its relay say to each other.
//!
//! | frame | from | where | body |
//! |---|---|---|---|
//! | [`Hello`] | device | control stream, first | – |
//! | [`Welcome`] | relay | control stream, first | – |
//! | [`Submit`] | device | control stream, or a unidirectional stream of its own (bulk) | the message |
//! | [`Receipt`] | relay | control stream | – |
//! | [`Deliver`] | relay | control stream, or a unidirectional stream of its own (bulk) | the message |
//! | [`Ack`] | device | control stream | – |
//! | [`Gap`] | relay | control stream | – |
//! | [`GoAway`] | relay | control stream | – |
//! | [`Allow`] | device | control stream | – |
//! | [`Allowed`] | relay | control stream | – |
//! | [`Ping`] | device | datagram | – |
//! | [`Pong`] | relay | datagram | – |

use std::{fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    close::Violation,
    frame::{FrameType, Header},
    id::{Agent, Key, Lane, Name, Recipient, Sender},
    limits::{MAX_ADDRESSES, MAX_PING_INTERVAL, MAX_RELAYS, MAX_TTL},
};

/// Opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the client is, for the relay's log.
    pub agent: Agent,
    /// The epoch of the sender's outbox: every [`Submit`] of this session belongs to it.
    pub outbox: u64,
    /// Chosen at random when the device's memory of what it received was made. Another one than
    /// last time means that the device has lost it, and gets the account's retained state anew.
    pub inbox: u64,
    /// The first ping comes within this many milliseconds.
    pub next_within_ms: u32,
    /// As in [`Ping::background`], until the first ping.
    pub background: bool,
}

impl Header for Hello {
    const TYPE: FrameType = FrameType::Hello;

    fn check(&self) -> Result<(), Violation> {
        check_interval(self.next_within_ms)
    }
}

/// The relay has taken the session: the device is on the online list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The relay's name.
    pub relay: Name,
    /// Which run of the relay this is; another one means that it was restarted.
    pub boot: u64,
    /// How many messages the device may have sent without an answer, `message` lane.
    pub window: u16,
    /// The same, `bulk` lane.
    pub bulk_window: u16,
    /// The largest body this relay takes, in bytes.
    pub max_body: u32,
    /// The relay's clock: milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// If the relay ends the session, forgets it or has no room, the device waits for a random part of
    /// this many milliseconds before it dials again: so long do all its devices need to come back.
    pub redial_ms: u32,
}

impl Header for Welcome {
    const TYPE: FrameType = FrameType::Welcome;
}

/// How much a message matters beside others of its recipient's. It never changes the order of
/// messages: it decides who is refused first when a mailbox fills up.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Priority {
    /// Refused first; need not wake anybody.
    Low,
    /// What most messages are.
    #[default]
    Normal,
    /// Taken as long as there is any room.
    High,
}

impl Priority {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
}

/// What the sender asks of the relay, besides delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Options {
    /// How long the message may wait for its recipient, in seconds, counted from its acceptance;
    /// `None` is the relay's own limit.
    pub ttl_s: Option<u32>,
    /// Of the messages that wait for a device from one sender account under one key, the newest
    /// replaces the others. Also names what is retained.
    pub key: Option<Key>,
    /// The account keeps the newest message of each key for devices that join it later. Needs a
    /// `key`, and an account as the recipient; an empty body removes the key.
    pub retain: bool,
    /// The sender wants a second [`Receipt`] when a stored message comes to its end.
    pub notify: bool,
    /// How much it matters.
    pub priority: Priority,
}

impl Options {
    fn check(&self) -> Result<(), Violation> {
        match self.ttl_s {
            Some(ttl) if u64::from(ttl) > MAX_TTL.as_secs() => {
                Err(Violation::oversized(format!("a time to live of {ttl} s")))
            }
            _ => Ok(()),
        }
    }

    /// How long the message may wait.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_s
            .map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Hands the relay a message. The lane is the stream it comes on: the control stream, or one of its
/// own. Sender and epoch are the session's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// The message's number in its lane; the first is 1.
    pub seq: u64,
    /// Whom it is for.
    pub to: Recipient,
    /// What else the sender asks for.
    pub options: Options,
    /// It may have been submitted before, in an earlier session.
    pub again: bool,
}

impl Header for Submit {
    const TYPE: FrameType = FrameType::Submit;
    const HAS_BODY: bool = true;

    fn check(&self) -> Result<(), Violation> {
        if self.seq == 0 {
            return Err(Violation::malformed(
                "a message without a number: the first is 1",
            ));
        }
        self.options.check()
    }
}

#[cfg(test)]
impl Submit {
    pub(crate) fn example() -> Self {
        let options = Options {
            ttl_s: Some(3600),
            ..Options::default()
        };
        Self {
            seq: 7,
            to: "alice/phone".parse().unwrap(),
            options,
            again: false,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It is on the disk of its recipient's home relay. With [`Options::notify`] another receipt
    /// follows.
    Stored,
    /// The recipient's application has it; of an account, every device it was for.
    Delivered,
    /// Its time to live ended while it waited.
    Expired,
    /// A newer message of the same key took its place while it waited.
    Replaced,
    /// The relay did not take it, and never will under this id.
    Refused(Refusal),
}

impl Outcome {
    /// Whether nothing more will become of the message.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Stored)
    }
}

/// Why a relay did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The recipient's account has not allowed the sender.
    NotAllowed,
    /// The recipient's mailbox has no room for a message of this priority, by count or by bytes.
    MailboxFull,
    /// The body is larger than the relay takes.
    TooLarge,
    /// The account has no other device that ever attached.
    NoDevice,
    /// The account has as many devices as it may have.
    TooManyDevices,
    /// `retain` without a key, or to a single device, or from outside the account.
    BadRetain,
    /// The account retains as much as it may.
    RetainedFull,
    /// Too much from the sender's account waits in the recipient's mailbox, by count or by bytes.
    PairFull,
    /// The disk of the recipient's home relay is too full for new mail.
    DiskFull,
    /// A reason of a later version.
    Unknown(u16),
}

impl Refusal {
    /// Every reason this version knows.
    pub const ALL: [Self; 9] = [
        Self::NotAllowed,
        Self::MailboxFull,
        Self::TooLarge,
        Self::NoDevice,
        Self::TooManyDevices,
        Self::BadRetain,
        Self::RetainedFull,
        Self::PairFull,
        Self::DiskFull,
    ];

    /// The number on the wire.
    pub const fn value(self) -> u16 {
        match self {
            Self::NotAllowed => 1,
            Self::MailboxFull => 2,
            Self::TooLarge => 3,
            Self::NoDevice => 4,
            Self::TooManyDevices => 5,
            Self::BadRetain => 6,
            Self::RetainedFull => 7,
            Self::PairFull => 8,
            Self::DiskFull => 9,
            Self::Unknown(value) => value,
        }
    }

    /// The name under which it is counted and logged.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::MailboxFull => "mailbox_full",
            Self::TooLarge => "too_large",
            Self::NoDevice => "no_device",
            Self::TooManyDevices => "too_many_devices",
            Self::BadRetain => "bad_retain",
            Self::RetainedFull => "retained_full",
            Self::PairFull => "pair_full",
            Self::DiskFull => "disk_full",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl From<u16> for Refusal {
    fn from(value: u16) -> Self {
        let known = Self::ALL
            .into_iter()
            .find(|refusal| refusal.value() == value);
        known.unwrap_or(Self::Unknown(value))
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Refusal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => {
                "the recipient's account has not allowed the sender; it has to allow it first"
            }
            Self::MailboxFull => {
                "the recipient's mailbox is full; send again when it has collected its mail"
            }
            Self::TooLarge => "the body is larger than the relay takes; send it in parts",
            Self::NoDevice => {
                "the account has no other device yet; name the device, or retain the message"
            }
            Self::TooManyDevices => "the account has as many devices as it may have",
            Self::BadRetain => {
                "a retained message needs a key, and an account of the sender's as its recipient"
            }
            Self::RetainedFull => {
                "the account retains as much as it may; remove a key by retaining an empty body"
            }
            Self::PairFull => {
                "too much from the sender waits for the recipient; send again when it has collected it"
            }
            Self::DiskFull => "the recipient's relay has no room on its disk; send again later",
            Self::Unknown(value) => return write!(f, "refused for reason {value}"),
        })
    }
}

/// What became of a message of this session's outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message's lane.
    pub lane: Lane,
    /// The message's number in its lane.
    pub seq: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl Header for Receipt {
    const TYPE: FrameType = FrameType::Receipt;
}

/// Hands a device a message. The lane is the stream it comes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// Its place in this mailbox and lane; places grow, with gaps. [`Ack`] names one.
    pub position: u64,
    /// Who sent it, as the sender's certificate says.
    pub from: Sender,
    /// The sender's outbox.
    pub epoch: u64,
    /// Its number in that outbox and lane.
    pub seq: u64,
    /// When the recipient's home relay accepted it: milliseconds since 1970-01-01 UTC.
    pub accepted_ms: u64,
    /// What the sender asked for.
    pub options: Options,
}

impl Header for Deliver {
    const TYPE: FrameType = FrameType::Deliver;
    const HAS_BODY: bool = true;
}

/// The device's application has every message of the lane up to this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The lane.
    pub lane: Lane,
    /// The place: as in [`Deliver::position`] or [`Gap::position`].
    pub through: u64,
}

impl Header for Ack {
    const TYPE: FrameType = FrameType::Ack;
}

/// Messages that waited for this device have passed their time to live and will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its place in the `message` lane, acknowledged as a message is.
    pub position: u64,
    /// How many there were since the last gap that the device acknowledged.
    pub missed: u64,
}

impl Header for Gap {
    const TYPE: FrameType = FrameType::Gap;
}

/// A relay and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RelayAddress {
    /// Its name.
    pub name: Name,
    /// Where it listens, best first.
    pub addresses: Vec<SocketAddr>,
}

/// The relay is stopping: connect to one of the successors, and be served here until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// The relay closes what is left of its sessions after this many milliseconds.
    pub within_ms: u32,
    /// The device goes after a random part of this many milliseconds, so that not all go at once.
    pub spread_ms: u32,
    /// Where to go, best first; empty: ask the allocator.
    pub successors: Vec<RelayAddress>,
}

impl Header for GoAway {
    const TYPE: FrameType = FrameType::GoAway;

    fn check(&self) -> Result<(), Violation> {
        check_relays(&self.successors)
    }
}

/// Whether devices of another account may write to the devices of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// Returned in [`Allowed`].
    pub tag: u32,
    /// The other account.
    pub sender: Name,
    /// May they?
    pub allowed: bool,
}

impl Header for Allow {
    const TYPE: FrameType = FrameType::Allow;
}

/// The account's list of allowed senders, on disk, is as [`Allow`] asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// As in [`Allow`].
    pub tag: u32,
}

impl Header for Allowed {
    const TYPE: FrameType = FrameType::Allowed;
}

/// The device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Returned in [`Pong`].
    pub seq: u32,
    /// The next ping comes within this many milliseconds, at most
    /// [`MAX_PING_INTERVAL`].
    pub next_within_ms: u32,
    /// Asks for a second answer after this many milliseconds, unless another ping comes before;
    /// 0 asks for none. At most [`MAX_PING_INTERVAL`].
    pub echo_after_ms: u32,
    /// The app is in the background: what need not wake it waits for its next ping.
    pub background: bool,
}

impl Header for Ping {
    const TYPE: FrameType = FrameType::Ping;

    fn check(&self) -> Result<(), Violation> {
        check_interval(self.next_within_ms)?;
        check_interval(self.echo_after_ms)
    }
}

/// The relay is there too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// As in [`Ping`].
    pub seq: u32,
    /// The address from which the relay saw the ping come.
    pub observed: SocketAddr,
    /// This is the answer that [`Ping::echo_after_ms`] asked for.
    pub late: bool,
}

impl Pong {
    /// The answer to a ping that came from `observed`.
    pub fn at_once(ping: &Ping, observed: SocketAddr) -> Self {
        Self {
            seq: ping.seq,
            observed,
            late: false,
        }
    }
}

impl Header for Pong {
    const TYPE: FrameType = FrameType::Pong;
}

fn check_interval(next_within_ms: u32) -> Result<(), Violation> {
    if Duration::from_millis(next_within_ms.into()) <= MAX_PING_INTERVAL {
        return Ok(());
    }
    Err(Violation::oversized(format!(
        "a ping interval of {next_within_ms} ms"
    )))
}

pub(crate) fn check_relays(relays: &[RelayAddress]) -> Result<(), Violation> {
    if relays.len() > MAX_RELAYS || relays.iter().any(|r| r.addresses.len() > MAX_ADDRESSES) {
        return Err(Violation::oversized(
            "too many relays, or addresses of one relay",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
