use holdfast_protocol::time::Time;
use tempfile::TempDir;

use super::*;

fn origin(owner: &str, number: u64) -> Origin {
    Origin {
        owner: owner.to_owned(),
        outbox: number,
        inbox: number + 1,
    }
}

fn append(storage: &Storage, bodies: &[usize]) -> Vec<u64> {
    let changes = storage.begin().unwrap();
    let to = "alice/phone".parse().unwrap();
    let seqs = bodies.iter().map(|size| {
        let (options, body) = (Options::default(), Bytes::from(vec![7; *size]));
        changes.append(Lane::Message, 3, Recipient::clone(&to), options, body)
    });
    let seqs = seqs.map(|entry| entry.unwrap().seq).collect();
    changes.commit(Durability::Immediate).unwrap();
    seqs
}

fn load(storage: &Storage, after: u64) -> (Vec<u64>, u64) {
    let load = Load {
        lane: Lane::Message,
        after,
        session: 1,
    };
    let loaded = storage.load(load).unwrap();
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
        let (storage, stored, _) = Storage::open(Some(&path), &mine).unwrap();
        assert_eq!(stored, mine);
        assert_eq!(append(&storage, &[1, 1]), [1, 2]);
        let changes = storage.begin().unwrap();
        changes.mark(&mark).unwrap();
        changes.mark(&gone).unwrap();
        changes.unmark(&gone.source).unwrap();
        changes.log(&logbook).unwrap();
        changes.remember(&relays).unwrap();
        changes.learn(&networks).unwrap();
        changes.forget(Lane::Message, 1).unwrap();
        changes.commit(Durability::Immediate).unwrap();
    }
    let again = origin("alice/pc", 5);
    let (storage, stored, restored) = Storage::open(Some(&path), &again).unwrap();
    assert_eq!(stored, mine, "the numbers are drawn once");
    assert_eq!(restored.tails, [2, 0]);
    assert_eq!(restored.marks, [mark]);
    assert_eq!(restored.relays, relays);
    assert_eq!(restored.networks, networks);
    assert_eq!(restored.logbook.page(), 1);
    assert_eq!(load(&storage, 0), (vec![2], 2));
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
        let (storage, _, restored) = Storage::open(Some(dir.path()), &origin("a/b", 1)).unwrap();
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
        let entries = storage.load(load).unwrap().entries;
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
    let (storage, ..) = Storage::open(None, &origin("a/b", 1)).unwrap();
    append(&storage, &[1]);
    let load = Load {
        lane: Lane::Message,
        after: 0,
        session: 1,
    };
    assert_eq!(storage.load(load).unwrap().entries[0].page, 3);
}

#[test]
fn a_number_is_never_drawn_twice_even_when_the_outbox_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    for expected in 1..=3 {
        let (storage, ..) = Storage::open(Some(dir.path()), &origin("a/b", 1)).unwrap();
        assert_eq!(append(&storage, &[1]), [expected]);
        let changes = storage.begin().unwrap();
        changes.forget(Lane::Message, expected).unwrap();
        changes.commit(Durability::Immediate).unwrap();
    }
}

#[test]
fn what_was_not_committed_is_not_there() {
    let (storage, ..) = Storage::open(None, &origin("a/b", 1)).unwrap();
    let changes = storage.begin().unwrap();
    let to = "alice".parse().unwrap();
    let (options, body) = (Options::default(), Bytes::from_static(b"lost"));
    changes.append(Lane::Message, 1, to, options, body).unwrap();
    drop(changes);
    assert_eq!(load(&storage, 0), (vec![], 0));
    assert_eq!(append(&storage, &[1]), [1]);
}

#[test]
fn reading_stops_at_a_megabyte_and_goes_on_where_it_stopped() {
    let (storage, ..) = Storage::open(None, &origin("a/b", 1)).unwrap();
    append(&storage, &[2 * READY_BYTES, 600_000, 400_000, 100_000, 1]);
    assert_eq!(load(&storage, 0), (vec![1], 1));
    assert_eq!(load(&storage, 1), (vec![2, 3], 3));
    assert_eq!(load(&storage, 3), (vec![4, 5], 5));
    assert_eq!(load(&storage, 5), (vec![], 5));
}

#[test]
fn a_file_that_has_grown_is_made_small_when_the_outbox_is_empty() {
    let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |dir: &TempDir| {
        let opened = Storage::open(Some(dir.path()), &origin("a/b", 1));
        opened.unwrap().0
    };
    let size = |dir: &TempDir| fs::metadata(dir.path().join(FILE)).unwrap().len();
    let storage = open(&dir);
    append(&storage, &[1024 * 1024; 20]);
    drop(storage);
    let storage = open(&dir);
    assert!(size(&dir) > SHRINK_FROM, "it is needed");
    let changes = storage.begin().unwrap();
    (1..=20).for_each(|seq| changes.forget(Lane::Message, seq).unwrap());
    changes.commit(Durability::Immediate).unwrap();
    // redb makes it small itself when it is closed, which an app that is killed never does.
    fs::copy(dir.path().join(FILE), killed.path().join(FILE)).unwrap();
    assert!(
        size(&killed) > SHRINK_FROM,
        "nothing else has made it small"
    );
    let storage = open(&killed);
    assert!(size(&killed) < SHRINK_FROM / 4, "{} bytes", size(&killed));
    assert_eq!(append(&storage, &[1]), [21]);
}

#[test]
fn a_directory_has_one_user_and_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Storage::open(Some(dir.path()), &origin("alice/pc", 1)).unwrap();
    let directory = dir.path().to_owned();
    let second = Storage::open(Some(dir.path()), &origin("alice/pc", 1));
    let in_use = ConnectError::InUse {
        directory: directory.clone(),
    };
    assert_eq!(second.err(), Some(in_use));
    drop(first);
    let other = Storage::open(Some(dir.path()), &origin("bob/pc", 1));
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
    let error = Storage::open(Some(dir.path()), &origin("a/b", 1)).unwrap_err();
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
    Storage::open(Some(&path), &origin("a/b", 1)).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
