//! The seeds of the corpus: the frames that PROTOCOL.md shows, and conversations made of them.

use bytes::Bytes;
use holdfast_protocol::{
    frame::{FrameType, RawFrame},
    id::{Lane, MessageId, Sender},
    limits::MAX_CONTROL_PAYLOAD,
    message::{Outcome, Refusal, RelayAddress, Submit},
};
use serde::Serialize;

use crate::{
    script,
    targets::{
        frames::{ALLOCATION, MESSAGE, PEER},
        heartbeat, log,
        pair::{self, Way},
        relay,
        session::{Arrival, ClientStep, ServerStep},
    },
};

const DOCUMENT: &str = include_str!("../../../protocol/PROTOCOL.md");

const RELAY_CONFIG: &str = r#"listen = "127.0.0.2:4433"
data = "mail"
allocators = ["127.0.0.4:4434"]
admin = "[::1]:9000"
capacity = 3
[credentials]
certificate = "relay/r1.pem"
key = "relay/r1.key"
authority = "authority.pem"
revoked = "revoked.crl"
[limits]
strangers = "open"
max_body = 2097152
max_ttl = "7days 3h"
ping_grace = "10s"
"#;

const ALLOCATOR_CONFIG: &str = r#"listen = "127.0.0.2:7440"
data = "allocator-data"
lease = "1m 30s"
retry_after = "250ms"
[credentials]
certificate = "allocator/a1.pem"
key = "allocator/a1.key"
authority = "authority.pem"
"#;

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let frames = documented();
    match target {
        "frame" => frames,
        "message" => headed(MESSAGE, &frames),
        "allocation" => headed(ALLOCATION, &frames),
        "peer" => headed(PEER, &frames),
        "datagram" => of_types(&[0x10, 0x11], &frames),
        "stream" => streams(&frames),
        "heartbeat" => vec![beats()],
        "client" => client(&frames),
        "server" => server(&frames),
        "pair" => pairs(),
        "relay" => relay(&frames),
        "log" => vec![log()],
        "identity" => texts(&[
            "spiffe://example.org/device/alice/phone",
            "spiffe://example.org/service/push",
            "spiffe://a.b-c/relay/r1",
            "spiffe://x/allocator/a_1.2",
        ]),
        "names" => texts(&[
            "alice",
            "alice/phone",
            "a.b_c-D9",
            "example.org",
            "Schlüssel ✓",
        ]),
        "rows" => rows(),
        "durable" => stored(),
        "device" => kept(),
        "relay-config" => texts(&[RELAY_CONFIG]),
        "allocator-config" => texts(&[ALLOCATOR_CONFIG]),
        "credentials" => crate::targets::credentials::seeds(&[0, 2, 3]),
        "certificate" => crate::targets::credentials::seeds(&[0, 3]),
        _ => Vec::new(),
    }
}

/// The frames of PROTOCOL.md, as bytes.
fn documented() -> Vec<Vec<u8>> {
    let blocks = DOCUMENT.split("```hex\n").skip(1);
    let hex = blocks.map(|rest| {
        let block = rest.split("```").next().unwrap_or_default();
        let bytes = block.lines().flat_map(|line| line.split('#').next());
        bytes.flat_map(str::split_whitespace).collect::<String>()
    });
    let mut frames: Vec<Vec<u8>> = hex.map(|hex| bytes_of(&hex)).collect();
    frames.sort();
    frames.dedup();
    frames
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    let digits = pairs.map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).expect("the document's blocks are hex"))
        .collect()
}

fn raw(frame: &[u8]) -> RawFrame {
    RawFrame::whole(Bytes::copy_from_slice(frame), MAX_CONTROL_PAYLOAD).expect("one frame")
}

fn of_types(types: &[u8], frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let chosen = frames.iter().filter(|frame| types.contains(&frame[0]));
    chosen.cloned().collect()
}

