//! What a half says when the other one errs, and what it lets pass.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    close::CloseCode,
    frame::{encode, encode_with_body},
    id::Lane,
    message::{Ack, Allowed, Hello, Ping, Pong, Welcome},
};

use crate::pair::{End, Pair, body, deliver, submit, wire};

const A_MOMENT: Duration = Duration::from_secs(1);

/// A type that no version knows yet, with three bytes.
const UNKNOWN: Bytes = Bytes::from_static(&[0x7f, 3, 1, 2, 3]);

/// Where bytes come.
#[derive(Clone, Copy, Debug)]
enum Place {
    Control,
    Bulk,
    Datagram,
}

fn to_relay(pair: &mut Pair, place: Place, bytes: Bytes) {
    let from = "203.0.113.7:50000".parse().unwrap();
    match place {
        Place::Control => pair.relay.handle_control(pair.now, bytes),
        Place::Bulk => pair.relay.handle_bulk(bytes),
        Place::Datagram => pair.relay.handle_datagram(pair.now, bytes, from),
    }
}

fn to_device(pair: &mut Pair, place: Place, bytes: Bytes) {
    match place {
        Place::Control => pair.device.handle_control(pair.now, bytes),
        Place::Bulk => pair.device.handle_bulk(bytes),
        Place::Datagram => pair.device.handle_datagram(pair.now, bytes),
    }
}

fn ack() -> Bytes {
    let (lane, through) = (Lane::Message, 1);
    wire(&Ack { lane, through })
}

fn hello() -> Bytes {
    wire(&Hello {
        agent: "pair/1".parse().unwrap(),
        outbox: 1,
        inbox: 2,
        next_within_ms: 25_000,
        background: false,
    })
}

fn ping(next_within_ms: u32) -> Bytes {
    encode(&Ping {
        seq: 9,
        next_within_ms,
        echo_after_ms: 0,
        background: false,
    })
}

fn pong() -> Bytes {
    encode(&Pong {
        seq: 9,
        observed: "203.0.113.7:50000".parse().unwrap(),
        late: false,
    })
}

fn welcome() -> Bytes {
    wire(&Welcome {
        relay: "r1".parse().unwrap(),
        boot: 7,
        window: 256,
        bulk_window: 8,
        max_body: 1024,
        time_ms: 0,
        redial_ms: 0,
    })
}

fn and_a_byte(bytes: &Bytes) -> Bytes {
    [&bytes[..], &[0]].concat().into()
}

fn cut_short(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len() - 1)
}

fn submitted(size: usize) -> Bytes {
    encode_with_body(&submit(1), vec![0; size].into()).concat()
}

fn delivered(size: usize) -> Bytes {
    encode_with_body(&deliver(1), vec![0; size].into()).concat()
}

#[test]
fn a_device_that_errs_is_told_how() {
    use CloseCode::{MalformedFrame, OversizedFrame, UnexpectedFrame};
    use Place::{Bulk, Control, Datagram};
    let left_over = Bytes::from_static(&[0x06, 3, 0, 1, 9]);
    let no_such_lane = Bytes::from_static(&[0x06, 2, 2, 1]);
    let bad_name = Bytes::from_static(&[0x09, 4, 1, 1, b'/', 1]);
    let cases = [
        (Control, left_over, MalformedFrame),
        (Control, no_such_lane, MalformedFrame),
        (Control, bad_name, MalformedFrame),
        (Bulk, Bytes::new(), MalformedFrame),
        (Bulk, cut_short(&submitted(20_000)), MalformedFrame),
        (Bulk, and_a_byte(&submitted(20_000)), MalformedFrame),
        (Datagram, Bytes::new(), MalformedFrame),
        (Datagram, and_a_byte(&ping(25_000)), MalformedFrame),
        (
            Control,
            Bytes::from_static(&[0x03, 0x81, 0xa0, 0x01]),
            OversizedFrame,
        ),
        (
            Control,
            Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0xff]),
            OversizedFrame,
        ),
        (Control, submitted(16 * 1024 + 1), OversizedFrame),
        (Bulk, submitted(1024 * 1024 + 1), OversizedFrame),
        (Datagram, ping(600_001), OversizedFrame),
        (
            Datagram,
            Bytes::from_static(&[0x7f, 0x81, 0x02]),
            OversizedFrame,
        ),
        (Control, hello(), UnexpectedFrame),
        (Control, wire(&Allowed { tag: 1 }), UnexpectedFrame),
        (Control, delivered(1), UnexpectedFrame),
        (Control, ping(25_000), UnexpectedFrame),
        (Bulk, ack(), UnexpectedFrame),
        (Datagram, ack(), UnexpectedFrame),
        (Datagram, pong(), UnexpectedFrame),
    ];
    for (place, bytes, code) in cases {
        let mut pair = Pair::attached(0);
        to_relay(&mut pair, place, bytes.clone());
        pair.run(A_MOMENT);
        let start = &bytes[..bytes.len().min(8)];
        assert_eq!(pair.at_relay.code(), Some(code), "{place:?} {start:02x?}");
        let told = pair.at_device.end.map(|(_, end)| end);
        assert_eq!(told, Some(End::Told(code)), "{place:?} {start:02x?}");
    }
}

