//! What a process that dies leaves behind: a child commits until it aborts in the middle of its
//! work, and this process opens what is left.

#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use holdfast_durable::{Batch, Compaction, Db, OpenError, Options};

use folder::copy;

mod folder;

/// Names the directory to a child that is to commit there and abort.
const CHILD_DIR: &str = "HOLDFAST_CRASH_DIR";
/// Tells it the commit at which to abort, before it answers it.
const CHILD_ABORT_AT: &str = "HOLDFAST_CRASH_ABORT_AT";
/// Tells it whether to move into new generations while it is at it.
const CHILD_COMPACTS: &str = "HOLDFAST_CRASH_COMPACTS";
/// The last commit before the files are damaged.
const ABORT_AT: u32 = 400;

/// The folder a new store begins in.
const GENERATION: &str = "generation-000001";

/// How many places of the log are damaged, one at a time.
const FLIPS: usize = 24;

/// Three rows a commit, of which every tenth holds a value in chunks.
fn rows(number: u32) -> BTreeMap<Vec<u8>, Bytes> {
    let len = if number.is_multiple_of(10) {
        150_000
    } else {
        300
    };
    let value = |salt: u8| vec![salt ^ number as u8; len];
    [b'a', b'b', b'c']
        .map(|row| (key(row, number), value(row).into()))
        .into()
}

fn key(row: u8, number: u32) -> Vec<u8> {
    [&[row][..], &number.to_be_bytes()].concat()
}

fn commit_until_abort(dir: &Path, abort_at: u32, compaction: Compaction) {
    let options = Options {
        max_group: 16,
        compaction,
        ..Options::default()
    };
    let db = Db::open(dir, options).unwrap();
    for number in 0.. {
        let mut batch = Batch::new();
        rows(number)
            .into_iter()
            .for_each(|(key, value)| batch.put(key, value));
        db.commit(batch, move || {
            if number == abort_at {
                std::process::abort();
            }
            let mut out = std::io::stdout();
            writeln!(out, "acknowledged {number}").unwrap();
        });
    }
}

/// Each time the log has doubled.
fn compacting_often() -> Compaction {
    Compaction {
        spare_bytes: 0,
        idle_spare_bytes: 0,
        factor: 0,
        ..Compaction::default()
    }
}

/// Lets a child commit and die in `dir`; what it acknowledged.
fn crash(dir: &Path, abort_at: u32, compacting: bool) -> Vec<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "what_was_acknowledged_survives_a_crash",
            "--nocapture",
        ])
        .env(CHILD_DIR, dir)
        .env(CHILD_ABORT_AT, abort_at.to_string())
        .env(CHILD_COMPACTS, compacting.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = lines
        .filter_map(|line| line.unwrap().strip_prefix("acknowledged ")?.parse().ok())
        .collect();
    assert!(!child.wait().unwrap().success());
    acknowledged
}

/// Memory rather than disk, where there is a way: many copies are synced.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// The log of the newest generation.
fn log_of(dir: &Path) -> PathBuf {
    folders_of(dir).pop().unwrap().join("db")
}

fn folders_of(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Whether the store says that something is wrong: at the open, or at a row. Panics when it gives
/// a wrong answer instead.
fn complains(dir: &Path, acknowledged: &[u32]) -> bool {
    let Ok(db) = Db::open(dir, Options::default()) else {
        return true;
    };
    let mut complaints = 0;
    for (key, value) in acknowledged.iter().flat_map(|number| rows(*number)) {
        match db.get(&key) {
            Ok(found) => assert!(found == Some(value), "a silent loss of {key:?}"),
            Err(_) => complaints += 1,
        }
    }
    complaints > 0
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let abort_at = std::env::var(CHILD_ABORT_AT).unwrap();
        let compaction = match std::env::var(CHILD_COMPACTS).unwrap() == "true" {
            true => compacting_often(),
            false => Compaction::default(),
        };
        commit_until_abort(Path::new(&dir), abort_at.parse().unwrap(), compaction);
    }
    let mut in_mid_move = 0;
    for abort_at in (0..10).map(|step| 60 + 71 * step) {
        let dir = scratch();
        let acknowledged = crash(dir.path(), abort_at, true);
        assert_eq!(acknowledged, (0..abort_at).collect::<Vec<_>>());
        in_mid_move += u32::from(folders_of(dir.path()).len() > 1);
        assert_everything_is_there(dir.path(), abort_at);
    }
    assert!(in_mid_move > 0, "no crash hit the copying of a generation");
}

fn assert_everything_is_there(dir: &Path, acknowledged: u32) {
    let db = Db::open(dir, Options::default()).unwrap();
    let found: BTreeMap<_, _> = db.scan(b"").map(Result::unwrap).collect();
    let commits = found.keys().filter(|key| key[0] == b'a').count() as u32;
    assert!(commits >= acknowledged);
    let written: BTreeMap<_, _> = (0..commits).flat_map(rows).collect();
    assert!(
        found
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value))
            .eq(written),
        "a torn batch"
    );
}

#[test]
fn a_log_cut_off_after_a_crash_is_never_opened_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = crash(dir.path(), ABORT_AT, false);
    let len = fs::metadata(log_of(dir.path())).unwrap().len();
    for part in 0..16 {
        let cut = scratch();
        copy(dir.path(), cut.path());
        let log = fs::File::options()
            .write(true)
            .open(log_of(cut.path()))
            .unwrap();
        log.set_len(len * part / 16).unwrap();
        let noticed = complains(cut.path(), &acknowledged);
        assert!(noticed || part > 0, "an empty log was opened");
    }
}

