//! The two halves of a session, each alone with a script: what comes from the other side, what the
//! caller asks for, and the time.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{
    client::{self, Client, ClientConfig},
    close::{CloseCode, Violation},
    frame::{Encoded, FrameReader, FrameType, Header, RawFrame},
    heartbeat::{Deadline, PingSchedule},
    id::Lane,
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_HEADER, MAX_MESSAGE_BODY},
    message::{Ack, Allow, Deliver, Gap, GoAway, Receipt, Submit, Welcome},
    server::{self, Server, ServerConfig},
    time::Time,
};
use serde::{Deserialize, Serialize};

use super::{
    frames::{blames_the_other, enveloped, judged, reencode},
    held::Held,
};
use crate::script;

/// The largest body that the relay of these targets takes: what lies around it is cheap to make.
const MAX_BODY: usize = 64 * 1024;

/// All bodies of one script together, in bytes; those past it are empty.
const MAX_BODIES: usize = 24 * 1024 * 1024;

/// What half a session may hold besides what the wire's limits allow: sets, queues, this watch.
const SLACK: i64 = 64 * 1024;

/// What a half may hold of the control stream: less than a frame, in a buffer that grows by doubling.
const UNFINISHED: i64 = 2 * (MAX_CONTROL_PAYLOAD as i64 + 5);

/// What comes from the other side, and the time between.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Arrival<'a> {
    /// Bytes on the control stream, in pieces of this length; 0: in one.
    Control {
        piece: u8,
        bytes: &'a [u8],
    },
    /// A frame there whose length is right, with so many bytes of body after the payload.
    Frame {
        piece: u8,
        kind: u8,
        fill: u16,
        payload: &'a [u8],
    },
    /// A stream of its own.
    Stream {
        bytes: &'a [u8],
    },
    /// One that holds a frame whose length is right.
    StreamFrame {
        kind: u8,
        fill: u32,
        payload: &'a [u8],
    },
    Datagram {
        bytes: &'a [u8],
    },
    DatagramFrame {
        kind: u8,
        payload: &'a [u8],
    },
    Silence {
        ms: u32,
    },
}

/// What an [`Arrival`] comes down to.
enum Come {
    /// Bytes on the control stream, in pieces of this length.
    Control(Bytes, u8),
    /// A stream of its own.
    Stream(Bytes),
    Datagram(Bytes),
    Silence(Duration),
}

impl Arrival<'_> {
    /// Puts it together; a frame on a stream of its own takes no more than `stream_limit`.
    fn come(self, bodies: &mut Bodies, stream_limit: usize) -> Come {
        match self {
            Self::Control { piece, bytes } => Come::Control(Bytes::copy_from_slice(bytes), piece),
            Self::Frame {
                piece,
                kind,
                fill,
                payload,
            } => Come::Control(
                bodies.frame(kind, payload, fill.into(), MAX_MESSAGE_BODY),
                piece,
            ),
            Self::Stream { bytes } => Come::Stream(Bytes::copy_from_slice(bytes)),
            Self::StreamFrame {
                kind,
                fill,
                payload,
            } => Come::Stream(bodies.frame(kind, payload, fill as usize, stream_limit)),
            Self::Datagram { bytes } => Come::Datagram(Bytes::copy_from_slice(bytes)),
            Self::DatagramFrame { kind, payload } => {
                Come::Datagram(enveloped(kind, payload).into())
            }
            Self::Silence { ms } => Come::Silence(Duration::from_millis(ms.into())),
        }
    }
}

/// What happens to a device's half.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ClientStep<'a> {
    #[serde(borrow)]
    Arrival(Arrival<'a>),
    Submit {
        submit: Submit,
        size: u32,
    },
    Ack(Ack),
    Allow(Allow),
    PathChanged,
    Goodbye,
}

/// What happens to a relay's half.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ServerStep<'a> {
    #[serde(borrow)]
    Arrival(Arrival<'a>),
    Welcome {
        time_ms: u64,
        redial_ms: u32,
    },
    Deliver {
        lane: Lane,
        size: u32,
        deliver: Deliver,
    },
    Receipt(Receipt),
    Gap(Gap),
    Allowed(u32),
    GoAway(GoAway),
    Close,
}

/// Makes the bodies of a script, up to a sum.
#[derive(Default)]
struct Bodies(usize);

