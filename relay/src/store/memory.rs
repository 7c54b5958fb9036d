//! Mail in memory, for tests of what stands above the store. Durable at once.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use holdfast_durable::{Batch, Done, ReadError, RowsInOrder, Store};
use parking_lot::Mutex;

use super::rows::RowStore;

/// Mail in memory.
pub(crate) type MemoryStore = RowStore<MemoryRows>;

/// Rows in memory.
#[derive(Clone, Default)]
pub(crate) struct MemoryRows(Arc<Mutex<BTreeMap<Vec<u8>, Bytes>>>);

impl MemoryStore {
    /// A copy that goes its own way: what a crash leaves behind.
    pub(crate) fn fork(&self) -> Self {
        let rows = self.0.0.lock().clone();
        Self::new(MemoryRows(Arc::new(Mutex::new(rows))))
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
        for (key, value) in batch.changes() {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.clone()),
                None => rows.remove(key),
            };
        }
    }
}

#[test]
fn it_keeps_the_contract() {
    super::contract::check(MemoryStore::default(), |store| store);
}