#[test]
fn a_flipped_bit_after_a_crash_is_never_read_as_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = crash(dir.path(), ABORT_AT, false);
    let log = fs::read(log_of(dir.path())).unwrap();
    let used: Vec<_> = (0..log.len()).filter(|at| log[*at] != 0).collect();
    for flip in 0..FLIPS {
        let flipped = scratch();
        copy(dir.path(), flipped.path());
        let at = used[used.len() * flip / FLIPS];
        let mut log = log.clone();
        log[at] ^= 1 << (flip % 8);
        fs::write(log_of(flipped.path()), log).unwrap();
        complains(flipped.path(), &acknowledged);
    }
}

/// A closed store of three commits.
fn closed_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    for number in 0..3 {
        let mut batch = Batch::new();
        batch.put(key(b'a', number), "value");
        db.commit_blocking(batch).unwrap();
    }
    db.close().unwrap();
    dir
}

#[test]
fn a_log_emptied_after_a_clean_close_is_refused_with_both_numbers() {
    let dir = closed_store();
    fs::write(log_of(dir.path()), "").unwrap();
    for snapshot in snapshots_of(dir.path()) {
        fs::remove_file(snapshot).unwrap();
    }
    let refused = Db::open(dir.path(), Options::default()).err();
    let dir = dir.path().to_owned();
    assert_eq!(
        refused,
        Some(OpenError::Behind {
            dir,
            promised: 4,
            found: 0
        })
    );
}

#[test]
fn what_the_store_needs_is_named_when_it_is_missing() {
    let watermark = Path::new("watermark");
    let log = Path::new(GENERATION).join("db");
    for missing in [watermark, Path::new(GENERATION), &log] {
        let dir = closed_store();
        let path = dir.path().join(missing);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let refused = Db::open(dir.path(), Options::default()).err();
        assert_eq!(refused, Some(OpenError::Missing { path: path.clone() }));
        assert!(!path.exists(), "a refusal made {} anew", path.display());
    }
}

#[test]
fn a_store_that_was_never_made_whole_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = Db::open(dir.path(), Options::default()).unwrap();
    first.close().unwrap();
    let again = tempfile::tempdir().unwrap();
    for settings in ["", "half of the settings"] {
        let generation = again.path().join(GENERATION);
        fs::create_dir_all(&generation).unwrap();
        fs::write(generation.join("conf"), settings).unwrap();
        fs::write(again.path().join("watermark"), unkept_promise()).unwrap();
        let db = Db::open(again.path(), Options::default()).unwrap();
        db.close().unwrap();
        fs::remove_dir_all(generation).unwrap();
    }
}

/// What the watermark holds before the first commit.
fn unkept_promise() -> Vec<u8> {
    let mut slot = b"holdfast".to_vec();
    slot.extend_from_slice(&1u64.to_be_bytes());
    slot.extend_from_slice(&0u64.to_be_bytes());
    slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
    slot
}

#[test]
fn what_sled_can_do_without_may_be_damaged() {
    let dir = closed_store();
    drop(Db::open(dir.path(), Options::default()).unwrap());
    let snapshots = snapshots_of(dir.path());
    assert!(!snapshots.is_empty());
    let settings = dir.path().join(GENERATION).join("conf");
    for path in [&settings, &snapshots[0]] {
        let mut content = fs::read(path).unwrap();
        content[3] ^= 1;
        fs::write(path, content).unwrap();
    }
    let db = Db::open(dir.path(), Options::default()).unwrap();
    assert_eq!(db.scan(b"a").count(), 3);
}

fn snapshots_of(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join(GENERATION)).unwrap();
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("snap.")
        })
        .collect()
}

#[test]
fn a_flipped_byte_in_a_closed_store_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.put("key", "a value that is easily found");
    db.commit_blocking(batch).unwrap();
    db.close().unwrap();
    let mut log = fs::read(log_of(dir.path())).unwrap();
    let found = |window: &[u8]| window == b"easily found";
    let places: Vec<_> = log
        .windows(12)
        .enumerate()
        .filter(|(_, part)| found(part))
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| log[at] ^= 1);
    fs::write(log_of(dir.path()), log).unwrap();
    let read = Db::open(dir.path(), Options::default()).map(|db| db.get(b"key"));
    assert!(!matches!(read, Ok(Ok(_))), "read {read:?}");
}

#[test]
fn what_an_interrupted_open_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    Db::open(dir.path(), Options::default())
        .unwrap()
        .close()
        .unwrap();
    let half = dir
        .path()
        .join(GENERATION)
        .join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&half, "half").unwrap();
    assert!(Db::open(dir.path(), Options::default()).is_ok());
    assert!(!half.exists());
}

#[test]
fn a_page_outside_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Db::open(dir.path(), Options::default())
        .unwrap()
        .close()
        .unwrap();
    let blobs = dir.path().join(GENERATION).join("blobs");
    fs::write(blobs.join("17"), "page").unwrap();
    let refused = Db::open(dir.path(), Options::default()).err();
    assert_eq!(
        refused,
        Some(OpenError::Blobs {
            dir: blobs,
            count: 1
        })
    );
}
