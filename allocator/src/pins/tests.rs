use std::path::Path;

use holdfast_durable::{Db, Options};
use tokio::{sync::oneshot, task::JoinSet};

use super::*;

fn open(dir: &Path) -> (Db, Pins) {
    let db = Db::open(dir, Options::default()).unwrap();
    (db.clone(), Pins::new(Arc::new(db)))
}

async fn home(
    pins: &Pins,
    account: &Name,
    candidate: Option<Name>,
) -> Result<Option<Name>, PinError> {
    let (tell, told) = oneshot::channel();
    pins.home(account, candidate, |home| {
        let _ = tell.send(home);
    });
    told.await.unwrap_or(Err(Closed.into()))
}

async fn remember(pins: &Pins, relay: &str, known: &Known) -> Result<(), Closed> {
    let (tell, told) = oneshot::channel();
    pins.remember(&name(relay), known, || {
        let _ = tell.send(());
    });
    told.await.map_err(|_| Closed)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn known(port: u16, capacity: u32) -> Known {
    Known {
        addresses: vec![([127, 0, 0, 1], port).into()],
        capacity,
    }
}

#[tokio::test]
async fn a_pin_never_changes_even_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (db, pins) = open(dir.path());
    let alice = name("alice");
    assert_eq!(home(&pins, &alice, None).await, Ok(None));
    let first = home(&pins, &alice, Some(name("r1"))).await;
    assert_eq!(first, Ok(Some(name("r1"))));
    assert_eq!(home(&pins, &alice, Some(name("r2"))).await, first);
    db.close().unwrap();
    let (_db, pins) = open(dir.path());
    assert_eq!(home(&pins, &alice, Some(name("r2"))).await, first);
    assert!(pins.arriving.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn askers_at_the_same_time_hear_the_same_home() {
    let dir = tempfile::tempdir().unwrap();
    let pins = Arc::new(open(dir.path()).1);
    for round in 0..20 {
        let account = name(&format!("account-{round}"));
        let mut askers = JoinSet::new();
        for asker in 0..16 {
            let (pins, account) = (pins.clone(), account.clone());
            let candidate = Some(name(&format!("r{asker}")));
            askers.spawn(async move { home(&pins, &account, candidate).await.unwrap() });
        }
        let homes = askers.join_all().await;
        assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
        assert_eq!(home(&pins, &account, None).await, Ok(homes[0].clone()));
    }
}

#[tokio::test]
async fn relays_are_remembered_as_they_were_last_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (db, pins) = open(dir.path());
    assert_eq!(pins.relays(), Ok(Vec::new()));
    remember(&pins, "r2", &known(2, 1)).await.unwrap();
    remember(&pins, "r1", &known(1, 1)).await.unwrap();
    remember(&pins, "r1", &known(3, 5)).await.unwrap();
    home(&pins, &name("r1"), Some(name("r2"))).await.unwrap();
    db.close().unwrap();
    let relays = open(dir.path()).1.relays();
    let expected = vec![(name("r1"), known(3, 5)), (name("r2"), known(2, 1))];
    assert_eq!(relays, Ok(expected));
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (db, pins) = open(dir.path());
    let mut batch = Batch::new();
    batch.put("p/alice", "no name");
    batch.put("r/r1", "\x01");
    db.commit_blocking(batch).unwrap();
    let row = |error| match error {
        PinError::Row { key, .. } => key,
        other => panic!("{other}"),
    };
    let home = home(&pins, &name("alice"), Some(name("r1"))).await;
    assert_eq!(row(home.unwrap_err()), "p/alice");
    assert_eq!(row(pins.relays().unwrap_err()), "r/r1");
}

#[tokio::test]
async fn a_closed_store_answers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (db, pins) = open(dir.path());
    db.close().unwrap();
    let home = home(&pins, &name("alice"), Some(name("r1"))).await;
    assert_eq!(home, Err(ReadError::from(Closed).into()));
    assert!(remember(&pins, "r1", &known(1, 1)).await.is_err());
    assert!(pins.arriving.lock().is_empty());
}
