//! The store on a real disk: what is committed is read, in order, whole, and again after a close.

#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use holdfast_durable::{
    Batch, CloseError, Closed, Db, MAX_KEY_BYTES, MemoryRows, OpenError, Options, ReadError, Store,
};

fn open(dir: &Path) -> Db {
    Db::open(dir, Options::default()).unwrap()
}

fn put(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

fn delete(key: impl AsRef<[u8]>) -> Batch {
    let mut batch = Batch::new();
    batch.delete(key);
    batch
}

/// Bytes that no two offsets of a chunk share, so that a mixed-up chunk shows.
fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len)
        .map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ (at >> 13) as u8 ^ seed)
        .collect()
}

fn keys(rows: impl Iterator<Item = Result<(Bytes, Bytes), ReadError>>) -> Vec<Bytes> {
    rows.map(|row| row.unwrap().0).collect()
}

#[test]
fn what_is_committed_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    assert_eq!(db.get(b"a"), Ok(None));
    db.commit_blocking(put("a", "1")).unwrap();
    assert_eq!(db.get(b"a"), Ok(Some(Bytes::from("1"))));
    db.commit_blocking(delete("a")).unwrap();
    assert_eq!(db.get(b"a"), Ok(None));
}

#[test]
fn commits_are_answered_in_the_order_they_were_queued() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (answered, answers) = mpsc::channel();
    for number in 0..1000u32 {
        let answered = answered.clone();
        let batch = put("newest", number.to_be_bytes().to_vec());
        db.commit(batch, move || answered.send(number).unwrap());
    }
    drop(answered);
    assert_eq!(
        answers.iter().collect::<Vec<_>>(),
        (0..1000).collect::<Vec<_>>()
    );
    assert_eq!(
        db.get(b"newest").unwrap().unwrap(),
        999u32.to_be_bytes()[..]
    );
    let stats = db.stats();
    assert_eq!(stats.batches, 1000);
    assert!(
        stats.groups < 1000,
        "{} flushes for 1000 commits",
        stats.groups
    );
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let rows = |round: u32| {
        let mut batch = Batch::new();
        for key in 0..40u8 {
            batch.put([key], round.to_be_bytes().to_vec());
        }
        batch
    };
    db.commit_blocking(rows(0)).unwrap();
    let (answered, answers) = mpsc::channel();
    for round in 1..100 {
        let answered = answered.clone();
        db.commit(rows(round), move || answered.send(()).unwrap());
    }
    drop(answered);
    while answers.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
        let first = db.get(&[0]).unwrap().unwrap();
        let last = db.get(&[39]).unwrap().unwrap();
        assert!(
            first <= last,
            "row 39 is older than row 0, which was read before it"
        );
    }
}

#[test]
fn the_last_change_of_a_key_in_a_batch_wins() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut batch = put("a", "1");
    batch.delete("a");
    batch.put("b", pattern(100_000, 1));
    batch.put("b", pattern(200_000, 2));
    batch.put("c", pattern(200_000, 3));
    batch.put("c", "small");
    db.commit_blocking(batch).unwrap();
    assert_eq!(db.get(b"a"), Ok(None));
    assert_eq!(db.get(b"b"), Ok(Some(pattern(200_000, 2))));
    assert_eq!(db.get(b"c"), Ok(Some(Bytes::from("small"))));
}

