//! What relays say to each other.
//!
//! A link is directed: the relay that needs another one dials it (the *edge*), the other answers as
//! the *home* of some accounts. Frames travel on the one bidirectional stream that the edge opens;
//! a frame whose body is of the `bulk` lane travels on a unidirectional stream of its own, read in
//! the order in which the streams were opened. After a link broke the edge dials again, attaches
//! its sessions again and passes what was not answered again, in the same order: ids make that
//! harmless.
//!
//! | frame | from | body |
//! |---|---|---|
//! | [`Pass`] | edge | the message |
//! | [`Passed`] | home | – |
//! | [`Attach`], [`Detach`], [`PeerAck`], [`PeerAllow`] | edge | – |
//! | [`PeerDeliver`] | home | the message |
//! | [`PeerGap`], [`Evict`] | home | – |

use serde::{Deserialize, Serialize};

use crate::{
    frame::{FrameType, Header},
    id::{Device, MessageId, Name, Recipient},
    message::{Ack, Deliver, Gap, Options, Outcome},
};

/// A message for an account at home there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Returned in [`Passed`]. Grows with each pass on a link.
    pub tag: u64,
    /// Which message it is; the sender is who attached to the edge with its certificate.
    pub id: MessageId,
    /// Whom it is for.
    pub to: Recipient,
    /// What else the sender asks for.
    pub options: Options,
}

impl Header for Pass {
    const TYPE: FrameType = FrameType::Pass;
    const HAS_BODY: bool = true;
}

/// What became of a passed message, or that a list was changed. A message with
/// [`Options::notify`] that was answered `stored` is answered a second time, when it has come to
/// its end, if the link has held until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// As in [`Pass`] or [`PeerAllow`].
    pub tag: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl Header for Passed {
    const TYPE: FrameType = FrameType::Passed;
}

/// A device whose home is there has attached to the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The edge's number for the session, unique within its boot.
    pub session: u64,
    /// The device, as its certificate says.
    pub device: Device,
    /// As in [`Hello`](crate::message::Hello).
    pub outbox: u64,
    /// As in [`Hello`](crate::message::Hello).
    pub inbox: u64,
    /// How long ago the device attached to the edge, in milliseconds: after a link broke, the home
    /// takes the younger of two sessions of one device.
    pub age_ms: u64,
}

impl Header for Attach {
    const TYPE: FrameType = FrameType::Attach;
}

/// The session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detach {
    /// As in [`Attach`].
    pub session: u64,
}

impl Header for Detach {
    const TYPE: FrameType = FrameType::Detach;
}

/// A message for a device that is attached to the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerDeliver {
    /// As in [`Attach`].
    pub session: u64,
    /// What the edge hands to the device.
    pub deliver: Deliver,
}

impl Header for PeerDeliver {
    const TYPE: FrameType = FrameType::PeerDeliver;
    const HAS_BODY: bool = true;
}

/// What the device acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAck {
    /// As in [`Attach`].
    pub session: u64,
    /// What the device said.
    pub ack: Ack,
}

impl Header for PeerAck {
    const TYPE: FrameType = FrameType::PeerAck;
}

/// A gap, for a device that is attached to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerGap {
    /// As in [`Attach`].
    pub session: u64,
    /// What the edge hands to the device.
    pub gap: Gap,
}

impl Header for PeerGap {
    const TYPE: FrameType = FrameType::PeerGap;
}

/// The device has a newer session elsewhere; this one is to be ended and told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evict {
    /// As in [`Attach`].
    pub session: u64,
}

impl Header for Evict {
    const TYPE: FrameType = FrameType::Evict;
}

/// A device at the edge changes its account's list of allowed senders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAllow {
    /// Returned in [`Passed`].
    pub tag: u64,
    /// The account whose list it is.
    pub account: Name,
    /// Who may write to it, or may not.
    pub sender: Name,
    /// May they?
    pub allowed: bool,
}

impl Header for PeerAllow {
    const TYPE: FrameType = FrameType::PeerAllow;
}
