//! What the store knows of an account.

use holdfast_protocol::id::{Key, Name};

use crate::mail::{
    desk::DeviceRecord,
    ledger::Mark,
    message::{Header, Source},
    refusals::Refusals,
};

/// What the store knows of an account, but the bodies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Its devices.
    pub(crate) devices: Vec<(Name, DeviceRecord)>,
    /// How far each source has come in each mailbox; `None`: in what the account retains.
    pub(crate) marks: Vec<(Option<Name>, Source, Mark)>,
    /// Stored messages.
    pub(crate) messages: Vec<StoredRow>,
    /// Retained messages: key, position, header and the body's size.
    pub(crate) retained: Vec<(Key, u64, Header, usize)>,
    /// Allowed senders.
    pub(crate) allowed: Vec<Name>,
    /// Refused messages.
    pub(crate) refusals: Vec<(Source, Refusals)>,
}

/// A stored message, without its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    /// Whose mailbox.
    pub(crate) device: Name,
    /// Its position there.
    pub(crate) position: u64,
    /// What is kept besides the body. The lane is its id's.
    pub(crate) header: Header,
    /// The body's size.
    pub(crate) bytes: usize,
}
