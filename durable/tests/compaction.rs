//! Moving into a new generation, from outside: nobody notices but the disk.

#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_durable::{Batch, Compaction, Db, Options};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// Each time the log has doubled, or has lost half of what was live.
fn often() -> Options {
    Options {
        compaction: Compaction {
            spare_bytes: 0,
            idle_spare_bytes: 0,
            idle_after: Duration::ZERO,
            factor: 0,
        },
        ..Options::default()
    }
}

/// Some rows; and one more in a line if any are kept, of which now and then all go but the last hundred.
fn change(rows: &mut Rows, dice: &mut StdRng, keep: u32) -> Batch {
    let mut batch = Batch::new();
    let in_line = |number: u32| [b"line".as_slice(), &number.to_be_bytes()].concat();
    let last = rows.keys().rfind(|key| key.starts_with(b"line"));
    let number = last.map_or(0, |last| {
        u32::from_be_bytes(*last.last_chunk().unwrap()) + 1
    });
    if keep > 0 {
        batch.put(in_line(number), "waits");
        rows.insert(in_line(number), "waits".into());
    }
    if number > 100 && dice.random_ratio(1, 20) {
        let gone = in_line(0)..=in_line(number - 100);
        batch.delete_range(gone.start(), gone.end(), 0);
        rows.retain(|key, _| !gone.contains(key));
    }
    for _ in 0..20 {
        let key = dice.random_range(0..2000u32).to_be_bytes().to_vec();
        if dice.random_range(0..100) >= keep {
            batch.delete(&key);
            rows.remove(&key);
            continue;
        }
        let len = match dice.random_ratio(1, 60) {
            true => 130_000,
            false => dice.random_range(0..3000),
        };
        let value = Bytes::from(vec![dice.random::<u8>(); len]);
        batch.put(&key, value.clone());
        rows.insert(key, value);
    }
    batch
}

fn contents(db: &Db) -> Rows {
    let rows = db.scan(b"").map(Result::unwrap);
    rows.map(|(key, value)| (key.to_vec(), value)).collect()
}

/// Writes without being asked to wait, until another generation is the store.
fn write_until_moved(db: &Db, rows: &mut Rows, dice: &mut StdRng, keep: u32) {
    let moved = db.stats().compactions;
    while db.stats().compactions == moved {
        db.commit_blocking(change(rows, dice, keep)).unwrap();
    }
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn what_is_committed_during_a_move_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rows, mut dice) = (Rows::new(), StdRng::seed_from_u64(1));
    let db = Db::open(dir.path(), often()).unwrap();
    for keep in [90, 90, 90, 10, 60] {
        write_until_moved(&db, &mut rows, &mut dice, keep);
        assert_eq!(contents(&db), rows);
    }
    let stats = db.stats();
    assert_eq!(stats.generation, 1 + stats.compactions);
    db.close().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    assert_eq!(contents(&db), rows);
    assert_eq!(folders(dir.path()).len(), 1);
}

#[test]
fn a_scan_goes_on_where_it_was_when_the_store_has_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rows, mut dice) = (Rows::new(), StdRng::seed_from_u64(2));
    let db = Db::open(dir.path(), often()).unwrap();
    write_until_moved(&db, &mut rows, &mut dice, 100);
    let before = rows.clone();
    let mut scan = db.scan(b"");
    let first = scan.next().unwrap().unwrap();
    write_until_moved(&db, &mut rows, &mut dice, 0);
    let mut seen: Rows = [first]
        .into_iter()
        .chain(scan.map(Result::unwrap))
        .map(|(key, value)| (key.to_vec(), value))
        .collect();
    assert!(seen.len() > 1, "the scan ended with its generation");
    seen.retain(|key, value| before.get(key) != Some(value));
    assert_eq!(seen, Rows::new());
    assert_eq!(contents(&db), rows);
}

/// Neither a copy that is not whole nor an old generation that is being let go.
#[test]
fn a_store_that_is_closed_during_a_move_leaves_one_generation() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rows, mut dice) = (Rows::new(), StdRng::seed_from_u64(3));
    for _ in 0..5 {
        let db = Db::open(dir.path(), often()).unwrap();
        while folders(dir.path()).len() == 1 {
            db.commit_blocking(change(&mut rows, &mut dice, 90))
                .unwrap();
        }
        db.close().unwrap();
        assert_eq!(folders(dir.path()).len(), 1);
    }
    let db = Db::open(dir.path(), Options::default()).unwrap();
    assert_eq!(contents(&db), rows);
}

#[test]
fn a_move_that_failed_is_not_tried_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rows, mut dice) = (Rows::new(), StdRng::seed_from_u64(4));
    let mut options = often();
    options.compaction.idle_spare_bytes = u64::MAX;
    let db = Db::open(dir.path(), options).unwrap();
    let in_the_way = dir.path().join("generation-000002");
    std::fs::write(&in_the_way, "no folder").unwrap();
    let mut commit_some = || {
        for _ in 0..20 {
            db.commit_blocking(change(&mut rows, &mut dice, 90))
                .unwrap();
        }
        assert_eq!(db.stats().compactions, 0);
    };
    commit_some();
    std::fs::remove_file(&in_the_way).unwrap();
    commit_some();
    assert_eq!(contents(&db), rows);
}

/// The idle store moves by itself: the last commit is answered long before.
#[test]
fn a_drained_store_gives_its_space_back() {
    const ROWS: u32 = 40_000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        compaction: Compaction {
            idle_spare_bytes: 8 << 20,
            idle_after: Duration::from_millis(1),
            ..Compaction::default()
        },
        ..Options::default()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let (answered, answers) = mpsc::channel();
    let run = |step: &dyn Fn(&mut Batch, u32)| {
        for number in 0..ROWS {
            let mut batch = Batch::new();
            step(&mut batch, number);
            let answered = answered.clone();
            db.commit(batch, move || answered.send(()).unwrap());
        }
        assert_eq!(answers.iter().take(ROWS as usize).count(), ROWS as usize);
    };
    run(&|batch, number| batch.put(number.to_be_bytes(), vec![number as u8; 1024]));
    let full = db.stats();
    assert!(full.live_bytes > 1024 * u64::from(ROWS), "{full:?}");
    assert!(full.disk_bytes > full.live_bytes);
    run(&|batch, number| batch.delete(number.to_be_bytes()));
    assert_eq!(db.stats().live_bytes, 0);
    while db.stats().disk_bytes > 10 << 20 {
        std::thread::yield_now();
    }
    assert!(db.stats().compactions > 0);
}
