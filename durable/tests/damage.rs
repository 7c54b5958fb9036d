//! What a store does when one of its files is damaged: it opens with everything, or is refused in
//! words. Never is a row missing, changed or old without one. And what [`examine`] finds in it is
//! what was written, all of it where it says so.
//!
//! `HOLDFAST_DAMAGE_CASES` sets how many cases there are, `HOLDFAST_DAMAGE_SEED` where they begin.

#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]
#![allow(clippy::print_stdout, reason = "a long run is read as it goes")]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use holdfast_durable::{
    Batch, Db, OpenError, Options, RecoverError, Report, examine, exchange, recover,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use folder::copy;

mod folder;

/// The most rows that sled keeps in a page, and one large value's pieces besides.
const PAGE_ROWS: usize = 20;

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// A store in three states of its life.
struct Specimen {
    dir: tempfile::TempDir,
    /// What it held when it was killed, and when it was stopped.
    rows: Rows,
    /// Whatever it ever held.
    ever: HashSet<(Vec<u8>, Bytes)>,
}

impl Specimen {
    /// Lets a store live through three runs.
    fn new() -> Self {
        let mut specimen = Self {
            dir: scratch(),
            rows: Rows::new(),
            ever: HashSet::new(),
        };
        let store = specimen.dir.path().join("store");
        let mut dice = StdRng::seed_from_u64(1);
        for run in 0..3 {
            let db = Db::open(&store, Options::default()).unwrap();
            for number in 0..300 {
                change(&db, &mut specimen.rows, 300 * run + number, &mut dice);
                let now = specimen.rows.clone().into_iter();
                specimen.ever.extend(now);
            }
            db.commit_blocking(Batch::new()).unwrap();
            if run == 2 {
                copy(&store, &specimen.killed());
            }
            db.close().unwrap();
            if run == 1 {
                copy(&store, &specimen.older());
            }
        }
        copy(&store, &specimen.stopped());
        specimen
    }

    /// Its files before the last run, which wrote about as much again.
    fn older(&self) -> PathBuf {
        self.dir.path().join("older")
    }

    fn killed(&self) -> PathBuf {
        self.dir.path().join("killed")
    }

    fn stopped(&self) -> PathBuf {
        self.dir.path().join("stopped")
    }
}

/// Memory rather than disk, where there is a way: thousands of copies are synced.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return tempfile::tempdir_in(memory).unwrap();
    }
    tempfile::tempdir().unwrap()
}

/// The one specimen of all tests that run, which goes with the last of them.
fn specimen() -> Arc<Specimen> {
    static SPECIMEN: Mutex<Weak<Specimen>> = Mutex::new(Weak::new());
    let mut shared = SPECIMEN.lock().unwrap();
    if let Some(specimen) = shared.upgrade() {
        return specimen;
    }
    let specimen = Arc::new(Specimen::new());
    *shared = Arc::downgrade(&specimen);
    specimen
}

/// Puts and deletes a few rows of few keys, small and large; and has one more wait in a line, from the
/// front of which some go now and then, all at once. `number` is greater than any before.
fn change(db: &Db, rows: &mut Rows, number: u32, dice: &mut StdRng) {
    let mut batch = Batch::new();
    let in_line = |number: u32| format!("line/{number:09}").into_bytes();
    batch.put(in_line(number), number.to_string());
    rows.insert(in_line(number), number.to_string().into());
    if dice.random_ratio(1, 20) {
        let through = in_line(number - dice.random_range(0..40).min(number));
        batch.delete_range(in_line(0), &through, 0);
        rows.retain(|key, _| !key.starts_with(b"line/") || *key > through);
    }
    for _ in 0..dice.random_range(1..6) {
        let key = format!("{}/{}", dice.random_range(0..9), dice.random_range(0..99)).into_bytes();
        if dice.random_ratio(1, 4) {
            batch.delete(&key);
            rows.remove(&key);
            continue;
        }
        let len = match dice.random_range(0..50) {
            0 => dice.random_range(61_000..200_000),
            1..5 => dice.random_range(1000..20_000),
            _ => dice.random_range(0..600),
        };
        let value: Bytes = (0..len).map(|_| dice.random::<u8>()).collect();
        batch.put(&key, value.clone());
        rows.insert(key, value);
    }
    db.write(batch);
    if dice.random_ratio(1, 4) {
        db.commit_blocking(Batch::new()).unwrap();
    }
}

