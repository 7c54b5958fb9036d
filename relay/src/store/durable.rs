//! Mail on the disk: sled, through `holdfast-durable`.

use std::{path::Path, sync::mpsc};

use holdfast_durable::{Closed, Compaction, Db, Options};

use super::{Boot, StoreError, rows::RowStore};

/// Mail on the disk.
pub(crate) type DurableStore = RowStore<Db>;

impl DurableStore {
    /// Opens the store in a directory, or makes one, to be compacted as said.
    pub(crate) fn open(dir: &Path, compaction: Compaction) -> Result<Self, StoreError> {
        let options = Options {
            compaction,
            ..Options::default()
        };
        Ok(Self::new(Db::open(dir, options)?))
    }

    /// Begins another run of the relay. Blocks until that is on the disk.
    pub(crate) fn begin_boot(&self) -> Result<Boot, StoreError> {
        let (wake, woken) = mpsc::sync_channel(1);
        let boot = self.next_boot(Box::new(move || {
            let _gone = wake.send(());
        }))?;
        woken.recv().map_err(|_| Closed)?;
        Ok(boot)
    }

    /// Makes everything durable and lets the directory go.
    pub(crate) fn close(&self) -> Result<(), holdfast_durable::CloseError> {
        self.0.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mail::{clock::Reading, desk::Write},
        store::MailboxStore,
    };

    #[test]
    fn it_keeps_the_contract_over_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DurableStore::open(dir.path(), Compaction::default()).unwrap();
        super::super::contract::check(open(), |store| {
            store.close().unwrap();
            drop(store);
            open()
        });
    }

    #[test]
    fn whoever_comes_next_may_open_it_once_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DurableStore::open(dir.path(), Compaction::default());
        let store = open().unwrap();
        assert!(open().is_err());
        store.close().unwrap();
        assert!(open().is_ok());
    }

    #[test]
    fn each_boot_has_a_larger_number_and_the_last_reading_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut reading = None;
        for number in 1..4 {
            let store = DurableStore::open(dir.path(), Compaction::default()).unwrap();
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
