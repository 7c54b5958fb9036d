//! The storage in a folder of the app's: one redb file.

use std::{fs, io, path::Path};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Recipient},
    message::{Options, RelayAddress},
};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Changes, Helping, Origin, StorageError};
use crate::{
    ConnectError,
    core::{Entry, KnownNetwork, Load, Loaded, Logbook, Mark, Restored, Source},
};

/// The file in the app's directory.
const FILE: &str = "holdfast.redb";

/// Pages held in memory, in bytes: redb's own default of 1 GiB is no phone's.
const CACHE: usize = 2 * 1024 * 1024;

/// An empty outbox in a larger file is worth the work of making it small, in bytes: redb keeps the room
/// that photos took while they waited.
const SHRINK_FROM: u64 = 16 * 1024 * 1024;

/// `lane, seq` → a message, see [`record`].
const OUTBOX: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("outbox");

/// [`Source`] → the number up to which the app is done, and [`Mark::made_ms`].
const MARKS: TableDefinition<'_, &[u8], (u64, u64)> = TableDefinition::new("dated-marks");

/// The marks of earlier versions, which did not know when they were made.
const UNDATED_MARKS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("marks");

/// `lane` → the number of the last message that was ever put into the outbox.
const TAILS: TableDefinition<'_, u8, u64> = TableDefinition::new("tails");

/// What there is one of.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// The fact: [`Origin`].
const ORIGIN: &str = "origin";

/// The fact: [`Logbook`].
const LOGBOOK: &str = "logbook";

/// The fact: what was learned of networks.
const NETWORKS: &str = "networks";

/// The fact: the relays of the last allocation.
const RELAYS: &str = "relays";

/// Whatever redb or postcard says, as words.
fn failed(error: impl ToString) -> StorageError {
    StorageError(error.to_string())
}

/// What a message of the outbox begins with that bears a page. Those of earlier versions bear none and
/// begin with their [`Record`], the first byte of which is 0 or 1: the kind of its recipient.
const PAGED: u8 = 2;

/// What a message of the outbox is stored with, before its body.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    to: Recipient,
    options: Options,
}

/// The database.
#[derive(Debug)]
pub(crate) struct File {
    database: Database,
    /// Whether something was committed that the disk does not have yet.
    unsynced: bool,
}

impl File {
    /// Opens the file in `directory`, and reads whose it is and what is needed from it. A new one takes
    /// `origin` as its own.
    pub(super) fn open(
        directory: &Path,
        origin: &Origin,
    ) -> Result<(Self, Origin, Restored), ConnectError> {
        let mut file = Self {
            database: open_database(directory)?,
            unsynced: false,
        };
        let restored = file.restore(origin);
        let (stored, restored) = restored.map_err(|error| unusable(directory, error))?;
        check_owner(directory, &stored, origin)?;
        let shrunk = file.shrink(directory);
        shrunk.map_err(|error| unusable(directory, error))?;
        Ok((file, stored, restored))
    }

    /// Makes changes together or not at all.
    pub(super) fn change<T>(
        &mut self,
        urgent: bool,
        make: impl FnOnce(&mut dyn Changes) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut writing = Writing(self.database.begin_write().map_err(failed)?);
        let made = make(&mut writing)?;
        self.unsynced = !urgent;
        writing.commit(match urgent {
            true => Durability::Immediate,
            false => Durability::None,
        })?;
        Ok(made)
    }

    /// Brings to the disk what was not urgent.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        match self.unsynced {
            true => self.change(true, |_| Ok(())),
            false => Ok(()),
        }
    }

    /// Reads messages of the outbox.
    pub(super) fn load(&self, load: Load) -> Result<Loaded, StorageError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let table = reading.open_table(OUTBOX).map_err(failed)?;
        let lane = load.lane as u8;
        let tail = tail(&reading.open_table(TAILS).map_err(failed)?, load.lane)?;
        let waiting = table.range((lane, load.after + 1)..=(lane, u64::MAX));
        let mut helping = Helping::default();
        for stored in waiting.map_err(failed)? {
            let (key, value) = stored.map_err(failed)?;
            let (seq, value) = (key.value().1, value.value());
            if !helping.has_room(value.len()) {
                return Ok(helping.loaded(load, seq - 1));
            }
            helping.add(entry(seq, value)?, value.len());
        }
        Ok(helping.loaded(load, tail))
    }

    /// Gives back the room of a file that has grown, once there is little in it.
    fn shrink(&mut self, directory: &Path) -> Result<(), StorageError> {
        let file = fs::metadata(directory.join(FILE)).map_err(failed)?;
        if file.len() < SHRINK_FROM || !self.is_outbox_empty()? {
            return Ok(());
        }
        self.database.compact().map_err(failed)?;
        Ok(())
    }

    fn is_outbox_empty(&self) -> Result<bool, StorageError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let outbox = reading.open_table(OUTBOX).map_err(failed)?;
        outbox.is_empty().map_err(failed)
    }

    fn restore(&self, origin: &Origin) -> Result<(Origin, Restored), StorageError> {
        let writing = Writing(self.database.begin_write().map_err(failed)?);
        let restored = writing.restore(origin)?;
        writing.commit(Durability::Immediate)?;
        Ok(restored)
    }
}

