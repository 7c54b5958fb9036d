//! One group of batches, on its way to becoming one atomic change of the tree.
//!
//! sled applies and recovers a batch of its own as a whole, so a group that becomes one such batch is
//! atomic, and each batch in it is. Later changes of a key replace earlier ones, which is the order
//! the batches were queued in.

use std::collections::HashMap;

use bytes::Bytes;
use sled::{IVec, Tree};

use crate::batch::{Batch, Change};
use crate::census::{Census, Share};
use crate::rows::{self, CHUNK_BYTES, ChunkSet};
use crate::value::{self, Framed};

/// The rows that a group writes and removes.
pub(crate) struct Group<'t> {
    tree: &'t Tree,
    census: Census,
    rows: HashMap<Vec<u8>, Option<IVec>>,
    /// The heads this group has changed, as they are by now.
    heads: HashMap<Vec<u8>, Option<Head>>,
    next_ordinal: u32,
}

/// A group that is complete: what one commit changes.
pub(crate) struct Commit {
    /// Row keys, each with its row, or without when it is removed.
    rows: Vec<(IVec, Option<IVec>)>,
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
    pub(crate) fn new(tree: &'t Tree, last: Census) -> Self {
        let census = Census {
            commit: last.commit + 1,
            ..last
        };
        Self {
            tree,
            census,
            rows: HashMap::new(),
            heads: HashMap::new(),
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
            census: self.census,
        }
    }

    fn change(&mut self, change: Change) -> sled::Result<()> {
        let Change { key, value, is_new } = change;
        let head = rows::head(&key);
        if is_new && !self.heads.contains_key(&head) {
            // Looking for it costs half as much as writing it.
            debug_assert!(!self.tree.contains_key(&head)?, "it was to be new");
        } else {
            self.release(&head)?;
        }
        let new = value.map(|value| self.store(&head, &value));
        self.heads.insert(head, new);
        Ok(())
    }

    /// Removes the head, if it is there, and its chunks.
    fn release(&mut self, head: &[u8]) -> sled::Result<()> {
        let current = match self.heads.get(head) {
            Some(current) => *current,
            None => self.stored(head)?,
        };
        let Some(Head { share, chunks }) = current else {
            return Ok(());
        };
        self.census.remove(share);
        chunks
            .into_iter()
            .flat_map(ChunkSet::rows)
            .for_each(|chunk| {
                self.rows.insert(chunk, None);
            });
        self.rows.insert(head.to_owned(), None);
        Ok(())
    }

    /// The head as it is in the tree. A damaged one must still be replaceable, and names no chunks
    /// one could trust.
    fn stored(&self, head: &[u8]) -> sled::Result<Option<Head>> {
        let Some(row) = self.tree.get(head)? else {
            return Ok(None);
        };
        let chunks = rows::chunks_of(head, &row).unwrap_or_else(|damage| {
            tracing::error!(%damage, "replacing a damaged value; its chunks, if any, stay behind");
            None
        });
        Ok(Some(Head::of(head, &row, chunks)))
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

    /// What it writes and removes.
    pub(crate) fn rows(&self) -> &[(IVec, Option<IVec>)] {
        &self.rows
    }

    /// Applies all of it to the tree, or nothing; not durable before the next flush.
    pub(crate) fn apply(&self, tree: &Tree) -> sled::Result<()> {
        tree.apply_batch(batch(&self.rows))
    }
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
