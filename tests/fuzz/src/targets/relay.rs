//! A whole relay without I/O, and everybody it speaks with as ill-willed as they come: devices, a
//! service, relays at both ends of a link, an allocator; and it crashes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_durable::MemoryRows;
use holdfast_protocol::{
    allocation::{Allocation, Leased},
    close::CloseCode,
    frame::{FrameReader, FrameType, Header, RawFrame},
    id::{Identity, Name},
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_HEADER},
    message::RelayAddress,
    time::Time,
};
use holdfast_relay::core::{Conn, Moment, Output, Relay, Settings};
use serde::{Deserialize, Serialize};

use super::frames::{blames_the_other, enveloped, judged, reencode};
use crate::script;

/// Who connects, in this order.
pub(crate) const PARTIES: &[&str] = &[
    "spiffe://x/device/alice/phone",
    "spiffe://x/device/alice/pc",
    "spiffe://x/device/bob/pc",
    "spiffe://x/service/push",
    "spiffe://x/relay/r2",
];

/// The accounts that are at home here; all others are at `r2`.
const RESIDENTS: &[&str] = &["alice", "push"];

/// The largest body that a script can add to a payload, in bytes.
const MAX_FILL: u32 = 40_000;

/// What happens. A connection is named by its number, modulo how many there were; the first are those of
/// [`PARTIES`], in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step<'a> {
    Accept {
        who: u8,
    },
    Control {
        conn: u8,
        bytes: &'a [u8],
    },
    Frame {
        conn: u8,
        kind: u8,
        fill: u16,
        payload: &'a [u8],
    },
    Stream {
        conn: u8,
        bytes: &'a [u8],
    },
    StreamFrame {
        conn: u8,
        kind: u8,
        fill: u32,
        payload: &'a [u8],
    },
    DatagramFrame {
        conn: u8,
        kind: u8,
        payload: &'a [u8],
    },
    Backlog {
        conn: u8,
        bytes: u32,
    },
    Ended {
        conn: u8,
    },
    Unlinked,
    Leased(Option<Leased>),
    Located {
        here: bool,
        answer: Option<Allocation>,
    },
    Silence {
        ms: u32,
    },
    /// The wall clock is set.
    Wall {
        ms: u64,
    },
    Drain,
    Stop,
    /// The relay is killed, and started on what its store holds.
    Crash,
}

/// One end of a connection, seen from the other.
struct Wire {
    conn: Conn,
    /// What the relay may send there.
    expected: &'static [FrameType],
    reader: FrameReader,
    closed: bool,
}

struct World {
    now: Moment,
    rows: MemoryRows,
    relay: Relay,
    wires: Vec<Wire>,
    /// Messages that it handed over or answered.
    heard: usize,
}

const TO_DEVICES: &[FrameType] = &[
    FrameType::Welcome,
    FrameType::Receipt,
    FrameType::Deliver,
    FrameType::Gap,
    FrameType::GoAway,
    FrameType::Allowed,
    FrameType::Pong,
];
const TO_EDGES: &[FrameType] = &[
    FrameType::Passed,
    FrameType::PeerDeliver,
    FrameType::PeerGap,
    FrameType::Evict,
];
const TO_HOMES: &[FrameType] = &[
    FrameType::Pass,
    FrameType::Attach,
    FrameType::Detach,
    FrameType::PeerAck,
    FrameType::PeerAllow,
];

pub(crate) fn check(data: &[u8]) -> bool {
    let mut world = World::new();
    for step in script::steps::<Step<'_>>(data) {
        world.take(step);
        world.look();
    }
    world.heard > 0
}

