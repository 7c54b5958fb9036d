//! Mail in ordered rows, whoever keeps those: [`row`](super::row) is how it stands in them.

use bytes::Bytes;
use holdfast_durable::{Batch, Store};
use holdfast_protocol::id::Name;

use super::{
    Boot, Done, MailboxStore, StoreError, StoreStats,
    row::{self, Row},
};
use crate::mail::{account::Rows, desk::Write, message::Place};

/// Mail in the rows of a store.
#[derive(Clone, Default)]
pub(crate) struct RowStore<S>(pub(super) S);

impl<S: Store> RowStore<S> {
    /// Mail in the rows of this store.
    pub(crate) fn new(rows: S) -> Self {
        Self(rows)
    }

    /// Begins another run of the relay. It may serve when `done` is called: then no later run will
    /// have the same number.
    pub(crate) fn next_boot(&self, done: Done) -> Result<Boot, StoreError> {
        let last = match self.0.get(row::BOOT)? {
            Some(value) => row::decode("the boot", &value)?,
            None => 0,
        };
        let number: u64 = last + 1;
        let reading = match self.0.get(row::CLOCK)? {
            Some(value) => Some(row::decode("the clock", &value)?),
            None => None,
        };
        let mut batch = Batch::new();
        batch.put(row::BOOT, row::encode(&number));
        self.0.commit(batch, done);
        Ok(Boot { number, reading })
    }
}

impl<S: Store> MailboxStore for RowStore<S> {
    fn load(&self, account: &Name) -> Result<Rows, StoreError> {
        let (prefix, mut rows) = (row::prefix(account), Rows::default());
        for found in self.0.scan(&prefix) {
            let (key, value) = found?;
            row::collect(&mut rows, &key[prefix.len()..], &value)?;
        }
        Ok(rows)
    }

    fn knows(&self, account: &Name) -> Result<bool, StoreError> {
        let first = self.0.scan(&row::prefix(account)).next();
        Ok(first.transpose()?.is_some())
    }

    fn body(&self, place: &Place) -> Result<Option<Bytes>, StoreError> {
        let value = self.0.get(&row::place_key(place))?;
        value.map(|value| row::body(place, &value)).transpose()
    }

    fn commit(&self, writes: Vec<Write>, done: Done) {
        // That a device has joined is waited for by nobody who sends; and each of a crowd that comes for
        // the first time would have a sync of its own.
        let is_patient = writes
            .iter()
            .all(|write| matches!(write, Write::PutDevice { .. }));
        let batch = batch(writes);
        let batch = if is_patient { batch.patient() } else { batch };
        self.0.commit(batch, done);
    }

    fn write(&self, writes: Vec<Write>) {
        self.0.write(batch(writes));
    }

    fn stats(&self) -> StoreStats {
        let stats = self.0.stats();
        StoreStats {
            flushes: stats.groups,
            flush_seconds: stats.flush_time.as_secs_f64(),
            disk_bytes: stats.disk_bytes,
            compactions: stats.compactions,
            copy_room: stats.copy_room(),
        }
    }
}

fn batch(writes: Vec<Write>) -> Batch {
    let mut batch = Batch::new();
    for write in writes {
        let is_new = is_new(&write);
        match row::of(write) {
            Row::Put(key, value) if is_new => batch.put_new(key, value),
            Row::Put(key, value) => batch.put(key, value),
            Row::Delete(key) => batch.delete(key),
            Row::DeleteRange(first, last, bytes) => batch.delete_range(first, last, bytes),
        }
    }
    batch
}

/// Whether the row is not there. A position is given once, and what stands at it in a mailbox is not
/// written again before it was deleted.
fn is_new(write: &Write) -> bool {
    matches!(
        write,
        Write::PutMessage {
            place: Place::Mailbox { .. },
            ..
        }
    )
}
