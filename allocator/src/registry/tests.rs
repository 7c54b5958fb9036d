use holdfast_durable::{Closed, Db, Options};
use holdfast_protocol::message::RelayAddress;
use tokio::sync::oneshot;

use super::*;

const LEASE: Duration = Duration::from_secs(15);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn identity(path: &str) -> Identity {
    Identity::parse(&format!("spiffe://example.org/{path}"))
        .unwrap()
        .1
}

fn at(seconds: u64) -> Time {
    Time::at(Duration::from_secs(seconds))
}

fn open(dir: &tempfile::TempDir) -> (Db, Registry) {
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let registry = Registry::open(Arc::new(db.clone()), LEASE, Duration::from_secs(1));
    (db, registry.unwrap())
}

fn fresh() -> (tempfile::TempDir, Db, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let (db, registry) = open(&dir);
    (dir, db, registry)
}

fn address(relay: &str) -> RelayAddress {
    let port = 7000 + u16::from(relay.as_bytes()[1]);
    RelayAddress {
        name: name(relay),
        addresses: vec![([127, 0, 0, 1], port).into()],
    }
}

async fn lease(registry: &Registry, relay: &str, now: Time) -> Leased {
    let lease = Lease {
        boot: 1,
        addresses: address(relay).addresses,
        capacity: 1,
        sessions: 0,
        draining: false,
    };
    try_lease(registry, relay, &lease, now).await.unwrap()
}

async fn try_lease(
    registry: &Registry,
    relay: &str,
    lease: &Lease,
    now: Time,
) -> Result<Leased, Closed> {
    let (tell, told) = oneshot::channel();
    registry.lease(now, &name(relay), lease, |leased| {
        let _ = tell.send(leased);
    });
    told.await.map(Result::unwrap).map_err(|_| Closed)
}

async fn try_locate(
    registry: &Registry,
    asker: &str,
    locate: &Locate,
    now: Time,
) -> Result<Allocation, PinError> {
    let (tell, told) = oneshot::channel();
    registry.locate(now, &identity(asker), locate, |allocation| {
        let _ = tell.send(allocation);
    });
    told.await.unwrap_or(Err(Closed.into()))
}

async fn locate(registry: &Registry, asker: &str, account: Option<&str>, now: Time) -> Allocation {
    let locate = Locate {
        account: account.map(name),
    };
    try_locate(registry, asker, &locate, now).await.unwrap()
}

fn relays(home: Option<&str>, relays: &[&str]) -> Allocation {
    Allocation::Relays {
        home: home.map(name),
        relays: relays.iter().copied().map(address).collect(),
    }
}

const NO_RELAY: Allocation = Allocation::NoRelay {
    retry_after_ms: 1000,
};

#[tokio::test]
async fn everybody_asks_for_what_is_theirs_and_a_relay_for_all() {
    let (_dir, _db, registry) = fresh();
    lease(&registry, "r1", at(0)).await;
    let (device, relay, service) = ("device/alice/pc", "relay/r1", "service/push");
    let alice = relays(Some("r1"), &["r1"]);
    for (asker, account, answer) in [
        (device, None, alice.clone()),
        (device, Some("alice"), alice.clone()),
        (device, Some("bob"), Allocation::Denied),
        (relay, Some("alice"), alice),
        (relay, None, Allocation::Denied),
        (service, None, relays(None, &["r1"])),
        (service, Some("alice"), Allocation::Denied),
        ("allocator/a1", Some("alice"), Allocation::Denied),
    ] {
        let told = locate(&registry, asker, account, at(1)).await;
        assert_eq!(told, answer, "{asker} asking for {account:?}");
    }
    // A question that is denied pins nobody.
    for account in ["bob", "push"] {
        registry.pins.home(&name(account), None, move |home| {
            assert_eq!(home, Ok(None), "{account}");
        });
    }
}

#[tokio::test]
async fn without_a_relay_there_is_a_hint_when_to_ask_again() {
    let (_dir, _db, registry) = fresh();
    let ask = async |now| locate(&registry, "device/alice/pc", None, now).await;
    assert_eq!(ask(at(0)).await, NO_RELAY);
    assert_eq!(
        locate(&registry, "service/push", None, at(0)).await,
        NO_RELAY
    );
    lease(&registry, "r1", at(1)).await;
    assert_eq!(ask(at(16)).await, NO_RELAY, "none that could take it");
    lease(&registry, "r1", at(17)).await;
    assert_eq!(ask(at(18)).await, relays(Some("r1"), &["r1"]));
    assert_eq!(ask(at(99)).await, relays(Some("r1"), &["r1"]), "pinned");
}