/// Which of `types` it is, then the payload.
fn headed(types: &[u8], frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let headed = frames.iter().filter_map(|frame| {
        let choice = types.iter().position(|kind| *kind == frame[0])?;
        Some([&[choice as u8], &raw(frame).payload[..]].concat())
    });
    headed.collect()
}

fn streams(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let all = frames.concat();
    let cut = |cuts: [u8; 4], stream: &[u8]| [&cuts, stream].concat();
    vec![
        cut([255; 4], &all),
        cut([0, 3, 16, 1], &all),
        cut([0; 4], &frames[..6].concat()),
        cut([1, 0, 99, 7], &[0x7f, 3, 1, 2, 3, 0x06, 2, 1, 1]),
    ]
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn beats() -> Vec<u8> {
    use heartbeat::Step::{Announce, Answer, Back, Due, PathChanged, Unasked, Wait};
    let steps = [
        Wait { ms: 80 },
        Answer { age: 0 },
        Due,
        Due,
        Answer { age: 1 },
        PathChanged,
        Wait { ms: 2000 },
        Unasked { seq: 2 },
        Announce { ms: 540_000 },
        Back { ms: 70 },
        Due,
        Due,
        Due,
        Due,
    ];
    [vec![25, 2, 3], script::write(&steps)].concat()
}

/// The frames of one side as arrivals at the other.
fn arrivals<'a>(
    control: &[FrameType],
    stream: FrameType,
    datagram: FrameType,
    frames: &'a [RawFrame],
) -> Vec<Arrival<'a>> {
    let mut arrivals = Vec::new();
    for frame in frames {
        let (kind, payload) = (frame.kind.value(), &frame.payload[..]);
        if control.contains(&frame.kind) {
            arrivals.push(Arrival::Frame {
                piece: 0,
                kind,
                fill: 0,
                payload,
            });
        }
        if frame.kind == stream {
            let fill = 20_000;
            arrivals.push(Arrival::StreamFrame {
                kind,
                fill,
                payload,
            });
        }
        if frame.kind == datagram {
            arrivals.push(Arrival::DatagramFrame { kind, payload });
        }
    }
    arrivals
}

fn submits(frames: &[Vec<u8>]) -> impl Iterator<Item = Submit> {
    let raw = frames.iter().map(|frame| raw(frame));
    raw.filter(|frame| frame.kind == FrameType::Submit)
        .map(|frame| frame.decode().expect("as the document says").0)
}

fn client(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let raws: Vec<_> = frames.iter().map(|frame| raw(frame)).collect();
    let attached = [
        FrameType::Receipt,
        FrameType::Deliver,
        FrameType::Gap,
        FrameType::GoAway,
        FrameType::Allowed,
    ];
    let all = || arrivals(&attached, FrameType::Deliver, FrameType::Pong, &raws);
    let mut own: Vec<_> = submits(frames)
        .map(|submit| ClientStep::Submit { submit, size: 40 })
        .collect();
    own.extend(submits(frames).map(|submit| ClientStep::Submit {
        submit,
        size: 16_385,
    }));
    own.push(ClientStep::PathChanged);
    own.push(ClientStep::Arrival(Arrival::Silence { ms: 2000 }));
    let mut seeds: Vec<_> = all()
        .into_iter()
        .map(|it| vec![ClientStep::Arrival(it)])
        .collect();
    let mut whole = own;
    whole.extend(all().into_iter().map(ClientStep::Arrival));
    whole.push(ClientStep::Goodbye);
    seeds.push(whole);
    let mut seeds: Vec<_> = seeds
        .iter()
        .map(|steps| [vec![1], script::write(steps)].concat())
        .collect();
    let greeting = arrivals(
        &[FrameType::Welcome],
        FrameType::Deliver,
        FrameType::Pong,
        &raws,
    );
    let greeting: Vec<_> = greeting.into_iter().map(ClientStep::Arrival).collect();
    seeds.push([vec![0], script::write(&greeting)].concat());
    let stream: Vec<u8> = of_types(&[2, 4, 5, 7, 8, 10], frames).concat();
    let pieces = [ClientStep::Arrival(Arrival::Control {
        piece: 3,
        bytes: &stream,
    })];
    seeds.push([vec![0], script::write(&pieces)].concat());
    seeds
}

