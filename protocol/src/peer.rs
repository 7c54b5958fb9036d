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
    /// It may have been passed on or submitted before.
    pub again: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        golden::golden,
        id::{Lane, Sender},
        message::{Priority, Refusal},
    };

    const OUTBOX: u64 = 1_234_567_890_123;

    fn bob() -> Sender {
        Sender::Device("bob/pc".parse().unwrap())
    }

    #[test]
    fn pass_and_passed() {
        let mut pass = Pass {
            tag: 1,
            id: MessageId {
                sender: bob(),
                epoch: OUTBOX,
                lane: Lane::Message,
                seq: 1,
            },
            to: "alice/phone".parse().unwrap(),
            options: Options::default(),
            again: false,
        };
        golden(
            &pass,
            "hi",
            "3026010003626f62027063cb89ec8ff72300010005616c6963650570686f6e650000000001006869",
        );
        pass = Pass {
            tag: 2,
            id: MessageId {
                sender: Sender::Service("push".parse().unwrap()),
                epoch: 9,
                lane: Lane::Bulk,
                seq: 300,
            },
            to: "alice".parse().unwrap(),
            options: Options {
                ttl_s: Some(3600),
                key: Some("bookmarks".parse().unwrap()),
                retain: true,
                notify: false,
                priority: Priority::Low,
            },
            again: true,
        };
        golden(
            &pass,
            "{}",
            "3026020104707573680901ac020105616c69636501901c0109626f6f6b6d61726b73010000017b7d",
        );
        for (tag, outcome, hex) in [
            (1, Outcome::Stored, "31020100"),
            (2, Outcome::Refused(Refusal::NotAllowed), "3103020401"),
        ] {
            golden(&Passed { tag, outcome }, "", hex);
        }
    }

    #[test]
    fn attach_and_detach() {
        let attach = Attach {
            session: 5,
            device: "alice/phone".parse().unwrap(),
            outbox: OUTBOX,
            inbox: 42,
            age_ms: 1500,
        };
        golden(
            &attach,
            "",
            "32160505616c6963650570686f6e65cb89ec8ff7232adc0b",
        );
        golden(&Detach { session: 5 }, "", "330105");
        golden(&Evict { session: 5 }, "", "370105");
    }

    #[test]
    fn peer_deliver_and_peer_ack() {
        let deliver = Deliver {
            position: 300,
            from: bob(),
            epoch: OUTBOX,
            seq: 1,
            accepted_ms: 1_767_225_600_000,
            options: Options::default(),
        };
        let session = 5;
        golden(
            &PeerDeliver { session, deliver },
            "hi",
            "341f05ac020003626f62027063cb89ec8ff7230180d0eab6b73300000000016869",
        );
        let ack = Ack {
            lane: Lane::Message,
            through: 300,
        };
        golden(&PeerAck { session, ack }, "", "35040500ac02");
        let gap = Gap {
            position: 301,
            missed: 3,
        };
        golden(&PeerGap { session, gap }, "", "360405ad0203");
    }

    #[test]
    fn peer_allow() {
        let allow = PeerAllow {
            tag: 3,
            account: "alice".parse().unwrap(),
            sender: "bob".parse().unwrap(),
            allowed: true,
        };
        golden(&allow, "", "380c0305616c69636503626f6201");
    }
}