/// Changes that are made together or not at all.
struct Writing(WriteTransaction);

impl Changes for Writing {
    fn draw(&mut self, lane: Lane) -> Result<u64, StorageError> {
        let mut tails = self.0.open_table(TAILS).map_err(failed)?;
        let seq = tail(&tails, lane)? + 1;
        tails.insert(lane as u8, seq).map_err(failed)?;
        Ok(seq)
    }

    fn put(&mut self, lane: Lane, entry: &Entry) -> Result<(), StorageError> {
        let value = record(entry)?;
        let mut outbox = self.0.open_table(OUTBOX).map_err(failed)?;
        let stored = outbox.insert((lane as u8, entry.seq), value.as_slice());
        stored.map_err(failed)?;
        Ok(())
    }

    fn forget(&mut self, lane: Lane, seq: u64) -> Result<(), StorageError> {
        let mut outbox = self.0.open_table(OUTBOX).map_err(failed)?;
        outbox.remove((lane as u8, seq)).map_err(failed)?;
        Ok(())
    }

    fn mark(&mut self, mark: &Mark) -> Result<(), StorageError> {
        let source = encode(&mark.source)?;
        let mut marks = self.0.open_table(MARKS).map_err(failed)?;
        let dated = (mark.seq, mark.made_ms);
        marks.insert(source.as_slice(), dated).map_err(failed)?;
        Ok(())
    }

    fn unmark(&mut self, source: &Source) -> Result<(), StorageError> {
        let source = encode(source)?;
        let mut marks = self.0.open_table(MARKS).map_err(failed)?;
        marks.remove(source.as_slice()).map_err(failed)?;
        Ok(())
    }

    fn log(&mut self, logbook: &Logbook) -> Result<(), StorageError> {
        self.state(LOGBOOK, logbook)
    }

    fn learn(&mut self, networks: &[KnownNetwork]) -> Result<(), StorageError> {
        self.state(NETWORKS, &networks)
    }

    fn remember(&mut self, relays: &[RelayAddress]) -> Result<(), StorageError> {
        self.state(RELAYS, &relays)
    }
}

impl Writing {
    /// Makes the changes. With [`Durability::None`] they reach the disk with the next commit that
    /// is durable.
    fn commit(mut self, durability: Durability) -> Result<(), StorageError> {
        self.0.set_durability(durability).map_err(failed)?;
        self.0.commit().map_err(failed)
    }

    fn restore(&self, origin: &Origin) -> Result<(Origin, Restored), StorageError> {
        let tails = self.0.open_table(TAILS).map_err(failed)?;
        self.0.open_table(OUTBOX).map_err(failed)?;
        let restored = Restored {
            tails: [tail(&tails, Lane::Message)?, tail(&tails, Lane::Bulk)?],
            marks: self.marks()?,
            logbook: self.fact(LOGBOOK)?.unwrap_or_default(),
            relays: self.fact(RELAYS)?.unwrap_or_default(),
            networks: self.fact(NETWORKS)?.unwrap_or_default(),
        };
        Ok((self.origin(origin)?, restored))
    }

    fn origin(&self, new: &Origin) -> Result<Origin, StorageError> {
        if let Some(origin) = self.fact(ORIGIN)? {
            return Ok(origin);
        }
        self.state(ORIGIN, new)?;
        Ok(new.clone())
    }

    fn marks(&self) -> Result<Vec<Mark>, StorageError> {
        self.date_marks()?;
        let table = self.0.open_table(MARKS).map_err(failed)?;
        let marks = table.iter().map_err(failed)?.map(|stored| {
            let (key, value) = stored.map_err(failed)?;
            let source: Source = decode(key.value())?;
            let (seq, made_ms) = value.value();
            Ok(Mark {
                source,
                seq,
                made_ms,
            })
        });
        marks.collect()
    }