#[tokio::test]
async fn a_home_that_dies_stays_the_home_and_stands_last() {
    let (_dir, _db, registry) = fresh();
    lease(&registry, "r1", at(0)).await;
    let ask = async |now| locate(&registry, "device/alice/pc", None, now).await;
    assert_eq!(ask(at(1)).await, relays(Some("r1"), &["r1"]));
    lease(&registry, "r2", at(10)).await;
    assert_eq!(ask(at(14)).await, relays(Some("r1"), &["r1", "r2"]));
    assert_eq!(ask(at(15)).await, relays(Some("r1"), &["r2", "r1"]));
    assert_eq!(ask(at(25)).await, relays(Some("r1"), &["r1", "r2"]));
    lease(&registry, "r1", at(26)).await;
    assert_eq!(ask(at(26)).await, relays(Some("r1"), &["r1", "r2"]));
}

#[tokio::test]
async fn after_a_restart_homes_are_named_before_they_are_heard() {
    let (dir, db, registry) = fresh();
    lease(&registry, "r1", at(0)).await;
    let ask = async |registry: &Registry, asker| locate(registry, asker, None, at(0)).await;
    let alice = relays(Some("r1"), &["r1"]);
    assert_eq!(ask(&registry, "device/alice/pc").await, alice);
    db.close().unwrap();
    let (_db, registry) = open(&dir);
    assert_eq!(ask(&registry, "device/alice/pc").await, alice);
    assert_eq!(ask(&registry, "device/bob/pc").await, NO_RELAY);
    lease(&registry, "r2", at(0)).await;
    let alice = relays(Some("r1"), &["r2", "r1"]);
    assert_eq!(ask(&registry, "device/alice/pc").await, alice);
    let bob = relays(Some("r2"), &["r2", "r1"]);
    assert_eq!(ask(&registry, "device/bob/pc").await, bob);
}

#[tokio::test]
async fn a_lease_says_how_long_it_lives_and_who_else_does() {
    let (_dir, _db, registry) = fresh();
    let alone = lease(&registry, "r1", at(0)).await;
    assert_eq!((alone.valid_ms, alone.others), (15_000, vec![]));
    let second = lease(&registry, "r2", at(1)).await;
    assert_eq!(second.others, [address("r1")]);
    assert_eq!(lease(&registry, "r2", at(15)).await.others, []);
    assert_eq!(lease(&registry, "r1", at(15)).await.others, [address("r2")]);
}

#[tokio::test]
async fn a_relay_that_moved_is_found_where_it_is_even_after_a_restart() {
    let (dir, db, registry) = fresh();
    lease(&registry, "r1", at(0)).await;
    let ask = async |registry: &Registry| locate(registry, "device/alice/pc", None, at(2)).await;
    ask(&registry).await;
    let moved = Lease {
        boot: 2,
        addresses: address("r2").addresses,
        capacity: 1,
        sessions: 0,
        draining: false,
    };
    try_lease(&registry, "r1", &moved, at(1)).await.unwrap();
    let told = ask(&registry).await;
    let Allocation::Relays { relays, .. } = &told else {
        panic!("{told:?}");
    };
    assert_eq!(relays[0].addresses, moved.addresses);
    db.close().unwrap();
    assert_eq!(ask(&open(&dir).1).await, told);
}

#[tokio::test]
async fn a_store_that_is_closed_gives_no_lease_and_no_home() {
    let (_dir, db, registry) = fresh();
    db.close().unwrap();
    let lease = Lease {
        boot: 1,
        addresses: address("r1").addresses,
        capacity: 1,
        sessions: 0,
        draining: false,
    };
    let leased = try_lease(&registry, "r1", &lease, at(0)).await;
    assert_eq!(leased, Err(Closed));
    let locate = Locate { account: None };
    let told = try_locate(&registry, "device/alice/pc", &locate, at(0)).await;
    assert!(told.is_err());
}
