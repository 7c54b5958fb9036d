//! The commit number that is known to be on the disk, kept in a small file beside sled.
//!
//! sled opens a truncated log without a word, as an older store or an empty one. The number in this
//! file is only ever written *after* sled has synced the commit of that number, so a healthy store
//! is never behind it, whatever was cut off when; a store that is behind has lost commits.
//!
//! The number is written in place after every flush, which costs a copy to the kernel and survives
//! the process; it is synced at the open, at the close and every [`SYNC_EVERY`] flushes, so that
//! after a power cut the check is a little less sharp, and no sync is spent on sharpness. Two slots
//! in two sectors take turns: a torn write ruins one, and the other is a commit older.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// One sync of this file in so many flushes: below one percent of the syncs.
const SYNC_EVERY: u32 = 256;
/// A slot fills a sector, the unit that disks write whole.
const SLOT_BYTES: usize = 512;
const SLOTS: usize = 2;
const MAGIC: &[u8; 8] = b"holdfast";

/// The open file, ready to take the next number.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    path: PathBuf,
    next_slot: u64,
    unsynced: u32,
}

/// Where the file lies in the store's directory.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("watermark")
}

/// The number that was promised; none when there is no file.
pub(crate) fn read(dir: &Path) -> Result<Option<u64>, OpenError> {
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
    /// Replaces the file by one that promises `number`, durably.
    pub(crate) fn create(dir: &Path, number: u64) -> Result<Self, OpenError> {
        let path = path(dir);
        let new = path.with_extension("new");
        let file = write_new(&new, number).map_err(OpenError::io("write", &new))?;
        fs::rename(&new, &path).map_err(OpenError::io("write", &path))?;
        Ok(Self {
            file,
            path,
            next_slot: 0,
            unsynced: 0,
        })
    }

    /// Takes down that sled has synced commit `number`.
    pub(crate) fn raise(&mut self, number: u64) -> io::Result<()> {
        let offset = self.next_slot * SLOT_BYTES as u64;
        self.next_slot = (self.next_slot + 1) % SLOTS as u64;
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(&encode(number))?;
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

fn write_new(path: &Path, number: u64) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&encode(number).repeat(SLOTS))?;
    file.sync_all()?;
    Ok(file)
}

fn encode(number: u64) -> [u8; SLOT_BYTES] {
    let mut record = MAGIC.to_vec();
    record.extend_from_slice(&number.to_be_bytes());
    record.extend_from_slice(&crc32fast::hash(&record).to_be_bytes());
    record.resize(SLOT_BYTES, 0);
    let mut slot = [0; SLOT_BYTES];
    slot.copy_from_slice(&record);
    slot
}

fn decode(slot: &[u8]) -> Option<u64> {
    let (body, rest) = slot.split_at_checked(MAGIC.len() + size_of::<u64>())?;
    let stored = u32::from_be_bytes(*rest.first_chunk()?);
    let number = body.strip_prefix(MAGIC)?.try_into().ok()?;
    (crc32fast::hash(body) == stored).then_some(u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Ok(None));
        let mut watermark = Watermark::create(dir.path(), 7).unwrap();
        assert_eq!(read(dir.path()), Ok(Some(7)));
        for number in 8..11 {
            watermark.raise(number).unwrap();
            assert_eq!(read(dir.path()), Ok(Some(number)));
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_number_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::create(dir.path(), 7).unwrap();
        watermark.raise(8).unwrap();
        watermark.raise(9).unwrap();
        let mut content = fs::read(path(dir.path())).unwrap();
        content[SLOT_BYTES + 10] ^= 1;
        fs::write(path(dir.path()), content).unwrap();
        assert_eq!(read(dir.path()), Ok(Some(8)));
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