impl Bodies {
    fn of(&mut self, size: usize, limit: usize) -> Vec<u8> {
        let size = size % (limit + limit / 16);
        self.0 += size;
        vec![7; if self.0 > MAX_BODIES { 0 } else { size }]
    }

    fn frame(&mut self, kind: u8, payload: &[u8], size: usize, limit: usize) -> Bytes {
        let filled = [payload, &self.of(size, limit)].concat();
        enveloped(kind, &filled).into()
    }
}

/// An action of either half.
enum Deed {
    Control(Bytes),
    Stream(Encoded),
    Datagram(Bytes),
    Close(Violation),
}

/// Watches what a half does.
struct Watch {
    /// What it may send, on the control stream and in datagrams.
    sends: &'static [FrameType],
    sent: FrameReader,
    closed: Option<CloseCode>,
}

impl Watch {
    fn new(sends: &'static [FrameType]) -> Self {
        Self {
            sends,
            sent: FrameReader::new(MAX_CONTROL_PAYLOAD),
            closed: None,
        }
    }

    /// Nothing follows a close, and what is sent is what the other side takes.
    fn saw(&mut self, deed: Deed) {
        assert_eq!(self.closed, None, "something follows the close");
        match deed {
            Deed::Control(bytes) => {
                self.sent.push(bytes);
                while let Some(frame) = self.sent.next().expect("it keeps the limits") {
                    self.may_send(&frame);
                }
            }
            Deed::Stream(encoded) => {
                let limit = MAX_HEADER + MAX_BULK_BODY;
                self.may_send(&RawFrame::whole(encoded.concat(), limit).expect("one frame"));
            }
            Deed::Datagram(bytes) => {
                assert!(bytes.len() <= holdfast_protocol::limits::MAX_DATAGRAM);
                self.may_send(&RawFrame::whole(bytes, usize::MAX).expect("one frame"));
            }
            Deed::Close(violation) => {
                self.closed = Some(violation.code);
                let expected = matches!(
                    violation.code,
                    CloseCode::Goodbye
                        | CloseCode::Unresponsive
                        | CloseCode::HelloTimeout
                        | CloseCode::PingTimeout
                        | CloseCode::WindowExceeded
                );
                if !expected {
                    blames_the_other(&violation);
                }
            }
        }
    }

    fn may_send(&self, frame: &RawFrame) {
        assert!(self.sends.contains(&frame.kind), "{}", frame.kind);
        judged(reencode(frame)).expect("what it sends can be read");
    }

    /// Whole frames leave, or none.
    fn rests(&self) {
        assert!(self.sent.is_empty(), "half a frame was sent");
    }
}

fn pieces(bytes: &[u8], piece: u8) -> impl Iterator<Item = Bytes> {
    let length = if piece == 0 {
        bytes.len()
    } else {
        piece.into()
    };
    bytes.chunks(length.max(1)).map(Bytes::copy_from_slice)
}

struct Device {
    client: Client,
    watch: Watch,
    now: Time,
    bodies: Bodies,
    /// Streams that may wait for the welcome.
    early: usize,
    windows: [u64; 2],
    unanswered: [BTreeSet<u64>; 2],
    /// Something came of what the relay said.
    heard: bool,
}

/// The device's half: the first byte says whether the relay has welcomed it.
pub(crate) fn client(data: &[u8]) -> bool {
    let (welcomed, script) = data.split_at(data.len().min(1));
    let mut device = Device::new();
    let mut held = Held::default();
    held.across(|| device.begin(welcomed != [0]));
    for step in script::steps::<ClientStep<'_>>(script) {
        held.across(|| device.take(step));
        held.at_most(UNFINISHED + SLACK + device.early as i64);
    }
    device.heard
}

impl Device {
    fn new() -> Self {
        let config = ClientConfig {
            agent: "fuzz/1".parse().expect("an agent"),
            outbox: 1,
            inbox: 2,
            pings: PingSchedule::default(),
        };
        Self {
            client: Client::new(config),
            watch: Watch::new(&[
                FrameType::Hello,
                FrameType::Submit,
                FrameType::Ack,
                FrameType::Allow,
                FrameType::Ping,
            ]),
            now: Time::ZERO,
            bodies: Bodies::default(),
            early: 0,
            windows: [0; 2],
            unanswered: Default::default(),
            heard: false,
        }
    }

