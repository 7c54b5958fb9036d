//! What askers are told.

use std::sync::Arc;

use holdfast_allocator::Standing;
use holdfast_protocol::{allocation::Allocation, close::CloseCode};
use tokio::task::JoinSet;

use crate::{Asker, Lease, Site, lease, named, relay, start, told};

const NO_RELAY: Allocation = Allocation::NoRelay {
    retry_after_ms: 1000,
};

#[tokio::test]
async fn a_device_asks_for_its_own_account_only() {
    let site = Site::new();
    let allocator = start(&site).await;
    let _r1 = relay(&site, &allocator, 1).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    let own = phone.locate(None).await;
    assert_eq!(told(&own), (Some("r1".into()), vec!["r1".into()]));
    assert_eq!(phone.locate(Some("alice")).await, own);
    assert_eq!(phone.locate(Some("bob")).await, Allocation::Denied);
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_relay_asks_for_any_account_and_so_pins_it() {
    let site = Site::new();
    let allocator = start(&site).await;
    let r1 = relay(&site, &allocator, 1).await;
    let by_relay = r1.locate(Some("alice")).await;
    assert_eq!(told(&by_relay).0, Some("r1".into()));
    assert_eq!(r1.locate(None).await, Allocation::Denied);
    // With nine more relays, an account that was not pinned would hardly be placed there.
    let mut others = Vec::new();
    for number in 2..11 {
        others.push(relay(&site, &allocator, number).await);
    }
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    let (home, relays) = told(&phone.locate(None).await);
    assert_eq!((home.as_deref(), relays.len()), (Some("r1"), 10));
    assert_eq!(relays[0], "r1");
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_service_is_told_every_relay_and_no_home() {
    let site = Site::new();
    let allocator = start(&site).await;
    let service = site.asker("service:push", allocator.address()).await;
    assert_eq!(service.locate(None).await, NO_RELAY);
    let _r1 = relay(&site, &allocator, 1).await;
    let _r2 = relay(&site, &allocator, 2).await;
    let (home, mut relays) = told(&service.locate(None).await);
    relays.sort();
    assert_eq!((home, relays), (None, vec!["r1".into(), "r2".into()]));
    assert_eq!(service.locate(Some("alice")).await, Allocation::Denied);
    allocator.shutdown().await;
}

#[tokio::test]
async fn without_a_relay_one_asks_again_until_one_is_there() {
    let site = Site::new();
    let allocator = start(&site).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    assert_eq!(phone.locate(None).await, NO_RELAY);
    let _r1 = relay(&site, &allocator, 1).await;
    let (home, relays) = told(&phone.locate(None).await);
    assert_eq!((home, relays), (Some("r1".into()), vec!["r1".into()]));
    allocator.shutdown().await;
}

#[tokio::test]
async fn pins_survive_a_restart_and_so_do_addresses() {
    let site = Site::new();
    let allocator = start(&site).await;
    let _r1 = relay(&site, &allocator, 1).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    phone.locate(None).await;
    let _r2 = relay(&site, &allocator, 2).await;
    allocator.shutdown().await;

    let allocator = start(&site).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    let bob = site.asker("device:bob/pc", allocator.address()).await;
    let order = async || told(&phone.locate(None).await);
    let alice = |relays: [&str; 2]| (Some("r1".to_owned()), relays.map(str::to_owned).to_vec());
    assert_eq!(order().await, alice(["r1", "r2"]), "both are unheard");
    assert_eq!(bob.locate(None).await, NO_RELAY);
    let _r2 = relay(&site, &allocator, 2).await;
    assert_eq!(order().await, alice(["r2", "r1"]));
    let _r1 = relay(&site, &allocator, 1).await;
    assert_eq!(order().await, alice(["r1", "r2"]));
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_relay_that_drains_stands_last_and_takes_no_new_account() {
    let site = Site::new();
    let allocator = start(&site).await;
    let r1 = relay(&site, &allocator, 1).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    phone.locate(None).await;
    let draining = Lease {
        draining: true,
        ..lease(1)
    };
    r1.lease(&draining).await.unwrap();
    let bob = site.asker("device:bob/pc", allocator.address()).await;
    assert_eq!(bob.locate(None).await, NO_RELAY);
    let r2 = relay(&site, &allocator, 2).await;
    let (home, relays) = told(&phone.locate(None).await);
    assert_eq!(
        (home.as_deref(), &*relays),
        (Some("r1"), &["r2".into(), "r1".into()][..])
    );
    let (home, relays) = told(&bob.locate(None).await);
    assert_eq!(
        (home.as_deref(), &*relays),
        (Some("r2"), &["r2".into(), "r1".into()][..])
    );
    let successors = r1.lease(&draining).await.unwrap().others;
    assert_eq!(successors.iter().map(named).collect::<Vec<_>>(), ["r2"]);
    assert_eq!(r2.lease(&lease(2)).await.unwrap().valid_ms, 15_000);
    allocator.shutdown().await;
}

#[tokio::test]
async fn the_older_run_of_a_relay_is_told_to_go() {
    let site = Site::new();
    let allocator = start(&site).await;
    let old = relay(&site, &allocator, 1).await;
    let new = site.asker("relay:r1", allocator.address()).await;
    let newer = Lease {
        boot: 2,
        sessions: 7,
        ..lease(1)
    };
    new.lease(&newer).await.unwrap();
    assert!(old.lease(&lease(1)).await.is_err());
    assert_eq!(old.code().await, CloseCode::Superseded);
    let [report] = &allocator.relays()[..] else {
        panic!("one relay");
    };
    assert_eq!(named(&report.relay), "r1");
    assert_eq!((report.standing, report.sessions), (Standing::Live, 7));
    allocator.shutdown().await;
}

#[tokio::test]
async fn devices_that_ask_at_the_same_time_hear_the_same_home() {
    let site = Site::new();
    let allocator = start(&site).await;
    let mut relays = Vec::new();
    for number in 1..5 {
        relays.push(relay(&site, &allocator, number).await);
    }
    let mut askers = Vec::new();
    for device in ["phone", "pc", "tablet"] {
        let identity = format!("device:alice/{device}");
        askers.push(Arc::new(site.asker(&identity, allocator.address()).await));
    }
    let mut questions = JoinSet::new();
    for asker in askers.iter().cycle().take(24) {
        let asker: Arc<Asker> = asker.clone();
        questions.spawn(async move { asker.locate(None).await });
    }
    let answers = questions.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(told(&answers[0]).1.len(), 4);
    allocator.shutdown().await;
}
