//! One group of batches, on its way to becoming one atomic change of the tree.
//!
//! sled applies and recovers a batch of its own as a whole, so a group that is one such batch is
//! atomic, and each batch in it is. Later changes of a key replace earlier ones, which is the order
//! the batches were queued in.

use std::collections::HashMap;

use bytes::Bytes;
use sled::Tree;

use crate::batch::{Batch, Change};
use crate::census::{Census, Share};
use crate::rows::{self, CHUNK_BYTES, ChunkSet};
use crate::value::{self, Framed};

/// The rows that a group writes and removes.
pub(crate) struct Group<'t> {
    tree: &'t Tree,
    census: Census,
    rows: sled::Batch,
    /// The heads this group has changed, as they are by now.
    heads: HashMap<Vec<u8>, Option<Head>>,
    next_ordinal: u32,
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
        let (rows, heads) = (sled::Batch::default(), HashMap::new());
        Self {
            tree,
            census,
            rows,
            heads,
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

    /// Applies the whole group to the tree; not durable before the next flush. Returns the new
    /// census.
    pub(crate) fn apply(mut self) -> sled::Result<Census> {
        rows::write_census(&mut self.rows, &self.census);
        self.tree.apply_batch(self.rows)?;
        Ok(self.census)
    }

    fn change(&mut self, Change { key, value }: Change) -> sled::Result<()> {
        let head = rows::head(&key);
        self.release(&head)?;
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
            .for_each(|chunk| self.rows.remove(chunk));
        self.rows.remove(head);
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
        self.rows.insert(head, row);
        new
    }

    fn store_chunks(&mut self, value: &Bytes) -> ChunkSet {
        let mut set = self.name_set(value.len());
        for (row, chunk) in set.rows().zip(value.chunks(CHUNK_BYTES)) {
            let framed = Framed::Whole(chunk).encode(&row);
            set.share = set.share.and(value::share(&row, &framed));
            self.rows.insert(row, framed);
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
