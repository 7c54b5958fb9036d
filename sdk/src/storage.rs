//! The outbox, the marks of the inbox, and what else must outlive the process: one redb file, or the
//! same in memory. Blocking; the [committer](crate::committer) is the thread that calls it.

use std::{fs, io, path::Path};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Recipient},
    message::{Options, RelayAddress},
};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, WriteTransaction, backends::InMemoryBackend,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    ConnectError,
    core::{Entry, KnownNetwork, Load, Loaded, Logbook, Mark, READY_BYTES, Restored, Source},
};

/// The file in the app's directory.
const FILE: &str = "holdfast.redb";

/// Pages held in memory, in bytes: redb's own default of 1 GiB is no phone's.
const CACHE: usize = 2 * 1024 * 1024;

/// An empty outbox in a larger file is worth the work of making it small, in bytes: redb keeps the room
/// that photos took while they waited.
const SHRINK_FROM: u64 = 16 * 1024 * 1024;

/// How many messages are read at once: what a relay's window lets through.
const LOAD_MESSAGES: usize = 256;

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

/// An error of the database, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StorageError(String);

/// Whatever redb or postcard says, as words.
fn failed(error: impl ToString) -> StorageError {
    StorageError(error.to_string())
}

/// Whose the storage is, and the numbers that were drawn when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) owner: String,
    pub(crate) outbox: u64,
    pub(crate) inbox: u64,
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
pub(crate) struct Storage {
    database: Database,
}

impl Storage {
    /// Opens the storage in `directory`, or one in memory, and reads whose it is and what is needed
    /// from it. A new one takes `origin` as its own.
    pub(crate) fn open(
        directory: Option<&Path>,
        origin: &Origin,
    ) -> Result<(Self, Origin, Restored), ConnectError> {
        let database = match directory {
            Some(directory) => open_file(directory)?,
            None => open_memory().map_err(|error| unusable(None, error))?,
        };
        let mut storage = Self { database };
        let (stored, restored) = storage
            .restore(origin)
            .map_err(|error| unusable(directory, error))?;
        check_owner(directory, &stored, origin)?;
        if let Some(directory) = directory {
            storage
                .shrink(directory)
                .map_err(|error| unusable(Some(directory), error))?;
        }
        Ok((storage, stored, restored))
    }

    /// Changes that are made together or not at all.
    pub(crate) fn begin(&self) -> Result<Changes, StorageError> {
        Ok(Changes(self.database.begin_write().map_err(failed)?))
    }

    /// Reads messages of the outbox; at most 1 MiB of bodies, but one message at least.
    pub(crate) fn load(&self, load: Load) -> Result<Loaded, StorageError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let table = reading.open_table(OUTBOX).map_err(failed)?;
        let lane = load.lane as u8;
        let tail = tail(&reading.open_table(TAILS).map_err(failed)?, load.lane)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for stored in table
            .range((lane, load.after + 1)..=(lane, u64::MAX))
            .map_err(failed)?
        {
            let (key, value) = stored.map_err(failed)?;
            let size = value.value().len();
            if !entries.is_empty() && (entries.len() == LOAD_MESSAGES || bytes + size > READY_BYTES)
            {
                return Ok(Loaded {
                    load,
                    through: key.value().1 - 1,
                    entries,
                });
            }
            bytes += size;
            entries.push(entry(key.value().1, value.value())?);
        }
        Ok(Loaded {
            load,
            entries,
            through: tail,
        })
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
        let changes = self.begin()?;
        let restored = changes.restore(origin)?;
        changes.commit(Durability::Immediate)?;
        Ok(restored)
    }
}

/// Changes that are made together or not at all.
pub(crate) struct Changes(WriteTransaction);

impl Changes {
    /// Puts a message into the outbox, and draws its number.
    pub(crate) fn append(
        &self,
        lane: Lane,
        page: u64,
        to: Recipient,
        options: Options,
        body: Bytes,
    ) -> Result<Entry, StorageError> {
        let mut tails = self.0.open_table(TAILS).map_err(failed)?;
        let entry = Entry {
            seq: tail(&tails, lane)? + 1,
            page,
            to,
            options,
            body,
        };
        tails.insert(lane as u8, entry.seq).map_err(failed)?;
        let value = record(&entry)?;
        let mut outbox = self.0.open_table(OUTBOX).map_err(failed)?;
        outbox
            .insert((lane as u8, entry.seq), value.as_slice())
            .map_err(failed)?;
        Ok(entry)
    }

