//! Both halves of a session, a link between them, and the time.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    client::{self, Client, ClientConfig},
    close::{CloseCode, Violation},
    frame::Header,
    heartbeat::{Deadline, PingSchedule},
    id::Lane,
    limits::DEFAULT_BULK_BODY,
    message::{Deliver, Options, Outcome, Receipt, Submit},
    server::{self, Server, ServerConfig},
    time::Time,
};

use crate::link::{Link, Parcel};

/// How a half's session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It closed.
    Closed(CloseCode),
    /// It was closed by the other half.
    Told(CloseCode),
}

/// What a half has seen, each with its moment.
#[derive(Debug)]
pub(crate) struct Log<E> {
    pub(crate) events: Vec<(Time, E)>,
    pub(crate) end: Option<(Time, End)>,
}

impl<E> Log<E> {
    fn new() -> Self {
        Self {
            events: Vec::new(),
            end: None,
        }
    }

    fn end(&mut self, now: Time, end: End) {
        self.end.get_or_insert((now, end));
    }

    /// The code with which this half closed, or was closed.
    pub(crate) fn code(&self) -> Option<CloseCode> {
        let (_, End::Closed(code) | End::Told(code)) = self.end.clone()?;
        Some(code)
    }

    pub(crate) fn seen(&self) -> impl Iterator<Item = &E> {
        self.events.iter().map(|(_, event)| event)
    }
}

pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) device: Client,
    pub(crate) relay: Server,
    /// From the device to the relay.
    pub(crate) up: Link,
    /// From the relay to the device.
    pub(crate) down: Link,
    pub(crate) at_device: Log<client::Event>,
    pub(crate) at_relay: Log<server::Event>,
    /// What the relay does when a hello comes.
    pub(crate) on_hello: fn(&mut Server),
    /// When the last ping came to the relay.
    pub(crate) last_ping: Option<Time>,
    /// When each ping left the device.
    pub(crate) pings_sent: Vec<Time>,
}

impl Pair {
    /// Two halves that have not spoken yet.
    pub(crate) fn new(seed: u64) -> Self {
        let device = ClientConfig {
            agent: "pair/1".parse().unwrap(),
            outbox: 11,
            inbox: 22,
            pings: PingSchedule::default(),
        };
        let relay = ServerConfig {
            relay: "r1".parse().unwrap(),
            boot: 7,
            max_body: DEFAULT_BULK_BODY,
            ping_grace: Deadline::DEFAULT_GRACE,
        };
        Self {
            now: Time::ZERO,
            device: Client::new(device),
            relay: Server::new(relay, Time::ZERO),
            up: Link::new(2 * seed),
            down: Link::new(2 * seed + 1),
            at_device: Log::new(),
            at_relay: Log::new(),
            on_hello: |relay| relay.welcome(0, Duration::from_secs(10)),
            last_ping: None,
            pings_sent: Vec::new(),
        }
    }

    /// Two halves in the midst of a session.
    pub(crate) fn attached(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.device.start(pair.now);
        pair.run(Duration::from_secs(2));
        assert!(pair.device.is_attached() && pair.relay.is_attached());
        pair
    }

