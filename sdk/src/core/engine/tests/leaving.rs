//! The relay is stopping, or has no room.

use super::*;

fn successor(name: &str) -> RelayAddress {
    RelayAddress {
        name: name.parse().unwrap(),
        addresses: vec!["192.0.2.2:2".parse().unwrap()],
    }
}

fn go_away(spread_ms: u32, successors: &[&str]) -> Input {
    Input::Control(frame::encode(&GoAway {
        within_ms: 10_000,
        spread_ms,
        successors: successors.iter().map(|name| successor(name)).collect(),
    }))
}

fn welcome_of(relay: &str) -> Input {
    Input::Control(frame::encode(&Welcome {
        relay: relay.parse().unwrap(),
        boot: 1,
        window: 4,
        bulk_window: 4,
        max_body: 1024,
        time_ms: TOLD_MS,
        redial_ms: REDIAL_MS,
    }))
}

fn refused() -> Input {
    Input::DialFailed(Failure::Busy("no room".to_owned()))
}

/// Attached, with its first ping answered.
fn settled_with(seed: u64) -> Engine {
    let restored = Restored {
        relays: vec![relay()],
        ..Restored::default()
    };
    let mut engine = Engine::new(EngineConfig { seed, ..config() }, restored, Time::ZERO);
    engine.handle(at(0), Input::Connected);
    engine.handle(at(10), welcome(TOLD_MS));
    engine.handle(at(10), Input::Begun { page: 1 });
    engine.handle(at(60), pong(0));
    said(&mut engine);
    engine
}

fn settled() -> Engine {
    settled_with(7)
}

/// Asked to go to r2, and dialling it.
fn leaving(successors: &[&str]) -> Engine {
    let mut engine = settled();
    engine.handle(at(6000), go_away(4000, successors));
    let due = engine.deadline().unwrap();
    engine.handle(due, Input::Timeout);
    assert_eq!(said(&mut engine), ["dial r2"]);
    engine
}

/// Comes when it is due, and says what the engine does then.
fn pass(engine: &mut Engine) -> (Time, Vec<String>) {
    let due = engine.deadline().unwrap();
    engine.handle(due, Input::Timeout);
    (due, said(engine))
}