    /// Takes a message out of the outbox.
    pub(crate) fn forget(&self, lane: Lane, seq: u64) -> Result<(), StorageError> {
        let mut outbox = self.0.open_table(OUTBOX).map_err(failed)?;
        outbox.remove((lane as u8, seq)).map_err(failed)?;
        Ok(())
    }

    /// Sets a mark.
    pub(crate) fn mark(&self, mark: &Mark) -> Result<(), StorageError> {
        let source = encode(&mark.source)?;
        let mut marks = self.0.open_table(MARKS).map_err(failed)?;
        let dated = (mark.seq, mark.made_ms);
        marks.insert(source.as_slice(), dated).map_err(failed)?;
        Ok(())
    }

    /// Takes out a mark.
    pub(crate) fn unmark(&self, source: &Source) -> Result<(), StorageError> {
        let source = encode(source)?;
        let mut marks = self.0.open_table(MARKS).map_err(failed)?;
        marks.remove(source.as_slice()).map_err(failed)?;
        Ok(())
    }

    /// Writes the account of time.
    pub(crate) fn log(&self, logbook: &Logbook) -> Result<(), StorageError> {
        self.state(LOGBOOK, logbook)
    }

    /// Remembers what was learned of networks.
    pub(crate) fn learn(&self, networks: &[KnownNetwork]) -> Result<(), StorageError> {
        self.state(NETWORKS, &networks)
    }

    /// Remembers where an allocator said to connect.
    pub(crate) fn remember(&self, relays: &[RelayAddress]) -> Result<(), StorageError> {
        self.state(RELAYS, &relays)
    }

    /// Makes the changes. With [`Durability::None`] they reach the disk with the next commit that
    /// is durable.
    pub(crate) fn commit(mut self, durability: Durability) -> Result<(), StorageError> {
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

fn open_file(directory: &Path) -> Result<Database, ConnectError> {
    make_directory(directory).map_err(|error| unusable(Some(directory), error))?;
    Builder::new()
        .set_cache_size(CACHE)
        .create(directory.join(FILE))
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => ConnectError::InUse {
                directory: directory.to_owned(),
            },
            error => unusable(Some(directory), error),
        })
}

fn open_memory() -> Result<Database, DatabaseError> {
    Builder::new()
        .set_cache_size(CACHE)
        .create_with_backend(InMemoryBackend::new())
}

/// Messages lie in the directory in plain, so nobody else may look into it.
fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn check_owner(
    directory: Option<&Path>,
    stored: &Origin,
    given: &Origin,
) -> Result<(), ConnectError> {
    if stored.owner == given.owner {
        return Ok(());
    }
    Err(ConnectError::OtherOwner {
        directory: directory.map(Path::to_owned).unwrap_or_default(),
        owner: stored.owner.clone(),
        identity: given.owner.clone(),
    })
}

