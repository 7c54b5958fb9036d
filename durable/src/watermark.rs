//! Which generation is the store, and the commit number that is known to be on the disk: a small
//! file beside the generations.
//!
//! sled opens a truncated log without a word, as an older store or an empty one. The number in this
//! file is only ever written *after* sled has synced the commit of that number, so a healthy store
//! is never behind it, whatever was cut off when; a store that is behind has lost commits. And a
//! generation is the store from the moment this file names it, which is one rename.
//!
//! The number is written in place after every flush, which costs a copy to the kernel and survives
//! the process; it is synced at the open, at the close and every [`SYNC_EVERY`] flushes, so that
//! after a power cut the check is a little less sharp, and no sync is spent on sharpness. Two slots
//! in two sectors take turns: a torn write ruins one, and the other is a commit older.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::names;

/// One sync of this file in so many flushes: below one percent of the syncs.
const SYNC_EVERY: u32 = 256;
/// A slot fills a sector, the unit that disks write whole.
const SLOT_BYTES: usize = 512;
const SLOTS: usize = 2;
const MAGIC: &[u8; 8] = b"holdfast";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Promise {
    /// The number of the generation that is the store.
    pub(crate) generation: u64,
    /// The newest commit known to be on the disk; 0 while the store is being made.
    pub(crate) commit: u64,
}

/// The open file, ready to take the next number.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    path: PathBuf,
    generation: u64,
    next_slot: u64,
    unsynced: u32,
}

/// Where the file lies in the store's directory.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("watermark")
}

/// What was promised; none when there is no file.
pub(crate) fn read(dir: &Path) -> Result<Option<Promise>, OpenError> {
    let path = path(dir);
    let mut content = Vec::new();
    match File::open(&path).and_then(|mut file| file.read_to_end(&mut content)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("read", &path)(error)),
        Ok(_) => {}
    }
    let newest = content.chunks(SLOT_BYTES).filter_map(decode).max();
    newest.map(Some).ok_or(OpenError::Watermark { path })
}

impl Watermark {
    /// Replaces the file by one that makes this promise, durably.
    pub(crate) fn create(dir: &Path, promise: Promise) -> Result<Self, OpenError> {
        let path = path(dir);
        let new = path.with_extension("new");
        let file = write_new(&new, promise).map_err(OpenError::io("write", &new))?;
        fs::rename(&new, &path).map_err(OpenError::io("write", &path))?;
        names::sync(dir)?;
        Ok(Self {
            file,
            path,
            generation: promise.generation,
            next_slot: 0,
            unsynced: 0,
        })
    }

    /// Takes down that sled has synced commit `commit`.
    pub(crate) fn raise(&mut self, commit: u64) -> io::Result<()> {
        let offset = self.next_slot * SLOT_BYTES as u64;
        self.next_slot = (self.next_slot + 1) % SLOTS as u64;
        self.file.seek(SeekFrom::Start(offset))?;
        let generation = self.generation;
        self.file
            .write_all(&encode(Promise { generation, commit }))?;
        self.unsynced += 1;
        if self.unsynced < SYNC_EVERY {
            return Ok(());
        }
        self.sync()
    }

    /// Makes the newest number survive a power cut.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.file.sync_data()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn write_new(path: &Path, promise: Promise) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&encode(promise).repeat(SLOTS))?;
    file.sync_all()?;
    Ok(file)
}

pub(crate) fn encode(promise: Promise) -> [u8; SLOT_BYTES] {
    let mut record = MAGIC.to_vec();
    for field in [promise.generation, promise.commit] {
        record.extend_from_slice(&field.to_be_bytes());
    }
    record.extend_from_slice(&crc32fast::hash(&record).to_be_bytes());
    record.resize(SLOT_BYTES, 0);
    let mut slot = [0; SLOT_BYTES];
    slot.copy_from_slice(&record);
    slot
}

pub(crate) fn decode(slot: &[u8]) -> Option<Promise> {
    let (body, rest) = slot.split_at_checked(MAGIC.len() + 2 * size_of::<u64>())?;
    let stored = u32::from_be_bytes(*rest.first_chunk()?);
    let (generation, commit) = body.strip_prefix(MAGIC)?.split_first_chunk()?;
    let promise = Promise {
        generation: u64::from_be_bytes(*generation),
        commit: u64::from_be_bytes(commit.try_into().ok()?),
    };
    (crc32fast::hash(body) == stored).then_some(promise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(commit: u64) -> Promise {
        Promise {
            generation: 3,
            commit,
        }
    }

    #[test]
    fn the_newest_number_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Ok(None));
        let mut watermark = Watermark::create(dir.path(), promise(7)).unwrap();
        assert_eq!(read(dir.path()), Ok(Some(promise(7))));
        for number in 8..11 {
            watermark.raise(number).unwrap();
            assert_eq!(read(dir.path()), Ok(Some(promise(number))));
        }
    }

    #[test]
    fn one_number_in_so_many_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::create(dir.path(), promise(0)).unwrap();
        for number in 1..=2 * u64::from(SYNC_EVERY) {
            watermark.raise(number).unwrap();
            let since = number % u64::from(SYNC_EVERY);
            assert_eq!(u64::from(watermark.unsynced), since);
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_number_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::create(dir.path(), promise(7)).unwrap();
        watermark.raise(8).unwrap();
        watermark.raise(9).unwrap();
        let mut content = fs::read(path(dir.path())).unwrap();
        content[SLOT_BYTES + 20] ^= 1;
        fs::write(path(dir.path()), content).unwrap();
        assert_eq!(read(dir.path()), Ok(Some(promise(8))));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(path(dir.path())).unwrap();
        let refused = read(dir.path());
        assert!(matches!(refused, Err(OpenError::Io { action: "read", .. })));
    }

    #[test]
    fn a_file_without_a_whole_slot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        for content in [vec![], vec![0; SLOT_BYTES * SLOTS], b"holdfast".to_vec()] {
            fs::write(&path, content).unwrap();
            assert_eq!(
                read(dir.path()),
                Err(OpenError::Watermark { path: path.clone() })
            );
        }
    }
}
