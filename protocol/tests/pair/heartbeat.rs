//! Pings: who notices what, and when.

use std::time::Duration;

use holdfast_protocol::{client::Event, close::CloseCode, message::Ping, time::Time};

use crate::{
    SEEDS,
    pair::{End, Pair, wire},
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn answers(pair: &Pair) -> usize {
    let observed = |event: &&Event| matches!(event, Event::Observed(_));
    pair.at_device.seen().filter(observed).count()
}

#[test]
fn an_hour_of_silence_is_pinged_through() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        pair.run(secs(3600));
        assert!((144..=146).contains(&answers(&pair)), "{}", answers(&pair));
        assert_eq!((pair.at_device.code(), pair.at_relay.code()), (None, None));
    }
}

#[test]
fn a_pong_tells_the_address_and_the_round_trip() {
    let mut pair = Pair::new(0);
    pair.up.delay_ms = (30, 30);
    pair.down.delay_ms = (50, 50);
    pair.device.start(pair.now);
    pair.run(secs(1));
    let observed = pair.at_device.seen().find_map(|event| match event {
        Event::Observed(observation) => Some(*observation),
        _ => None,
    });
    let observed = observed.unwrap();
    assert_eq!(observed.address, "203.0.113.7:50000".parse().unwrap());
    assert_eq!(observed.round_trip, Duration::from_millis(80));
}

#[test]
fn lost_pings_are_repeated_and_the_session_goes_on() {
    for lost in 1..=2 {
        let mut pair = Pair::attached(3);
        let before = answers(&pair);
        pair.up.lose_next = lost;
        pair.run(secs(40));
        assert_eq!(
            pair.pings_sent.len() as u32,
            2 + lost,
            "repeated each timeout"
        );
        assert_eq!(answers(&pair), before + 1);
        assert_eq!((pair.at_device.code(), pair.at_relay.code()), (None, None));
    }
}

#[test]
fn a_lost_relay_is_noticed_an_interval_and_three_timeouts_after_the_last_ping() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        pair.run(secs(100));
        let last_answered = *pair.pings_sent.last().unwrap();
        pair.cut();
        pair.run(secs(60));
        let expected = (
            last_answered + secs(25 + 3 * 2),
            End::Closed(CloseCode::Unresponsive),
        );
        assert_eq!(pair.at_device.end, Some(expected), "seed {seed}");
    }
}

#[test]
fn a_changed_path_is_tried_at_once() {
    let mut pair = Pair::attached(0);
    pair.run(secs(10));
    pair.device.ping_now(pair.now);
    let asked = pair.now;
    pair.run(secs(1));
    assert_eq!(pair.pings_sent.last(), Some(&asked));
    assert_eq!(answers(&pair), 2);
    pair.cut();
    pair.device.ping_now(pair.now);
    let asked = pair.now;
    pair.run(secs(60));
    let expected = (asked + secs(6), End::Closed(CloseCode::Unresponsive));
    assert_eq!(pair.at_device.end, Some(expected));
}

#[test]
fn a_silent_device_is_dropped_at_its_deadline_and_not_before() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        pair.run(secs(60));
        pair.cut();
        let deadline = pair.last_ping.unwrap() + Duration::from_millis(25_000 * 3 / 2 + 10_000);
        let remaining = deadline.since(pair.now);
        pair.run(remaining);
        assert_eq!(pair.at_relay.end, None, "seed {seed}");
        pair.run(Duration::from_millis(1));
        let expected = (pair.now, End::Closed(CloseCode::PingTimeout));
        assert_eq!(pair.at_relay.end, Some(expected), "seed {seed}");
    }
}

#[test]
fn a_device_that_never_pings_has_the_time_its_hello_announced() {
    let mut pair = Pair::new(0);
    pair.up.delay_ms = (0, 0);
    pair.device.start(pair.now);
    pair.run(secs(0));
    pair.cut();
    pair.run(secs(47));
    assert_eq!(pair.at_relay.end, None);
    pair.run(secs(1));
    let (at, end) = pair.at_relay.end.unwrap();
    assert_eq!(at, Time::at(Duration::from_millis(47_501)));
    assert_eq!(end, End::Closed(CloseCode::PingTimeout));
}

/// Each ping comes as late as the one before it allowed, and announces a longer interval.
#[test]
fn an_interval_that_grows_is_not_punished() {
    let mut pair = Pair::attached(0);
    pair.run(secs(10));
    pair.cut();
    let from = "203.0.113.7:50000".parse().unwrap();
    let mut announced = 25_000;
    let mut allowed = pair.last_ping.unwrap();
    for seq in 1..=8 {
        allowed = allowed + Duration::from_millis(announced * 3 / 2 + 10_000);
        let remaining = allowed.since(pair.now);
        pair.run(remaining);
        assert_eq!(
            pair.at_relay.end, None,
            "ping {seq} was within the announced time"
        );
        announced = (announced * 3 / 2).min(540_000);
        let ping = Ping {
            seq,
            next_within_ms: announced as u32,
            echo_after_ms: 0,
            background: false,
        };
        pair.relay.handle_datagram(pair.now, wire(&ping), from);
    }
    assert_eq!(announced, 540_000);
    pair.run(secs(810 + 10));
    assert_eq!(pair.at_relay.end, None);
    pair.run(Duration::from_millis(1));
    assert_eq!(pair.at_relay.code(), Some(CloseCode::PingTimeout));
}