#[test]
fn a_device_is_served_by_the_relay_it_leaves_until_the_other_welcomes_it() {
    let mut engine = leaving(&["r2"]);
    deliver(&mut engine, at(11_000));
    assert_eq!(said(&mut engine), ["Show"], "it is still served");
    engine.handle(at(11_000), Input::Background(false));
    engine.handle(at(11_050), pong(1));
    assert_eq!(
        said(&mut engine),
        ["Datagram", "Observed"],
        "nor does it stay"
    );
    engine.handle(at(11_100), Input::Connected);
    engine.handle(at(11_100), welcome_of("r2"));
    let said = said(&mut engine);
    assert_eq!(said[0], "Pause");
    assert!(said.contains(&r#"Attached { relay: "r2" }"#.to_owned()));
}

#[test]
fn devices_set_out_evenly_over_the_spread() {
    let mut quarters = [0; 4];
    for seed in 0..1000 {
        let mut engine = settled_with(seed);
        engine.handle(at(6000), go_away(4000, &["r2"]));
        let after = engine.deadline().unwrap().since(at(6000)).as_millis();
        quarters[after.min(3999) as usize / 1000] += 1;
    }
    assert!(
        quarters.iter().all(|count| (200..300).contains(count)),
        "{quarters:?}"
    );
}

#[test]
fn no_device_sets_out_later_than_the_relay_waits() {
    for spread_ms in [0, u32::MAX] {
        let mut engine = settled();
        engine.handle(at(6000), go_away(spread_ms, &["r2"]));
        assert!(engine.deadline().unwrap() <= at(16_000));
    }
}

#[test]
fn the_next_successor_is_dialled_at_once_and_all_of_them_again_later() {
    let mut engine = leaving(&["r2", "r3"]);
    engine.handle(at(11_000), refused());
    assert_eq!(said(&mut engine), ["dial r3"]);
    engine.handle(at(11_000), refused());
    assert_eq!(said(&mut engine), [""; 0], "and served meanwhile");
    let (due, said) = pass(&mut engine);
    assert!(due <= at(15_000) && said == ["dial r2"], "{due:?} {said:?}");
}

#[test]
fn a_relay_that_goes_before_the_device_leaves_it_to_the_one_that_is_dialled() {
    let mut engine = leaving(&["r2"]);
    engine.handle(at(16_000), closed(CloseCode::GoingAway));
    assert_eq!(said(&mut engine), ["Pause"]);
    engine.handle(at(16_100), Input::Connected);
    engine.handle(at(16_100), welcome_of("r2"));
    assert!(said(&mut engine).contains(&r#"Attached { relay: "r2" }"#.to_owned()));
}

#[test]
fn a_home_that_ends_the_session_for_the_new_one_parks_nobody() {
    let mut engine = leaving(&["r2"]);
    engine.handle(at(11_000), closed(CloseCode::Superseded));
    assert_eq!(said(&mut engine), ["Pause"]);
    engine.handle(at(11_010), Input::Connected);
    engine.handle(at(11_010), welcome_of("r2"));
    assert!(said(&mut engine).contains(&r#"Attached { relay: "r2" }"#.to_owned()));
}

#[test]
fn who_was_not_gone_in_time_looks_for_a_successor_with_the_others() {
    let mut engine = settled();
    engine.handle(at(6000), go_away(4000, &["r2"]));
    engine.handle(at(6001), closed(CloseCode::GoingAway));
    said(&mut engine);
    let (due, said) = pass(&mut engine);
    assert!(due <= at(6001 + u64::from(REDIAL_MS)), "{due:?}");
    assert_eq!(said, ["Connecting { attempt: 1 }", "dial r2"]);
}

#[test]
fn without_successors_the_session_is_left_and_the_allocator_asked() {
    let mut engine = settled();
    engine.handle(at(6000), go_away(4000, &[]));
    assert_eq!(said(&mut engine), ["Pause", "Flush"]);
    engine.handle(at(7000), Input::Timeout);
    let then = ["close Goodbye", "Connecting { attempt: 1 }", "Ask"];
    assert_eq!(said(&mut engine), then);
}

#[test]
fn relays_that_send_each_other_everybody_are_not_followed_without_a_pause() {
    let mut engine = settled();
    let mut waits = Vec::new();
    let (mut now, mut names) = (at(20), ["r2", "r1"].into_iter().cycle());
    for _ in 0..5 {
        let name = names.next().unwrap();
        engine.handle(now, go_away(0, &[name]));
        let due = engine.deadline().unwrap();
        waits.push(due.since(now).as_millis());
        engine.handle(due, Input::Timeout);
        now = due + Duration::from_millis(1);
        engine.handle(now, Input::Connected);
        engine.handle(now, welcome_of(name));
        said(&mut engine);
    }
    assert_eq!(waits[0], 0, "one is no pattern");
    assert!(waits[1..].iter().all(|wait| *wait > 0), "{waits:?}");
}

#[test]
fn a_restarted_relay_is_dialled_again_by_each_of_the_crowd_at_another_time() {
    let going = Ending::Closed {
        code: CloseCode::GoingAway,
        reason: String::new(),
    };
    for ending in [Ending::Forgotten, going] {
        let waits = (0..200).map(|seed| {
            let mut engine = settled_with(seed);
            engine.handle(at(6000), Input::Ended(ending.clone()));
            assert!(said(&mut engine)[1].starts_with("Waiting"));
            let (due, said) = pass(&mut engine);
            assert_eq!(said, ["Connecting { attempt: 1 }", "dial r1"]);
            due.since(at(6000)).as_secs()
        });
        let seconds: std::collections::BTreeSet<u64> = waits.collect();
        assert!(seconds.into_iter().eq(0..10), "each within its tenth");
    }
}

#[test]
fn whose_own_path_was_lost_dials_at_once() {
    let mut engine = settled();
    engine.handle(at(6000), Input::Ended(Ending::Lost("cut".to_owned())));
    let then = ["Pause", "Connecting { attempt: 1 }", "dial r1"];
    assert_eq!(said(&mut engine), then);
}

#[test]
fn who_is_refused_comes_back_within_the_time_that_all_need_and_asks_nobody() {
    let mut engine = settled();
    engine.handle(at(6000), Input::Ended(Ending::Lost("cut".to_owned())));
    said(&mut engine);
    engine.handle(at(6000), refused());
    assert!(said(&mut engine)[0].starts_with("Waiting"));
    let (due, said) = pass(&mut engine);
    assert!(due <= at(16_000));
    assert_eq!(said, ["Connecting { attempt: 2 }", "dial r1"]);
}

#[test]
fn without_a_network_nobody_who_was_refused_dials() {
    let mut engine = settled();
    engine.handle(at(6000), Input::Ended(Ending::Forgotten));
    engine.handle(at(6000), Input::NetworkLost);
    assert_eq!(engine.deadline(), None);
    assert_eq!(said(&mut engine).last().unwrap(), "Offline");
}
