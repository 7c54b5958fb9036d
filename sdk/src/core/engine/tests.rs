//! The course of a client, told step by step in simulated time.

use holdfast_protocol::{
    close::CloseCode,
    frame,
    heartbeat::PingSchedule,
    id::{Lane, Sender},
    message::{Deliver, Options, Pong, Receipt, Submit},
};

use super::*;
use crate::core::{Entry, Source};

mod ages;
mod leaving;
mod moving;

fn at(ms: u64) -> Time {
    Time::at(Duration::from_millis(ms))
}

fn relay() -> RelayAddress {
    RelayAddress {
        name: "r1".parse().unwrap(),
        addresses: vec!["192.0.2.1:1".parse().unwrap()],
    }
}

fn config() -> EngineConfig {
    EngineConfig {
        allocators: vec!["192.0.2.9:9".parse().unwrap()],
        session: ClientConfig {
            agent: "test/1".parse().unwrap(),
            outbox: 1,
            inbox: 2,
            pings: PingSchedule::default(),
        },
        retry: Retry::default(),
        seed: 7,
    }
}

fn engine(relays: Vec<RelayAddress>) -> Engine {
    let restored = Restored {
        relays,
        ..Restored::default()
    };
    Engine::new(config(), restored, Time::ZERO)
}

/// What the engine says, in short.
fn said(engine: &mut Engine) -> Vec<String> {
    let outputs = std::iter::from_fn(|| engine.poll());
    let words = outputs.map(|output| match output {
        Output::Dial { stop, .. } => format!("dial {}", stop.relay),
        Output::Close(violation) => format!("close {:?}", violation.code),
        Output::State(state) | Output::Stopped(state) => format!("{state:?}"),
        Output::Store(job) => format!("{job:?}"),
        other => {
            let words = format!("{other:?}");
            let end = words.find([' ', '(', '{']).unwrap_or(words.len());
            words[..end].to_owned()
        }
    });
    words.collect()
}

/// 2026-01-01 00:00 UTC.
const TOLD_MS: u64 = 1_767_225_600_000;

/// So long do all devices of the relay need to come back.
const REDIAL_MS: u32 = 10_000;

fn attached() -> Engine {
    let mut engine = engine(vec![relay()]);
    engine.handle(at(0), Input::Connected);
    engine.handle(at(10), welcome(TOLD_MS));
    engine.handle(at(10), Input::Begun { page: 1 });
    said(&mut engine);
    engine
}

fn welcome(time_ms: u64) -> Input {
    Input::Control(frame::encode(&Welcome {
        relay: "r1".parse().unwrap(),
        boot: 1,
        window: 4,
        bulk_window: 4,
        max_body: 64 * 1024,
        time_ms,
        redial_ms: REDIAL_MS,
    }))
}

fn pong(seq: u32) -> Input {
    let observed = "192.0.2.7:7".parse().unwrap();
    let late = false;
    Input::Datagram(frame::encode(&Pong {
        seq,
        observed,
        late,
    }))
}

fn closed(code: CloseCode) -> Input {
    Input::Ended(Ending::Closed {
        code,
        reason: String::new(),
    })
}

fn mark(source: Source) -> Mark {
    Mark {
        source,
        seq: 1,
        made_ms: 0,
    }
}

fn deliver(engine: &mut Engine, now: Time) -> Source {
    deliver_from("alice/pc", 100, engine, now)
}

fn deliver_from(device: &str, position: u64, engine: &mut Engine, now: Time) -> Source {
    let sender = Sender::Device(device.parse().unwrap());
    let deliver = Deliver {
        position,
        from: sender.clone(),
        epoch: 5,
        seq: 1,
        accepted_ms: 0,
        options: Options::default(),
    };
    let encoded = frame::encode_with_body(&deliver, "hello".into());
    engine.handle(now, Input::Control(encoded.head));
    engine.handle(now, Input::Control(encoded.body));
    Source {
        sender,
        epoch: 5,
        lane: Lane::Message,
    }
}

#[test]
fn the_relay_of_before_is_dialled_greeted_and_used() {
    let mut engine = engine(vec![relay()]);
    assert_eq!(said(&mut engine), ["Connecting { attempt: 1 }", "dial r1"]);
    assert_eq!(engine.deadline(), None, "the caller times a dial");
    engine.handle(at(0), Input::Connected);
    assert_eq!(said(&mut engine), [""; 0], "the hello went with the dial");
}

