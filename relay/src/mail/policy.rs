//! Who may write to whom, and how much may wait.

use std::{collections::BTreeSet, time::Duration};

use holdfast_protocol::{
    id::{Name, Recipient, Sender},
    message::Refusal,
};
use serde::Deserialize;

use super::{message::Message, room::Load};

/// Whether strangers may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// Only if the recipient's account has allowed the sender's.
    #[default]
    Allowed,
    /// Anyone may write to anyone.
    Open,
}

/// The limits of every mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether strangers may write.
    pub strangers: Strangers,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// How much may wait for one device.
    pub mailbox: Load,
    /// How much of that may come from one account or service.
    pub pair: Load,
    /// How many devices an account may have.
    pub max_devices: usize,
    /// How many keys an account may retain.
    pub max_retained: usize,
    /// How many bytes of bodies an account may retain.
    pub max_retained_bytes: u64,
    /// How long a message may wait if its sender does not say, and at most.
    pub max_ttl: Duration,
    /// How long a device may be away before it is forgotten, in whole days.
    pub forget_device_after: Duration,
    /// How many bytes of bodies may be held in memory while attached devices are awaited, in all.
    pub max_held_bytes: u64,
    /// The same, for one device.
    pub max_held_bytes_per_device: u64,
    /// How many accounts stay in memory although the store knows all of them.
    pub max_settled: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            strangers: Strangers::Allowed,
            max_body: holdfast_protocol::limits::DEFAULT_BULK_BODY,
            mailbox: Load {
                messages: 100_000,
                bytes: 256 * 1024 * 1024,
            },
            pair: Load {
                messages: 25_000,
                bytes: 64 * 1024 * 1024,
            },
            max_devices: 64,
            max_retained: 1024,
            max_retained_bytes: 64 * 1024 * 1024,
            max_ttl: Duration::from_secs(30 * 24 * 3600),
            forget_device_after: Duration::from_secs(90 * 24 * 3600),
            max_held_bytes: 256 * 1024 * 1024,
            max_held_bytes_per_device: 4 * 1024 * 1024,
            max_settled: 100_000,
        }
    }
}

/// What a waiting message costs besides its body, in bytes: its row's key, header and checksum.
pub(crate) const MESSAGE_OVERHEAD: u64 = 128;

/// May this sender write to this account?
pub(crate) fn may_write(
    rules: &Rules,
    allowed: &BTreeSet<Name>,
    sender: &Sender,
    account: &Name,
) -> Result<(), Refusal> {
    let Some(from) = sender.account() else {
        return Ok(());
    };
    let known = from == account || allowed.contains(from);
    if known || rules.strangers == Strangers::Open {
        Ok(())
    } else {
        Err(Refusal::NotAllowed)
    }
}

/// Is the message one that this relay can take?
pub(crate) fn check(rules: &Rules, message: &Message) -> Result<(), Refusal> {
    if message.body.len() > rules.max_body {
        return Err(Refusal::TooLarge);
    }
    if !message.options.retain {
        return Ok(());
    }
    let Recipient::Account(account) = &message.to else {
        return Err(Refusal::BadRetain);
    };
    let own = message
        .id
        .sender
        .account()
        .is_none_or(|from| from == account);
    if own && message.options.key.is_some() {
        Ok(())
    } else {
        Err(Refusal::BadRetain)
    }
}
