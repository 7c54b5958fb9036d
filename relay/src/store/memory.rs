//! Mail in memory, for tests of what stands above the store. Durable at once.

use holdfast_durable::MemoryRows;

use super::rows::RowStore;

/// Mail in memory.
pub(crate) type MemoryStore = RowStore<MemoryRows>;

impl MemoryStore {
    /// A copy that goes its own way: what a crash leaves behind.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.0.fork())
    }
}

#[test]
fn it_keeps_the_contract() {
    super::contract::check(MemoryStore::default(), |store| store);
}