/// All files below a directory, by their paths within, in order.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// What is done to one file.
#[derive(Debug, Clone)]
enum Damage {
    Flip {
        at: usize,
        bit: u8,
    },
    Zero {
        at: usize,
        len: usize,
    },
    Garbage {
        at: usize,
        len: usize,
        seed: u64,
    },
    Truncate {
        len: usize,
    },
    Remove,
    /// The file, or a part of it, is as it was a run ago.
    Older {
        at: usize,
        len: usize,
    },
}

impl Damage {
    fn any(content: &[u8], dice: &mut StdRng) -> Self {
        let at = place(content, dice);
        let len = 1 << dice.random_range(0..22);
        match dice.random_range(0..20) {
            0..7 => Self::Flip {
                at,
                bit: dice.random_range(0..8),
            },
            7..11 => Self::Zero { at, len },
            11..14 => Self::Garbage {
                at,
                len,
                seed: dice.random(),
            },
            14 => Self::Truncate { len: 0 },
            15..17 => Self::Truncate { len: at },
            17 => Self::Remove,
            18 => Self::Older {
                at: 0,
                len: usize::MAX,
            },
            _ => Self::Older {
                at: at / 4096 * 4096,
                len: len.max(4096),
            },
        }
    }

    fn apply(&self, path: &Path, older: &Path) {
        let mut content = fs::read(path).unwrap();
        let all = content.len();
        let range = |at: usize, len: usize| at.min(all)..at.saturating_add(len).min(all);
        match *self {
            Self::Flip { at, bit } => content[range(at, 1)]
                .iter_mut()
                .for_each(|byte| *byte ^= 1 << bit),
            Self::Zero { at, len } => content[range(at, len)].fill(0),
            Self::Garbage { at, len, seed } => {
                let mut dice = StdRng::seed_from_u64(seed);
                content[range(at, len)]
                    .iter_mut()
                    .for_each(|byte| *byte = dice.random());
            }
            Self::Truncate { len } => content.truncate(len),
            Self::Remove => return fs::remove_file(path).unwrap(),
            Self::Older {
                at: 0,
                len: usize::MAX,
            } => content = older_of(path, older),
            Self::Older { at, len } => {
                let older = older_of(path, older);
                let range = range(at, len);
                let range = range.start.min(older.len())..range.end.min(older.len());
                content[range.clone()].copy_from_slice(&older[range]);
            }
        }
        fs::write(path, content).unwrap();
    }
}

/// A place in a file, of which half are not zero: sled's log is mostly empty.
fn place(content: &[u8], dice: &mut StdRng) -> usize {
    let at = dice.random_range(0..content.len().max(1));
    if dice.random_ratio(1, 2) {
        return at;
    }
    let written = content[at..].iter().position(|byte| *byte != 0);
    written.map_or(at, |skip| at + skip)
}

/// The older file in the same place, or the one that played its part.
fn older_of(path: &Path, older: &Path) -> Vec<u8> {
    let part = |path: &Path| path.file_stem().unwrap().to_owned();
    let twin = files_in(older)
        .into_iter()
        .find(|file| part(file) == part(path))
        .unwrap();
    fs::read(older.join(twin)).unwrap()
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Whole,
    Refused(String),
    /// Something is wrong, and nobody said so.
    Silent(String),
}

fn open_and_compare(dir: &Path, rows: &Rows) -> Outcome {
    match Db::open(dir, Options::default()) {
        Err(error) => refused(&error),
        Ok(db) => compare(&db, rows),
    }
}

fn refused(error: &OpenError) -> Outcome {
    match error.is_damage() {
        true => Outcome::Refused(error.to_string()),
        false => Outcome::Silent(format!("not called damage: {error}")),
    }
}