    /// Lets time pass: from one arrival or deadline to the next.
    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        self.exchange();
        while let Some(next) = self.next_moment().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.device.handle_timeout(self.now);
            self.relay.handle_timeout(self.now);
            self.exchange();
        }
        self.now = until;
    }

    fn next_moment(&self) -> Option<Time> {
        let moments = [
            self.up.next_arrival(),
            self.down.next_arrival(),
            self.device.deadline(),
            self.relay.deadline(),
        ];
        moments.into_iter().flatten().min()
    }

    fn exchange(&mut self) {
        self.collect();
        while let Some(parcel) = self.up.take(self.now) {
            self.relay_takes(parcel);
            self.collect();
        }
        while let Some(parcel) = self.down.take(self.now) {
            self.device_takes(parcel);
            self.collect();
        }
    }

    fn relay_takes(&mut self, parcel: Parcel) {
        if self.at_relay.end.is_some() {
            return;
        }
        match parcel {
            Parcel::Control(bytes) => self.relay.handle_control(self.now, bytes),
            Parcel::Bulk(bytes) => self.relay.handle_bulk(bytes),
            Parcel::Datagram(bytes) => {
                self.last_ping = Some(self.now);
                let from = "203.0.113.7:50000".parse().unwrap();
                self.relay.handle_datagram(self.now, bytes, from);
            }
            Parcel::Close(code) => {
                self.at_relay.end(self.now, End::Told(code));
                self.relay.close(Violation::new(code, ""));
            }
        }
    }

    fn device_takes(&mut self, parcel: Parcel) {
        if self.at_device.end.is_some() {
            return;
        }
        match parcel {
            Parcel::Control(bytes) => self.device.handle_control(self.now, bytes),
            Parcel::Bulk(bytes) => self.device.handle_bulk(bytes),
            Parcel::Datagram(bytes) => self.device.handle_datagram(self.now, bytes),
            Parcel::Close(code) => {
                self.at_device.end(self.now, End::Told(code));
                self.device.goodbye();
            }
        }
    }

    fn collect(&mut self) {
        while let Some(action) = self.device.poll() {
            self.device_does(action);
        }
        while let Some(action) = self.relay.poll() {
            self.relay_does(action);
        }
    }

    fn device_does(&mut self, action: client::Action) {
        let parcel = match action {
            client::Action::Control(bytes) => Parcel::Control(bytes),
            client::Action::Bulk(frame) => Parcel::Bulk(frame.concat()),
            client::Action::Datagram(bytes) => {
                self.pings_sent.push(self.now);
                Parcel::Datagram(bytes)
            }
            client::Action::Event(event) => {
                return self.at_device.events.push((self.now, event));
            }
            client::Action::Close(violation) => {
                self.at_device.end(self.now, End::Closed(violation.code));
                Parcel::Close(violation.code)
            }
        };
        self.up.send(self.now, parcel);
    }

    fn relay_does(&mut self, action: server::Action) {
        let parcel = match action {
            server::Action::Control(bytes) => Parcel::Control(bytes),
            server::Action::Bulk(frame) => Parcel::Bulk(frame.concat()),
            server::Action::Datagram(bytes) => Parcel::Datagram(bytes),
            server::Action::Event(event) => {
                let is_hello = matches!(event, server::Event::Hello(_));
                self.at_relay.events.push((self.now, event));
                if is_hello {
                    (self.on_hello)(&mut self.relay);
                    self.collect();
                }
                return;
            }
            server::Action::Close(violation) => {
                self.at_relay.end(self.now, End::Closed(violation.code));
                Parcel::Close(violation.code)
            }
        };
        self.down.send(self.now, parcel);
    }

    /// Nothing gets through, in both directions.
    pub(crate) fn cut(&mut self) {
        self.up.is_cut = true;
        self.down.is_cut = true;
    }

    /// Everything gets through again.
    pub(crate) fn heal(&mut self) {
        self.up.is_cut = false;
        self.down.is_cut = false;
    }

    /// Receipts for everything the relay has seen from `first` on, in that order.
    pub(crate) fn answer_from(&mut self, first: usize) {
        let submitted = self.at_relay.events[first..].iter();
        let answers: Vec<_> = submitted
            .filter_map(|(_, event)| match event {
                server::Event::Submit { lane, submit, .. } => Some((*lane, submit.seq)),
                _ => None,
            })
            .collect();
        for (lane, seq) in answers {
            let outcome = Outcome::Stored;
            self.relay.receipt(&Receipt { lane, seq, outcome });
        }
    }

    /// The numbers of the messages that came to the relay on a lane.
    pub(crate) fn submitted(&self, wanted: Lane) -> Vec<u64> {
        let seq = |event: &server::Event| match event {
            server::Event::Submit { lane, submit, .. } if *lane == wanted => Some(submit.seq),
            _ => None,
        };
        self.at_relay.seen().filter_map(seq).collect()
    }

    /// The positions of the messages that came to the device on a lane.
    pub(crate) fn delivered(&self, wanted: Lane) -> Vec<u64> {
        let position = |event: &client::Event| match event {
            client::Event::Message { lane, deliver, .. } if *lane == wanted => {
                Some(deliver.position)
            }
            _ => None,
        };
        self.at_device.seen().filter_map(position).collect()
    }
}

pub(crate) fn submit(seq: u64) -> Submit {
    Submit {
        seq,
        to: "bob/phone".parse().unwrap(),
        options: Options::default(),
        again: false,
    }
}

pub(crate) fn deliver(position: u64) -> Deliver {
    Deliver {
        position,
        from: holdfast_protocol::id::Sender::Device("bob/pc".parse().unwrap()),
        epoch: 33,
        seq: position,
        accepted_ms: 1_767_225_600_000,
        options: Options::default(),
    }
}

/// A body for either lane, different for each `seq`.
pub(crate) fn body(lane: Lane, seq: u64) -> Bytes {
    let size = match lane {
        Lane::Message => 1 + seq as usize % 300,
        Lane::Bulk => 20_000 + seq as usize,
    };
    vec![seq as u8; size].into()
}

/// The bytes of a frame.
pub(crate) fn wire<H: Header>(header: &H) -> Bytes {
    holdfast_protocol::frame::encode(header)
}
