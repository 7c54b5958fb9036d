//! Relays that are stopped in order, and crowds that come all at once.

use std::time::{Duration, Instant};

use holdfast::{Client, Config, SendOptions, State};
use holdfast_relay::{HandshakeLimits, Limits};
use holdfast_tests::{
    net::{Net, attached, test_limits, within},
    raw::Raw,
    scrape::metric,
};
use tokio::task::JoinSet;

use crate::support::{numbered, reaches, receive_texts, send};

/// A phone that follows its relay when that stops: every state it is in until it is attached to
/// another one.
async fn states_while_moving(phone: &Client, mut net: Net) -> (Vec<State>, Net) {
    let State::Attached { relay } = phone.state() else {
        panic!("it is attached");
    };
    let mut states = phone.states();
    states.current();
    let (mut seen, stopping) = (Vec::new(), relay.to_string());
    let moved = tokio::spawn(async move {
        net.stop_relay(&stopping).await;
        net
    });
    loop {
        let state = within("a state", states.changed()).await.unwrap();
        let is_there = matches!(&state, State::Attached { relay: now } if *now != relay);
        seen.push(state);
        if is_there {
            return (seen, moved.await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_stays_attached_while_it_moves_to_a_successor() {
    let net = Net::start_with(2, patient()).await;
    let phone = net.client("alice/phone").await;
    let (seen, net) = states_while_moving(&phone, net).await;
    assert_eq!(seen.len(), 1, "it was never without a relay: {seen:?}");
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_left_serves_its_accounts_elsewhere_until_it_stops() {
    let mut net = Net::start_with(2, patient()).await;
    let clients = [
        net.client("alice/phone").await,
        net.client("alice/pc").await,
    ];
    let home = net.home("alice").await;
    let [phone, pc] = &clients;
    // It does not go when it is asked to, so the relay waits for it.
    let stays = Raw::dial(&net.pki.sender("bob/tablet"), net.relay_address(&home)).await;
    let mut stays = stays.unwrap();
    assert!(stays.is_welcome().await);
    let left = home.clone();
    let stopping = tokio::spawn(async move {
        net.stop_relay(&left).await;
        net
    });
    for client in &clients {
        let is_elsewhere =
            |state: &State| matches!(state, State::Attached { relay } if relay.as_str() != home);
        reaches(client, is_elsewhere).await;
    }
    send(pc, "alice/phone", "are you there?").await.unwrap();
    assert_eq!(receive_texts(phone, 1).await, ["are you there?"]);
    assert!(!stopping.is_finished(), "the relay waits");
    drop(stays);
    let net = stopping.await.unwrap();
    for client in clients {
        client.close().await;
    }
    net.stop().await;
}

/// A relay that stops waits for whoever has not left, for longer than anything takes here.
fn patient() -> Limits {
    Limits {
        drain: Duration::from_secs(120),
        ..test_limits()
    }
}

/// Writes numbered texts to another device until it has written so many.
async fn write(client: Client, to: String, count: usize) {
    for text in numbered("text", count) {
        let sent = client.send(&to, text, SendOptions::default()).await;
        within("an answer", sent.unwrap().stored()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing_and_brings_nothing_twice() {
    const TEXTS: usize = 200;
    let mut net = Net::start_as(2, |config| config.handshakes = few(50)).await;
    let (mut clients, mut tasks) = (Vec::new(), JoinSet::new());
    for account in ["alice", "bob", "carol", "dave"] {
        let names = ["phone", "pc"].map(|device| format!("{account}/{device}"));
        let pair = [net.client(&names[0]).await, net.client(&names[1]).await];
        for (from, to) in [(0, 1), (1, 0)] {
            tasks.spawn(write(pair[from].clone(), names[to].clone(), TEXTS));
            let reader = pair[to].clone();
            tasks.spawn(async move {
                assert_eq!(receive_texts(&reader, TEXTS).await, numbered("text", TEXTS));
            });
        }
        clients.extend(pair);
    }
    for relay in ["r1", "r2"] {
        net.stop_relay(relay).await;
        net.start_relay(relay).await;
    }
    within("all texts", tasks.join_all()).await;
    for client in clients {
        client.close().await;
    }
    net.stop().await;
}

fn few(rate: u64) -> HandshakeLimits {
    HandshakeLimits {
        rate,
        burst: 1,
        ..HandshakeLimits::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_let_in_at_the_rate_and_who_was_refused_comes_back() {
    // One waits while another begins, so the third in a second is refused.
    const RATE: u64 = 1;
    const CROWD: u32 = 5;
    let net = Net::start_as(1, |config| config.handshakes = few(RATE)).await;
    let (since, mut coming) = (Instant::now(), JoinSet::new());
    for number in 0..CROWD {
        coming.spawn(attached(Config {
            // Longer than anybody waits for a turn.
            dial_timeout: Duration::from_secs(5),
            ..net.config(&format!("guest{number}/phone"))
        }));
    }
    let clients = coming.join_all().await;
    // The first begins at once, and after it no more than so many each second.
    let least = Duration::from_secs(1) * (CROWD - 1) / RATE as u32;
    assert!(since.elapsed() >= least, "{:?}", since.elapsed());
    let admin = net.admin_address("r1");
    for sent in ["delayed", "refused"] {
        let count = metric(admin, &format!("handshakes_{sent}_total")).await;
        assert!(count > 0.0, "{sent}");
    }
    for client in clients {
        client.close().await;
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_without_a_network_do_not_dial_a_relay_that_was_restarted() {
    let mut net = Net::start(1).await;
    let phone = net.client("alice/phone").await;
    phone.network_lost();
    reaches(&phone, |state| *state == State::Offline).await;
    net.stop_relay("r1").await;
    net.start_relay("r1").await;
    // Whoever is served now came after the phone could have.
    let pc = net.client("alice/pc").await;
    send(&pc, "alice/phone", "are you there?").await.unwrap();
    let admitted = metric(net.admin_address("r1"), "handshakes_admitted_total").await;
    assert_eq!(admitted, 1.0, "the computer's");
    phone.network_changed(None);
    assert_eq!(receive_texts(&phone, 1).await, ["are you there?"]);
    pc.close().await;
    phone.close().await;
    net.stop().await;
}