    fn begin(&mut self, welcomed: bool) {
        self.client.start(self.now);
        if welcomed {
            let welcome = Welcome {
                relay: "r1".parse().expect("a name"),
                boot: 7,
                window: Lane::Message.window() as u16,
                bulk_window: Lane::Bulk.window() as u16,
                max_body: MAX_BODY as u32,
                time_ms: 1_767_225_600_000,
                redial_ms: 10_000,
            };
            let frame = holdfast_protocol::frame::encode(&welcome);
            self.client.handle_control(self.now, frame);
        }
        self.look();
    }

    fn take(&mut self, step: ClientStep<'_>) {
        match step {
            ClientStep::Arrival(arrival) => self.arrive(arrival),
            ClientStep::Submit { submit, size } => self.submit(submit, size),
            ClientStep::Ack(ack) => self.client.ack(ack),
            ClientStep::Allow(allow) => {
                self.client.allow(allow.tag, allow.sender, allow.allowed);
            }
            ClientStep::PathChanged => self.client.ping_now(self.now),
            ClientStep::Goodbye => self.client.goodbye(),
        }
        self.look();
    }

    fn arrive(&mut self, arrival: Arrival<'_>) {
        let limit = MAX_HEADER + MAX_BULK_BODY;
        match arrival.come(&mut self.bodies, limit) {
            Come::Control(bytes, piece) => self.control(&bytes, piece),
            Come::Stream(bytes) => self.stream(bytes),
            Come::Datagram(bytes) => self.client.handle_datagram(self.now, bytes),
            Come::Silence(span) => {
                self.now = self.now + span;
                self.client.handle_timeout(self.now);
            }
        }
    }

    fn control(&mut self, bytes: &[u8], piece: u8) {
        for piece in pieces(bytes, piece) {
            self.client.handle_control(self.now, piece);
            self.look();
        }
    }

    fn stream(&mut self, bytes: Bytes) {
        if !self.client.is_attached() && self.watch.closed.is_none() {
            self.early += bytes.len();
        }
        self.client.handle_bulk(bytes);
    }

    fn submit(&mut self, submit: Submit, size: u32) {
        if submit.check().is_err() {
            return;
        }
        let body: Bytes = self.bodies.of(size as usize, MAX_BODY).into();
        let (lane, seq) = (Lane::for_body(body.len()), submit.seq);
        if self.client.submit(submit, body).is_ok() {
            let unanswered = &mut self.unanswered[lane as usize];
            unanswered.insert(seq);
            let window = self.windows[lane as usize];
            let ends = unanswered.first().zip(unanswered.last());
            assert!(ends.is_some_and(|(oldest, newest)| newest - oldest < window));
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.client.poll() {
            match action {
                client::Action::Control(bytes) => self.watch.saw(Deed::Control(bytes)),
                client::Action::Bulk(encoded) => self.watch.saw(Deed::Stream(encoded)),
                client::Action::Datagram(bytes) => self.watch.saw(Deed::Datagram(bytes)),
                client::Action::Close(violation) => self.watch.saw(Deed::Close(violation)),
                client::Action::Event(event) => self.note(event),
            }
        }
        self.watch.rests();
        if self.client.is_attached() || self.watch.closed.is_some() {
            self.early = 0;
        }
        if self.watch.closed.is_some() {
            assert_eq!(self.client.deadline(), None);
            assert!(!self.client.is_attached());
        }
    }

    fn note(&mut self, event: client::Event) {
        assert_eq!(self.watch.closed, None, "something follows the close");
        self.heard = true;
        match event {
            client::Event::Welcomed(welcome) => {
                self.windows = [welcome.window.into(), welcome.bulk_window.into()];
            }
            client::Event::Receipt(receipt) => {
                self.unanswered[receipt.lane as usize].remove(&receipt.seq);
            }
            client::Event::Message { lane, body, .. } => assert!(match lane {
                Lane::Message => body.len() <= MAX_MESSAGE_BODY,
                Lane::Bulk => body.len() <= MAX_HEADER + MAX_BULK_BODY,
            }),
            _ => {}
        }
    }
}

struct Relay {
    server: Server,
    watch: Watch,
    now: Time,
    bodies: Bodies,
    unanswered: [BTreeSet<u64>; 2],
    /// Something came of what the device said.
    heard: bool,
}

/// The relay's half.
pub(crate) fn server(data: &[u8]) -> bool {
    let mut relay = Relay::new();
    let mut held = Held::default();
    for step in script::steps::<ServerStep<'_>>(data) {
        held.across(|| relay.take(step));
        held.at_most(UNFINISHED + SLACK);
    }
    relay.heard
}