fn compare(db: &Db, rows: &Rows) -> Outcome {
    let found: Result<Rows, _> = db
        .scan(b"")
        .map(|row| row.map(|(key, value)| (key.to_vec(), value)))
        .collect();
    match found {
        Err(error) => Outcome::Silent(format!("opened, but: {error}")),
        Ok(found) if found != *rows => Outcome::Silent(difference(&found, rows)),
        Ok(_) => Outcome::Whole,
    }
}

fn difference(found: &Rows, rows: &Rows) -> String {
    let lost = rows.keys().filter(|key| !found.contains_key(*key)).count();
    let new = found.keys().filter(|key| !rows.contains_key(*key)).count();
    let changed = rows
        .iter()
        .filter(|(key, value)| found.get(*key).is_some_and(|other| other != *value))
        .count();
    format!("{lost} lost, {new} that were deleted, {changed} changed")
}

/// A store that opened with everything must also go on, and open again.
fn use_and_compare(dir: &Path, mut rows: Rows, seed: u64) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed);
    let db = Db::open(dir, Options::default()).unwrap();
    (0..50).for_each(|number| change(&db, &mut rows, 1000 + number, &mut dice));
    db.close().unwrap();
    open_and_compare(dir, &rows)
}

fn case(seed: u64, specimen: &Specimen) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed);
    let state = match dice.random_ratio(1, 2) {
        true => specimen.killed(),
        false => specimen.stopped(),
    };
    let dir = scratch();
    copy(&state, dir.path());
    let files = files_in(dir.path());
    let log = files.iter().find(|file| file.ends_with("db")).unwrap();
    let file = match dice.random_ratio(1, 2) {
        true => log,
        false => &files[dice.random_range(0..files.len())],
    };
    let path = dir.path().join(file);
    let damage = Damage::any(&fs::read(&path).unwrap(), &mut dice);
    damage.apply(&path, &specimen.older());
    let salvaged = examine_and_compare(dir.path(), specimen, &damage);
    let outcome = match open_and_compare(dir.path(), &specimen.rows) {
        Outcome::Whole if !salvaged.complete => {
            Outcome::Silent(format!("opened with everything, but {salvaged:?}"))
        }
        Outcome::Whole => use_and_compare(dir.path(), specimen.rows.clone(), seed),
        outcome => outcome,
    };
    if std::env::var_os("HOLDFAST_DAMAGE_CASES").is_some() {
        println!(
            "{seed} {} {damage:?} {}: {outcome:?}",
            state.display(),
            file.display()
        );
    }
    outcome
}

