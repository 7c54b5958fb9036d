//! Opening a store so that nothing that is wrong with it stays silent.
//!
//! In this order: a lock against a second process; which generation is the store, and whether its
//! files are there and its log does not end too soon; sled itself, with its panics caught; the commit number compared with the
//! promised one, and the rows with the census; and a first commit of our own, which proves that
//! sled's syncs are real in this program. The number beside is raised last, so that an open cut off
//! anywhere leaves a store that opens.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::barrier;
use crate::census::Census;
use crate::db::Options;
use crate::engine::{self, Engine};
use crate::error::OpenError;
use crate::generation::Generation;
use crate::gone::Gone;
use crate::group::Group;
use crate::names;
use crate::rows;
use crate::tail;
use crate::watermark::{self, Promise, Watermark};

/// An open store, checked. The lock comes last, so that it is let go last.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) watermark: Watermark,
    pub(crate) census: Census,
    pub(crate) gone: Gone,
    pub(crate) lock: File,
}

/// Opens the store in `dir`, or makes a new one.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    fs::create_dir_all(dir).map_err(OpenError::io("create", dir))?;
    let lock = lock(dir)?;
    let promise = match watermark::read(dir)? {
        Some(promise) => promise,
        None => begin(dir)?,
    };
    let generation = Generation::new(dir, promise.generation);
    if promise.commit > 0 {
        generation.refuse_missing()?;
        refuse_cut_off(dir, &generation, promise)?;
    }
    let engine = Engine::open(generation, options.cache_bytes)?;
    let (found, gone) = check(dir, engine.rows(), promise)?;
    let census = prove_synced(dir, engine.rows(), found)?;
    engine.sync_names()?;
    names::sync_parent(dir)?;
    let watermark = Watermark::create(
        dir,
        Promise {
            commit: census.commit,
            ..promise
        },
    )?;
    remove_others(dir, engine.generation())?;
    Ok(Opened {
        engine,
        watermark,
        census,
        gone,
        lock,
    })
}

/// Our own lock, not sled's: it must be held before the first file is touched.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(OpenError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(OpenError::io("lock", &path)(error)),
    }
}

/// Makes the first promise, before there are rows: where there are rows, there was one.
fn begin(dir: &Path) -> Result<Promise, OpenError> {
    if !Generation::all(dir)?.is_empty() {
        let path = watermark::path(dir);
        return Err(OpenError::Missing { path });
    }
    let first = Promise {
        generation: 1,
        commit: 0,
    };
    Watermark::create(dir, first)?;
    Ok(first)
}

/// Refuses a log that sled would end before the promised commit, overwriting what is behind.
fn refuse_cut_off(dir: &Path, generation: &Generation, promise: Promise) -> Result<(), OpenError> {
    let log = generation.log();
    let found = tail::newest_commit(&log).map_err(OpenError::io("read", &log))?;
    if found < promise.commit {
        return Err(OpenError::Behind {
            dir: dir.to_owned(),
            promised: promise.commit,
            found,
        });
    }
    Ok(())
}

/// Compares what is there with what must be there.
fn check(dir: &Path, rows: &sled::Db, promise: Promise) -> Result<(Census, Gone), OpenError> {
    let look = || {
        let expected = rows::census(rows)?.unwrap_or_default();
        rows::count(rows).map(|counted| (expected, counted))
    };
    let looked = engine::caught(look).map_err(|what| OpenError::damaged(dir, what))?;
    let (expected, (counted, gone)) =
        looked.map_err(|error| OpenError::damaged(dir, error.what()))?;
    let dir = dir.to_owned();
    if promise.commit > expected.commit {
        return Err(OpenError::Behind {
            dir,
            promised: promise.commit,
            found: expected.commit,
        });
    }
    if !expected.agrees_with(&counted) {
        return Err(OpenError::Incomplete {
            dir,
            expected: expected.keys,
            found: counted.keys,
        });
    }
    Ok((expected, gone))
}

/// Commits the open itself, and sees that it was synced.
fn prove_synced(dir: &Path, rows: &sled::Db, last: Census) -> Result<Census, OpenError> {
    let before = barrier::syncs();
    let commit = || {
        let commit = Group::new(rows, &Gone::default(), last).finish();
        commit.apply(rows)?;
        rows.flush().map(|_| commit.census())
    };
    match engine::caught(commit) {
        Ok(Ok(census)) if barrier::held_since(before) => Ok(census),
        Ok(Ok(_)) => Err(OpenError::NotSynced),
        Ok(Err(error)) => Err(OpenError::io("write to", dir)(error.into())),
        Err(what) => Err(OpenError::damaged(dir, what)),
    }
}

/// Half a copy, or what was copied from: what a compaction that was cut off left behind.
fn remove_others(dir: &Path, current: &Generation) -> Result<(), OpenError> {
    let mut others = Generation::all(dir)?;
    others.retain(|other| other.number() != current.number());
    others.iter().try_for_each(Generation::remove)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Db};

    #[test]
    fn a_row_that_is_not_what_was_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let db = Db::open(dir, Options::default()).unwrap();
        let mut batch = Batch::new();
        batch.put("key", "value");
        db.commit_blocking(batch).unwrap();
        db.close().unwrap();
        let engine = Engine::open(Generation::new(dir, 1), 1 << 20).unwrap();
        engine.rows().insert(rows::head(b"key"), "abc").unwrap();
        engine.flush().unwrap();
        drop(engine);
        let what = "the row 6b6579: 3 bytes are too few for a row";
        assert_eq!(
            Db::open(dir, Options::default()).err(),
            Some(OpenError::damaged(dir, what.to_owned()))
        );
    }
}
