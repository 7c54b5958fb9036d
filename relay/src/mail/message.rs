//! A message as a relay holds it, and where its rows stand.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Device, Key, Lane, MessageId, Name, Recipient, Sender},
    message::{Deliver, Options},
};
use serde::{Deserialize, Serialize};

/// A message on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Which one it is; the sender in it was verified.
    pub(crate) id: MessageId,
    /// Whom it is for.
    pub(crate) to: Recipient,
    /// What the sender asked for.
    pub(crate) options: Options,
    /// What it says.
    pub(crate) body: Bytes,
    /// It may have come before, in an earlier run of this relay.
    pub(crate) again: bool,
}

/// What is kept of a message besides its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Which message it is.
    pub(crate) id: MessageId,
    /// When this relay accepted it: milliseconds since 1970-01-01 UTC.
    pub(crate) accepted_ms: u64,
    /// The same by the clock of mail, from which its time to live counts.
    pub(crate) since_ms: u64,
    /// What the sender asked for.
    pub(crate) options: Options,
}

impl Header {
    /// When its time to live ends, by the clock of mail.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.options
            .ttl_s
            .map(|ttl| self.since_ms.saturating_add(u64::from(ttl) * 1000))
    }

    /// Whether its time to live has ended.
    pub(crate) fn has_expired(&self, mail_ms: u64) -> bool {
        self.expires_ms().is_some_and(|expires| mail_ms >= expires)
    }

    /// Whether it may wait for as long as any mail may: its sender has set no other end to that.
    pub(crate) fn may_wait_longest(&self, max_ttl: Duration) -> bool {
        let most = max_ttl.as_secs();
        self.options.ttl_s.is_none_or(|ttl| u64::from(ttl) >= most)
    }

    /// What a device is told with the body.
    pub(crate) fn deliver(&self, position: u64) -> Deliver {
        Deliver {
            position,
            from: self.id.sender.clone(),
            epoch: self.id.epoch,
            seq: self.id.seq,
            accepted_ms: self.accepted_ms,
            options: self.options.clone(),
        }
    }
}

/// On whose account a message is: all of an account's devices count as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Party {
    /// An account.
    Account(Name),
    /// A service.
    Service(Name),
}

impl From<&Sender> for Party {
    fn from(sender: &Sender) -> Self {
        match sender {
            Sender::Device(device) => Self::Account(device.account.clone()),
            Sender::Service(name) => Self::Service(name.clone()),
        }
    }
}

/// The source of a numbered sequence of messages: one lane of one outbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Whose outbox.
    pub(crate) sender: Sender,
    /// Which of its outboxes.
    pub(crate) epoch: u64,
    /// The lane.
    pub(crate) lane: Lane,
}

impl From<&MessageId> for Source {
    fn from(id: &MessageId) -> Self {
        Self {
            sender: id.sender.clone(),
            epoch: id.epoch,
            lane: id.lane,
        }
    }
}

/// Where a stored body stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In a device's mailbox.
    Mailbox {
        /// Whose mailbox.
        device: Device,
        /// Which of its lanes.
        lane: Lane,
        /// Its position there.
        position: u64,
    },
    /// Among what an account retains.
    Retained {
        /// The account.
        account: Name,
        /// Under which key.
        key: Key,
    },
}
