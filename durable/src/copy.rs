//! The next generation in the making: a copy of all live rows, made while commits go on.
//!
//! Rows are copied in the order of their keys, a step at a time. A commit that comes meanwhile is
//! applied to the copy too, as far as it is about keys that the copy has reached; the others it
//! will find when it gets there. What is gone it passes over, and at the end the ranges that were gone
//! when it began, and still are. The copy keeps a census of its own, from what it reads and replaces,
//! and one of what it passes over, and is whole only when both together are the store's.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::Path;

use sled::{IVec, Tree};

use crate::census::Census;
use crate::engine::{self, Engine};
use crate::error::{OpenError, ReadError};
use crate::generation::Generation;
use crate::gone::Gone;
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
    /// What it has passed over.
    passed: Census,
    /// The chunks of heads that it has passed over, by the beginnings of their keys.
    passed_chunks: HashSet<Vec<u8>>,
    /// The rows of ranges that commits have changed since it began.
    changed_ranges: HashSet<Vec<u8>>,
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
    #[error("a key was written where it had passed over what was gone")]
    Unearthed,
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
            passed: Census::default(),
            passed_chunks: HashSet::new(),
            changed_ranges: HashSet::new(),
            behind: 0,
        })
    }

    /// Whether every row is in the copy.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.reached, Reached::End)
    }

    /// Copies the next rows of the store.
    pub(crate) fn step(&mut self, store: &Tree, gone: &Gone) -> Result<(), CopyError> {
        caught(|| self.copy_some(store, gone))
    }

    /// Applies what a commit changes in the part that is copied.
    pub(crate) fn mirror(&mut self, commit: &Commit) -> Result<(), CopyError> {
        caught(|| self.apply(commit))
    }

    /// Makes the copy durable, and hands it over with its census and what is gone of it, if it holds
    /// what `store` says.
    pub(crate) fn finish(
        mut self,
        store: Census,
        gone: &Gone,
    ) -> Result<(Engine, Census, Gone), CopyError> {
        let left = caught(|| self.copy_ranges(gone))?;
        let census = Census {
            commit: store.commit,
            ..self.census
        };
        let copied = census.with(self.passed);
        if copied != store {
            return Err(CopyError::Differs { copied, store });
        }
        caught(|| {
            let (key, row) = rows::census_row(&census);
            self.engine.rows().insert(key, row)?;
            self.engine.flush()?;
            Ok(self.engine.sync_names()?)
        })?;
        Ok((self.engine, census, left))
    }

    /// Copies the ranges that are gone, but those of which no row was copied.
    fn copy_ranges(&mut self, gone: &Gone) -> Result<Gone, CopyError> {
        let (mut copied, mut left) = (Vec::new(), Vec::new());
        for (first, last) in gone.iter() {
            let (key, row) = rows::range_row(first, last);
            let share = value::share(&key, &row);
            if !self.changed_ranges.contains(&key) {
                self.passed.enter(&key, share);
                continue;
            }
            self.census.enter(&key, share);
            copied.push((key.into(), Some(row.into())));
            left.push((first.clone(), last.clone()));
        }
        self.engine.rows().apply_batch(group::batch(&copied))?;
        Ok(Gone::of(left.into_iter()))
    }

    /// Removes the folder, and then lets go of what is in it.
    pub(crate) fn abandon(self) {
        retire(self.engine);
    }

    fn copy_some(&mut self, store: &Tree, gone: &Gone) -> Result<(), CopyError> {
        let Reached::Key(reached) = &self.reached else {
            return Ok(());
        };
        let enough = STEP_BYTES + std::mem::take(&mut self.behind);
        let (mut copied, mut bytes, mut last) = (Vec::new(), 0, None);
        let rest = (
            Bound::Excluded(reached.clone()),
            Bound::Excluded(rows::ranges_begin()),
        );
        for row in store.range(rest) {
            let (key, row) = row.map_err(rows::engine)?;
            let share = rows::checked_share(&key, &row)?;
            bytes += share.bytes;
            last = Some(key.clone());
            match self.passes_over(gone, &key, &row) {
                true => self.passed.enter(&key, share),
                false => {
                    self.census.enter(&key, share);
                    copied.push((key, Some(row)));
                }
            }
            if bytes >= enough {
                break;
            }
        }
        self.engine.rows().apply_batch(group::batch(&copied))?;
        self.reached = match last {
            Some(last) if bytes >= enough => Reached::Key(last),
            _ => Reached::End,
        };
        Ok(())
    }

    /// Whether a row is not copied: it is gone, or belongs to one that was passed over.
    fn passes_over(&mut self, gone: &Gone, key: &IVec, row: &IVec) -> bool {
        if rows::is_head(key) {
            let is_gone = gone.holds(key);
            if is_gone && let Ok(Some(set)) = rows::chunks_of(key, row) {
                self.passed_chunks.insert(set.prefix());
            }
            return is_gone;
        }
        rows::prefix_of_set(key).is_some_and(|set| self.passed_chunks.contains(set))
    }

    fn apply(&mut self, commit: &Commit) -> Result<(), CopyError> {
        if commit.ranges().unearthed() {
            return Err(CopyError::Unearthed);
        }
        let ranges = commit.rows().iter().map(|(key, _)| key);
        let ranges = ranges.filter(|key| rows::is_range(key));
        self.changed_ranges.extend(ranges.map(|key| key.to_vec()));
        let is_users = |key: &IVec| !rows::is_own(key) && !rows::is_range(key);
        let rows = commit.rows().iter().filter(|(key, _)| is_users(key));
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
        let gone = Gone::read(store.rows()).unwrap();
        let mut group = Group::new(store.rows(), &gone, last);
        group.add(batch).unwrap();
        let commit = group.finish();
        commit.apply(store.rows()).unwrap();
        commit
    }

    fn gone(store: &Engine) -> Gone {
        Gone::read(store.rows()).unwrap()
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
            copy.step(store.rows(), &gone(&store)).unwrap();
            steps += 1;
            if copy.is_complete() {
                break;
            }
            let commit = commit(&store, census, rows_of(round));
            copy.mirror(&commit).unwrap();
            census = commit.census();
        }
        assert!(steps > 2, "{steps} steps");
        let (copied, ..) = copy.finish(census, &gone(&store)).unwrap();
        assert_eq!(contents(copied.rows()), contents(store.rows()));
        let (counted, _) = rows::count(copied.rows()).unwrap();
        assert!(counted.agrees_with(&census));
    }

    /// Ranges before the copy began and after, where it was and where it had yet to get, small values
    /// and large ones, among them one that reaches into another.
    #[test]
    fn nothing_that_is_gone_is_copied_but_what_went_after_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        let range = |first: u8, last: u8| {
            let mut batch = Batch::new();
            batch.delete_range([first], [last], 0);
            batch
        };
        let mut census = commit(&store, Census::default(), rows_of(0)).census();
        for (first, last) in [(0, 8), (40, 50)] {
            census = commit(&store, census, range(first, last)).census();
        }
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        copy.step(store.rows(), &gone(&store)).unwrap();
        assert!(!copy.is_complete());
        for (first, last) in [(10, 12), (45, 60), (80, 90)] {
            let commit = commit(&store, census, range(first, last));
            copy.mirror(&commit).unwrap();
            census = commit.census();
        }
        while !copy.is_complete() {
            copy.step(store.rows(), &gone(&store)).unwrap();
        }
        let (copied, copied_census, left) = copy.finish(census, &gone(&store)).unwrap();
        let (counted, counted_gone) = rows::count(copied.rows()).unwrap();
        assert!(counted.agrees_with(&copied_census));
        let heads = |first: u8, last: u8| (rows::head(&[first]), rows::head(&[last]));
        let expected = [heads(10, 12), heads(40, 60), heads(80, 90)];
        assert!(
            left.iter()
                .eq(expected.iter().map(|(first, last)| (first, last)))
        );
        assert!(counted_gone.iter().eq(left.iter()));
        let keys: Vec<u8> = contents(copied.rows())
            .iter()
            .filter(|(key, _)| rows::is_head(key))
            .map(|(key, _)| rows::user_key(key)[0])
            .collect();
        // What went after it was copied lies there, and nobody reads it.
        let stays = |key: &u8| !matches!(key, 0..=8 | 40..=60 | 80..=90);
        assert_eq!(keys, (0..100).filter(stays).collect::<Vec<u8>>());
    }

    #[test]
    fn a_copy_that_has_passed_over_what_is_written_again_does_not_become_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        let mut census = commit(&store, Census::default(), rows_of(0)).census();
        let mut batch = Batch::new();
        batch.delete_range([0], [8], 0);
        census = commit(&store, census, batch).census();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        copy.step(store.rows(), &gone(&store)).unwrap();
        let mut batch = Batch::new();
        batch.put([5], "again");
        let commit = commit(&store, census, batch);
        assert!(matches!(copy.mirror(&commit), Err(CopyError::Unearthed)));
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
            copy.step(store.rows(), &gone(&store)).unwrap();
        }
        copy.finish(census, &gone(&store)).unwrap();
    }

    #[test]
    fn a_copy_that_lacks_a_row_does_not_become_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        let census = commit(&store, Census::default(), rows_of(0)).census();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        store.rows().remove(rows::head(&[5])).unwrap();
        while !copy.is_complete() {
            copy.step(store.rows(), &gone(&store)).unwrap();
        }
        let refused = copy.finish(census, &gone(&store)).map(|_| ());
        assert!(matches!(refused, Err(CopyError::Differs { .. })));
    }

    #[test]
    fn a_damaged_row_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let store = engine(dir.path(), 1);
        commit(&store, Census::default(), rows_of(0));
        store.rows().insert(rows::head(&[5]), "garbage").unwrap();
        let mut copy = Copy::begin(dir.path(), 2, 1 << 20).unwrap();
        let stepped = copy.step(store.rows(), &gone(&store));
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
        copy.step(opened.engine.rows(), &Gone::default()).unwrap();
        assert!(!copy.is_complete());
        assert_opens_whole(dir, census.keys);
        while !copy.is_complete() {
            copy.step(opened.engine.rows(), &Gone::default()).unwrap();
        }
        let (copied, ..) = copy.finish(census, &Gone::default()).unwrap();
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