#[test]
fn what_the_app_is_done_with_is_acknowledged_when_the_mark_is_on_the_disk() {
    let mut engine = attached();
    let source = deliver(&mut engine, at(20));
    assert_eq!(said(&mut engine), ["Show"]);
    let done = Input::Done {
        source: source.clone(),
        seq: 1,
    };
    engine.handle(at(30), done);
    let [job] = &said(&mut engine)[..] else {
        panic!("not one output");
    };
    assert!(job.starts_with("Mark"), "{job}");
    engine.handle(at(40), Input::Marked(mark(source)));
    assert_eq!(said(&mut engine), ["Remembered", "Control"]);
}

#[test]
fn what_the_app_has_let_go_of_is_shown_again_in_the_next_session() {
    let mut engine = attached();
    let source = deliver(&mut engine, at(20));
    engine.handle(at(30), Input::Dropped { source, seq: 1 });
    assert_eq!(said(&mut engine), ["Show"]);
    engine.handle(at(40), Input::Ended(Ending::Lost("cut".to_owned())));
    engine.handle(at(50), Input::Connected);
    engine.handle(at(60), welcome(TOLD_MS));
    said(&mut engine);
    deliver(&mut engine, at(70));
    assert_eq!(said(&mut engine), ["Show"]);
}

#[test]
fn what_happens_at_once_is_acknowledged_at_once() {
    let mut engine = attached();
    let sources = [("alice/pc", 100), ("alice/tablet", 101)]
        .map(|(device, position)| deliver_from(device, position, &mut engine, at(20)));
    let done = sources.clone().map(|source| Input::Done { source, seq: 1 });
    engine.handle_all(at(30), done);
    said(&mut engine);
    let marked = sources.map(|source| Input::Marked(mark(source)));
    engine.handle_all(at(40), marked);
    let expected = ["Remembered", "Remembered", "Control"];
    assert_eq!(said(&mut engine), expected, "one acknowledgement of both");
}

#[test]
fn a_mark_is_news_to_whom_it_covers_and_to_nobody_else() {
    let mut engine = attached();
    let sources = [("alice/pc", 100), ("alice/tablet", 101)]
        .map(|(device, position)| deliver_from(device, position, &mut engine, at(20)));
    for source in sources.clone() {
        engine.handle(at(30), Input::Done { source, seq: 1 });
    }
    said(&mut engine);
    for source in sources {
        engine.handle(at(40), Input::Marked(mark(source.clone())));
        let outputs = std::iter::from_fn(|| engine.poll());
        let remembered = outputs.filter_map(|output| match output {
            Output::Remembered { source, seq } => Some((source, seq)),
            _ => None,
        });
        assert_eq!(remembered.collect::<Vec<_>>(), [(source, 1)]);
    }
}

#[test]
fn a_close_shuts_the_storage_acknowledges_and_waits_until_that_has_arrived() {
    let mut engine = attached();
    let source = deliver(&mut engine, at(20));
    let done = Input::Done {
        source: source.clone(),
        seq: 1,
    };
    engine.handle(at(30), done);
    engine.handle(at(30), Input::Close);
    assert_eq!(said(&mut engine).last().unwrap(), "Shut");
    engine.handle(at(40), Input::Marked(mark(source)));
    engine.handle(at(40), Input::StorageEnded);
    assert_eq!(said(&mut engine), ["Remembered", "Control", "Flush"]);
    engine.handle(at(50), Input::Flushed);
    assert_eq!(said(&mut engine), ["Datagram"], "a ping");
    let observed = "192.0.2.7:7".parse().unwrap();
    let pong = frame::encode(&Pong {
        seq: 1,
        observed,
        late: false,
    });
    engine.handle(at(60), Input::Datagram(pong));
    assert_eq!(said(&mut engine), ["close Goodbye", "Closed"]);
}

#[test]
fn a_relay_that_does_not_answer_is_left_after_a_second() {
    let mut engine = attached();
    engine.handle(at(1000), Input::Reconnect);
    assert_eq!(said(&mut engine), ["Pause", "Flush"]);
    assert_eq!(engine.deadline(), Some(at(2000)));
    engine.handle(at(2000), Input::Timeout);
    assert_eq!(
        said(&mut engine),
        ["close Goodbye", "Connecting { attempt: 1 }", "dial r1"]
    );
}