fn server(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let raws: Vec<_> = frames.iter().map(|frame| raw(frame)).collect();
    let (stream, datagram) = (FrameType::Submit, FrameType::Ping);
    let hello = || arrivals(&[FrameType::Hello], FrameType::Pong, datagram, &raws);
    let attached = [FrameType::Submit, FrameType::Ack, FrameType::Allow];
    let rest = || arrivals(&attached, stream, datagram, &raws);
    let begin = || {
        let mut steps: Vec<_> = hello().into_iter().map(ServerStep::Arrival).collect();
        steps.push(ServerStep::Welcome {
            time_ms: 1_767_225_600_000,
            redial_ms: 10_000,
        });
        steps
    };
    let mut seeds: Vec<_> = rest()
        .into_iter()
        .map(|arrival| {
            let mut steps = begin();
            steps.push(ServerStep::Arrival(arrival));
            script::write(&steps)
        })
        .collect();
    let mut whole = begin();
    whole.extend(rest().into_iter().map(ServerStep::Arrival));
    whole.extend(raws.iter().filter_map(said_by_relay));
    whole.push(ServerStep::Arrival(Arrival::Silence { ms: 47_000 }));
    whole.push(ServerStep::Close);
    seeds.push(script::write(&whole));
    let control: Vec<u8> = of_types(&[1], frames).concat();
    let pieces = [ServerStep::Arrival(Arrival::Control {
        piece: 5,
        bytes: &control,
    })];
    seeds.push(script::write(&pieces));
    seeds
}

fn said_by_relay<'a>(frame: &RawFrame) -> Option<ServerStep<'a>> {
    match frame.kind {
        FrameType::Receipt => frame.header().ok().map(ServerStep::Receipt),
        FrameType::Gap => frame.header().ok().map(ServerStep::Gap),
        FrameType::GoAway => frame.header().ok().map(ServerStep::GoAway),
        FrameType::Deliver => {
            let (deliver, _) = frame.decode().ok()?;
            Some(ServerStep::Deliver {
                lane: Lane::Bulk,
                size: 17_000,
                deliver,
            })
        }
        _ => None,
    }
}

fn pairs() -> Vec<Vec<u8>> {
    use pair::Step;
    let frames = documented();
    let raws: Vec<_> = frames.iter().map(|frame| raw(frame)).collect();
    let carry = |way| Step::Carry { way, bytes: 60_000 };
    let greeted = || vec![carry(Way::Up), carry(Way::Down)];
    let mut honest = greeted();
    for (index, frame) in raws.iter().enumerate() {
        honest.extend(step_of(frame, if index % 2 == 0 { 30 } else { 17_000 }));
    }
    let settle = [
        Step::Carry {
            way: Way::Up,
            bytes: 7,
        },
        carry(Way::Up),
        Step::CarryStream { way: Way::Up },
        Step::CarryStream { way: Way::Down },
        Step::CarryDatagram {
            way: Way::Up,
            times: 2,
        },
        Step::CarryDatagram {
            way: Way::Down,
            times: 1,
        },
        Step::Receipt {
            which: 0,
            outcome: Outcome::Refused(Refusal::MailboxFull),
        },
        Step::Receipt {
            which: 1,
            outcome: Outcome::Delivered,
        },
        Step::PathChanged,
        Step::Silence { ms: 2000 },
        carry(Way::Down),
    ];
    honest.extend(settle);
    let mut attacked = greeted();
    attacked.extend(raws.iter().flat_map(|frame| step_of(frame, 9)));
    attacked.extend([
        Step::Alter {
            way: Way::Up,
            at: 2,
            bits: 4,
        },
        Step::Inject {
            way: Way::Down,
            bytes: &[0x07, 3, 1, 0, 1],
        },
        Step::InjectStream {
            way: Way::Up,
            bytes: &[0x7f, 0],
        },
        Step::InjectDatagram {
            way: Way::Up,
            bytes: &[0x10, 2, 1, 1],
        },
        carry(Way::Up),
        carry(Way::Down),
    ]);
    let mut seeds = vec![script::write(&honest), script::write(&attacked)];
    seeds.extend(raws.iter().flat_map(|frame| {
        let mut steps = greeted();
        steps.extend(step_of(frame, 30));
        (steps.len() > 2).then(|| script::write(&steps))
    }));
    seeds
}

