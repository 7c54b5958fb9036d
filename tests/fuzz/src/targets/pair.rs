//! Both halves of a session with an attacker between them.
//!
//! While the attacker only cuts, delays, loses and doubles what QUIC lets a path cut, delay, lose and
//! double, neither half closes but for a deadline, and each hears exactly what the other said, in
//! order. Once the attacker has altered a byte, each still keeps to the rules of [`super::session`].

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use holdfast_protocol::{
    client::{self, Client, ClientConfig},
    close::CloseCode,
    frame::Header,
    heartbeat::{Deadline, PingSchedule},
    id::Lane,
    limits::{BULK_DELIVERY_WINDOW, MAX_MESSAGE_BODY},
    message::{Ack, Allow, Allowed, Deliver, Gap, GoAway, Outcome, Receipt, Submit},
    server::{self, Server, ServerConfig},
    time::Time,
};
use serde::{Deserialize, Serialize};

use super::frames::blames_the_other;
use crate::script;

/// The largest body of these conversations.
const MAX_BODY: usize = MAX_MESSAGE_BODY + 1024;

/// What the relay says the time is.
const TIME_MS: u64 = 1_767_225_600_000;

/// As the relay says in its welcome.
const REDIAL: Duration = Duration::from_secs(10);

/// Which way something travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// From the device to the relay.
    Up,
    /// From the relay to the device.
    Down,
}

/// What happens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step<'a> {
    Submit {
        submit: Submit,
        size: u16,
    },
    Ack(Ack),
    Allow(Allow),
    PathChanged,
    Deliver {
        deliver: Deliver,
        size: u16,
    },
    Receipt {
        which: u8,
        outcome: Outcome,
    },
    Gap(Gap),
    Allowed(u32),
    GoAway(GoAway),
    /// So many bytes of the control stream come through.
    Carry {
        way: Way,
        bytes: u16,
    },
    CarryStream {
        way: Way,
    },
    /// The oldest datagram comes through so many times.
    CarryDatagram {
        way: Way,
        times: u8,
    },
    Silence {
        ms: u32,
    },
    Alter {
        way: Way,
        at: u16,
        bits: u8,
    },
    Inject {
        way: Way,
        bytes: &'a [u8],
    },
    InjectStream {
        way: Way,
        bytes: &'a [u8],
    },
    InjectDatagram {
        way: Way,
        bytes: &'a [u8],
    },
}

/// What is under way in one direction.
#[derive(Default)]
struct Path {
    control: BytesMut,
    streams: VecDeque<Bytes>,
    datagrams: VecDeque<Bytes>,
}

struct Pair {
    now: Time,
    device: Client,
    relay: Server,
    up: Path,
    down: Path,
    /// What the device is to hear, on the control stream and on streams of their own.
    to_device: [VecDeque<client::Event>; 2],
    to_relay: [VecDeque<server::Event>; 2],
    /// The last number in each lane.
    submitted: [u64; 2],
    /// What the relay may answer.
    heard: Vec<(Lane, u64)>,
    untouched: bool,
    closed: bool,
}

pub(crate) fn check(data: &[u8]) -> bool {
    let mut pair = Pair::new();
    for step in script::steps::<Step<'_>>(data) {
        pair.take(step);
    }
    pair.carry_all();
    let missed = pair.to_device.iter().map(VecDeque::len).sum::<usize>()
        + pair.to_relay.iter().map(VecDeque::len).sum::<usize>();
    assert!(
        missed == 0 || pair.closed || !pair.untouched,
        "{missed} were not heard"
    );
    !pair.heard.is_empty()
}

