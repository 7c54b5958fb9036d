//! Where mail waits: the trait that the rules write through, and what stands behind it.
//!
//! Mail stands in ordered [`rows`], which somebody else keeps: [`durable`] on the disk, [`memory`]
//! for tests of everything else. Both pass [`contract`].

pub(crate) mod durable;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod row;
pub(crate) mod rows;
pub(crate) mod salvage;

#[cfg(test)]
mod contract;
#[cfg(test)]
pub(crate) mod memory;

use bytes::Bytes;
use holdfast_durable::Done;
use holdfast_protocol::id::Name;

use crate::mail::{account::Rows, clock::Reading, desk::Write, message::Place};

/// Keeps mailboxes, what accounts retain, and whom they allow.
///
/// Changes are applied in the order in which they are handed in, each as a whole. Reads see a
/// change at the latest when it is durable.
pub(crate) trait MailboxStore: Send + Sync + 'static {
    /// Everything that is kept of an account, but the bodies.
    fn load(&self, account: &Name) -> Result<Rows, StoreError>;

    /// Whether anything is kept of an account.
    fn knows(&self, account: &Name) -> Result<bool, StoreError>;

    /// A body, if it is still there.
    fn body(&self, place: &Place) -> Result<Option<Bytes>, StoreError>;

    /// Applies a change, and calls `done` when it is durable.
    fn commit(&self, writes: Vec<Write>, done: Done);

    /// Applies a change that nobody waits for: a crash may take it back.
    fn write(&self, writes: Vec<Write>);

    /// How long syncs took, and how much disk is used.
    fn stats(&self) -> StoreStats;
}

/// What a change takes on the disk, in bytes of key and value.
#[cfg(test)]
pub(crate) fn row_bytes(write: Write) -> usize {
    match row::of(write) {
        row::Row::Put(key, value) => key.len() + value.len(),
        row::Row::Delete(key) => key.len(),
        row::Row::DeleteRange(first, last, _) => first.len() + last.len(),
    }
}

/// One run of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Larger than that of any run before.
    pub(crate) number: u64,
    /// What the clock of mail showed last in the run before.
    pub(crate) reading: Option<Reading>,
}

/// What a store has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StoreStats {
    /// Syncs to the disk.
    pub(crate) flushes: u64,
    /// How long they took together, in seconds.
    pub(crate) flush_seconds: f64,
    /// Disk used, in bytes.
    pub(crate) disk_bytes: u64,
    /// How often the live rows moved into a new log.
    pub(crate) compactions: u64,
    /// How much of the disk has to be free for the next of these, in bytes.
    pub(crate) copy_room: u64,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be opened.
    #[error("{0}")]
    Open(#[from] holdfast_durable::OpenError),
    /// What is stored cannot be read.
    #[error("{0}")]
    Read(#[from] holdfast_durable::ReadError),
    /// The store was closed.
    #[error("{0}")]
    Closed(#[from] holdfast_durable::Closed),
    /// What is stored was written by no version that this one knows.
    #[error("a row of {kind} cannot be decoded ({why}); was it written by a newer relay?")]
    Row {
        /// What kind of row.
        kind: &'static str,
        /// What went wrong.
        why: String,
    },
}