impl Relay {
    fn new() -> Self {
        let config = ServerConfig {
            relay: "r1".parse().expect("a name"),
            boot: 7,
            max_body: MAX_BODY,
            ping_grace: Deadline::DEFAULT_GRACE,
        };
        Self {
            server: Server::new(config, Time::ZERO),
            watch: Watch::new(&[
                FrameType::Welcome,
                FrameType::Receipt,
                FrameType::Deliver,
                FrameType::Gap,
                FrameType::GoAway,
                FrameType::Allowed,
                FrameType::Pong,
            ]),
            now: Time::ZERO,
            bodies: Bodies::default(),
            unanswered: Default::default(),
            heard: false,
        }
    }

    fn take(&mut self, step: ServerStep<'_>) {
        match step {
            ServerStep::Arrival(arrival) => self.arrive(arrival),
            ServerStep::Welcome { time_ms, redial_ms } => {
                let redial = Duration::from_millis(redial_ms.into());
                self.server.welcome(time_ms, redial);
            }
            ServerStep::Deliver {
                lane,
                size,
                deliver,
            } => self.deliver(lane, size as usize, deliver),
            ServerStep::Receipt(receipt) => {
                self.unanswered[receipt.lane as usize].remove(&receipt.seq);
                self.server.receipt(&receipt);
            }
            ServerStep::Gap(gap) => self.server.gap(&gap),
            ServerStep::Allowed(tag) => self.server.allowed(tag),
            ServerStep::GoAway(away) if away.check().is_ok() => self.server.go_away(&away),
            ServerStep::GoAway(_) => {}
            ServerStep::Close => self.server.close(Violation::new(CloseCode::Goodbye, "")),
        }
        self.look();
    }

    fn arrive(&mut self, arrival: Arrival<'_>) {
        let limit = self.server.max_bulk_stream();
        match arrival.come(&mut self.bodies, limit) {
            Come::Control(bytes, piece) => self.control(&bytes, piece),
            Come::Stream(bytes) => self.server.handle_bulk(bytes),
            Come::Datagram(bytes) => self.datagram(bytes),
            Come::Silence(span) => {
                self.now = self.now + span;
                self.server.handle_timeout(self.now);
            }
        }
    }

    fn control(&mut self, bytes: &[u8], piece: u8) {
        for piece in pieces(bytes, piece) {
            self.server.handle_control(self.now, piece);
            self.look();
        }
    }

    fn datagram(&mut self, bytes: Bytes) {
        let from = ([192, 0, 2, 1], 4433).into();
        self.server.handle_datagram(self.now, bytes, from);
    }

    fn deliver(&mut self, lane: Lane, size: usize, deliver: Deliver) {
        let limit = match lane {
            Lane::Message => MAX_MESSAGE_BODY,
            Lane::Bulk => MAX_BODY,
        };
        let mut body: Bytes = self.bodies.of(size, limit).into();
        body.truncate(limit);
        self.server.deliver(lane, &deliver, body);
    }

    fn look(&mut self) {
        while let Some(action) = self.server.poll() {
            match action {
                server::Action::Control(bytes) => self.watch.saw(Deed::Control(bytes)),
                server::Action::Bulk(encoded) => self.watch.saw(Deed::Stream(encoded)),
                server::Action::Datagram(bytes) => self.watch.saw(Deed::Datagram(bytes)),
                server::Action::Close(violation) => self.watch.saw(Deed::Close(violation)),
                server::Action::Event(event) => self.note(event),
            }
        }
        self.watch.rests();
        if self.watch.closed.is_some() {
            assert_eq!(self.server.deadline(), None);
            assert!(!self.server.is_attached());
        }
    }

    fn note(&mut self, event: server::Event) {
        assert_eq!(self.watch.closed, None, "something follows the close");
        self.heard = true;
        if let server::Event::Submit { lane, submit, body } = event {
            let limit = match lane {
                Lane::Message => MAX_MESSAGE_BODY,
                Lane::Bulk => MAX_BODY,
            };
            assert!(body.len() <= limit && submit.check().is_ok());
            let unanswered = &mut self.unanswered[lane as usize];
            unanswered.insert(submit.seq);
            let ends = unanswered.first().zip(unanswered.last());
            assert!(ends.is_none_or(|(oldest, newest)| newest - oldest < lane.window()));
        }
    }
}
