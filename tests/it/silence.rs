//! What each side does when the other falls silent, moves, is killed, or the path is bad.

use std::{path::Path, time::Duration};

use holdfast::{Client, Config, Outcome, SendOptions, State};
use holdfast_protocol::version;
use holdfast_tests::{
    daemon::Daemon,
    guide::Guide,
    link::{Link, Weather},
    net::{LOOPBACK, Net, attached, eventually, test_limits, within},
    scrape::metric,
};
use holdfast_transport::{credentials::Credentials, endpoint};

use crate::support::{next, numbered, over_link, receive, receive_texts, send, text};

fn relay_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_relay-under-test"))
}

async fn attached_elsewhere(client: &Client, relay: &str) {
    let mut states = client.states();
    let moved = async {
        while !matches!(states.current(), State::Attached { relay: now } if now.as_str() == relay) {
            states.changed().await;
        }
    };
    within("another relay", moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_relay_is_noticed_and_another_taken() {
    let net = Net::start(1).await;
    let frozen = Daemon::start(relay_binary(), &net.relay_config("r2", test_limits())).await;
    let relays = [("r2", frozen.address()), ("r1", net.relay_address("r1"))];
    let guide = Guide::start(&net.pki, &relays).await;
    let config = Config {
        allocators: vec![guide.address()],
        ..net.config("alice/pc")
    };
    let pc = attached(config).await;
    assert_eq!(pc.attached().await.unwrap().as_str(), "r2");
    frozen.freeze().await;
    attached_elsewhere(&pc, "r1").await;
    frozen.thaw().await;
    assert!(
        frozen.terminate().await,
        "a relay asked to stop does so in order"
    );
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_device_is_taken_off_the_list_within_its_deadline() {
    let net = Net::start(1).await;
    let link = Link::start(1, net.relay_address("r1")).await.unwrap();
    let (phone, _guide) = over_link(&net, "alice/phone", &link).await;
    let admin = net.admin_address("r1");
    eventually("the device on the list", async || {
        metric(admin, "online").await == 1.0
    })
    .await;
    link.black_hole(true);
    let silent = tokio::time::Instant::now();
    eventually("the device off the list", async || {
        metric(admin, "online").await == 0.0
    })
    .await;
    // 1.5 × the announced 500 ms + 500 ms of grace, and what a busy machine takes.
    assert!(
        silent.elapsed() < Duration::from_secs(5),
        "{:?}",
        silent.elapsed()
    );
    assert_eq!(
        metric(admin, "sessions_ended_total{reason=\"PingTimeout\"}").await,
        1.0
    );
    let pc = net.client("alice/pc").await;
    assert_eq!(
        send(&pc, "alice/phone", "for later").await,
        Ok(Outcome::Stored)
    );
    link.black_hole(false);
    assert_eq!(receive(&phone).await.1, "for later");
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_of_which_only_the_end_arrives_does_not_hold_up_the_relays_stop() {
    let net = Net::start(1).await;
    let link = Link::start(1, net.relay_address("r1")).await.unwrap();
    let credentials = Credentials::load(&net.pki.sender("alice/phone")).unwrap();
    let socket = endpoint::bind_client(LOOPBACK).unwrap();
    let tls = credentials.client(version::SESSION).unwrap();
    link.black_hole(true);
    let dialled = endpoint::dial(&socket, tls, link.addr(), credentials.trust_domain());
    within("its loss", link.until(|counts| counts.up.dropped > 0)).await;
    link.black_hole(false);
    drop(dialled);
    within("its end", link.until(|counts| counts.up.delivered > 0)).await;
    within("the stop", net.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_device_that_has_just_fallen_silent_is_kept() {
    let net = Net::start(1).await;
    let link = Link::start(1, net.relay_address("r1")).await.unwrap();
    let (phone, _guide) = over_link(&net, "alice/phone", &link).await;
    let pc = net.client("alice/pc").await;
    link.black_hole(true);
    assert_eq!(send(&pc, "alice/phone", "kept").await, Ok(Outcome::Stored));
    link.black_hole(false);
    assert_eq!(receive(&phone).await.1, "kept");
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_keeps_its_session_when_its_address_changes() {
    let net = Net::start(1).await;
    let link = Link::start(1, net.relay_address("r1")).await.unwrap();
    let (phone, _guide) = over_link(&net, "alice/phone", &link).await;
    eventually("a pong", async || phone.observed_address().is_some()).await;
    let before = phone.observed_address();
    link.rebind();
    eventually("a pong with another address", async || {
        phone.observed_address() != before
    })
    .await;
    let pc = net.client("alice/pc").await;
    let sent = pc
        .send("alice/phone", "still here", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive(&phone).await.1, "still here");
    assert!(within("a receipt", sent.stored()).await.is_ok());
    let admin = net.admin_address("r1");
    assert_eq!(
        metric(admin, "superseded_total").await,
        0.0,
        "the session is still the same"
    );
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_path_loses_nothing_doubles_nothing_and_keeps_the_order() {
    let net = Net::start(1).await;
    let link = Link::start(7, net.relay_address("r1")).await.unwrap();
    let (phone, _guide) = over_link(&net, "alice/phone", &link).await;
    let (pc, _guide) = over_link(&net, "alice/pc", &link).await;
    link.set_weather(Weather {
        loss: 0.05,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        duplicate: 0.05,
        reorder: 0.05,
    });
    let texts = numbered("storm", 300);
    for (number, text) in texts.iter().enumerate() {
        pc.send("alice/phone", text.clone(), SendOptions::default())
            .await
            .unwrap();
        if number == 150 {
            link.rebind();
        }
    }
    assert_eq!(receive_texts(&phone, 300).await, texts);
    pc.send("alice/phone", "the end", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        receive(&phone).await.1,
        "the end",
        "and nothing came twice before it"
    );
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_has_everything_it_answered_for() {
    let net = Net::start(0).await;
    let mut config = net.relay_config("r1", test_limits());
    let relay = Daemon::start(relay_binary(), &config).await;
    config.listen = relay.address();
    let guide = Guide::start(&net.pki, &[("r1", relay.address())]).await;
    let client = async |name: &str| {
        let config = Config {
            allocators: vec![guide.address()],
            ..net.config(name)
        };
        attached(config).await
    };
    net.leased("r1").await;
    let pc = client("alice/pc").await;
    for text in numbered("answered", 100) {
        assert_eq!(send(&pc, "alice/phone", &text).await, Ok(Outcome::Stored));
    }
    relay.kill().await;
    let unanswered = pc
        .send("alice/phone", "unanswered", SendOptions::default())
        .await
        .unwrap();
    let relay = Daemon::start(relay_binary(), &config).await;
    assert_eq!(
        within("a receipt", unanswered.stored()).await,
        Ok(Outcome::Stored)
    );
    let phone = client("alice/phone").await;
    let mut expected = numbered("answered", 100);
    expected.push("unanswered".to_owned());
    for text_expected in expected {
        let message = next(&phone).await;
        assert_eq!(text(&message), text_expected);
        message.done().await.unwrap();
    }
    pc.close().await;
    phone.close().await;
    assert!(relay.terminate().await);
    net.stop().await;
}
