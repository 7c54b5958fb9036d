//! The network changes, is lost, or is doubted; the app goes to the background and comes back.

use holdfast_protocol::message::Ping;

use super::*;
use crate::core::KnownNetwork;

/// Attached, with a round trip of 50 ms measured.
fn measured() -> Engine {
    let mut engine = attached();
    engine.handle(at(60), pong(0));
    assert_eq!(said(&mut engine), ["Observed"]);
    engine
}

fn moved() -> Input {
    Input::Network { name: None }
}

fn superseded() -> Input {
    closed(CloseCode::Superseded)
}

/// In doubt for so long that a rival is dialled.
fn rivalled() -> Engine {
    let mut engine = measured();
    engine.handle(at(1000), moved());
    engine.handle(at(1500), Input::Timeout);
    assert_eq!(said(&mut engine), ["Rebind", "Datagram", "dial r1"]);
    engine
}

#[test]
fn a_session_moves_with_its_socket_and_pings_at_once() {
    let mut engine = measured();
    engine.handle(at(1000), moved());
    assert_eq!(said(&mut engine), ["Rebind", "Datagram"]);
    engine.handle(at(1100), pong(1));
    assert_eq!(said(&mut engine), ["Observed"]);
    assert_eq!(engine.deadline(), Some(at(26_000)), "no rival is needed");
}

#[test]
fn a_ping_that_is_not_answered_in_time_brings_a_rival() {
    let mut engine = measured();
    engine.handle(at(1000), moved());
    assert_eq!(engine.deadline(), Some(at(1500)), "the least");
    let mut slow = attached();
    slow.handle(at(410), pong(0));
    slow.handle(at(1000), moved());
    assert_eq!(slow.deadline(), Some(at(2200)), "three round trips");
}

