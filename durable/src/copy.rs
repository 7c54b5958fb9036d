//! The next generation in the making: a copy of all live rows, made while commits go on.
//!
//! Rows are copied in the order of their keys, a step at a time. A commit that comes meanwhile is
//! applied to the copy too, as far as it is about keys that the copy has reached; the others it
//! will find when it gets there. The copy keeps a census of its own, from what it reads and
//! replaces, and is whole only when that is the store's.

use std::ops::Bound;
use std::path::Path;

use sled::{IVec, Tree};

use crate::census::Census;
use crate::engine::{self, Engine};
use crate::error::{OpenError, ReadError};
use crate::generation::Generation;
use crate::group::{self, Commit};
use crate::rows;
use crate::value;

/// How much one step copies, in bytes of keys and rows, and as much again as was added since the
/// last one: so the copy gets there, however much is committed. A commit waits for one step at most.
const STEP_BYTES: u64 = 512 * 1024;

/// A generation that is not the store yet.
pub(crate) struct Copy {
    engine: Engine,
    reached: Reached,
    census: Census,
    /// What commits have added since the last step where the copy has yet to get, in bytes.
    behind: u64,
}

/// How far in the order of keys the copy is.
enum Reached {
    /// Every key up to this one.
    Key(IVec),
    /// All of them.
    End,
}

/// Why a copy cannot become the store. The store itself is none the worse for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("it cannot be written: {0}")]
    Write(#[from] sled::Error),
    #[error("{0}")]
    Panic(String),
    #[error("it has {copied:?} where the store has {store:?}")]
    Differs { copied: Census, store: Census },
}

impl Copy {
    /// Begins a copy in a folder of its own, after removing what an earlier one left there.
    pub(crate) fn begin(store: &Path, number: u64, cache_bytes: u64) -> Result<Self, CopyError> {
        let generation = Generation::new(store, number);
        if generation.dir().exists() {
            generation.remove()?;
        }
        Ok(Self {
            engine: Engine::open(generation, cache_bytes)?,
            reached: Reached::Key(rows::head(b"").into()),
            census: Census::default(),
            behind: 0,
        })
    }

    /// Whether every row is in the copy.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.reached, Reached::End)
    }

    /// Copies the next rows of the store.
    pub(crate) fn step(&mut self, store: &Tree) -> Result<(), CopyError> {
        caught(|| self.copy_some(store))
    }

    /// Applies what a commit changes in the part that is copied.
    pub(crate) fn mirror(&mut self, commit: &Commit) -> Result<(), CopyError> {
        caught(|| self.apply(commit))
    }

    /// Makes the copy durable, and hands it over if it holds what `store` says.
    pub(crate) fn finish(self, store: Census) -> Result<Engine, CopyError> {
        let copied = Census {
            commit: store.commit,
            ..self.census
        };
        if copied != store {
            return Err(CopyError::Differs { copied, store });
        }
        caught(|| {
            let (key, row) = rows::census_row(&store);
            self.engine.rows().insert(key, row)?;
            self.engine.flush()?;
            Ok(self.engine.sync_names()?)
        })?;
        Ok(self.engine)
    }

    /// Removes the folder, and then lets go of what is in it.
    pub(crate) fn abandon(self) {
        retire(self.engine);
    }

    fn copy_some(&mut self, store: &Tree) -> Result<(), CopyError> {
        let Reached::Key(reached) = &self.reached else {
            return Ok(());
        };
        let enough = STEP_BYTES + std::mem::take(&mut self.behind);
        let (mut copied, mut bytes) = (Vec::new(), 0);
        for row in store.range((Bound::Excluded(reached.clone()), Bound::Unbounded)) {
            let (key, row) = row.map_err(rows::engine)?;
            let share = rows::checked_share(&key, &row)?;
            self.census.enter(&key, share);
            bytes += share.bytes;
            copied.push((key, Some(row)));
            if bytes >= enough {
                break;
            }
        }
        self.engine.rows().apply_batch(group::batch(&copied))?;
        self.reached = match copied.pop() {
            Some((last, _)) if bytes >= enough => Reached::Key(last),
            _ => Reached::End,
        };
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) -> Result<(), CopyError> {
        let rows = commit.rows().iter().filter(|(key, _)| !rows::is_own(key));
        let (changes, ahead): (Vec<_>, Vec<_>) = rows.partition(|(key, _)| self.has_reached(key));
        let added = ahead.iter().filter_map(|(_, row)| row.as_ref());
        self.behind += added.map(|row| row.len() as u64).sum::<u64>();
        for (key, row) in &changes {
            if let Some(old) = self.engine.rows().get(key)? {
                self.census.leave(key, value::share(key, &old));
            }
            if let Some(new) = row {
                self.census.enter(key, value::share(key, new));
            }
        }
        Ok(self.engine.rows().apply_batch(group::batch(changes))?)
    }

    fn has_reached(&self, key: &IVec) -> bool {
        match &self.reached {
            Reached::Key(reached) => key <= reached,
            Reached::End => true,
        }
    }
}

/// Removes a generation that is not the store, or not any more: its names at once, its space when
/// the last scan of it is dropped.
pub(crate) fn retire(engine: Engine) {
    if let Err(error) = engine.generation().remove() {
        tracing::warn!(%error, "a folder that is of no more use is left for the next open");
    }
    if let Err(panic) = engine::caught(|| drop(engine)) {
        tracing::warn!(%panic, "a folder that is of no more use was not closed cleanly");
    }
}

