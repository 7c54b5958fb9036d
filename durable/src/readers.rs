//! What readers read: the rows of the generation that is the store, until it is closed.

use std::fs::File;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::error::Closed;
use crate::gone::Gone;

/// The rows, for everyone who reads.
pub(crate) struct Readers {
    open: RwLock<Option<Open>>,
}

/// The rows of one generation, and which of them are gone.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) tree: sled::Db,
    pub(crate) gone: Arc<RwLock<Gone>>,
}

/// What is let go at the close, in this order: the lock last.
struct Open {
    rows: Rows,
    _lock: Arc<File>,
}

impl Readers {
    pub(crate) fn new(rows: Rows, lock: Arc<File>) -> Self {
        let open = Open { rows, _lock: lock };
        Self {
            open: RwLock::new(Some(open)),
        }
    }

    /// Runs a read. The next generation waits for it, and so should be short.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Rows) -> T) -> Result<T, Closed> {
        self.open
            .read()
            .as_ref()
            .map(|open| read(&open.rows))
            .ok_or(Closed)
    }

    /// From here on reads are of these rows, unless the store was closed.
    pub(crate) fn show(&self, rows: Rows) {
        if let Some(open) = self.open.write().as_mut() {
            open.rows = rows;
        }
    }

    /// Nothing is read any more.
    pub(crate) fn close(&self) {
        drop(self.open.write().take());
    }
}
