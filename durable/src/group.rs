//! One group of batches, on its way to becoming one atomic change of the tree.
//!
//! sled applies and recovers a batch of its own as a whole, so a group that becomes one such batch is
//! atomic, and each batch in it is. Later changes of a key replace earlier ones, which is the order
//! the batches were queued in.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use sled::{IVec, Tree};

use crate::batch::{Batch, Change};
use crate::census::{Census, Share};
use crate::gone::{Changes, Gone, MAX_RANGES, Range};
use crate::rows::{self, CHUNK_BYTES, ChunkSet};
use crate::value::{self, Framed};

/// The rows that a group writes and removes.
pub(crate) struct Group<'t> {
    tree: &'t Tree,
    gone: &'t Gone,
    census: Census,
    rows: HashMap<Vec<u8>, Option<IVec>>,
    /// The heads this group has changed, as they are by now.
    heads: BTreeMap<Vec<u8>, Option<Head>>,
    ranges: Changes,
    next_ordinal: u32,
}

/// A group that is complete: what one commit changes.
pub(crate) struct Commit {
    /// Row keys, each with its row, or without when it is removed.
    rows: Vec<(IVec, Option<IVec>)>,
    ranges: Changes,
    census: Census,
}

/// What must be known of a head to replace it.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Its own, and that of its chunks.
    share: Share,
    chunks: Option<ChunkSet>,
}

impl Head {
    fn of(key: &[u8], row: &[u8], chunks: Option<ChunkSet>) -> Self {
        let share = value::share(key, row);
        Self {
            share: chunks.map_or(share, |set| share.and(set.share)),
            chunks,
        }
    }
}

impl<'t> Group<'t> {
    /// An empty group, to be the commit after the one whose census is given.
    pub(crate) fn new(tree: &'t Tree, gone: &'t Gone, last: Census) -> Self {
        let census = Census {
            commit: last.commit + 1,
            ..last
        };
        Self {
            tree,
            gone,
            census,
            rows: HashMap::new(),
            heads: BTreeMap::new(),
            ranges: Changes::default(),
            next_ordinal: 0,
        }
    }

    /// Adds one batch after those that are in.
    pub(crate) fn add(&mut self, batch: Batch) -> sled::Result<()> {
        batch
            .into_changes()
            .into_iter()
            .try_for_each(|change| self.change(change))
    }

    /// What all of them come down to.
    pub(crate) fn finish(mut self) -> Commit {
        let (key, row) = rows::census_row(&self.census);
        self.rows.insert(key, Some(row.into()));
        let rows = self.rows.into_iter();
        Commit {
            rows: rows.map(|(key, row)| (key.into(), row)).collect(),
            ranges: self.ranges,
            census: self.census,
        }
    }

    fn change(&mut self, change: Change) -> sled::Result<()> {
        match change {
            Change::Put { key, value, is_new } => self.put(rows::head(&key), &value, is_new),
            Change::Delete { key } => self.delete(rows::head(&key)),
            Change::DeleteRange { first, last, bytes } => {
                self.delete_range((rows::head(&first), rows::head(&last)), bytes)
            }
        }
    }

    fn put(&mut self, head: Vec<u8>, value: &Bytes, is_new: bool) -> sled::Result<()> {
        if let Some(range) = self.ranges.around(self.gone, &head) {
            self.unearth(range)?;
        }
        if is_new && !self.heads.contains_key(&head) {
            // Looking for it costs half as much as writing it.
            debug_assert!(!self.tree.contains_key(&head)?, "it was to be new");
        } else {
            self.release(&head)?;
        }
        let new = self.store(&head, value);
        self.heads.insert(head, Some(new));
        Ok(())
    }

    fn delete(&mut self, head: Vec<u8>) -> sled::Result<()> {
        if self.ranges.around(self.gone, &head).is_none() {
            self.release(&head)?;
            self.heads.insert(head, None);
        }
        Ok(())
    }

    /// Writes down that a range is gone, as one with those that it reaches into.
    fn delete_range(&mut self, range: Range, bytes: u64) -> sled::Result<()> {
        if range.0 > range.1 {
            return Ok(());
        }
        if self.gone.len() >= MAX_RANGES {
            let is_there =
                |group: &Self, head: &[u8]| group.ranges.around(group.gone, head).is_none();
            return self.delete_each(&range, is_there).map(drop);
        }
        self.delete_written(&range)?;
        let (mut first, mut last) = range.clone();
        for (begin, end) in self.ranges.within(self.gone, &range) {
            self.end_range(&begin, &end);
            first = first.min(begin);
            last = last.max(end);
        }
        let (key, row) = rows::range_row(&first, &last);
        self.census.enter(&key, value::share(&key, &row));
        self.rows.insert(key, Some(row.into()));
        self.ranges.bury((first, last), bytes);
        Ok(())
    }

    /// Removes what this group itself has written in a range: it is not in the tree yet.
    fn delete_written(&mut self, (first, last): &Range) -> sled::Result<()> {
        let heads = self.heads.range(first.clone()..=last.clone());
        let written = heads.filter(|(_, head)| head.is_some());
        let written: Vec<_> = written.map(|(key, _)| key.clone()).collect();
        for head in written {
            self.release(&head)?;
            self.heads.insert(head, None);
        }
        Ok(())
    }