#[test]
fn what_keeps_to_the_limits_exactly_is_taken() {
    let longest = Hello {
        agent: "x".repeat(64).parse().unwrap(),
        outbox: u64::MAX,
        inbox: u64::MAX,
        next_within_ms: 600_000,
        background: false,
    };
    let mut pair = Pair::new(0);
    pair.down.is_cut = true;
    to_relay(&mut pair, Place::Control, wire(&longest));
    pair.run(Duration::ZERO);
    to_relay(&mut pair, Place::Control, submitted(16 * 1024));
    to_relay(&mut pair, Place::Bulk, submitted(1024 * 1024));
    to_relay(&mut pair, Place::Datagram, ping(600_000));
    pair.run(A_MOMENT);
    assert_eq!(pair.at_relay.end, None);
    assert_eq!(pair.submitted(Lane::Message), [1]);
    assert_eq!(pair.submitted(Lane::Bulk), [1]);
}

#[test]
fn a_relay_that_errs_is_told_how() {
    use CloseCode::{MalformedFrame, OversizedFrame, UnexpectedFrame};
    use Place::{Bulk, Control, Datagram};
    let no_such_outcome = Bytes::from_static(&[0x04, 3, 0, 1, 9]);
    let cases = [
        (Control, no_such_outcome, MalformedFrame),
        (Bulk, cut_short(&delivered(20_000)), MalformedFrame),
        (Bulk, and_a_byte(&delivered(20_000)), MalformedFrame),
        (Datagram, and_a_byte(&pong()), MalformedFrame),
        (
            Control,
            Bytes::from_static(&[0x05, 0x81, 0xa0, 0x01]),
            OversizedFrame,
        ),
        (Control, delivered(16 * 1024 + 1), OversizedFrame),
        (
            Bulk,
            Bytes::from_static(&[0x05, 0xff, 0xff, 0xff, 0x7f]),
            OversizedFrame,
        ),
        (Control, welcome(), UnexpectedFrame),
        (Control, hello(), UnexpectedFrame),
        (Control, submitted(1), UnexpectedFrame),
        (Bulk, pong(), UnexpectedFrame),
        (Datagram, ping(25_000), UnexpectedFrame),
    ];
    for (place, bytes, code) in cases {
        let mut pair = Pair::attached(0);
        to_device(&mut pair, place, bytes.clone());
        pair.run(A_MOMENT);
        let start = &bytes[..bytes.len().min(8)];
        assert_eq!(pair.at_device.code(), Some(code), "{place:?} {start:02x?}");
        let told = pair.at_relay.end.map(|(_, end)| end);
        assert_eq!(told, Some(End::Told(code)), "{place:?} {start:02x?}");
    }
}

#[test]
fn nothing_but_a_hello_opens_a_session() {
    for (place, bytes) in [
        (Place::Control, ack()),
        (Place::Control, submitted(1)),
        (Place::Bulk, submitted(20_000)),
    ] {
        let mut pair = Pair::new(0);
        to_relay(&mut pair, place, bytes);
        pair.run(A_MOMENT);
        assert_eq!(
            pair.at_relay.code(),
            Some(CloseCode::UnexpectedFrame),
            "{place:?}"
        );
    }
}

#[test]
fn nothing_but_a_welcome_answers_a_hello() {
    for bytes in [wire(&Allowed { tag: 1 }), delivered(1)] {
        let mut pair = Pair::new(0);
        pair.device.start(pair.now);
        to_device(&mut pair, Place::Control, bytes);
        pair.run(A_MOMENT);
        assert_eq!(pair.at_device.code(), Some(CloseCode::UnexpectedFrame));
    }
    let mut pair = Pair::new(0);
    to_device(&mut pair, Place::Control, welcome());
    assert!(!pair.device.is_attached(), "it was not asked for");
}

#[test]
fn an_unknown_frame_is_skipped_wherever_it_comes() {
    for place in [Place::Control, Place::Bulk, Place::Datagram] {
        let mut pair = Pair::attached(0);
        to_relay(&mut pair, place, UNKNOWN);
        to_device(&mut pair, place, UNKNOWN);
        pair.device
            .submit(submit(1), body(Lane::Message, 1))
            .unwrap();
        pair.relay
            .deliver(Lane::Message, &deliver(1), body(Lane::Message, 1));
        pair.run(A_MOMENT);
        assert_eq!(pair.submitted(Lane::Message), [1], "{place:?}");
        assert_eq!(pair.delivered(Lane::Message), [1], "{place:?}");
    }
    let mut pair = Pair::new(0);
    to_relay(&mut pair, Place::Control, UNKNOWN);
    pair.device.start(pair.now);
    pair.run(A_MOMENT);
    assert!(pair.device.is_attached(), "before the hello, too");
}

#[test]
fn a_ping_before_the_hello_is_answered() {
    let mut pair = Pair::new(0);
    to_relay(&mut pair, Place::Datagram, ping(25_000));
    pair.device.start(pair.now);
    pair.run(A_MOMENT);
    assert!(pair.device.is_attached(), "and its pong is no fault");
}
