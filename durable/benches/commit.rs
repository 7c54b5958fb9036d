//! What it costs to put mail on the disk and to take it off again, by how much of it shares a sync.
//!
//! `cargo bench -p holdfast-durable`, on the disk that the temporary directory is on.

use std::cell::Cell;

use divan::{Bencher, counter::ItemsCount};
use holdfast_durable::{Batch, Db, Options};
use tempfile::TempDir;

/// How many messages share a sync.
const GROUPS: [u64; 3] = [1, 64, 512];

/// In how many mailboxes they are, one after the other, as if many people were written to.
const MAILBOXES: u64 = 1_000;

/// What one weighs, with its header.
const BYTES: usize = 1_100;

fn main() {
    divan::main();
}

#[divan::bench(args = GROUPS, sample_count = 30, sample_size = 1)]
fn store(bencher: Bencher<'_, '_>, group: u64) {
    let mail = Mail::new();
    let bencher = bencher.counter(ItemsCount::new(group));
    bencher.bench_local(|| mail.store(group));
}

#[divan::bench(args = GROUPS, sample_count = 30, sample_size = 1)]
fn delete(bencher: Bencher<'_, '_>, group: u64) {
    let mail = Mail::new();
    let bencher = bencher.counter(ItemsCount::new(group));
    let bencher = bencher.with_inputs(|| mail.store(group));
    bencher.bench_local_values(|()| mail.delete(group));
}

#[divan::bench(args = GROUPS, sample_count = 30, sample_size = 1)]
fn read(bencher: Bencher<'_, '_>, group: u64) {
    let mail = Mail::new();
    mail.store(512);
    let bencher = bencher.counter(ItemsCount::new(group));
    bencher.bench_local(|| mail.read(group));
}

/// Mail in a store on the disk, oldest first.
struct Mail {
    db: Db,
    first: Cell<u64>,
    next: Cell<u64>,
    _dir: TempDir,
}

impl Mail {
    #[expect(clippy::unwrap_used, reason = "without a disk nothing is measured")]
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            db: Db::open(dir.path(), Options::default()).unwrap(),
            first: Cell::new(0),
            next: Cell::new(0),
            _dir: dir,
        }
    }

    /// So many messages in one group: the last is waited for, and the others wait for it.
    fn store(&self, count: u64) {
        let end = self.next.get() + count;
        let batches = (self.next.replace(end)..end).map(|number| {
            let mut batch = Batch::new();
            batch.put_new(key(number), vec![number as u8; BYTES]);
            batch
        });
        self.commit(batches);
    }

    /// The oldest go, in one group.
    fn delete(&self, count: u64) {
        let end = self.first.get() + count;
        let batches = (self.first.replace(end)..end).map(|number| {
            let mut batch = Batch::new();
            batch.delete(key(number));
            batch
        });
        self.commit(batches);
    }

    #[expect(clippy::unwrap_used, reason = "it was stored")]
    fn read(&self, count: u64) {
        for number in self.first.get()..self.first.get() + count {
            divan::black_box(self.db.get(&key(number)).unwrap().unwrap());
        }
    }

    #[expect(clippy::unwrap_used, reason = "the store is open")]
    fn commit(&self, batches: impl Iterator<Item = Batch>) {
        batches.for_each(|batch| self.db.write(batch));
        self.db.commit_blocking(Batch::new()).unwrap();
    }
}

/// Where a message lies: the mailbox, then its number.
fn key(number: u64) -> Vec<u8> {
    let mut key = format!("account-{}\0mphone\0\0", number % MAILBOXES).into_bytes();
    key.extend_from_slice(&number.to_be_bytes());
    key
}