    /// Removes the rows of a range that is gone, of which a key is written again.
    fn unearth(&mut self, range: Range) -> sled::Result<()> {
        let removed = self.delete_each(&range, |_, _| true)?;
        self.ranges.unearth(removed);
        self.end_range(&range.0, &range.1);
        Ok(())
    }

    /// Removes such rows of a range one by one, and tells what they take.
    fn delete_each(
        &mut self,
        range: &Range,
        is_such: impl Fn(&Self, &[u8]) -> bool,
    ) -> sled::Result<Share> {
        self.delete_written(range)?;
        let mut removed = Share::default();
        for row in self.tree.range(range.0.clone()..=range.1.clone()) {
            let (head, row) = row?;
            if self.heads.contains_key(&head[..]) || !is_such(self, &head) {
                continue;
            }
            let found = Head::of(&head, &row, trusted_chunks(&head, &row));
            removed = removed.and(found.share);
            self.remove(&head, found);
            self.heads.insert(head.to_vec(), None);
        }
        Ok(removed)
    }

    fn end_range(&mut self, first: &[u8], last: &[u8]) {
        let (key, row) = rows::range_row(first, last);
        self.census.leave(&key, value::share(&key, &row));
        self.rows.insert(key, None);
        self.ranges.end(first.to_owned());
    }

    /// Removes the head, if it is there, and its chunks.
    fn release(&mut self, head: &[u8]) -> sled::Result<()> {
        let current = match self.heads.get(head) {
            Some(current) => *current,
            None => self.stored(head)?,
        };
        if let Some(current) = current {
            self.remove(head, current);
        }
        Ok(())
    }

    fn remove(&mut self, head: &[u8], Head { share, chunks }: Head) {
        self.census.remove(share);
        chunks
            .into_iter()
            .flat_map(ChunkSet::rows)
            .for_each(|chunk| {
                self.rows.insert(chunk, None);
            });
        self.rows.insert(head.to_owned(), None);
    }

    /// The head as it is in the tree.
    fn stored(&self, head: &[u8]) -> sled::Result<Option<Head>> {
        let Some(row) = self.tree.get(head)? else {
            return Ok(None);
        };
        Ok(Some(Head::of(head, &row, trusted_chunks(head, &row))))
    }

    fn store(&mut self, head: &[u8], value: &Bytes) -> Head {
        let chunks = (value.len() > CHUNK_BYTES).then(|| self.store_chunks(value));
        let row = match chunks {
            Some(set) => Framed::Chunked(&set.encode()).encode(head),
            None => Framed::Whole(value).encode(head),
        };
        let new = Head::of(head, &row, chunks);
        self.census.add(new.share);
        self.rows.insert(head.to_owned(), Some(row.into()));
        new
    }

    fn store_chunks(&mut self, value: &Bytes) -> ChunkSet {
        let mut set = self.name_set(value.len());
        for (row, chunk) in set.rows().zip(value.chunks(CHUNK_BYTES)) {
            let framed = Framed::Whole(chunk).encode(&row);
            set.share = set.share.and(value::share(&row, &framed));
            self.rows.insert(row, Some(framed.into()));
        }
        set
    }

    fn name_set(&mut self, len: usize) -> ChunkSet {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        ChunkSet {
            commit: self.census.commit,
            ordinal,
            len: len as u64,
            share: Share::default(),
        }
    }
}

impl Commit {
    /// What must be there once it is applied.
    pub(crate) fn census(&self) -> Census {
        self.census
    }

    /// What it changes of the ranges that are gone.
    pub(crate) fn ranges(&self) -> &Changes {
        &self.ranges
    }

    /// The same, when all else is done.
    pub(crate) fn into_ranges(self) -> Changes {
        self.ranges
    }

    /// What it writes and removes.
    pub(crate) fn rows(&self) -> &[(IVec, Option<IVec>)] {
        &self.rows
    }

    /// Applies all of it to the tree, or nothing; not durable before the next flush.
    pub(crate) fn apply(&self, tree: &Tree) -> sled::Result<()> {
        tree.apply_batch(batch(&self.rows))
    }
}

/// The chunks that a head in the tree names. A damaged one must still be replaceable, and names none
/// that one could trust.
fn trusted_chunks(head: &[u8], row: &[u8]) -> Option<ChunkSet> {
    rows::chunks_of(head, row).unwrap_or_else(|damage| {
        tracing::error!(%damage, "replacing a damaged value; its chunks, if any, stay behind");
        None
    })
}

/// Some rows as one atomic change. What is large in them is shared, not copied.
pub(crate) fn batch<'r>(rows: impl IntoIterator<Item = &'r (IVec, Option<IVec>)>) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for (key, row) in rows {
        match row {
            Some(row) => batch.insert(key.clone(), row.clone()),
            None => batch.remove(key.clone()),
        }
    }
    batch
}
