//! What every store must do.

use std::sync::mpsc;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Device, Key, Lane, MessageId, Name, Sender},
    message::{Options, Refusal},
};

use super::MailboxStore;
use crate::mail::{
    account::{Rows, StoredRow},
    desk::{DeviceRecord, Write},
    ledger::Mark,
    message::{Header, Place, Source},
    refusals::Refusals,
};

/// Runs the contract against an empty store; `reopen` stands for a restart.
pub(super) fn check<S: MailboxStore>(store: S, reopen: impl Fn(S) -> S) {
    commit(&store, everything());
    check_everything(&store);
    let store = reopen(store);
    check_everything(&store);
    neighbours_stay_apart(&store);
    a_lane_is_emptied_up_to_a_position(&store);
    let store = reopen(store);
    what_is_put_again_is_there(&store);
    let store = reopen(store);
    what_is_deleted_is_gone(&store);
    let store = reopen(store);
    assert_eq!(store.load(&name("alice")).unwrap().messages, []);
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn phone() -> Device {
    "alice/phone".parse().unwrap()
}

fn key() -> Key {
    Key::new("bookmarks").unwrap()
}

pub(super) fn header(lane: Lane, seq: u64) -> Header {
    let sender = Sender::Device("alice/pc".parse().unwrap());
    let id = MessageId {
        sender,
        epoch: 9,
        lane,
        seq,
    };
    Header {
        id,
        accepted_ms: 1_700_000_000_000,
        since_ms: 1_600_000_000_000,
        options: Options::default(),
    }
}

fn source() -> Source {
    Source::from(&header(Lane::Message, 1).id)
}

fn place(lane: Lane, position: u64) -> Place {
    Place::Mailbox {
        device: phone(),
        lane,
        position,
    }
}

fn retained() -> Place {
    Place::Retained {
        account: name("alice"),
        key: key(),
    }
}

fn put(place: Place, position: u64, lane: Lane, body: Bytes) -> Write {
    Write::PutMessage {
        place,
        position,
        lane,
        header: header(lane, position),
        body,
    }
}

fn photo() -> Bytes {
    (0..1_000_000_u32)
        .map(|n| (n % 251) as u8)
        .collect::<Vec<u8>>()
        .into()
}

fn refusals() -> Refusals {
    let mut refusals = Refusals::default();
    refusals.note(3, Refusal::MailboxFull, 20_000);
    refusals
}

fn mark(seq: u64) -> Mark {
    Mark {
        seq,
        day: 20_000,
        lapsed: 0,
    }
}

/// Of a source whose mail has waited for too long.
fn lapsed() -> Mark {
    Mark {
        lapsed: 255,
        ..mark(300)
    }
}

fn record() -> DeviceRecord {
    DeviceRecord {
        inbox: Some(7),
        missed: 2,
        seen: 20_000,
    }
}

/// Positions on both sides of a byte's end come back in their order.
fn everything() -> Vec<Write> {
    let mut writes: Vec<Write> = [300, 2, 255, 256, 1 << 40]
        .map(|position| {
            put(
                place(Lane::Message, position),
                position,
                Lane::Message,
                "hi".into(),
            )
        })
        .into();
    writes.push(put(place(Lane::Bulk, 257), 257, Lane::Bulk, photo()));
    writes.push(put(retained(), 256, Lane::Message, "all of them".into()));
    writes.push(Write::PutDevice {
        device: phone(),
        record: Some(record()),
    });
    for (device, mark) in [(Some(name("phone")), lapsed()), (None, mark(256))] {
        writes.push(Write::PutMark {
            account: name("alice"),
            device,
            source: source(),
            mark: Some(mark),
        });
    }
    let account = name("alice");
    writes.push(Write::PutRefusals {
        account: account.clone(),
        source: source(),
        refusals: Some(refusals()),
    });
    writes.push(Write::PutAllowed {
        account,
        sender: name("bob"),
        allowed: true,
    });
    writes
}

fn check_everything<S: MailboxStore>(store: &S) {
    let rows = store.load(&name("alice")).unwrap();
    let row = |lane, position, bytes| StoredRow {
        device: name("phone"),
        position,
        header: header(lane, position),
        bytes,
    };
    let mut messages: Vec<StoredRow> = [2, 255, 256, 300, 1 << 40]
        .map(|position| row(Lane::Message, position, 2))
        .into();
    messages.push(row(Lane::Bulk, 257, 1_000_000));
    assert_eq!(
        rows,
        Rows {
            devices: vec![(name("phone"), record())],
            marks: vec![
                (None, source(), mark(256)),
                (Some(name("phone")), source(), lapsed()),
            ],
            messages,
            retained: vec![(key(), 256, header(Lane::Message, 256), 11)],
            allowed: vec![name("bob")],
            refusals: vec![(source(), refusals())],
        }
    );
    assert_eq!(
        store.body(&place(Lane::Message, 255)).unwrap(),
        Some("hi".into())
    );
    assert_eq!(store.body(&place(Lane::Bulk, 257)).unwrap(), Some(photo()));
    assert_eq!(store.body(&retained()).unwrap(), Some("all of them".into()));
    assert_eq!(store.body(&place(Lane::Bulk, 255)).unwrap(), None);
}

fn neighbours_stay_apart<S: MailboxStore>(store: &S) {
    for neighbour in ["alic", "alice-", "alice.phone", "b"] {
        assert!(!store.knows(&name(neighbour)).unwrap(), "{neighbour}");
        assert_eq!(
            store.load(&name(neighbour)).unwrap(),
            Rows::default(),
            "{neighbour}"
        );
    }
    assert!(store.knows(&name("alice")).unwrap());
}

fn positions<S: MailboxStore>(store: &S) -> Vec<u64> {
    let rows = store.load(&name("alice")).unwrap();
    rows.messages.iter().map(|row| row.position).collect()
}

/// The other lane stays as it is, whatever its positions.
fn a_lane_is_emptied_up_to_a_position<S: MailboxStore>(store: &S) {
    let through = |position| Write::DeleteThrough {
        device: phone(),
        lane: Lane::Message,
        position,
        bytes: 300,
    };
    commit(store, vec![through(2), through(256)]);
    assert_eq!(positions(store), [300, 1 << 40, 257]);
    assert_eq!(store.body(&place(Lane::Message, 255)).unwrap(), None);
}

/// As what an account retains is, for a device that has lost its memory.
fn what_is_put_again_is_there<S: MailboxStore>(store: &S) {
    assert_eq!(positions(store), [300, 1 << 40, 257]);
    let again = put(
        place(Lane::Message, 255),
        255,
        Lane::Message,
        "again".into(),
    );
    commit(store, vec![again]);
    assert_eq!(positions(store), [255, 300, 1 << 40, 257]);
    let body = store.body(&place(Lane::Message, 255)).unwrap();
    assert_eq!(body, Some("again".into()));
}

fn what_is_deleted_is_gone<S: MailboxStore>(store: &S) {
    let rows = store.load(&name("alice")).unwrap();
    let places = rows
        .messages
        .iter()
        .map(|row| place(row.header.id.lane, row.position));
    let mut writes: Vec<Write> = places
        .chain([retained()])
        .map(Write::DeleteMessage)
        .collect();
    let (account, sender) = (name("alice"), name("bob"));
    writes.push(Write::PutAllowed {
        account,
        sender,
        allowed: false,
    });
    store.write(writes);
    commit(store, Vec::new());
    let rows = store.load(&name("alice")).unwrap();
    assert_eq!(
        (rows.messages, rows.retained.len(), rows.allowed),
        (vec![], 0, vec![])
    );
    assert_eq!(rows.marks.len(), 2, "marks outlive the mail");
    forget(store);
    assert_eq!(store.load(&name("alice")).unwrap(), Rows::default());
    assert_eq!(store.body(&place(Lane::Bulk, 257)).unwrap(), None);
}

/// Deletes what outlives the mail.
fn forget<S: MailboxStore>(store: &S) {
    let (account, source) = (name("alice"), source());
    let mark = |device| Write::PutMark {
        account: account.clone(),
        device,
        source: source.clone(),
        mark: None,
    };
    let writes = vec![
        mark(Some(name("phone"))),
        mark(None),
        Write::PutDevice {
            device: phone(),
            record: None,
        },
        Write::PutRefusals {
            account: account.clone(),
            source: source.clone(),
            refusals: None,
        },
    ];
    commit(store, writes);
}

pub(super) fn commit<S: MailboxStore>(store: &S, writes: Vec<Write>) {
    let (done, wait) = mpsc::channel();
    store.commit(writes, Box::new(move || done.send(()).unwrap()));
    wait.recv().unwrap();
}