impl Pair {
    fn new() -> Self {
        let device = ClientConfig {
            agent: "fuzz/1".parse().expect("an agent"),
            outbox: 11,
            inbox: 22,
            pings: PingSchedule::default(),
        };
        let relay = ServerConfig {
            relay: "r1".parse().expect("a name"),
            boot: 7,
            max_body: MAX_BODY,
            ping_grace: Deadline::DEFAULT_GRACE,
        };
        let mut pair = Self {
            now: Time::ZERO,
            device: Client::new(device),
            relay: Server::new(relay, Time::ZERO),
            up: Path::default(),
            down: Path::default(),
            to_device: Default::default(),
            to_relay: Default::default(),
            submitted: [0; 2],
            heard: Vec::new(),
            untouched: true,
            closed: false,
        };
        pair.device.start(pair.now);
        pair.look();
        pair
    }

    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Submit { submit, size } => self.submit(submit, size),
            Step::Ack(ack) => self.device_says(server::Event::Ack(ack), |it| it.ack(ack)),
            Step::Allow(allow) => {
                let (tag, sender) = (allow.tag, allow.sender.clone());
                let allowed = allow.allowed;
                self.device_says(server::Event::Allow(allow), |it| {
                    it.allow(tag, sender, allowed);
                });
            }
            Step::PathChanged => self.device.ping_now(self.now),
            Step::Deliver { deliver, size } => self.deliver(deliver, size),
            Step::Receipt { which, outcome } => self.answer(which, outcome),
            Step::Gap(gap) => self.relay_says(client::Event::Gap(gap), |it| it.gap(&gap)),
            Step::Allowed(tag) => {
                let event = client::Event::Allowed(Allowed { tag });
                self.relay_says(event, |it| it.allowed(tag));
            }
            Step::GoAway(away) => self.go_away(away),
            Step::Carry { way, bytes } => self.carry(way, bytes.into()),
            Step::CarryStream { way } => self.carry_stream(way),
            Step::CarryDatagram { way, times } => self.carry_datagram(way, times % 3),
            Step::Silence { ms } => self.pass(Duration::from_millis(ms.into())),
            Step::Alter { way, at, bits } => self.alter(way, at.into(), bits),
            Step::Inject { way, bytes } => {
                self.touch(way).control.extend_from_slice(bytes);
            }
            Step::InjectStream { way, bytes } => {
                let streams = &mut self.touch(way).streams;
                streams.push_back(Bytes::copy_from_slice(bytes));
            }
            Step::InjectDatagram { way, bytes } => {
                let datagrams = &mut self.touch(way).datagrams;
                datagrams.push_back(Bytes::copy_from_slice(bytes));
            }
        }
        self.look();
    }

    fn submit(&mut self, mut submit: Submit, size: u16) {
        let body = Bytes::from(vec![3; usize::from(size) % (MAX_BODY + 8)]);
        let lane = Lane::for_body(body.len());
        submit.seq = self.submitted[lane as usize] + 1;
        if submit.check().is_ok() && self.device.submit(submit.clone(), body.clone()).is_ok() {
            self.submitted[lane as usize] += 1;
            let event = server::Event::Submit { lane, submit, body };
            self.to_relay[lane as usize].push_back(event);
        }
    }

    fn device_says(&mut self, event: server::Event, say: impl FnOnce(&mut Client)) {
        if self.device.is_attached() {
            self.to_relay[Lane::Message as usize].push_back(event);
            say(&mut self.device);
        }
    }

    fn relay_says(&mut self, event: client::Event, say: impl FnOnce(&mut Server)) {
        if self.relay.is_attached() {
            self.to_device[Lane::Message as usize].push_back(event);
            say(&mut self.relay);
        }
    }

    fn deliver(&mut self, deliver: Deliver, size: u16) {
        let body = Bytes::from(vec![5; usize::from(size) % (2 * MAX_BODY)]);
        let lane = Lane::for_body(body.len());
        let crowded = self.to_device[lane as usize].len() >= BULK_DELIVERY_WINDOW;
        let unfit = deliver.options.ttl_s.is_some_and(|ttl| ttl > 31_536_000);
        if !self.relay.is_attached() || (lane == Lane::Bulk && crowded) || unfit {
            return;
        }
        self.relay.deliver(lane, &deliver, body.clone());
        let event = client::Event::Message {
            lane,
            deliver,
            body,
        };
        self.to_device[lane as usize].push_back(event);
    }

    fn answer(&mut self, which: u8, outcome: Outcome) {
        if self.heard.is_empty() {
            return;
        }
        let index = usize::from(which) % self.heard.len();
        let (lane, seq) = self.heard[index];
        let receipt = Receipt { lane, seq, outcome };
        self.relay_says(client::Event::Receipt(receipt), |it| it.receipt(&receipt));
    }

    fn go_away(&mut self, away: GoAway) {
        if away.check().is_ok() {
            let said = client::Event::GoAway(away.clone());
            self.relay_says(said, |it| it.go_away(&away));
        }
    }

    fn path(&mut self, way: Way) -> &mut Path {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// The path, which is the attacker's from now on.
    fn touch(&mut self, way: Way) -> &mut Path {
        self.untouched = false;
        self.path(way)
    }

    fn alter(&mut self, way: Way, at: usize, bits: u8) {
        let control = &mut self.touch(way).control;
        if !control.is_empty() {
            let at = at % control.len();
            control[at] ^= bits;
        }
    }

    fn carry(&mut self, way: Way, bytes: usize) {
        let (now, control) = (self.now, &mut self.path(way).control);
        let piece = control.split_to(bytes.min(control.len())).freeze();
        match way {
            Way::Up => self.relay.handle_control(now, piece),
            Way::Down => self.device.handle_control(now, piece),
        }
    }

    fn carry_stream(&mut self, way: Way) {
        let Some(stream) = self.path(way).streams.pop_front() else {
            return;
        };
        match way {
            Way::Up => self.relay.handle_bulk(stream),
            Way::Down => self.device.handle_bulk(stream),
        }
    }

    fn carry_datagram(&mut self, way: Way, times: u8) {
        let Some(datagram) = self.path(way).datagrams.pop_front() else {
            return;
        };
        let from = ([192, 0, 2, 1], 4433).into();
        for _ in 0..times {
            let (now, datagram) = (self.now, datagram.clone());
            match way {
                Way::Up => self.relay.handle_datagram(now, datagram, from),
                Way::Down => self.device.handle_datagram(now, datagram),
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.device.handle_timeout(self.now);
        self.relay.handle_timeout(self.now);
    }

    /// Lets through whatever is under way, and what that brings about.
    fn carry_all(&mut self) {
        for _ in 0..4 {
            for way in [Way::Up, Way::Down] {
                self.carry(way, usize::MAX);
                self.look();
                while !self.path(way).streams.is_empty() {
                    self.carry_stream(way);
                    self.look();
                }
            }
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.device.poll() {
            match action {
                client::Action::Control(bytes) => self.up.control.extend_from_slice(&bytes),
                client::Action::Bulk(encoded) => self.up.streams.push_back(encoded.concat()),
                client::Action::Datagram(bytes) => self.up.datagrams.push_back(bytes),
                client::Action::Close(violation) => self.close(&violation),
                client::Action::Event(event) => self.device_heard(event),
            }
        }
        while let Some(action) = self.relay.poll() {
            match action {
                server::Action::Control(bytes) => self.down.control.extend_from_slice(&bytes),
                server::Action::Bulk(encoded) => self.down.streams.push_back(encoded.concat()),
                server::Action::Datagram(bytes) => self.down.datagrams.push_back(bytes),
                server::Action::Close(violation) => self.close(&violation),
                server::Action::Event(event) => self.relay_heard(event),
            }
        }
    }

    fn close(&mut self, violation: &holdfast_protocol::close::Violation) {
        self.closed = true;
        let late = matches!(
            violation.code,
            CloseCode::Unresponsive | CloseCode::HelloTimeout | CloseCode::PingTimeout
        );
        assert!(late || !self.untouched, "without a cause: {violation}");
        if !late && violation.code != CloseCode::WindowExceeded {
            blames_the_other(violation);
        }
    }

    fn device_heard(&mut self, event: client::Event) {
        let lane = match &event {
            client::Event::Welcomed(_) | client::Event::Observed(_) => return,
            client::Event::Message { lane, .. } => *lane,
            _ => Lane::Message,
        };
        let expected = self.to_device[lane as usize].pop_front();
        if self.untouched {
            assert_eq!(Some(event), expected);
        }
    }

    fn relay_heard(&mut self, event: server::Event) {
        let lane = match &event {
            server::Event::Hello(_) => return self.relay.welcome(TIME_MS, REDIAL),
            server::Event::Seen { .. } => return,
            server::Event::Submit { lane, submit, .. } => {
                self.heard.push((*lane, submit.seq));
                *lane
            }
            _ => Lane::Message,
        };
        let expected = self.to_relay[lane as usize].pop_front();
        if self.untouched {
            assert_eq!(Some(event), expected);
        }
    }
}