/// What is left of a damaged store: nothing that was never there, and everything if it says so.
fn examine_and_compare(dir: &Path, specimen: &Specimen, damage: &Damage) -> Report {
    let files = || {
        let mut files = files_in(dir);
        files.retain(|file| file != Path::new("lock"));
        files
    };
    let before = files();
    let mut found = Rows::new();
    let examined = examine(dir, |key, value| {
        found.insert(key.to_vec(), value);
        Ok(())
    });
    assert_eq!(files(), before, "the examination left something");
    let Ok(report) = examined else {
        return Report::default();
    };
    assert_eq!(report.salvaged, found.len() as u64);
    if report.complete {
        assert_eq!(
            difference(&found, &specimen.rows),
            "0 lost, 0 that were deleted, 0 changed"
        );
    }
    let lost = specimen.rows.keys().filter(|key| !found.contains_key(*key));
    let lost = lost.count();
    if matches!(damage, Damage::Flip { .. }) {
        assert!(lost <= PAGE_ROWS, "{lost} rows are lost by one bit");
    }
    for row in found {
        assert!(
            specimen.ever.contains(&row),
            "{:?} was never written",
            row.0
        );
    }
    report
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn all_of_a_store_without_damage_is_salvaged() {
    let specimen = specimen();
    for dir in [specimen.killed(), specimen.stopped()] {
        let new = scratch();
        let into = new.path().join("new");
        let report = recover(&dir, &into, |_, _| {}).unwrap();
        assert!(report.complete, "{report:?}");
        assert_eq!(report.expected, Some(specimen.rows.len() as u64));
        assert_eq!(open_and_compare(&into, &specimen.rows), Outcome::Whole);
    }
}

#[test]
fn a_log_that_is_cut_off_anywhere_is_salvaged_up_to_there() {
    let specimen = specimen();
    let place = scratch();
    let dir = place.path().join("mail");
    copy(&specimen.killed(), &dir);
    let size = |file: &PathBuf| fs::metadata(dir.join(file)).unwrap().len();
    let log = dir.join(files_in(&dir).into_iter().max_by_key(size).unwrap());
    let file = fs::File::options().write(true).open(&log).unwrap();
    let mut incomplete = 0;
    for parts in (1..32).rev() {
        let len = fs::metadata(&log).unwrap().len();
        file.set_len(len / (parts + 1) * parts + 7).unwrap();
        let mut found = Rows::new();
        let salvaged = |key: &[u8], value: Bytes| {
            assert!(specimen.ever.contains(&(key.to_vec(), value.clone())));
            found.insert(key.to_vec(), value);
            Ok(())
        };
        let report = examine(&dir, salvaged).unwrap();
        // The end of a log may be blank, or hold nothing that is still of use.
        if report.complete {
            assert_eq!(found, specimen.rows, "{report:?}");
        }
        incomplete += usize::from(!report.complete);
    }
    assert!(incomplete >= 16, "{incomplete}");
}

#[test]
fn a_salvaged_store_takes_the_place_of_the_damaged_one() {
    let specimen = specimen();
    let place = scratch();
    let (dir, new) = (place.path().join("mail"), place.path().join("new"));
    for number in 1..3 {
        copy(&specimen.killed(), &dir);
        fs::remove_file(dir.join("watermark")).unwrap();
        let damaged = files_in(&dir);
        recover(&dir, &new, |_, _| {}).unwrap();
        let aside = exchange(&dir, &new).unwrap();
        assert_eq!(aside, place.path().join(format!("mail.damaged-{number}")));
        assert_eq!(files_in(&aside), damaged);
        assert!(!new.exists());
        assert_eq!(open_and_compare(&dir, &specimen.rows), Outcome::Whole);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_store_that_is_open_is_not_recovered() {
    let place = scratch();
    let (dir, new) = (place.path().join("mail"), place.path().join("new"));
    let open = Db::open(&dir, Options::default()).unwrap();
    let in_use = |error: RecoverError| match error {
        RecoverError::Open(OpenError::InUse { .. }) => {}
        other => panic!("{other}"),
    };
    in_use(recover(&dir, &new, |_, _| {}).unwrap_err());
    in_use(exchange(&dir, &new).unwrap_err());
    assert!(!new.exists());
    open.close().unwrap();
    let nowhere = recover(&new, &dir.join("new"), |_, _| {}).unwrap_err();
    assert!(matches!(nowhere, RecoverError::NoStore { .. }), "{nowhere}");
    let taken = recover(&dir, &dir, |_, _| {}).unwrap_err();
    assert!(matches!(taken, RecoverError::Taken { .. }), "{taken}");
}

#[test]
fn no_damage_stays_silent() {
    let first = setting("HOLDFAST_DAMAGE_SEED", 0);
    let cases = setting("HOLDFAST_DAMAGE_CASES", 20);
    let specimen = specimen();
    let (mut whole, mut silent) = (0, Vec::new());
    for seed in first..first + cases {
        match case(seed, &specimen) {
            Outcome::Whole => whole += 1,
            Outcome::Refused(_) => {}
            Outcome::Silent(what) => silent.push((seed, what)),
        }
    }
    let refused = cases - whole - silent.len() as u64;
    println!(
        "cases {cases} whole {whole} refused {refused} silent {}",
        silent.len()
    );
    assert!(silent.is_empty(), "{silent:#?}");
    assert!(whole > 0 && refused > 0, "a generator that finds nothing");
}