/// What a half is asked to do so that it sends this frame.
fn step_of<'a>(frame: &RawFrame, size: u16) -> Option<pair::Step<'a>> {
    use pair::Step;
    match frame.kind {
        FrameType::Submit => {
            let (submit, _) = frame.decode().ok()?;
            Some(Step::Submit { submit, size })
        }
        FrameType::Deliver => {
            let (deliver, _) = frame.decode().ok()?;
            Some(Step::Deliver { deliver, size })
        }
        FrameType::Ack => frame.header().ok().map(Step::Ack),
        FrameType::Allow => frame.header().ok().map(Step::Allow),
        FrameType::Gap => frame.header().ok().map(Step::Gap),
        FrameType::GoAway => frame.header().ok().map(Step::GoAway),
        _ => None,
    }
}

/// Each party of [`relay::PARTIES`] says all that the document shows of its kind.
fn relay(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    use relay::Step;
    let raws: Vec<_> = frames.iter().map(|frame| raw(frame)).collect();
    let says = |conn: u8, frame: &RawFrame, fill| Step::Frame {
        conn,
        kind: frame.kind.value(),
        fill,
        payload: frame.payload.clone().to_vec().leak(),
    };
    let of = |kinds: &[u8]| -> Vec<&RawFrame> {
        let chosen = raws
            .iter()
            .filter(|frame| kinds.contains(&frame.kind.value()));
        chosen.collect()
    };
    let mut greeted = Vec::new();
    for conn in 0..4 {
        let hello = of(&[1]);
        greeted.extend(
            hello
                .iter()
                .map(|frame| script::write(&[says(conn, frame, 0)])),
        );
    }
    let greeted = greeted.concat();
    let mut seeds = Vec::new();
    for (conn, kinds) in [
        (0, &[3, 6, 9][..]),
        (1, &[3, 6, 9]),
        (2, &[3, 6, 9]),
        (3, &[3]),
        (4, &[0x30, 0x32, 0x33, 0x35, 0x38]),
        (5, &[0x31, 0x34, 0x36, 0x37]),
    ] {
        let said: Vec<_> = of(kinds)
            .into_iter()
            .flat_map(|frame| [says(conn, frame, 9), Step::Silence { ms: 2500 }])
            .collect();
        seeds.push([greeted.clone(), script::write(&said)].concat());
    }
    let rest = [
        Step::Crash,
        Step::Backlog {
            conn: 0,
            bytes: 9_000_000,
        },
        Step::Ended { conn: 1 },
        Step::Accept { who: 1 },
        Step::Unlinked,
        Step::Located {
            here: true,
            answer: None,
        },
        Step::Leased(None),
        Step::Wall { ms: 0 },
        Step::Drain,
        Step::Stop,
    ];
    let all: Vec<u8> = seeds
        .iter()
        .flat_map(|seed| seed[greeted.len()..].to_vec())
        .collect();
    seeds.push([greeted.clone(), all, script::write(&rest), greeted].concat());
    seeds
}

/// A page, changes of it, and something in between that is nothing.
fn log() -> Vec<u8> {
    use log::Step;
    script::write(&[
        Step::Page {
            segment: 0,
            page: 3,
            prefix: 2,
            low: b"\x01a",
            high: b"\x01b",
            rows: vec![(b"lice", b"value"), (b"nn", b"other")],
        },
        Step::Bytes { bytes: &[7; 40] },
        Step::Change {
            segment: 1,
            page: 3,
            key: b"bel",
            value: Some(b"new"),
        },
        Step::Change {
            segment: 1,
            page: 3,
            key: b"nn",
            value: None,
        },
        Step::Message {
            kind: 6,
            segment: 1,
            page: 1,
            body: b"counter",
        },
    ])
}