#[test]
fn what_is_deleted_as_a_range_is_gone_until_it_is_put_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = open(dir.path());
    let mut batch = Batch::new();
    for key in ["a", "b", "c", "d", "e"] {
        batch.put(key, pattern(if key == "c" { 100_000 } else { 10 }, 1));
    }
    db.commit_blocking(batch).unwrap();
    let stored = db.stats().live_bytes;
    let mut batch = Batch::new();
    batch.put("cc", "of the same batch");
    batch.delete_range("b", "d", 100_000);
    db.commit_blocking(batch).unwrap();
    assert!(db.stats().live_bytes < stored - 90_000);
    for _ in 0..2 {
        assert_eq!(keys(db.scan(b"")), ["a", "e"]);
        assert_eq!(keys(db.scan_after(b"", b"b")), ["e"]);
        assert_eq!(keys(db.scan(b"c")), [] as [&str; 0]);
        assert_eq!(db.get(b"c"), Ok(None));
        db.close().unwrap();
        db = open(dir.path());
        let live = db.stats().live_bytes;
        assert!((1..1000).contains(&live), "{live} bytes are live");
    }
    db.commit_blocking(put("c", "again")).unwrap();
    assert_eq!(keys(db.scan(b"")), ["a", "c", "e"]);
    db.close().unwrap();
    assert_eq!(keys(open(dir.path()).scan(b"")), ["a", "c", "e"]);
}

#[test]
fn a_write_is_kept_without_being_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    db.write(put("a", "1"));
    db.close().unwrap();
    assert_eq!(open(dir.path()).get(b"a"), Ok(Some(Bytes::from("1"))));
}

#[test]
fn a_write_costs_no_sync() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for _ in 0..100 {
        db.write(put("a", "1"));
    }
    db.commit_blocking(Batch::new()).unwrap();
    let groups = db.stats().groups;
    assert_eq!(groups, 1);
}

#[test]
fn values_of_any_size_come_back() {
    const CHUNK: usize = 20 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let sizes = [
        0,
        1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        2 * CHUNK - 1,
        2 * CHUNK,
        2 * CHUNK + 1,
        1 << 20,
    ];
    for size in sizes {
        db.commit_blocking(put(size.to_be_bytes(), pattern(size, 0)))
            .unwrap();
    }
    let all_there = |db: &Db| {
        for size in sizes {
            assert_eq!(
                db.get(&size.to_be_bytes()),
                Ok(Some(pattern(size, 0))),
                "size {size}"
            );
        }
    };
    all_there(&db);
    db.close().unwrap();
    all_there(&open(dir.path()));
}

#[test]
fn scans_are_in_order_and_keep_to_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut batch = Batch::new();
    for key in [
        &b""[..],
        b"a",
        b"b",
        b"b\x00",
        b"b\xff",
        b"b\xff\xff",
        b"c",
        b"\xff",
        b"\xff\xff",
    ] {
        batch.put(key, pattern(if key.len() == 2 { 150_000 } else { 5 }, 7));
    }
    db.commit_blocking(batch).unwrap();
    assert_eq!(
        keys(db.scan(b"b")),
        [&b"b"[..], b"b\x00", b"b\xff", b"b\xff\xff"]
    );
    assert_eq!(
        keys(db.scan_after(b"b", b"b\x00")),
        [&b"b\xff"[..], b"b\xff\xff"]
    );
    assert_eq!(keys(db.scan_after(b"b", b"a")).len(), 4);
    assert_eq!(keys(db.scan_after(b"b", b"c")), [""; 0]);
    assert_eq!(keys(db.scan(b"\xff")), [&b"\xff"[..], b"\xff\xff"]);
    assert_eq!(keys(db.scan(b"")).len(), 9);
    assert!(db.scan(b"").all(|row| {
        let (key, value) = row.unwrap();
        value.len() == if key.len() == 2 { 150_000 } else { 5 }
    }));
}

#[test]
fn a_second_handle_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let second = Db::open(dir.path(), Options::default());
    assert_eq!(
        second.err(),
        Some(OpenError::InUse {
            dir: dir.path().to_owned()
        })
    );
    db.close().unwrap();
    open(dir.path());
    open(dir.path());
}

#[test]
fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    db.close().unwrap();
    assert_eq!(db.close(), Ok(()));
    assert_eq!(db.get(b"a"), Err(Closed.into()));
    assert_eq!(db.scan(b"").collect::<Vec<_>>(), [Err(Closed.into())]);
    assert_eq!(db.commit_blocking(put("a", "1")), Err(Closed));
    let (answered, answers) = mpsc::channel::<()>();
    db.commit(put("a", "1"), move || answered.send(()).unwrap());
    assert!(answers.recv().is_err(), "a lost commit was answered");
}

