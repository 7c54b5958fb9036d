//! What is left of a damaged store, in a new one.
//!
//! The damaged store is only read, and not by sled, which writes whenever it opens something. A key
//! is salvaged when its row, and each piece of a large value, is what was once written. What the
//! newest commit says must be there tells how much is not.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use crate::batch::Batch;
use crate::census::Census;
use crate::db::{Db, Options};
use crate::error::{CloseError, Closed, Damage, OpenError};
use crate::generation::Generation;
use crate::gone::Gone;
use crate::names;
use crate::opening;
use crate::rows::{self, ChunkSet};
use crate::salvage::Salvage;
use crate::value;
use crate::watermark;

/// How much is committed at once to the new store, in bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What was found in a damaged store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many keys were salvaged.
    pub salvaged: u64,
    /// How many keys there should be, where the newest commit can be read.
    pub expected: Option<u64>,
    /// The newest commit found, and the newest that is known to have been on the disk; the second
    /// is not known where the file that says so is gone or damaged.
    pub commits: (u64, Option<u64>),
    /// Keys of which something is left, but not enough, in order.
    pub damaged: Vec<Bytes>,
    /// Whether all that was ever answered is salvaged as it was last, and nothing else. Where not,
    /// keys that were deleted may have come back, and older values of others.
    pub complete: bool,
}

/// Why nothing was recovered. The damaged store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Somebody has the store open, or it cannot be looked at.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no log to recover anything from.
    #[error("{} holds no store: there is no log in it", dir.display())]
    NoStore {
        /// Where one was looked for.
        dir: PathBuf,
    },
    /// The new store's place is taken.
    #[error("{} is there already; name a directory that is not", dir.display())]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// The damaged store cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        reason: io::Error,
    },
    /// The new store was closed before everything was in it.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The new store was not closed as it should be.
    #[error(transparent)]
    Close(#[from] CloseError),
}

/// Finds out what [`recover`] would salvage, and hands each key and value to `salvaged`, in order of
/// keys. Writes nothing.
///
/// # Errors
/// When the store is in use or cannot be read, and those of `salvaged`.
pub fn examine(
    dir: &Path,
    mut salvaged: impl FnMut(&[u8], Bytes) -> Result<(), RecoverError>,
) -> Result<Report, RecoverError> {
    if !dir.is_dir() {
        let dir = dir.to_owned();
        return Err(RecoverError::NoStore { dir });
    }
    let _lock = opening::lock(dir)?;
    let promised = watermark::read(dir).ok().flatten();
    let (log, mut salvage) = choose(dir, promised.map(|promise| promise.generation))?;
    let unreadable = |reason| RecoverError::Read {
        path: log.clone(),
        reason,
    };
    let expected = salvage.census().map_err(unreadable)?;
    let mut report = Report {
        expected: expected.map(|census| census.keys),
        commits: (
            expected.map_or(0, |census| census.commit),
            promised.map(|promise| promise.commit),
        ),
        ..Report::default()
    };
    let (mut counted, mut deleted) = (Census::default(), 0);
    let gone = gone(&mut salvage, &mut counted).map_err(unreadable)?;
    let keys: Vec<_> = salvage
        .keys()
        .filter(|key| rows::is_head(key))
        .cloned()
        .collect();
    for head in keys {
        let is_gone = gone.holds(&head);
        match assemble(&mut salvage, &head, &mut counted).map_err(unreadable)? {
            Ok(_) if is_gone => deleted += 1,
            Ok(value) => salvaged(rows::user_key(&head), value)?,
            Err(_) if is_gone => {}
            Err(_) => report.damaged.push(key_of(&head)),
        }
    }
    report.salvaged = counted.keys - deleted;
    report.expected = report.expected.map(|keys| keys.saturating_sub(deleted));
    let damaged = salvage.damaged().filter(|head| !gone.holds(head));
    report.damaged.extend(damaged.map(|head| key_of(head)));
    report.damaged.sort();
    report.complete = is_complete(&report, expected, counted);
    Ok(report)
}