fn caught<T>(run: impl FnOnce() -> Result<T, CopyError>) -> Result<T, CopyError> {
    engine::caught(run).unwrap_or_else(|panic| Err(CopyError::Panic(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::group::Group;

    fn engine(dir: &Path, number: u64) -> Engine {
        Engine::open(Generation::new(dir, number), 1 << 20).unwrap()
    }

    fn commit(store: &Engine, last: Census, batch: Batch) -> Commit {
        let mut group = Group::new(store.rows(), last);
        group.add(batch).unwrap();
        let commit = group.finish();
        commit.apply(store.rows()).unwrap();
        commit
    }

    /// Rows enough for some steps, small ones and some in chunks; in later rounds, some of them.
    fn rows_of(round: u8) -> Batch {
        let mut batch = Batch::new();
        for key in (0..100u8).filter(|key| round == 0 || key % 20 == round % 20) {
            let len = if key % 8 == round % 8 {
                150_000
            } else {
                20_000
            };
            batch.put([key], vec![round ^ key; len]);
        }
        batch.delete([round % 100]);
        batch
    }

    fn contents(tree: &Tree) -> Vec<(IVec, IVec)> {
        tree.iter().map(Result::unwrap).collect()
    }

    #[test]
    fn a_copy_made_between_commits_is_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        let mut census = commit(&store, Census::default(), rows_of(0)).census();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        let mut steps = 0;
        for round in 1.. {
            copy.step(store.rows()).unwrap();
            steps += 1;
            if copy.is_complete() {
                break;
            }
            let commit = commit(&store, census, rows_of(round));
            copy.mirror(&commit).unwrap();
            census = commit.census();
        }
        assert!(steps > 2, "{steps} steps");
        let copied = copy.finish(census).unwrap();
        assert_eq!(contents(copied.rows()), contents(store.rows()));
        let counted = rows::count(copied.rows()).unwrap();
        assert!(counted.agrees_with(&census));
    }

    /// Each commit adds more than a step copies by itself, where the copy has yet to get.
    #[test]
    fn a_copy_gets_there_however_much_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        let mut census = commit(&store, Census::default(), rows_of(0)).census();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        let mut steps = 0..20u8;
        while !copy.is_complete() {
            let step = steps.next().expect("a copy that is never complete");
            let mut batch = Batch::new();
            (0..40u8).for_each(|row| batch.put([200, step, row], vec![step; 20_000]));
            let commit = commit(&store, census, batch);
            copy.mirror(&commit).unwrap();
            census = commit.census();
            copy.step(store.rows()).unwrap();
        }
        copy.finish(census).unwrap();
    }

    #[test]
    fn a_copy_that_lacks_a_row_does_not_become_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        let census = commit(&store, Census::default(), rows_of(0)).census();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        store.rows().remove(rows::head(&[5])).unwrap();
        while !copy.is_complete() {
            copy.step(store.rows()).unwrap();
        }
        let refused = copy.finish(census).map(|_| ());
        assert!(matches!(refused, Err(CopyError::Differs { .. })));
    }

    #[test]
    fn a_damaged_row_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        commit(&store, Census::default(), rows_of(0));
        store.rows().insert(rows::head(&[5]), "garbage").unwrap();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        let stepped = copy.step(store.rows());
        assert!(matches!(stepped, Err(CopyError::Read(_))), "{stepped:?}");
        let folder = Generation::new(dir.path(), 2);
        assert!(folder.dir().exists());
        copy.abandon();
        assert!(!folder.dir().exists());
    }

    fn copy_files(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for path in crate::names::within(from).unwrap() {
            let target = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy_files(&path, &target),
                false => drop(std::fs::copy(&path, target).unwrap()),
            }
        }
    }

    /// What a process killed now would leave opens with everything, and as one generation.
    fn assert_opens_whole(dir: &Path, rows: u64) {
        let left = tempfile::tempdir().unwrap();
        copy_files(dir, left.path());
        let db = crate::Db::open(left.path(), crate::Options::default()).unwrap();
        assert_eq!(db.scan(b"").map(Result::unwrap).count() as u64, rows);
        let folders = Generation::all(left.path()).unwrap();
        assert_eq!(folders.len(), 1, "{folders:?}");
    }

    #[test]
    fn a_move_cut_off_anywhere_leaves_a_whole_store() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let opened = crate::opening::open(dir, &crate::Options::default()).unwrap();
        let census = commit(&opened.engine, opened.census, rows_of(0)).census();
        opened.engine.flush().unwrap();
        let mut copy = Copy::begin(dir, 2, 1 << 20).unwrap();
        assert_opens_whole(dir, census.keys);
        copy.step(opened.engine.rows()).unwrap();
        assert!(!copy.is_complete());
        assert_opens_whole(dir, census.keys);
        while !copy.is_complete() {
            copy.step(opened.engine.rows()).unwrap();
        }
        let copied = copy.finish(census).unwrap();
        assert_opens_whole(dir, census.keys);
        let promise = crate::watermark::Promise {
            generation: 2,
            commit: census.commit,
        };
        crate::watermark::Watermark::create(dir, promise).unwrap();
        assert_opens_whole(dir, census.keys);
        std::fs::remove_file(opened.engine.generation().log()).unwrap();
        assert_opens_whole(dir, census.keys);
        retire(opened.engine);
        assert_opens_whole(dir, census.keys);
        assert_eq!(rows::census(copied.rows()), Ok(Some(census)));
    }
}
