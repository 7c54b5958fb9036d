use holdfast_protocol::time::Time;
use tempfile::TempDir;

use super::*;
use crate::{core::READY_BYTES, storage::tests};

fn origin(owner: &str, number: u64) -> Origin {
    Origin {
        owner: owner.to_owned(),
        outbox: number,
        inbox: number + 1,
    }
}

fn open(directory: &TempDir) -> File {
    File::open(directory.path(), &origin("a/b", 1)).unwrap().0
}

fn append(file: &mut File, bodies: &[usize]) -> Vec<u64> {
    let appended = file.change(true, |changes| {
        let append = |size: &usize| tests::append(changes, Lane::Message, *size);
        bodies.iter().map(append).collect()
    });
    appended.unwrap()
}

fn load(file: &File, after: u64) -> (Vec<u64>, u64) {
    let load = Load {
        lane: Lane::Message,
        after,
        session: 1,
    };
    let loaded = file.load(load).unwrap();
    let seqs = loaded.entries.iter().map(|entry| entry.seq).collect();
    (seqs, loaded.through)
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/on/demand");
    let mine = origin("alice/pc", 1);
    let mark = Mark {
        source: Source {
            sender: holdfast_protocol::id::Sender::Service("push".parse().unwrap()),
            epoch: 3,
            lane: Lane::Bulk,
        },
        seq: 9,
        made_ms: 1000,
    };
    let gone = Mark {
        source: Source {
            epoch: 4,
            ..mark.source.clone()
        },
        ..mark
    };
    let mut logbook = Logbook::default();
    logbook.welcomed(Time::ZERO, 1_767_225_600_000);
    let relays = vec![RelayAddress {
        name: "r1".parse().unwrap(),
        addresses: vec!["192.0.2.1:1".parse().unwrap()],
    }];
    let learned = holdfast_protocol::heartbeat::Learned {
        held_ms: 1,
        since_ms: 2,
    };
    let networks = vec![("home".to_owned(), learned)];
    {
        let (mut file, stored, _) = File::open(&path, &mine).unwrap();
        assert_eq!(stored, mine);
        assert_eq!(append(&mut file, &[1, 1]), [1, 2]);
        let changed = file.change(true, |changes| {
            changes.mark(&mark)?;
            changes.mark(&gone)?;
            changes.unmark(&gone.source)?;
            changes.log(&logbook)?;
            changes.remember(&relays)?;
            changes.learn(&networks)?;
            changes.forget(Lane::Message, 1)
        });
        changed.unwrap();
    }
    let again = origin("alice/pc", 5);
    let (file, stored, restored) = File::open(&path, &again).unwrap();
    assert_eq!(stored, mine, "the numbers are drawn once");
    assert_eq!(restored.tails, [2, 0]);
    assert_eq!(restored.marks, [mark]);
    assert_eq!(restored.relays, relays);
    assert_eq!(restored.networks, networks);
    assert_eq!(restored.logbook.page(), 1);
    assert_eq!(load(&file, 0), (vec![2], 2));
}

/// A file as it was written before there were pages and dates.
#[test]
fn a_file_of_an_earlier_version_is_read_and_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source {
        sender: holdfast_protocol::id::Sender::Device("alice/pc".parse().unwrap()),
        epoch: 3,
        lane: Lane::Message,
    };
    for (number, to) in (1..).zip(["alice", "alice/phone"]) {
        let database = Database::create(dir.path().join(FILE)).unwrap();
        let writing = database.begin_write().unwrap();
        let record = Record {
            to: to.parse().unwrap(),
            options: Options::default(),
        };
        let mut value = encode(&record).unwrap();
        value.extend_from_slice(b"body");
        let mut outbox = writing.open_table(OUTBOX).unwrap();
        outbox.insert((0, number), value.as_slice()).unwrap();
        let mut tails = writing.open_table(TAILS).unwrap();
        tails.insert(0, number).unwrap();
        let mut marks = writing.open_table(UNDATED_MARKS).unwrap();
        let key = encode(&source).unwrap();
        marks.insert(key.as_slice(), 9).unwrap();
        drop((outbox, tails, marks));
        writing.commit().unwrap();
    }
    for _ in 0..2 {
        let (file, _, restored) = File::open(dir.path(), &origin("a/b", 1)).unwrap();
        let mark = Mark {
            source: source.clone(),
            seq: 9,
            made_ms: 0,
        };
        assert_eq!(restored.marks, [mark]);
        assert_eq!(restored.logbook, Logbook::default());
        let load = Load {
            lane: Lane::Message,
            after: 0,
            session: 1,
        };
        let entries = file.load(load).unwrap().entries;
        let read = entries
            .iter()
            .map(|entry| (entry.to.to_string(), entry.page, &entry.body[..]));
        let expected = [
            ("alice".to_owned(), 0, &b"body"[..]),
            ("alice/phone".to_owned(), 0, &b"body"[..]),
        ];
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_message_is_read_with_its_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir);
    append(&mut file, &[1]);
    let load = Load {
        lane: Lane::Message,
        after: 0,
        session: 1,
    };
    assert_eq!(file.load(load).unwrap().entries[0].page, 3);
}