fn boot(rows: &MemoryRows) -> Relay {
    let mut settings = Settings::new(name("r1"));
    settings.addresses = vec![([192, 0, 2, 1], 4433).into()];
    Relay::boot(settings, Arc::new(rows.clone())).expect("it wrote these rows itself")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn other() -> RelayAddress {
    RelayAddress {
        name: name("r2"),
        addresses: vec![([192, 0, 2, 2], 4433).into()],
    }
}

impl World {
    fn new() -> Self {
        let rows = MemoryRows::default();
        let now = Moment {
            time: Time::ZERO,
            wall_ms: 1_767_225_600_000,
        };
        let mut world = Self {
            now,
            relay: boot(&rows),
            rows,
            wires: Vec::new(),
            heard: 0,
        };
        (0..PARTIES.len()).for_each(|who| world.accept(who));
        world.look();
        world
    }

    fn accept(&mut self, who: usize) {
        let uri = PARTIES[who % PARTIES.len()];
        let (_, identity) = Identity::parse(uri).expect("an identity");
        let expected = match identity {
            Identity::Relay(_) => TO_EDGES,
            _ => TO_DEVICES,
        };
        if let Ok(conn) = self.relay.accept(self.now, &identity) {
            self.connected(conn, expected);
        }
    }

    fn connected(&mut self, conn: Conn, expected: &'static [FrameType]) {
        self.wires.push(Wire {
            conn,
            expected,
            reader: FrameReader::new(MAX_CONTROL_PAYLOAD),
            closed: false,
        });
    }

    /// The connection of a number, if it is open.
    fn wire(&self, number: u8) -> Option<Conn> {
        let wire = self
            .wires
            .get(usize::from(number) % self.wires.len().max(1))?;
        (!wire.closed).then_some(wire.conn)
    }

    fn take(&mut self, step: Step<'_>) {
        let now = self.now;
        match step {
            Step::Accept { who } => self.accept(who.into()),
            Step::Control { conn, bytes } => self.control(conn, Bytes::copy_from_slice(bytes)),
            Step::Frame {
                conn,
                kind,
                fill,
                payload,
            } => self.control(conn, framed(kind, payload, fill.into())),
            Step::Stream { conn, bytes } => self.stream(conn, Bytes::copy_from_slice(bytes)),
            Step::StreamFrame {
                conn,
                kind,
                fill,
                payload,
            } => self.stream(conn, framed(kind, payload, fill)),
            Step::DatagramFrame {
                conn,
                kind,
                payload,
            } => {
                if let Some(conn) = self.wire(conn) {
                    let from = ([203, 0, 113, 7], 50_000).into();
                    let bytes = enveloped(kind, payload).into();
                    self.relay.datagram(now, conn, bytes, from);
                }
            }
            Step::Backlog { conn, bytes } => {
                if let Some(conn) = self.wire(conn) {
                    self.relay.set_backlog(now, conn, bytes as usize);
                }
            }
            Step::Ended { conn } => self.ended(conn),
            Step::Unlinked => self.relay.unlinked(now, &name("r2")),
            Step::Leased(answer) => self.leased(answer),
            Step::Located { here, answer } => self.located(here, answer),
            Step::Silence { ms } => {
                self.now.time = now.time + Duration::from_millis(ms.into());
                self.now.wall_ms = now.wall_ms.saturating_add(ms.into());
                self.relay.timeout(self.now);
            }
            Step::Wall { ms } => self.now.wall_ms = ms,
            Step::Drain => self.relay.drain(now, Duration::from_secs(5)),
            Step::Stop => self.relay.stop(now),
            Step::Crash => self.crash(),
        }
    }

    fn control(&mut self, conn: u8, bytes: Bytes) {
        if let Some(conn) = self.wire(conn) {
            self.relay.control(self.now, conn, bytes);
        }
    }

    fn stream(&mut self, conn: u8, bytes: Bytes) {
        if let Some(conn) = self.wire(conn) {
            self.relay.bulk(self.now, conn, bytes);
        }
    }

    fn ended(&mut self, number: u8) {
        if let Some(conn) = self.wire(number) {
            self.relay.ended(self.now, conn);
            self.close(conn);
        }
    }

    fn close(&mut self, conn: Conn) {
        let wire = self.wires.iter_mut().find(|wire| wire.conn == conn);
        wire.expect("it is one of ours").closed = true;
    }

    /// Answers are frames, so what could not be one is none.
    fn leased(&mut self, answer: Option<Leased>) {
        let answer = answer.filter(|leased| leased.check().is_ok());
        self.relay.leased(self.now, answer);
    }

    fn located(&mut self, here: bool, answer: Option<Allocation>) {
        let answer = answer.filter(|allocation| allocation.check().is_ok());
        let account = name(if here { "alice" } else { "bob" });
        self.relay.located(self.now, &account, answer);
    }

    fn crash(&mut self) {
        self.relay = boot(&self.rows);
        self.wires.clear();
        (0..PARTIES.len()).for_each(|who| self.accept(who));
    }

    fn look(&mut self) {
        while let Some(output) = self.relay.poll(self.now) {
            match output {
                Output::Control { conn, bytes } => self.said(conn, bytes),
                Output::Bulk { conn, frame } => {
                    let limit = MAX_HEADER + MAX_BULK_BODY;
                    let frame = RawFrame::whole(frame.concat(), limit).expect("one frame");
                    self.may_say(conn, &frame);
                }
                Output::Datagram { conn, bytes } => {
                    let frame = RawFrame::whole(bytes, usize::MAX).expect("one frame");
                    self.may_say(conn, &frame);
                }
                Output::Close { conn, why } => {
                    let nobodys_or_late = matches!(
                        why.code,
                        CloseCode::Goodbye
                            | CloseCode::Superseded
                            | CloseCode::GoingAway
                            | CloseCode::HelloTimeout
                            | CloseCode::PingTimeout
                            | CloseCode::WindowExceeded
                            | CloseCode::SlowReader
                            | CloseCode::TooManyDatagrams
                            | CloseCode::Overloaded
                    );
                    if !nobodys_or_late {
                        blames_the_other(&why);
                    }
                    self.close(conn);
                }
                Output::Dial(relay) => {
                    if let Some(conn) = self.relay.linked(self.now, &relay.name) {
                        self.connected(conn, TO_HOMES);
                    }
                }
                Output::Lease(_) => {
                    let others = vec![other()];
                    let valid_ms = 10_000;
                    self.relay
                        .leased(self.now, Some(Leased { valid_ms, others }));
                }
                Output::Locate(account) => self.locate(&account),
            }
        }
    }

    fn locate(&mut self, account: &Name) {
        let home = match RESIDENTS.contains(&account.as_str()) {
            true => name("r1"),
            false => name("r2"),
        };
        let allocation = Allocation::Relays {
            home: Some(home),
            relays: vec![other()],
        };
        self.relay.located(self.now, account, Some(allocation));
    }

    fn said(&mut self, conn: Conn, bytes: Bytes) {
        let wire = self.wires.iter_mut().find(|wire| wire.conn == conn);
        let wire = wire.expect("it is one of ours");
        wire.reader.push(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = wire.reader.next().expect("it keeps the limits") {
            frames.push(frame);
        }
        frames.iter().for_each(|frame| self.may_say(conn, frame));
    }

    fn may_say(&mut self, conn: Conn, frame: &RawFrame) {
        let wire = self.wires.iter().find(|wire| wire.conn == conn);
        let wire = wire.expect("it is one of ours");
        assert!(!wire.closed, "{} after the close", frame.kind);
        assert!(wire.expected.contains(&frame.kind), "{}", frame.kind);
        judged(reencode(frame)).expect("what it says can be read");
        self.heard += 1;
    }
}

fn framed(kind: u8, payload: &[u8], fill: u32) -> Bytes {
    let body = vec![9; (fill % MAX_FILL) as usize];
    enveloped(kind, &[payload, &body].concat()).into()
}