    /// Marks of earlier versions count as made when the logbook was.
    fn date_marks(&self) -> Result<(), StorageError> {
        let undated = self.0.open_table(UNDATED_MARKS).map_err(failed)?;
        let mut dated = self.0.open_table(MARKS).map_err(failed)?;
        for stored in undated.iter().map_err(failed)? {
            let (key, seq) = stored.map_err(failed)?;
            dated
                .insert(key.value(), (seq.value(), 0))
                .map_err(failed)?;
        }
        drop(undated);
        self.0.delete_table(UNDATED_MARKS).map_err(failed)?;
        Ok(())
    }

    fn state<T: Serialize>(&self, fact: &str, value: &T) -> Result<(), StorageError> {
        let value = encode(value)?;
        let mut facts = self.0.open_table(FACTS).map_err(failed)?;
        facts.insert(fact, value.as_slice()).map_err(failed)?;
        Ok(())
    }

    fn fact<T: DeserializeOwned>(&self, fact: &str) -> Result<Option<T>, StorageError> {
        let facts = self.0.open_table(FACTS).map_err(failed)?;
        let Some(value) = facts.get(fact).map_err(failed)? else {
            return Ok(None);
        };
        decode(value.value()).map(Some)
    }
}

fn tail(tails: &impl ReadableTable<u8, u64>, lane: Lane) -> Result<u64, StorageError> {
    let tail = tails.get(lane as u8).map_err(failed)?;
    Ok(tail.map_or(0, |tail| tail.value()))
}

/// A message of the outbox as it is stored: [`PAGED`], its page, its [`Record`], its body.
pub(crate) fn record(entry: &Entry) -> Result<Vec<u8>, StorageError> {
    let record = Record {
        to: entry.to.clone(),
        options: entry.options.clone(),
    };
    let mut value = encode(&(PAGED, entry.page, record))?;
    value.extend_from_slice(&entry.body);
    Ok(value)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StorageError> {
    postcard::to_allocvec(value).map_err(failed)
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, StorageError> {
    postcard::from_bytes(value).map_err(failed)
}

/// Reads what [`record`] made, or an earlier version of it. A message of an earlier version belongs to
/// page 0: it may have been submitted before the logbook was begun.
pub(crate) fn entry(seq: u64, value: &[u8]) -> Result<Entry, StorageError> {
    let (page, value) = match value.split_first() {
        Some((&PAGED, rest)) => postcard::take_from_bytes(rest).map_err(failed)?,
        _ => (0, value),
    };
    let (record, body): (Record, &[u8]) = postcard::take_from_bytes(value).map_err(failed)?;
    Ok(Entry {
        seq,
        page,
        to: record.to,
        options: record.options,
        body: Bytes::copy_from_slice(body),
    })
}

/// A message of an earlier version, written by this one and taken back to that version.
#[cfg(feature = "fuzzing")]
pub(crate) fn as_it_was(read: &[u8], mut written: Vec<u8>) -> Vec<u8> {
    if read.first() != Some(&PAGED) {
        // Its mark, and page 0.
        written.drain(..2);
    }
    written
}

fn open_database(directory: &Path) -> Result<Database, ConnectError> {
    make_directory(directory).map_err(|error| unusable(directory, error))?;
    Builder::new()
        .set_cache_size(CACHE)
        .create(directory.join(FILE))
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => ConnectError::InUse {
                directory: directory.to_owned(),
            },
            error => unusable(directory, error),
        })
}

/// Messages lie in the directory in plain, so nobody else may look into it.
fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn check_owner(directory: &Path, stored: &Origin, given: &Origin) -> Result<(), ConnectError> {
    if stored.owner == given.owner {
        return Ok(());
    }
    Err(ConnectError::OtherOwner {
        directory: directory.to_owned(),
        owner: stored.owner.clone(),
        identity: given.owner.clone(),
    })
}

fn unusable(directory: &Path, error: impl ToString) -> ConnectError {
    ConnectError::Storage {
        directory: directory.to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
impl File {
    /// An empty one on a backend of the test's.
    pub(crate) fn on(backend: impl redb::StorageBackend) -> Self {
        let database = Builder::new().create_with_backend(backend).unwrap();
        let file = Self {
            database,
            unsynced: false,
        };
        let origin = Origin {
            owner: "alice/phone".to_owned(),
            outbox: 1,
            inbox: 2,
        };
        file.restore(&origin).unwrap();
        file
    }
}

#[cfg(test)]
mod tests;
