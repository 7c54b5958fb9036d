//! One group of batches, on its way to becoming one atomic change of the tree.
//!
//! sled applies and recovers a batch of its own as a whole, so a group that is one such batch is
//! atomic, and each batch in it is. Later changes of a key replace earlier ones, which is the order
//! the batches were queued in.

use std::collections::HashMap;

use bytes::Bytes;
use sled::Tree;

use crate::batch::{Batch, Change};
use crate::rows::{self, CHUNK_BYTES, ChunkSet};
use crate::value::Framed;

/// The rows that a group writes and removes.
pub(crate) struct Group<'t> {
    tree: &'t Tree,
    number: u64,
    rows: sled::Batch,
    /// The heads this group has set, and the chunks they own by now.
    owned: HashMap<Vec<u8>, Option<ChunkSet>>,
    next_ordinal: u32,
}

impl<'t> Group<'t> {
    /// An empty group that will be the commit `number`.
    pub(crate) fn new(tree: &'t Tree, number: u64) -> Self {
        let mut rows = sled::Batch::default();
        rows::number(&mut rows, number);
        Self {
            tree,
            number,
            rows,
            owned: HashMap::new(),
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

    /// Applies the whole group to the tree; not durable before the next flush.
    pub(crate) fn apply(self) -> sled::Result<()> {
        self.tree.apply_batch(self.rows)
    }

    fn change(&mut self, Change { key, value }: Change) -> sled::Result<()> {
        let head = rows::head(&key);
        self.release(&head)?;
        let owned = value.and_then(|value| self.store(&head, &value));
        self.owned.insert(head, owned);
        Ok(())
    }

    /// Removes the head and the chunks it owns.
    fn release(&mut self, head: &[u8]) -> sled::Result<()> {
        let owned = match self.owned.get(head) {
            Some(owned) => *owned,
            None => self.stored(head)?,
        };
        owned
            .into_iter()
            .flat_map(ChunkSet::rows)
            .for_each(|chunk| self.rows.remove(chunk));
        self.rows.remove(head);
        Ok(())
    }

    /// The chunks that the head in the tree owns. A damaged head must still be replaceable, and
    /// names no chunks one could trust.
    fn stored(&self, head: &[u8]) -> sled::Result<Option<ChunkSet>> {
        let Some(row) = self.tree.get(head)? else {
            return Ok(None);
        };
        let owned = rows::chunks_of(head, &row).unwrap_or_else(|damage| {
            tracing::error!(%damage, "replacing a damaged value; its chunks, if any, stay behind");
            None
        });
        Ok(owned)
    }

    fn store(&mut self, head: &[u8], value: &Bytes) -> Option<ChunkSet> {
        if value.len() <= CHUNK_BYTES {
            self.rows.insert(head, Framed::Whole(value).encode(head));
            return None;
        }
        let set = self.name_set(value.len());
        for (row, chunk) in set.rows().zip(value.chunks(CHUNK_BYTES)) {
            let framed = Framed::Whole(chunk).encode(&row);
            self.rows.insert(row, framed);
        }
        self.rows
            .insert(head, Framed::Chunked(&set.encode()).encode(head));
        Some(set)
    }

    fn name_set(&mut self, len: usize) -> ChunkSet {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        ChunkSet {
            commit: self.number,
            ordinal,
            len: len as u64,
        }
    }
}
