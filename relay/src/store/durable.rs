//! Mail on the disk: sled, through `holdfast-durable`.

use std::path::Path;

use bytes::Bytes;
use holdfast_durable::{Batch, Db, Options};
use holdfast_protocol::id::Name;

use super::{Boot, Done, MailboxStore, StoreError, StoreStats, row};
use crate::mail::{account::Rows, desk::Write, message::Place};

/// Mail on the disk.
#[derive(Clone)]
pub(crate) struct DurableStore {
    db: Db,
}

impl DurableStore {
    /// Opens the store in a directory, or makes one.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::open(dir, Options::default())?,
        })
    }

    /// Begins another run of the relay.
    pub(crate) fn begin_boot(&self) -> Result<Boot, StoreError> {
        let last = match self.db.get(row::BOOT)? {
            Some(value) => row::decode("the boot", &value)?,
            None => 0,
        };
        let number: u64 = last + 1;
        let reading = match self.db.get(row::CLOCK)? {
            Some(value) => Some(row::decode("the clock", &value)?),
            None => None,
        };
        let mut batch = Batch::new();
        batch.put(row::BOOT, row::encode(&number));
        self.db.commit_blocking(batch)?;
        Ok(Boot { number, reading })
    }

    /// Makes everything durable and lets the directory go.
    pub(crate) fn close(&self) -> Result<(), holdfast_durable::CloseError> {
        self.db.close()
    }
}

impl MailboxStore for DurableStore {
    fn load(&self, account: &Name) -> Result<Rows, StoreError> {
        let (prefix, mut rows) = (row::prefix(account), Rows::default());
        for found in self.db.scan(&prefix) {
            let (key, value) = found?;
            row::collect(&mut rows, &key[prefix.len()..], &value)?;
        }
        Ok(rows)
    }

    fn knows(&self, account: &Name) -> Result<bool, StoreError> {
        Ok(self
            .db
            .scan(&row::prefix(account))
            .next()
            .transpose()?
            .is_some())
    }

    fn body(&self, place: &Place) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get(&row::place_key(place))?;
        value.map(|value| row::body(place, &value)).transpose()
    }

    fn commit(&self, writes: Vec<Write>, done: Done) {
        self.db.commit(batch(writes), done);
    }

    fn write(&self, writes: Vec<Write>) {
        self.db.write(batch(writes));
    }

    fn stats(&self) -> StoreStats {
        let stats = self.db.stats();
        StoreStats {
            flushes: stats.groups,
            flush_seconds: stats.flush_time.as_secs_f64(),
            disk_bytes: stats.disk_bytes,
        }
    }
}

fn batch(writes: Vec<Write>) -> Batch {
    let mut batch = Batch::new();
    for row in writes.into_iter().map(row::of) {
        match row.value {
            Some(value) => batch.put(row.key, value),
            None => batch.delete(row.key),
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::clock::Reading;

    #[test]
    fn it_keeps_the_contract_over_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DurableStore::open(dir.path()).unwrap();
        super::super::contract::check(open(), |store| {
            store.close().unwrap();
            drop(store);
            open()
        });
    }

    #[test]
    fn each_boot_has_a_larger_number_and_the_last_reading_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut reading = None;
        for number in 1..4 {
            let store = DurableStore::open(dir.path()).unwrap();
            assert_eq!(store.begin_boot().unwrap(), Boot { number, reading });
            let now = Reading {
                mail_ms: number,
                wall_ms: 7,
                claimed_ms: 8,
            };
            store.write(vec![Write::PutReading(now)]);
            reading = Some(now);
            store.close().unwrap();
        }
    }
}