#[test]
fn a_number_is_never_drawn_twice_even_when_the_outbox_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    for expected in 1..=3 {
        let mut file = open(&dir);
        assert_eq!(append(&mut file, &[1]), [expected]);
        let forgotten = file.change(true, |changes| changes.forget(Lane::Message, expected));
        forgotten.unwrap();
    }
}

#[test]
fn of_a_change_that_fails_nothing_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir);
    let failed = file.change(true, |changes| {
        tests::append(changes, Lane::Message, 4)?;
        Err::<(), _>(failed("the next one"))
    });
    assert_eq!(failed, Err(StorageError("the next one".to_owned())));
    assert_eq!(load(&file, 0), (vec![], 0));
    assert_eq!(append(&mut file, &[1]), [1]);
}

#[test]
fn reading_stops_at_a_megabyte_and_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(&dir);
    append(&mut file, &[2 * READY_BYTES, 600_000, 400_000, 100_000, 1]);
    assert_eq!(load(&file, 0), (vec![1], 1));
    assert_eq!(load(&file, 1), (vec![2, 3], 3));
    assert_eq!(load(&file, 3), (vec![4, 5], 5));
    assert_eq!(load(&file, 5), (vec![], 5));
}

#[test]
fn a_file_that_has_grown_is_made_small_when_the_outbox_is_empty() {
    let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let size = |dir: &TempDir| fs::metadata(dir.path().join(FILE)).unwrap().len();
    append(&mut open(&dir), &[1024 * 1024; 20]);
    let mut file = open(&dir);
    assert!(size(&dir) > SHRINK_FROM, "it is needed");
    let emptied = file.change(true, |changes| {
        (1..=20).try_for_each(|seq| changes.forget(Lane::Message, seq))
    });
    emptied.unwrap();
    // redb makes it small itself when it is closed, which an app that is killed never does.
    fs::copy(dir.path().join(FILE), killed.path().join(FILE)).unwrap();
    assert!(
        size(&killed) > SHRINK_FROM,
        "nothing else has made it small"
    );
    let mut file = open(&killed);
    assert!(size(&killed) < SHRINK_FROM / 4, "{} bytes", size(&killed));
    assert_eq!(append(&mut file, &[1]), [21]);
}

#[test]
fn a_directory_has_one_user_and_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = File::open(dir.path(), &origin("alice/pc", 1)).unwrap();
    let directory = dir.path().to_owned();
    let second = File::open(dir.path(), &origin("alice/pc", 1));
    let in_use = ConnectError::InUse {
        directory: directory.clone(),
    };
    assert_eq!(second.err(), Some(in_use));
    drop(first);
    let other = File::open(dir.path(), &origin("bob/pc", 1));
    let other_owner = ConnectError::OtherOwner {
        directory,
        owner: "alice/pc".to_owned(),
        identity: "bob/pc".to_owned(),
    };
    assert_eq!(other.err(), Some(other_owner));
}

#[test]
fn a_file_that_is_no_database_is_an_error_that_names_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), vec![b'x'; 8192]).unwrap();
    let error = File::open(dir.path(), &origin("a/b", 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&dir.path().display().to_string())
    );
}

#[cfg(unix)]
#[test]
fn nobody_else_may_look_into_the_directory() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine");
    File::open(&path, &origin("a/b", 1)).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
