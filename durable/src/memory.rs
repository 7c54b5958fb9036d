//! Rows in memory, durable at once: for tests and simulations of what stands above a store.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::batch::Batch;
use crate::error::ReadError;
use crate::store::{Done, RowsInOrder, Store};

/// Rows in memory. A clone is another handle on the same rows. They are gone with the last one.
#[derive(Clone, Debug, Default)]
pub struct MemoryRows(Arc<Mutex<BTreeMap<Vec<u8>, Bytes>>>);

impl MemoryRows {
    /// A copy that goes its own way: what a crash leaves behind.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }
}

impl Store for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> RowsInOrder<'_> {
        let rows = self.0.lock();
        let found = rows.range(prefix.to_vec()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        let found: Vec<_> = found
            .map(|(key, value)| Ok((Bytes::from(key.clone()), value.clone())))
            .collect();
        Box::new(found.into_iter())
    }

    fn commit(&self, batch: Batch, done: Done) {
        self.write(batch);
        done();
    }

    fn write(&self, batch: Batch) {
        let mut rows = self.0.lock();
        let changes = batch.changes().iter();
        changes.for_each(|change| change.apply(&mut rows));
    }
}
