//! How a session begins and ends.

use std::time::Duration;

use holdfast_protocol::{
    client::Event,
    close::{CloseCode, Violation},
    id::Lane,
    message::{GoAway, Hello, RelayAddress, Welcome},
    server,
    time::Time,
};

use crate::{
    SEEDS,
    pair::{End, Pair, body, deliver},
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_hello_is_answered_with_a_welcome() {
    for seed in SEEDS {
        let pair = Pair::attached(seed);
        let hello = Hello {
            agent: "pair/1".parse().unwrap(),
            outbox: 11,
            inbox: 22,
            next_within_ms: 25_000,
            background: false,
        };
        let seen: Vec<_> = pair.at_relay.seen().collect();
        let pinged = server::Event::Seen { background: false };
        assert_eq!(seen, [&server::Event::Hello(hello), &pinged]);
        let welcome = Welcome {
            relay: "r1".parse().unwrap(),
            boot: 7,
            window: 256,
            bulk_window: 8,
            max_body: 1024 * 1024,
            time_ms: 0,
            redial_ms: 10_000,
        };
        assert_eq!(
            pair.at_device.seen().next(),
            Some(&Event::Welcomed(welcome))
        );
    }
}

#[test]
fn a_hello_that_does_not_come_is_awaited_for_five_seconds() {
    let mut pair = Pair::new(0);
    pair.run(secs(60));
    let expected = (Time::at(secs(5)), End::Closed(CloseCode::HelloTimeout));
    assert_eq!(pair.at_relay.end, Some(expected));
}

#[test]
fn a_welcome_that_does_not_come_is_awaited_for_five_seconds() {
    let mut pair = Pair::new(0);
    pair.on_hello = |_| {};
    pair.device.start(pair.now);
    pair.run(secs(60));
    let expected = (Time::at(secs(5)), End::Closed(CloseCode::Unresponsive));
    assert_eq!(pair.at_device.end, Some(expected));
    assert_eq!(pair.at_relay.code(), Some(CloseCode::Unresponsive));
}

#[test]
fn streams_may_overtake_the_welcome() {
    let mut overtaken = 0;
    for seed in SEEDS {
        let mut pair = Pair::new(seed);
        pair.on_hello = |relay| {
            relay.welcome(0, secs(10));
            for position in 1..=4 {
                relay.deliver(Lane::Bulk, &deliver(position), body(Lane::Bulk, position));
            }
        };
        pair.device.start(pair.now);
        pair.run(secs(2));
        assert_eq!(pair.delivered(Lane::Bulk), [1, 2, 3, 4], "seed {seed}");
        let welcomed = pair.at_device.events[0].0;
        let first = pair.at_device.events[1].0;
        assert!(matches!(pair.at_device.events[0].1, Event::Welcomed(_)));
        overtaken += u32::from(first == welcomed);
    }
    assert!(overtaken > 10, "the links were too kind: {overtaken}");
}

#[test]
fn goodbye_ends_both_halves() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        pair.device.goodbye();
        pair.run(secs(1));
        let ended = pair.at_relay.end.clone().map(|(_, end)| end);
        assert_eq!(ended, Some(End::Told(CloseCode::Goodbye)));
        assert!(!pair.device.is_attached() && !pair.relay.is_attached());
        assert_eq!(
            (pair.device.deadline(), pair.relay.deadline()),
            (None, None)
        );
    }
}

#[test]
fn a_superseded_device_is_told_so() {
    let mut pair = Pair::attached(0);
    pair.relay
        .close(Violation::new(CloseCode::Superseded, "a newer session"));
    pair.run(secs(1));
    let ended = pair.at_device.end.map(|(_, end)| end);
    assert_eq!(ended, Some(End::Told(CloseCode::Superseded)));
}

#[test]
fn a_relay_that_stops_names_its_successors_and_serves_until_it_goes() {
    let mut pair = Pair::attached(0);
    let successors = vec![RelayAddress {
        name: "r2".parse().unwrap(),
        addresses: vec!["192.0.2.2:4433".parse().unwrap()],
    }];
    let go_away = GoAway {
        within_ms: 30_000,
        spread_ms: 8_000,
        successors,
    };
    pair.relay.go_away(&go_away);
    pair.relay
        .deliver(Lane::Message, &deliver(1), body(Lane::Message, 1));
    pair.run(secs(1));
    let going = Event::GoAway(go_away);
    assert!(pair.at_device.seen().any(|event| *event == going));
    assert_eq!(pair.delivered(Lane::Message), [1]);
}