#[test]
fn the_rival_wins_when_its_connection_is_there_first() {
    let mut engine = rivalled();
    engine.handle(at(1600), Input::Connected);
    engine.handle(at(1610), welcome(TOLD_MS));
    let said = said(&mut engine);
    assert!(
        said.contains(&r#"Attached { relay: "r1" }"#.to_owned()),
        "{said:?}"
    );
}

#[test]
fn a_rival_is_dialled_anew_when_the_network_changes_again() {
    let mut engine = rivalled();
    engine.handle(at(1700), moved());
    assert_eq!(
        said(&mut engine),
        ["Rebind", "Abandon", "dial r1", "Datagram"]
    );
    engine.handle(at(1800), Input::Connected);
    engine.handle(at(1810), welcome(TOLD_MS));
    let attached = r#"Attached { relay: "r1" }"#.to_owned();
    assert!(said(&mut engine).contains(&attached));
}

#[test]
fn the_session_wins_when_it_is_heard_of_first() {
    let mut engine = rivalled();
    engine.handle(at(1590), pong(1));
    assert_eq!(said(&mut engine), ["Abandon", "Observed"]);
}

#[test]
fn a_rival_that_was_given_up_and_yet_won_is_no_stranger() {
    let mut engine = rivalled();
    engine.handle(at(1590), pong(1));
    said(&mut engine);
    engine.handle(at(1650), superseded());
    assert!(said(&mut engine).contains(&"dial r1".to_owned()));
    let mut later = rivalled();
    later.handle(at(1590), pong(1));
    said(&mut later);
    later.handle(at(61_500), superseded());
    assert!(said(&mut later).contains(&"Superseded".to_owned()));
}

#[test]
fn a_session_that_ends_under_way_leaves_the_field_to_its_rival() {
    let mut engine = rivalled();
    engine.handle(at(1550), superseded());
    assert_eq!(said(&mut engine), ["Pause"]);
    engine.handle(at(1600), Input::Connected);
    engine.handle(at(1610), welcome(TOLD_MS));
    assert!(engine.deadline().is_some());
}

#[test]
fn a_rival_that_fails_is_followed_by_another_until_the_pings_give_up() {
    let mut engine = rivalled();
    let failure = Failure::Unreachable("no answer".to_owned());
    engine.handle(at(1700), Input::DialFailed(failure));
    assert_eq!(said(&mut engine), [""; 0]);
    assert_eq!(engine.deadline(), Some(at(2200)));
}

#[test]
fn a_socket_that_cannot_send_is_exchanged_and_the_path_looked_at() {
    let mut engine = measured();
    engine.handle(at(1000), Input::SendFailed);
    assert_eq!(said(&mut engine), ["Rebind", "Datagram"]);
    assert_eq!(engine.deadline(), Some(at(1500)), "a rival is near");
    engine.handle(at(1100), pong(1));
    assert_eq!(said(&mut engine), ["Observed"]);
}

#[test]
fn sockets_are_exchanged_once_a_second_at_most_whatever_cannot_be_sent() {
    let mut engine = measured();
    let mut exchanged = Vec::new();
    for ms in (1000..4000).step_by(10) {
        engine.handle(at(ms), Input::SendFailed);
        if said(&mut engine).contains(&"Rebind".to_owned()) {
            exchanged.push(ms);
        }
    }
    assert_eq!(exchanged, [1000, 2000, 3000]);
}

#[test]
fn a_socket_that_cannot_send_is_not_exchanged_without_a_network() {
    let mut engine = measured();
    engine.handle(at(1000), Input::NetworkLost);
    said(&mut engine);
    engine.handle(at(5000), Input::SendFailed);
    assert_eq!(said(&mut engine), [""; 0]);
}

#[test]
fn a_dial_goes_on_with_the_new_socket() {
    let mut engine = engine(vec![relay()]);
    said(&mut engine);
    engine.handle(at(10), Input::SendFailed);
    assert_eq!(said(&mut engine), ["Rebind"], "no other attempt, no hurry");
}

#[test]
fn without_a_network_nothing_is_dialled_and_nothing_is_missed() {
    let mut engine = measured();
    engine.handle(at(1000), Input::NetworkLost);
    assert_eq!(said(&mut engine), ["Offline"]);
    assert_eq!(engine.deadline(), None);
    engine.handle(at(60_000), moved());
    assert_eq!(
        said(&mut engine),
        ["Rebind", "Datagram"],
        "the session is still there"
    );
    engine.handle(at(60_100), pong(1));
    let attached = r#"Attached { relay: "r1" }"#;
    assert_eq!(said(&mut engine), [attached, "Observed"]);
}

#[test]
fn a_search_stops_without_a_network_and_goes_on_with_one() {
    let mut engine = engine(vec![relay()]);
    said(&mut engine);
    engine.handle(at(10), Input::NetworkLost);
    assert_eq!(said(&mut engine), ["Abandon", "Offline"]);
    assert_eq!(engine.deadline(), None);
    engine.handle(at(5000), moved());
    assert_eq!(
        said(&mut engine),
        ["Rebind", "Connecting { attempt: 2 }", "dial r1"]
    );
}

#[test]
fn in_the_background_the_silence_grows_and_the_foreground_looks_at_the_path() {
    let mut engine = measured();
    engine.handle(at(1000), Input::Background(true));
    let Some(Output::Datagram(ping)) = engine.poll() else {
        panic!("no ping");
    };
    let ping: Ping = frame::RawFrame::whole(ping, 256).unwrap().header().unwrap();
    assert!(ping.background && ping.echo_after_ms > 25_000, "{ping:?}");
    engine.handle(at(1050), pong(1));
    said(&mut engine);
    assert_eq!(engine.deadline(), Some(at(1000 + 37_500 + 2000)));
    engine.handle(at(2000), Input::Background(false));
    assert_eq!(said(&mut engine), ["Datagram"]);
    assert_eq!(engine.deadline(), Some(at(2500)), "a rival is near");
}

#[test]
fn a_session_in_the_background_wakes_the_radio_for_its_pings_alone() {
    let mut engine = measured();
    engine.handle(at(20_000), Input::Background(true));
    engine.handle(at(20_050), pong(1));
    let before = engine.radio().used(at(20_050));
    assert_eq!((before.foreground.wakes, before.background.wakes), (1, 1));
    assert!(before.foreground.bytes_sent > 0 && before.foreground.bytes_received > 0);
    engine.handle(at(57_500), pong(1));
    let after = engine.radio().used(at(60_000));
    assert_eq!(after.background.wakes, 2, "a late answer is a wake, too");
    assert_eq!(after.background.time, Duration::from_secs(40));
    assert_eq!(after.foreground, before.foreground);
}

/// Answers every ping, at once and late, until so many were sent. What is to be remembered by then.
fn answer(engine: &mut Engine, pings: usize) -> Option<Vec<KnownNetwork>> {
    let (mut learned, mut sent) = (None, 0);
    while sent < pings {
        match engine.poll()? {
            Output::Datagram(ping) => {
                let ping: Ping = frame::RawFrame::whole(ping, 256).unwrap().header().unwrap();
                let now = engine.deadline().unwrap() - Duration::from_secs(2);
                engine.handle(now, pong(ping.seq));
                let late = Pong {
                    late: true,
                    ..Pong::at_once(&ping, "192.0.2.7:7".parse().unwrap())
                };
                let echo = now + Duration::from_millis(ping.echo_after_ms.into());
                engine.handle(echo, Input::Datagram(frame::encode(&late)));
                sent += 1;
            }
            Output::Store(Job::Learn(networks)) => learned = Some(networks),
            _ => {}
        }
    }
    learned
}

#[test]
fn what_a_network_forgives_is_remembered_by_its_name() {
    let mut engine = measured();
    let name = Some("home".to_owned());
    engine.handle(at(1000), Input::Network { name });
    said(&mut engine);
    engine.handle(at(1000), Input::Background(true));
    let learned = answer(&mut engine, 12).unwrap();
    let [(name, learned)] = &learned[..] else {
        panic!("not one network");
    };
    assert_eq!((name.as_str(), learned.held_ms), ("home", 540_000));
}
