//! The six points of the story, in both directions.

use std::time::Duration;

use holdfast::{Outcome, SendOptions};
use holdfast_protocol::allocation::Allocation;
use holdfast_tests::{
    guide::Guide,
    net::{LOOPBACK, Net, attached, eventually, locate, within},
    scrape::metric,
};

use crate::support::{next, numbered, receive, receive_texts, send, send_with, text};

#[tokio::test(flavor = "multi_thread")]
async fn point_1_the_allocator_names_at_least_one_relay_the_home_first() {
    let net = Net::start(2).await;
    let answer = locate(&net.pki.sender("alice/phone"), net.allocator_address()).await;
    let Allocation::Relays {
        home: Some(home),
        relays,
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!(relays.len(), 2);
    assert_eq!(relays[0].name, home);
    assert_eq!(relays[0].addresses, [net.relay_address(home.as_str())]);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_2_when_the_first_relay_is_dead_the_second_is_taken() {
    let mut net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    net.stop_relay(&home).await;
    let relays = [
        (home.as_str(), net.relay_address(&home)),
        (other.as_str(), net.relay_address(&other)),
    ];
    let guide = Guide::start(&net.pki, &relays).await;
    let config = holdfast::Config {
        allocators: vec![guide.address()],
        ..net.config("alice/pc")
    };
    let pc = attached(config).await;
    assert_eq!(pc.attached().await.unwrap().as_str(), other);
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_2_when_all_are_dead_the_allocator_is_asked_until_one_comes_up() {
    let net = Net::start(1).await;
    let dead = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let mut guide = Guide::start(&net.pki, &[("r9", dead.local_addr().unwrap())]).await;
    let config = holdfast::Config {
        allocators: vec![guide.address()],
        dial_timeout: Duration::from_millis(100),
        ..net.config("alice/pc")
    };
    let pc = holdfast::Client::connect(config).await.unwrap();
    within("another question", guide.was_asked(3)).await;
    guide.name(&[]);
    within("another question", guide.was_asked(5)).await;
    guide.name(&[("r1", net.relay_address("r1"))]);
    assert_eq!(
        within("a session", pc.attached()).await.unwrap().as_str(),
        "r1"
    );
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_3_pings_are_answered_with_the_address_the_relay_sees() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    eventually("a pong", async || pc.observed_address().is_some()).await;
    assert!(pc.observed_address().unwrap().ip().is_loopback());
    assert!(pc.round_trip().unwrap() < Duration::from_secs(5));
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_4_the_online_list_follows_the_devices() {
    let net = Net::start(1).await;
    let admin = net.admin_address("r1");
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    eventually("both on the list", async || {
        metric(admin, "online").await == 2.0
    })
    .await;
    phone.close().await;
    eventually("the phone's leave", async || {
        metric(admin, "online").await == 1.0
    })
    .await;
    pc.close().await;
    eventually("the pc's leave", async || {
        metric(admin, "online").await == 0.0
    })
    .await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_5_an_online_device_has_it_at_once_and_no_disk_is_touched() {
    let net = Net::start(1).await;
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    for (from, to, address) in [(&pc, &phone, "alice/phone"), (&phone, &pc, "alice/pc")] {
        let sent = from
            .send(address, "now", SendOptions::default())
            .await
            .unwrap();
        let message = next(to).await;
        assert_eq!(message.id(), sent.id());
        assert_eq!(text(&message), "now");
        message.done().await.unwrap();
        assert_eq!(
            within("a receipt", sent.stored()).await,
            Ok(Outcome::Delivered)
        );
    }
    let admin = net.admin_address("r1");
    assert_eq!(metric(admin, "forwarded_total").await, 2.0);
    assert_eq!(metric(admin, "stored_total").await, 0.0);
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_5_an_offline_device_has_it_when_it_is_back_even_after_a_restart() {
    let mut net = Net::start(1).await;
    for (from, to) in [("alice/pc", "alice/phone"), ("alice/phone", "alice/pc")] {
        let sender = net.client(from).await;
        let texts = numbered(from, 20);
        for text in &texts {
            assert_eq!(send(&sender, to, text).await, Ok(Outcome::Stored));
        }
        sender.close().await;
        net.stop_relay("r1").await;
        net.start_relay("r1").await;
        let recipient = net.client(to).await;
        assert_eq!(receive_texts(&recipient, 20).await, texts);
        recipient.close().await;
    }
    let admin = net.admin_address("r1");
    eventually("the drain", async || {
        metric(admin, "mailbox_bytes").await == 0.0
    })
    .await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_6_a_device_that_joins_later_gets_the_accounts_state() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    for (key, text) in [
        ("bookmarks", "old"),
        ("drafts", "a draft"),
        ("bookmarks", "new"),
    ] {
        let options = SendOptions {
            key: Some(key.into()),
            retain: true,
            ..Default::default()
        };
        assert_eq!(
            send_with(&pc, "alice", text, options).await,
            Ok(Outcome::Stored)
        );
    }
    let tablet = net.client("alice/tablet").await;
    assert_eq!(receive_texts(&tablet, 2).await, ["a draft", "new"]);
    tablet.close().await;
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_means_every_device_but_the_sender() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    let phone = net.client("alice/phone").await;
    let tablet = net.client("alice/tablet").await;
    tablet.close().await;
    let sent = pc
        .send("alice", "to all", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        receive(&phone).await,
        ("alice/pc".to_owned(), "to all".to_owned())
    );
    assert_eq!(
        within("a receipt", sent.stored()).await,
        Ok(Outcome::Stored)
    );
    let tablet = net.client("alice/tablet").await;
    assert_eq!(receive(&tablet).await.1, "to all");
    // The sender has nothing before what the phone sends next.
    send(&phone, "alice/pc", "only this").await.ok();
    assert_eq!(receive(&pc).await.1, "only this");
    for client in [pc, phone, tablet] {
        client.close().await;
    }
    net.stop().await;
}