/// Salvages what is left of the store in `dir` into a new one in the directory `into`, which must
/// not be there yet; each key and value is shown to `salvaged`, in order of keys. `dir` is only
/// read.
///
/// # Errors
/// When the store is in use or cannot be read, or the new one cannot be written.
pub fn recover(
    dir: &Path,
    into: &Path,
    salvaged: impl FnMut(&[u8], &Bytes),
) -> Result<Report, RecoverError> {
    if into.exists() {
        let dir = into.to_owned();
        return Err(RecoverError::Taken { dir });
    }
    let outcome = salvage_into(dir, into, salvaged);
    if outcome.is_err() {
        // What is not whole must not be taken for the store; that it failed is the news.
        let _half_left = fs::remove_dir_all(into);
    }
    outcome
}

/// Puts the store in `salvaged` in the place of the damaged one in `dir`, and the damaged one in the
/// first free place of those named `DIR.damaged-1` and so on, which is returned. Nothing is deleted;
/// cut off anywhere, one of the two stores is in `dir`.
///
/// # Errors
/// When the damaged store is in use, or the system refuses.
pub fn exchange(dir: &Path, salvaged: &Path) -> Result<PathBuf, RecoverError> {
    let _lock = opening::lock(dir)?;
    let aside = (1u32..)
        .map(|number| PathBuf::from(format!("{}.damaged-{number}", dir.display())))
        .find(|aside| !aside.exists())
        .unwrap_or_default();
    swap_names(dir, salvaged).map_err(OpenError::io("put a salvaged store in place of", dir))?;
    fs::rename(salvaged, &aside).map_err(OpenError::io("rename", salvaged))?;
    names::sync_parent(dir)?;
    Ok(aside)
}

