//! What a store offers to those who keep rows in it. They can be run on another one by this: in
//! memory, or one that a simulation crashes and makes fail.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batch;
use crate::committer::Stats;
use crate::db::Db;
use crate::error::ReadError;

/// Called once, when a batch is durable.
pub type Done = Box<dyn FnOnce() + Send>;

/// Keys and their values, in ascending order of keys.
pub type RowsInOrder<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), ReadError>> + 'a>;

/// Ordered rows that outlast the process.
///
/// Batches are applied whole and in the order they were queued, those of [`commit`](Self::commit)
/// and of [`write`](Self::write) together. A read sees a batch at the latest when its `done` is
/// called, perhaps before it is durable. A crash keeps the first so many of the queued batches, and
/// all of them whose `done` was called.
pub trait Store: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// The rows whose keys start with `prefix`.
    fn scan(&self, prefix: &[u8]) -> RowsInOrder<'_>;

    /// Queues a batch. `done` is called once it is durable, or dropped if that never comes.
    fn commit(&self, batch: Batch, done: Done);

    /// Queues a batch that nobody waits for: it is durable when a later one is.
    fn write(&self, batch: Batch);

    /// What the store has done.
    fn stats(&self) -> Stats {
        Stats::default()
    }
}

impl Store for Db {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Self::get(self, key)
    }

    fn scan(&self, prefix: &[u8]) -> RowsInOrder<'_> {
        Box::new(Self::scan(self, prefix))
    }

    fn commit(&self, batch: Batch, done: Done) {
        Self::commit(self, batch, done);
    }

    fn write(&self, batch: Batch) {
        Self::write(self, batch);
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }
}

/// A shared store.
impl<S: Store + ?Sized> Store for Arc<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        (**self).get(key)
    }

    fn scan(&self, prefix: &[u8]) -> RowsInOrder<'_> {
        (**self).scan(prefix)
    }

    fn commit(&self, batch: Batch, done: Done) {
        (**self).commit(batch, done);
    }

    fn write(&self, batch: Batch) {
        (**self).write(batch);
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }
}
