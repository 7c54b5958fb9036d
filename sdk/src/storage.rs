//! What outlives a session: the outbox, the marks of the inbox, and what else is remembered. In a folder
//! of the app's it outlives the process, too, in a [file](file); without one it lies in [memory].
//!
//! Blocking where there is a disk; the [committer](crate::committer) alone calls it.

pub(crate) mod file;
mod memory;

use std::path::Path;

use holdfast_protocol::{id::Lane, message::RelayAddress};
use serde::{Deserialize, Serialize};

pub(crate) use self::file::File;
use self::memory::Memory;
use crate::{
    ConnectError,
    core::{Entry, KnownNetwork, Load, Loaded, Logbook, Mark, READY_BYTES, Restored, Source},
};

/// How many messages are read at once: what a relay's window lets through.
const LOAD_MESSAGES: usize = 256;

/// An error of the database, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StorageError(String);

/// Whose the storage is, and the numbers that were drawn when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) owner: String,
    pub(crate) outbox: u64,
    pub(crate) inbox: u64,
}

/// Where it is kept.
#[derive(Debug)]
pub(crate) enum Storage {
    /// On a disk.
    File(File),
    /// Nowhere else.
    Memory(Memory),
}

/// What can be changed.
pub(crate) trait Changes {
    /// Draws the number of the next message of a lane. None is drawn twice.
    fn draw(&mut self, lane: Lane) -> Result<u64, StorageError>;

    /// Puts a message into the outbox.
    fn put(&mut self, lane: Lane, entry: &Entry) -> Result<(), StorageError>;

    /// Takes a message out of the outbox.
    fn forget(&mut self, lane: Lane, seq: u64) -> Result<(), StorageError>;

    /// Sets a mark.
    fn mark(&mut self, mark: &Mark) -> Result<(), StorageError>;

    /// Takes out a mark.
    fn unmark(&mut self, source: &Source) -> Result<(), StorageError>;

    /// Writes the account of time.
    fn log(&mut self, logbook: &Logbook) -> Result<(), StorageError>;

    /// Remembers what was learned of networks.
    fn learn(&mut self, networks: &[KnownNetwork]) -> Result<(), StorageError>;

    /// Remembers where an allocator said to connect.
    fn remember(&mut self, relays: &[RelayAddress]) -> Result<(), StorageError>;
}

impl Storage {
    /// Opens the storage in `directory`, or one in memory, and reads whose it is and what is needed
    /// from it. A new one takes `origin` as its own.
    pub(crate) fn open(
        directory: Option<&Path>,
        origin: &Origin,
    ) -> Result<(Self, Origin, Restored), ConnectError> {
        let Some(directory) = directory else {
            let memory = Self::Memory(Memory::default());
            return Ok((memory, origin.clone(), Restored::default()));
        };
        let (file, stored, restored) = File::open(directory, origin)?;
        Ok((Self::File(file), stored, restored))
    }

    /// Whether a change can take as long as a disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Makes changes: on a disk all of them or none. Those that are not urgent reach it with the next
    /// that are.
    pub(crate) fn change<T>(
        &mut self,
        urgent: bool,
        make: impl FnOnce(&mut dyn Changes) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self {
            Self::File(file) => file.change(urgent, make),
            Self::Memory(memory) => make(memory),
        }
    }

    /// Brings to the disk what was not urgent.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        match self {
            Self::File(file) => file.sync(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Reads messages of the outbox; at most 1 MiB of bodies, but one message at least.
    pub(crate) fn load(&self, load: Load) -> Result<Loaded, StorageError> {
        match self {
            Self::File(file) => file.load(load),
            Self::Memory(memory) => Ok(memory.load(load)),
        }
    }
}

/// What is read at once.
#[derive(Default)]
struct Helping {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Helping {
    /// Whether a message of so many bytes goes with the others.
    fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= READY_BYTES && self.entries.len() < LOAD_MESSAGES;
        fits || self.entries.is_empty()
    }

    fn add(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        self.entries.push(entry);
    }

    fn loaded(self, load: Load, through: u64) -> Loaded {
        Loaded {
            load,
            entries: self.entries,
            through,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_protocol::message::Options;

    use super::*;

    /// Appends a message of page 3 with a body of so many bytes; its number.
    pub(super) fn append(
        changes: &mut dyn Changes,
        lane: Lane,
        size: usize,
    ) -> Result<u64, StorageError> {
        let entry = Entry {
            seq: changes.draw(lane)?,
            page: 3,
            to: "alice/phone".parse().unwrap(),
            options: Options::default(),
            body: Bytes::from(vec![7; size]),
        };
        changes.put(lane, &entry)?;
        Ok(entry.seq)
    }
}
