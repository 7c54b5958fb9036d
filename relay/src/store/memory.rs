//! Mail in memory, for tests of what stands above the store. Durable at once.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use holdfast_protocol::id::Name;
use parking_lot::Mutex;

use super::{Done, MailboxStore, StoreError, StoreStats, row};
use crate::mail::{account::Rows, desk::Write, message::Place};

/// Mail in memory.
#[derive(Clone, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<BTreeMap<Vec<u8>, Bytes>>>);

impl MemoryStore {
    /// A copy that goes its own way: what a crash leaves behind.
    pub(crate) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    fn apply(&self, writes: Vec<Write>) {
        let mut rows = self.0.lock();
        for row in writes.into_iter().map(row::of) {
            match row.value {
                Some(value) => rows.insert(row.key, value),
                None => rows.remove(&row.key),
            };
        }
    }
}

impl MailboxStore for MemoryStore {
    fn load(&self, account: &Name) -> Result<Rows, StoreError> {
        let (prefix, mut found) = (row::prefix(account), Rows::default());
        let rows = self.0.lock();
        let of_account = rows
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix));
        for (key, value) in of_account {
            row::collect(&mut found, &key[prefix.len()..], value)?;
        }
        Ok(found)
    }

    fn knows(&self, account: &Name) -> Result<bool, StoreError> {
        Ok(self
            .0
            .lock()
            .keys()
            .any(|key| key.starts_with(&row::prefix(account))))
    }

    fn body(&self, place: &Place) -> Result<Option<Bytes>, StoreError> {
        let value = self.0.lock().get(&row::place_key(place)).cloned();
        value.map(|value| row::body(place, &value)).transpose()
    }

    fn commit(&self, writes: Vec<Write>, done: Done) {
        self.apply(writes);
        done();
    }

    fn write(&self, writes: Vec<Write>) {
        self.apply(writes);
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

#[test]
fn it_keeps_the_contract() {
    super::contract::check(MemoryStore::default(), |store| store);
}