fn plain(value: impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(&value).expect("plain data")
}

fn keyed(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[key.len() as u8], key, value].concat()
}

/// A day in 2026, counted from 1970-01-01.
const TODAY: u32 = 20_454;

/// One row of each kind that `relay/src/store/row.rs` describes.
fn rows() -> Vec<Vec<u8>> {
    let sender = Sender::Device("bob/pc".parse().expect("a device"));
    let source = plain((&sender, 9u64, Lane::Message));
    let id = MessageId {
        sender,
        epoch: 9,
        lane: Lane::Message,
        seq: 3,
    };
    let submit = submits(&documented()).next().expect("one is shown");
    let header = (&id, 1_767_225_600_000u64, &submit.options);
    let place = [b"mphone\0\0", &7u64.to_be_bytes()[..]].concat();
    let refusals = std::collections::BTreeMap::from([(2u64, Refusal::MailboxFull)]);
    vec![
        keyed(b"dphone", &plain((Some(42u64), 3u64, TODAY))),
        keyed(&place, &[plain(header), b"hi".to_vec()].concat()),
        keyed(&[b"hphone\0", &source[..]].concat(), &plain((3u64, TODAY))),
        keyed(&[b"h\0", &source[..]].concat(), &plain((300u64, TODAY))),
        keyed(
            b"rbookmarks",
            &[plain((8u64, Lane::Message, header)), b"{}".to_vec()].concat(),
        ),
        keyed(b"abob", b""),
        keyed(&[b"x", &source[..]].concat(), &plain((refusals, TODAY))),
    ]
}

/// What the store keeps, as `targets::stored::durable` reads it.
fn stored() -> Vec<Vec<u8>> {
    let row = |what: u8, key: &[u8], rest: &[u8]| [&[what], &keyed(key, rest)[..]].concat();
    let set = [
        &9u64.to_be_bytes()[..],
        &[0, 0, 0, 1],
        &150_000u64.to_be_bytes(),
        &77u64.to_be_bytes(),
        &151_000u64.to_be_bytes(),
    ]
    .concat();
    vec![
        row(0, b"\x01key", &[1, 0, 0, 0, 0, 7]),
        row(1, b"\x01key", b"\x01value"),
        row(1, b"\x01key", b"\x03set"),
        row(2, b"", &[7; 24]),
        row(
            3,
            b"",
            b"holdfast\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x09\0\0\0\0",
        ),
        row(4, b"\x01key", &[&[3], &set[..]].concat()),
        row(4, b"\x01key", b"\x01whole"),
    ]
}

/// What a device keeps, as `targets::stored::device` reads it.
fn kept() -> Vec<Vec<u8>> {
    let submit = submits(&documented()).next().expect("one is shown");
    let sender = Sender::Service("push".parse().expect("a name"));
    let relays = [RelayAddress {
        name: "r1".parse().expect("a name"),
        addresses: vec!["192.0.2.1:4433".parse().expect("an address")],
    }];
    let what = |what: u8, value: Vec<u8>| [vec![what], value].concat();
    vec![
        what(
            0,
            [plain((&submit.to, &submit.options)), b"body".to_vec()].concat(),
        ),
        what(1, plain((&sender, 9u64, Lane::Bulk))),
        what(2, plain(("alice/phone", 1u64, 2u64))),
        what(3, plain(relays)),
        what(
            0,
            [
                plain((2u8, 300u64, &submit.to, &submit.options)),
                b"body".to_vec(),
            ]
            .concat(),
        ),
        what(
            4,
            plain((
                9u64,
                Some(9u64),
                9u64,
                9u64,
                [(0u64, 0u64), (3, 5)].to_vec(),
            )),
        ),
    ]
}