#[test]
fn what_is_unanswered_is_read_and_sent_again_in_the_next_session() {
    let mut engine = attached();
    let entry = Entry {
        seq: 1,
        page: 1,
        to: "alice/pc".parse().unwrap(),
        options: Options::default(),
        body: "body".into(),
    };
    let lane = Lane::Message;
    let appended = Input::Appended {
        lane,
        entry: entry.clone(),
    };
    engine.handle(at(20), appended);
    assert_eq!(said(&mut engine), ["Control", "Control"]);
    engine.handle(at(30), Input::Ended(Ending::Lost("cut".to_owned())));
    engine.handle(at(40), Input::Connected);
    engine.handle(at(50), welcome(TOLD_MS));
    engine.handle(at(50), Input::Begun { page: 2 });
    let mut load = None;
    while let Some(output) = engine.poll() {
        if let Output::Store(Job::Load(wanted)) = output {
            load = Some(wanted);
        }
    }
    engine.handle(
        at(60),
        Input::Loaded(crate::core::Loaded {
            load: load.expect("the outbox is read"),
            entries: vec![entry.clone()],
            through: 1,
        }),
    );
    let Some(Output::Control(head)) = engine.poll() else {
        panic!("nothing was submitted");
    };
    let submit = Submit {
        seq: 1,
        to: entry.to,
        options: entry.options,
        again: true,
    };
    assert_eq!(head, frame::encode_with_body(&submit, entry.body).head);
    said(&mut engine);
    let outcome = holdfast_protocol::message::Outcome::Stored;
    let receipt = frame::encode(&Receipt {
        lane,
        seq: 1,
        outcome,
    });
    engine.handle(at(70), Input::Control(receipt));
    let forget = "Forget { lane: Message, seq: 1 }";
    assert_eq!(said(&mut engine), ["Answered", forget]);
}

#[test]
fn while_much_waits_to_leave_only_what_is_small_is_handed_over() {
    let mut engine = attached();
    engine.set_backlog(2 * 1024 * 1024);
    let append = |engine: &mut Engine, lane, body: usize| {
        let entry = Entry {
            seq: 1,
            page: 1,
            to: "alice/pc".parse().unwrap(),
            options: Options::default(),
            body: vec![7; body].into(),
        };
        engine.handle(at(20), Input::Appended { lane, entry });
        said(engine)
    };
    assert_eq!(append(&mut engine, Lane::Bulk, 20_000), [""; 0]);
    assert_eq!(
        append(&mut engine, Lane::Message, 20),
        ["Control", "Control"]
    );
    engine.set_backlog(0);
    engine.handle(at(30), Input::Timeout);
    assert_eq!(said(&mut engine), ["Bulk"]);
}

#[test]
fn the_end_of_the_storage_is_the_end_of_the_client() {
    let mut engine = engine(Vec::new());
    said(&mut engine);
    engine.handle(at(10), Input::StorageEnded);
    let said = said(&mut engine);
    assert_eq!(said[..2], ["Abandon", "Shut"]);
    assert!(said[2].starts_with("Failed"), "{said:?}");
    engine.handle(at(20), Input::Reconnect);
    assert_eq!(engine.poll(), None, "nothing follows");
}

#[test]
fn a_dial_that_was_given_up_and_reached_its_relay_late_parks_nobody() {
    let mut relay = relay();
    relay.addresses.push("192.0.2.1:2".parse().unwrap());
    let mut engine = engine(vec![relay]);
    let failure = Failure::Unreachable("no answer in time".to_owned());
    said(&mut engine);
    engine.handle(at(3000), Input::DialFailed(failure));
    assert_eq!(said(&mut engine), ["Connecting { attempt: 2 }", "dial r1"]);
    engine.handle(at(3100), Input::Connected);
    engine.handle(at(3110), welcome(TOLD_MS));
    engine.handle(at(3110), Input::Begun { page: 1 });
    said(&mut engine);
    engine.handle(at(3120), closed(CloseCode::Superseded));
    let then = ["Pause", "Connecting { attempt: 1 }", "dial r1"];
    assert_eq!(said(&mut engine), then);
}

#[test]
fn a_newer_session_of_the_device_parks_it_until_the_app_asks() {
    let mut engine = attached();
    engine.handle(at(20), closed(CloseCode::Superseded));
    assert_eq!(said(&mut engine), ["Pause", "Superseded"]);
    assert_eq!(engine.deadline(), None);
    engine.handle(at(30), Input::Reconnect);
    assert_eq!(said(&mut engine), ["Connecting { attempt: 1 }", "dial r1"]);
}