fn unusable(directory: Option<&Path>, error: impl ToString) -> ConnectError {
    ConnectError::Storage {
        directory: directory.unwrap_or(Path::new("(in memory)")).to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
impl Storage {
    /// An empty one on a backend of the test's.
    pub(crate) fn on(backend: impl redb::StorageBackend) -> Self {
        let database = Builder::new().create_with_backend(backend).unwrap();
        let storage = Self { database };
        let origin = Origin {
            owner: "alice/phone".to_owned(),
            outbox: 1,
            inbox: 2,
        };
        storage.restore(&origin).unwrap();
        storage
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::time::Time;

    use super::*;

    fn origin(owner: &str, number: u64) -> Origin {
        Origin {
            owner: owner.to_owned(),
            outbox: number,
            inbox: number + 1,
        }
    }

    fn append(storage: &Storage, bodies: &[usize]) -> Vec<u64> {
        let changes = storage.begin().unwrap();
        let to = "alice/phone".parse().unwrap();
        let seqs = bodies.iter().map(|size| {
            let (options, body) = (Options::default(), Bytes::from(vec![7; *size]));
            changes.append(Lane::Message, 3, Recipient::clone(&to), options, body)
        });
        let seqs = seqs.map(|entry| entry.unwrap().seq).collect();
        changes.commit(Durability::Immediate).unwrap();
        seqs
    }

    fn load(storage: &Storage, after: u64) -> (Vec<u64>, u64) {
        let load = Load {
            lane: Lane::Message,
            after,
            session: 1,
        };
        let loaded = storage.load(load).unwrap();
        let seqs = loaded.entries.iter().map(|entry| entry.seq).collect();
        (seqs, loaded.through)
    }

    #[test]
    fn what_was_committed_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/on/demand");
        let mine = origin("alice/pc", 1);
        let mark = Mark {
            source: Source {
                sender: holdfast_protocol::id::Sender::Service("push".parse().unwrap()),
                epoch: 3,
                lane: Lane::Bulk,
            },
            seq: 9,
            made_ms: 1000,
        };
        let gone = Mark {
            source: Source {
                epoch: 4,
                ..mark.source.clone()
            },
            ..mark
        };
        let mut logbook = Logbook::default();
        logbook.welcomed(Time::ZERO, 1_767_225_600_000);
        let relays = vec![RelayAddress {
            name: "r1".parse().unwrap(),
            addresses: vec!["192.0.2.1:1".parse().unwrap()],
        }];
        let learned = holdfast_protocol::heartbeat::Learned {
            held_ms: 1,
            since_ms: 2,
        };
        let networks = vec![("home".to_owned(), learned)];
        {
            let (storage, stored, _) = Storage::open(Some(&path), &mine).unwrap();
            assert_eq!(stored, mine);
            assert_eq!(append(&storage, &[1, 1]), [1, 2]);
            let changes = storage.begin().unwrap();
            changes.mark(&mark).unwrap();
            changes.mark(&gone).unwrap();
            changes.unmark(&gone.source).unwrap();
            changes.log(&logbook).unwrap();
            changes.remember(&relays).unwrap();
            changes.learn(&networks).unwrap();
            changes.forget(Lane::Message, 1).unwrap();
            changes.commit(Durability::Immediate).unwrap();
        }
        let again = origin("alice/pc", 5);
        let (storage, stored, restored) = Storage::open(Some(&path), &again).unwrap();
        assert_eq!(stored, mine, "the numbers are drawn once");
        assert_eq!(restored.tails, [2, 0]);
        assert_eq!(restored.marks, [mark]);
        assert_eq!(restored.relays, relays);
        assert_eq!(restored.networks, networks);
        assert_eq!(restored.logbook.page(), 1);
        assert_eq!(load(&storage, 0), (vec![2], 2));
    }

    /// A file as it was written before there were pages and dates.
    #[test]
    fn a_file_of_an_earlier_version_is_read_and_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source {
            sender: holdfast_protocol::id::Sender::Device("alice/pc".parse().unwrap()),
            epoch: 3,
            lane: Lane::Message,
        };
        for (number, to) in (1..).zip(["alice", "alice/phone"]) {
            let database = Database::create(dir.path().join(FILE)).unwrap();
            let writing = database.begin_write().unwrap();
            let record = Record {
                to: to.parse().unwrap(),
                options: Options::default(),
            };
            let mut value = encode(&record).unwrap();
            value.extend_from_slice(b"body");
            let mut outbox = writing.open_table(OUTBOX).unwrap();
            outbox.insert((0, number), value.as_slice()).unwrap();
            let mut tails = writing.open_table(TAILS).unwrap();
            tails.insert(0, number).unwrap();
            let mut marks = writing.open_table(UNDATED_MARKS).unwrap();
            let key = encode(&source).unwrap();
            marks.insert(key.as_slice(), 9).unwrap();
            drop((outbox, tails, marks));
            writing.commit().unwrap();
        }
        for _ in 0..2 {
            let (storage, _, restored) =
                Storage::open(Some(dir.path()), &origin("a/b", 1)).unwrap();
            let mark = Mark {
                source: source.clone(),
                seq: 9,
                made_ms: 0,
            };
            assert_eq!(restored.marks, [mark]);
            assert_eq!(restored.logbook, Logbook::default());
            let load = Load {
                lane: Lane::Message,
                after: 0,
                session: 1,
            };
            let entries = storage.load(load).unwrap().entries;
            let read = entries
                .iter()
                .map(|entry| (entry.to.to_string(), entry.page, &entry.body[..]));
            let expected = [
                ("alice".to_owned(), 0, &b"body"[..]),
                ("alice/phone".to_owned(), 0, &b"body"[..]),
            ];
            assert_eq!(read.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_message_is_read_with_its_page() {
        let (storage, ..) = Storage::open(None, &origin("a/b", 1)).unwrap();
        append(&storage, &[1]);
        let load = Load {
            lane: Lane::Message,
            after: 0,
            session: 1,
        };
        assert_eq!(storage.load(load).unwrap().entries[0].page, 3);
    }

    #[test]
    fn a_number_is_never_drawn_twice_even_when_the_outbox_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        for expected in 1..=3 {
            let (storage, ..) = Storage::open(Some(dir.path()), &origin("a/b", 1)).unwrap();
            assert_eq!(append(&storage, &[1]), [expected]);
            let changes = storage.begin().unwrap();
            changes.forget(Lane::Message, expected).unwrap();
            changes.commit(Durability::Immediate).unwrap();
        }
    }

    #[test]
    fn what_was_not_committed_is_not_there() {
        let (storage, ..) = Storage::open(None, &origin("a/b", 1)).unwrap();
        let changes = storage.begin().unwrap();
        let to = "alice".parse().unwrap();
        let (options, body) = (Options::default(), Bytes::from_static(b"lost"));
        changes.append(Lane::Message, 1, to, options, body).unwrap();
        drop(changes);
        assert_eq!(load(&storage, 0), (vec![], 0));
        assert_eq!(append(&storage, &[1]), [1]);
    }

    #[test]
    fn reading_stops_at_a_megabyte_and_goes_on_where_it_stopped() {
        let (storage, ..) = Storage::open(None, &origin("a/b", 1)).unwrap();
        append(&storage, &[2 * READY_BYTES, 600_000, 400_000, 100_000, 1]);
        assert_eq!(load(&storage, 0), (vec![1], 1));
        assert_eq!(load(&storage, 1), (vec![2, 3], 3));
        assert_eq!(load(&storage, 3), (vec![4, 5], 5));
        assert_eq!(load(&storage, 5), (vec![], 5));
    }

    #[test]
    fn a_file_that_has_grown_is_made_small_when_the_outbox_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            Storage::open(Some(dir.path()), &origin("a/b", 1))
                .unwrap()
                .0
        };
        let size = || fs::metadata(dir.path().join(FILE)).unwrap().len();
        let storage = open();
        append(&storage, &[1024 * 1024; 20]);
        drop(storage);
        let storage = open();
        assert!(size() > SHRINK_FROM, "it is needed");
        let changes = storage.begin().unwrap();
        (1..=20).for_each(|seq| changes.forget(Lane::Message, seq).unwrap());
        changes.commit(Durability::Immediate).unwrap();
        drop(storage);
        let storage = open();
        assert!(size() < SHRINK_FROM / 4, "{} bytes", size());
        assert_eq!(append(&storage, &[1]), [21]);
    }

    #[test]
    fn a_directory_has_one_user_and_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = Storage::open(Some(dir.path()), &origin("alice/pc", 1)).unwrap();
        let directory = dir.path().to_owned();
        let second = Storage::open(Some(dir.path()), &origin("alice/pc", 1));
        let in_use = ConnectError::InUse {
            directory: directory.clone(),
        };
        assert_eq!(second.err(), Some(in_use));
        drop(first);
        let other = Storage::open(Some(dir.path()), &origin("bob/pc", 1));
        let other_owner = ConnectError::OtherOwner {
            directory,
            owner: "alice/pc".to_owned(),
            identity: "bob/pc".to_owned(),
        };
        assert_eq!(other.err(), Some(other_owner));
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_that_names_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), vec![b'x'; 8192]).unwrap();
        let error = Storage::open(Some(dir.path()), &origin("a/b", 1)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&dir.path().display().to_string())
        );
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_the_directory() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine");
        Storage::open(Some(&path), &origin("a/b", 1)).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