#[test]
fn closing_from_a_callback_is_refused_and_closing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let (answered, answers) = mpsc::channel();
    let inside = db.clone();
    db.commit(put("a", "1"), move || {
        answered.send(inside.close()).unwrap()
    });
    assert_eq!(answers.recv(), Ok(Err(CloseError::FromCallback)));
    assert_eq!(db.close(), Ok(()));
    assert_eq!(open(dir.path()).get(b"a"), Ok(Some(Bytes::from("1"))));
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Its number is not fixed: a store that had to wait for the disk counts as idle, and may have moved.
fn generations(dir: &Path) -> Vec<PathBuf> {
    let mut folders = entries(dir);
    folders.retain(|path| path.is_dir());
    folders
}

/// sled gives pages over a quarter of a segment a file of their own, which no sync covers.
#[test]
fn no_page_ever_leaves_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    for round in 0..6u8 {
        for number in 0..60u8 {
            db.write(put(
                [number % 7, number],
                pattern(20 * 1024 + usize::from(round % 2), round),
            ));
        }
        db.commit_blocking(put([9; MAX_KEY_BYTES], pattern(3 << 20, round)))
            .unwrap();
    }
    db.close().unwrap();
    let [generation] = generations(dir.path()).try_into().unwrap();
    assert_eq!(entries(&generation.join("blobs")).len(), 0);
    assert_eq!(keys(open(dir.path()).scan(b"")).len(), 61);
}

#[test]
fn a_scan_that_outlives_the_close_keeps_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let scan = db.scan(b"");
    db.close().unwrap();
    let refused = Db::open(dir.path(), Options::default()).err();
    assert_eq!(
        refused,
        Some(OpenError::InUse {
            dir: dir.path().to_owned()
        })
    );
    drop(scan);
    open(dir.path());
}

/// Waits until everything that was written is there.
fn settle(store: &impl Store) {
    let (answered, answers) = mpsc::channel();
    store.commit(Batch::new(), Box::new(move || answered.send(()).unwrap()));
    answers.recv().unwrap();
}

fn keeps_rows(store: &impl Store) {
    let (answered, answers) = mpsc::channel();
    store.commit(
        put("b/2", "two"),
        Box::new(move || answered.send(()).unwrap()),
    );
    assert_eq!(answers.recv(), Ok(()));
    assert_eq!(store.get(b"b/2"), Ok(Some(Bytes::from("two"))));
    assert_eq!(store.get(b"b/1"), Ok(None));
    for key in ["a", "b/1", "b/3", "c"] {
        store.write(put(key, "some"));
    }
    store.write(delete("b/3"));
    settle(store);
    assert_eq!(keys(store.scan(b"b/")), ["b/1", "b/2"]);
    assert_eq!(keys(store.scan(b"")), ["a", "b/1", "b/2", "c"]);
}

/// What keeps rows is tested on a store in memory: it may not notice.
#[test]
fn a_store_in_memory_and_one_behind_a_pointer_are_like_the_one_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    keeps_rows(&open(dir.path()));
    keeps_rows(&MemoryRows::default());
    let shared: Arc<dyn Store> = Arc::new(MemoryRows::default());
    keeps_rows(&shared);
}

#[test]
fn a_fork_of_a_store_in_memory_goes_its_own_way() {
    let rows = MemoryRows::default();
    rows.write(put("a", "1"));
    let fork = rows.fork();
    let same = rows.clone();
    rows.write(put("a", "2"));
    assert_eq!(fork.get(b"a"), Ok(Some(Bytes::from("1"))));
    assert_eq!(same.get(b"a"), Ok(Some(Bytes::from("2"))));
}
