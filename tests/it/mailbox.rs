//! What a mailbox takes, refuses, replaces and drops.

use std::time::Duration;

use holdfast::{Outcome, Refusal, SendOptions, Unsent};
use holdfast_relay::Limits;
use holdfast_tests::{
    net::{Net, eventually, test_limits},
    scrape::metric,
};

use crate::support::{receive, receive_texts, send, send_with};

fn refused(refusal: Refusal) -> Result<Outcome, Unsent> {
    Err(Unsent::Refused(refusal))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_with_the_reason_and_takes_mail_again_when_it_was_drained() {
    let net = Net::start_with(
        1,
        Limits {
            max_messages: 3,
            ..test_limits()
        },
    )
    .await;
    let pc = net.client("alice/pc").await;
    for number in 0..3 {
        let text = format!("kept-{number}");
        assert_eq!(send(&pc, "alice/phone", &text).await, Ok(Outcome::Stored));
    }
    assert_eq!(
        send(&pc, "alice/phone", "too much").await,
        refused(Refusal::MailboxFull)
    );
    assert_eq!(
        send(&pc, "alice/tablet", "another").await,
        Ok(Outcome::Stored)
    );
    let phone = net.client("alice/phone").await;
    assert_eq!(
        receive_texts(&phone, 3).await,
        ["kept-0", "kept-1", "kept-2"]
    );
    phone.close().await;
    assert_eq!(
        send(&pc, "alice/phone", "room again").await,
        Ok(Outcome::Stored)
    );
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_full_by_bytes_too() {
    let net = Net::start_with(
        1,
        Limits {
            max_bytes: 4096,
            ..test_limits()
        },
    )
    .await;
    let pc = net.client("alice/pc").await;
    assert_eq!(
        send(&pc, "alice/phone", &"x".repeat(3000)).await,
        Ok(Outcome::Stored)
    );
    assert_eq!(
        send(&pc, "alice/phone", &"x".repeat(3000)).await,
        refused(Refusal::MailboxFull)
    );
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_write_only_when_they_are_allowed() {
    let net = Net::start(2).await;
    let (alice, bob) = (net.client("alice/pc").await, net.client("bob/phone").await);
    assert_eq!(
        send(&alice, "bob/phone", "hello?").await,
        refused(Refusal::NotAllowed)
    );
    bob.allow(&"alice".parse().unwrap(), true).await.unwrap();
    let sent = alice
        .send("bob/phone", "hello!", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        receive(&bob).await,
        ("alice/pc".to_owned(), "hello!".to_owned())
    );
    assert!(sent.stored().await.is_ok());
    bob.allow(&"alice".parse().unwrap(), false).await.unwrap();
    assert_eq!(
        send(&alice, "bob/phone", "hello?").await,
        refused(Refusal::NotAllowed)
    );
    alice.close().await;
    bob.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_write_to_any_account() {
    let net = Net::start(1).await;
    let (push, bob) = (
        net.client("service/push").await,
        net.client("bob/phone").await,
    );
    push.send("bob", "news", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        receive(&bob).await,
        ("service/push".to_owned(), "news".to_owned())
    );
    push.close().await;
    bob.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_other_devices_takes_only_what_it_retains() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    assert_eq!(
        send(&pc, "alice", "anyone?").await,
        refused(Refusal::NoDevice)
    );
    let options = SendOptions {
        key: Some("k".into()),
        retain: true,
        ..Default::default()
    };
    assert_eq!(
        send_with(&pc, "alice", "state", options).await,
        Ok(Outcome::Stored)
    );
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_a_key_takes_the_place_of_what_waits() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    let keyed = || SendOptions {
        key: Some("position".into()),
        ..Default::default()
    };
    for text in ["here", "there"] {
        assert_eq!(
            send_with(&pc, "alice/phone", text, keyed()).await,
            Ok(Outcome::Stored)
        );
    }
    send(&pc, "alice/phone", "unkeyed").await.unwrap();
    assert_eq!(
        send_with(&pc, "alice/phone", "everywhere", keyed()).await,
        Ok(Outcome::Stored)
    );
    let phone = net.client("alice/phone").await;
    assert_eq!(receive_texts(&phone, 2).await, ["unkeyed", "everywhere"]);
    phone.close().await;
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_leaves_a_gap_that_the_device_is_told_of() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    let brief = SendOptions {
        ttl: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let notified = SendOptions {
        notify: true,
        ..brief.clone()
    };
    let last = pc.send("alice/phone", "brief", notified).await.unwrap();
    assert_eq!(
        send_with(&pc, "alice/phone", "brief, too", brief).await,
        Ok(Outcome::Stored)
    );
    send(&pc, "alice/phone", "lasting").await.unwrap();
    // The relay says so itself when the time has come.
    assert_eq!(last.delivered().await, Ok(Outcome::Expired));
    let phone = net.client("alice/phone").await;
    assert_eq!(receive(&phone).await.1, "lasting");
    let gap = holdfast_tests::net::within("a gap", phone.next_event()).await;
    assert!(
        matches!(gap, Some(holdfast::Event::Gap { missed: 2 })),
        "{gap:?}"
    );
    phone.close().await;
    pc.close().await;
    net.stop().await;
}

/// What becomes of a message, on a disk that is fuller than it may be, if so many bytes suffice to be free.
async fn on_a_full_disk(disk_reserve: u64) -> Result<Outcome, Unsent> {
    let net = Net::start_as(1, |config| {
        config.limits.max_disk_fill = f64::MIN_POSITIVE;
        config.limits.disk_reserve = disk_reserve;
    })
    .await;
    let admin = net.admin_address("r1");
    eventually("a look at the disk", async || {
        metric(admin, "disk_free_bytes").await > 0.0
    })
    .await;
    let pc = net.client("alice/pc").await;
    let outcome = send(&pc, "alice/phone", "any room?").await;
    pc.close().await;
    net.stop().await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_mail_only_while_there_is_room_enough() {
    assert_eq!(on_a_full_disk(0).await, Ok(Outcome::Stored));
    let refused = refused(Refusal::DiskFull);
    assert_eq!(on_a_full_disk(u64::MAX).await, refused);
}