/// Each is where the other was, at once.
#[cfg(target_os = "linux")]
fn swap_names(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Each is where the other was. There is a moment when `one` is nowhere.
#[cfg(not(target_os = "linux"))]
fn swap_names(one: &Path, other: &Path) -> io::Result<()> {
    let between = one.with_extension("exchanged");
    fs::rename(one, &between)?;
    fs::rename(other, one)?;
    fs::rename(between, other)
}

fn salvage_into(
    dir: &Path,
    into: &Path,
    mut salvaged: impl FnMut(&[u8], &Bytes),
) -> Result<Report, RecoverError> {
    let new = Db::open(into, Options::default())?;
    let (mut batch, mut bytes) = (Batch::new(), 0);
    let report = examine(dir, |key, value| {
        salvaged(key, &value);
        bytes += value.len();
        batch.put(key, value);
        if bytes >= BATCH_BYTES {
            new.commit_blocking(mem::take(&mut batch))?;
            bytes = 0;
        }
        Ok(())
    })?;
    new.commit_blocking(batch)?;
    new.close()?;
    Ok(report)
}

/// The log of the generation that is the store, by the watermark or else by its commits, with what
/// is in it.
fn choose(dir: &Path, promised: Option<u64>) -> Result<(PathBuf, Salvage), RecoverError> {
    let mut newest: Option<(u64, PathBuf, Salvage)> = None;
    for generation in Generation::all(dir)? {
        let path = generation.log();
        if !path.exists() {
            continue;
        }
        let read = || {
            let mut salvage = Salvage::of(&path)?;
            let census = salvage.census()?;
            Ok((census.map_or(0, |census| census.commit), salvage))
        };
        let unreadable = |reason| RecoverError::Read {
            path: path.clone(),
            reason,
        };
        let (commit, salvage) = read().map_err(unreadable)?;
        if promised == Some(generation.number()) {
            return Ok((path, salvage));
        }
        // Of two with the same commit the newer one is half a copy.
        if newest.as_ref().is_none_or(|(best, ..)| commit > *best) {
            newest = Some((commit, path, salvage));
        }
    }
    let dir = dir.to_owned();
    let (_, path, salvage) = newest.ok_or(RecoverError::NoStore { dir })?;
    Ok((path, salvage))
}

/// The ranges of keys that are gone; counts the rows that say so.
fn gone(salvage: &mut Salvage, counted: &mut Census) -> io::Result<Gone> {
    let keys: Vec<_> = salvage
        .keys()
        .filter(|key| rows::is_range(key))
        .cloned()
        .collect();
    let mut ranges = Vec::new();
    for key in keys {
        let row = salvage.row(&key)?.unwrap_or_default();
        if let Ok(Some(range)) = rows::range(&key, &row) {
            counted.enter(&key, value::share(&key, &row));
            ranges.push(range);
        }
    }
    Ok(Gone::of(ranges.into_iter()))
}

/// The value of a head, with its pieces, if all are there; counts them.
fn assemble(
    salvage: &mut Salvage,
    head: &[u8],
    counted: &mut Census,
) -> io::Result<Result<Bytes, Damage>> {
    let Some(row) = salvage.row(head)? else {
        return Ok(Err(Damage::MissingChunk(0)));
    };
    let (value, share) = match rows::chunks_of(head, &row) {
        Ok(None) => {
            let whole = rows::whole(head, &row).map(Bytes::copy_from_slice);
            (whole, value::share(head, &row))
        }
        Ok(Some(set)) => {
            let share = value::share(head, &row).and(set.share);
            (join(salvage, set)?, share)
        }
        Err(damage) => return Ok(Err(damage)),
    };
    if value.is_ok() {
        counted.add(share);
    }
    Ok(value)
}

fn join(salvage: &mut Salvage, set: ChunkSet) -> io::Result<Result<Bytes, Damage>> {
    let mut value = BytesMut::new();
    for (index, key) in (0..).zip(set.rows()) {
        let Some(row) = salvage.row(&key)? else {
            return Ok(Err(Damage::MissingChunk(index)));
        };
        match rows::whole(&key, &row) {
            Ok(chunk) => value.extend_from_slice(chunk),
            Err(damage) => return Ok(Err(damage)),
        }
    }
    let (announced, found) = (set.len, value.len() as u64);
    if announced != found {
        return Ok(Err(Damage::Length { announced, found }));
    }
    Ok(Ok(value.freeze()))
}

/// Whether the rows are those of the newest commit that was promised.
fn is_complete(report: &Report, expected: Option<Census>, counted: Census) -> bool {
    let (found, promised) = report.commits;
    let newest = promised.is_none_or(|promised| found >= promised);
    newest && expected.unwrap_or_default().agrees_with(&counted)
}

fn key_of(head: &[u8]) -> Bytes {
    Bytes::copy_from_slice(rows::user_key(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermark::{Promise, Watermark};

    /// Puts a log of some commits into a folder of the store, of which the last says so.
    fn generation_of(store: &Path, number: u64, commits: u8) {
        let other = tempfile::tempdir().unwrap();
        let db = Db::open(other.path(), Options::default()).unwrap();
        for commit in 0..commits {
            let mut batch = Batch::new();
            batch.put("commits", vec![commit + 1]);
            db.commit_blocking(batch).unwrap();
        }
        db.close().unwrap();
        let (from, to) = (
            Generation::new(other.path(), 1),
            Generation::new(store, number),
        );
        fs::create_dir(to.dir()).unwrap();
        fs::copy(from.log(), to.log()).unwrap();
    }

    /// Which log is taken for the store, by the number of its commits.
    fn chosen(store: &Path) -> u8 {
        let mut commits = 0;
        let report = examine(store, |_, value| {
            commits = value[0];
            Ok(())
        });
        assert_eq!(report.unwrap().salvaged, 1);
        commits
    }

    #[test]
    fn the_store_is_the_generation_that_was_promised_or_else_has_the_newest_commit() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        generation_of(dir, 1, 2);
        generation_of(dir, 2, 3);
        generation_of(dir, 3, 1);
        fs::create_dir(Generation::new(dir, 4).dir()).unwrap();
        assert_eq!(chosen(dir), 3);
        for (generation, commits) in [(1, 2), (2, 3), (3, 1), (4, 3)] {
            let promise = Promise {
                generation,
                commit: 1,
            };
            Watermark::create(dir, promise).unwrap();
            assert_eq!(chosen(dir), commits, "generation {generation} was promised");
        }
    }

    #[test]
    fn of_two_with_the_same_commit_the_newer_is_half_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        generation_of(dir, 1, 2);
        generation_of(dir, 2, 2);
        let (log, _) = choose(dir, None).unwrap();
        assert_eq!(log, Generation::new(dir, 1).log());
    }

    #[test]
    fn what_was_found_is_complete_when_nothing_newer_was_promised() {
        let keys = |keys| Census {
            keys,
            ..Census::default()
        };
        let complete = |found, promised, expected, counted| {
            let report = Report {
                commits: (found, promised),
                ..Report::default()
            };
            is_complete(&report, expected, keys(counted))
        };
        assert!(complete(7, None, Some(keys(3)), 3));
        assert!(complete(7, Some(7), Some(keys(3)), 3));
        assert!(complete(8, Some(7), Some(keys(3)), 3));
        assert!(!complete(7, Some(8), Some(keys(3)), 3));
        assert!(!complete(7, Some(7), Some(keys(3)), 2));
        assert!(complete(0, None, None, 0));
        assert!(!complete(0, None, None, 1));
    }

    #[test]
    fn what_is_salvaged_is_shown_and_committed_some_megabytes_at_a_time() {
        const LEN: usize = BATCH_BYTES / 2;
        let place = tempfile::tempdir().unwrap();
        let [dir, new] = ["mail", "new"].map(|name| place.path().join(name));
        let written = [0, 1, 2].map(|key| (vec![key], Bytes::from(vec![key; LEN])));
        let db = Db::open(&dir, Options::default()).unwrap();
        for (key, value) in written.clone() {
            let mut batch = Batch::new();
            batch.put(key, value);
            db.commit_blocking(batch).unwrap();
        }
        db.close().unwrap();
        let mut shown = Vec::new();
        let salvaged = |key: &[u8], value: &Bytes| shown.push((key.to_vec(), value.clone()));
        let report = recover(&dir, &new, salvaged).unwrap();
        assert!(report.complete && report.salvaged == 3, "{report:?}");
        assert!(shown == written);
        let promised = watermark::read(&new).unwrap().unwrap();
        assert_eq!(promised.commit, 3, "the open, two values, and one");
        let db = Db::open(&new, Options::default()).unwrap();
        for (key, value) in written {
            assert!(db.get(&key) == Ok(Some(value)), "{key:?}");
        }
    }

    #[test]
    fn what_was_salvaged_takes_the_place_of_what_was_damaged() {
        let place = tempfile::tempdir().unwrap();
        let [dir, new] = ["mail", "new"].map(|name| place.path().join(name));
        for number in 1..3 {
            for (folder, file) in [(&dir, "damaged"), (&new, "salvaged")] {
                fs::create_dir(folder).unwrap();
                fs::write(folder.join(file), "").unwrap();
            }
            let aside = exchange(&dir, &new).unwrap();
            assert_eq!(aside, place.path().join(format!("mail.damaged-{number}")));
            assert!(aside.join("damaged").exists() && dir.join("salvaged").exists());
            assert!(!new.exists());
            fs::remove_dir_all(&dir).unwrap();
        }
    }

    /// A value that is a row of its own, and one of which the pieces are.
    #[test]
    fn keys_are_named_of_which_something_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        for (key, byte, len) in [("pieces", 1, 50_000), ("row", 1, 500), ("sound", 2, 500)] {
            let mut batch = Batch::new();
            batch.put(key, vec![byte; len]);
            db.commit_blocking(batch).unwrap();
        }
        db.close().unwrap();
        let log = Generation::new(dir.path(), 1).log();
        let mut bytes = fs::read(&log).unwrap();
        let values = bytes
            .chunks_exact_mut(100)
            .filter(|part| **part == [1; 100]);
        values.for_each(|part| part[0] = 0);
        fs::write(&log, bytes).unwrap();
        let mut salvaged = Vec::new();
        let report = examine(dir.path(), |key, _| {
            salvaged.push(key.to_vec());
            Ok(())
        });
        let report = report.unwrap();
        assert_eq!(salvaged, [b"sound"]);
        assert_eq!(report.damaged, ["pieces", "row"]);
        assert!(!report.complete);
    }
}
