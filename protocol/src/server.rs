//! The relay's half of a session.
//!
//! ```text
//!                 Hello              welcome()
//!   [awaiting] ----------> [greeted] ----------> [attached]
//!       |                      |                     |
//!       +--- close, timeout ---+---------------------+----> [closed]
//! ```
//!
//! Feed it the device's bytes and the time; after each call take its [`Action`]s until there are no
//! more, and call [`Server::handle_timeout`] when [`Server::deadline`] has come.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    close::{CloseCode, Violation},
    frame::{self, Encoded, FrameReader, FrameType, RawFrame},
    heartbeat::{Watch, millis},
    id::{Lane, Name},
    limits::{HELLO_TIMEOUT, MAX_CONTROL_PAYLOAD, MAX_DATAGRAM, MAX_HEADER, MAX_MESSAGE_BODY},
    message::{
        Ack, Allow, Allowed, Deliver, Gap, GoAway, Hello, Ping, Pong, Receipt, Submit, Welcome,
    },
    time::Time,
};

/// What a relay tells each session, and how long it waits.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// As in [`Welcome::relay`].
    pub relay: Name,
    /// As in [`Welcome::boot`].
    pub boot: u64,
    /// The largest body taken, in bytes.
    pub max_body: usize,
    /// Added to one and a half times the announced interval before a silent device is dropped.
    pub ping_grace: Duration,
}

/// What the caller is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to the control stream.
    Control(Bytes),
    /// Open a unidirectional stream, write this and finish it; streams in the order of the actions.
    Bulk(Encoded),
    /// Send this datagram.
    Datagram(Bytes),
    /// Take note of this.
    Event(Event),
    /// Close the connection; nothing follows.
    Close(Violation),
}

/// What the device asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It wants a session; answer with [`Server::welcome`].
    Hello(Hello),
    /// It sends a message; answer with [`Server::receipt`].
    Submit {
        /// The lane it came on.
        lane: Lane,
        /// Its header.
        submit: Submit,
        /// Its body.
        body: Bytes,
    },
    /// Its application has messages.
    Ack(Ack),
    /// It has pinged: its radio is awake.
    Seen {
        /// As in [`Ping::background`].
        background: bool,
    },
    /// It changes its account's list of allowed senders; answer with [`Server::allowed`].
    Allow(Allow),
}

#[derive(Debug)]
enum Phase {
    Awaiting {
        until: Time,
    },
    Greeted {
        watch: Watch,
    },
    Attached {
        watch: Watch,
        unanswered: [BTreeSet<u64>; 2],
    },
    Closed,
}

/// The relay's half of one session.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    phase: Phase,
    reader: FrameReader,
    actions: VecDeque<Action>,
}

impl Server {
    /// A session whose connection is there.
    pub fn new(config: ServerConfig, now: Time) -> Self {
        Self {
            config,
            phase: Phase::Awaiting {
                until: now + HELLO_TIMEOUT,
            },
            reader: FrameReader::new(MAX_CONTROL_PAYLOAD),
            actions: VecDeque::new(),
        }
    }

    /// Takes bytes of the control stream.
    pub fn handle_control(&mut self, now: Time, bytes: Bytes) {
        if self.is_closed() {
            return;
        }
        self.reader.push(bytes);
        while !self.is_closed() {
            let handled = match self.reader.next() {
                Ok(Some(frame)) => self.handle_frame(now, &frame),
                Ok(None) => return,
                Err(violation) => Err(violation),
            };
            self.close_on_violation(handled);
        }
    }

    /// Takes a whole unidirectional stream, in the order in which the device opened them.
    pub fn handle_bulk(&mut self, bytes: Bytes) {
        if self.is_closed() {
            return;
        }
        let handled = RawFrame::whole(bytes, self.max_bulk_stream()).and_then(|frame| {
            match (frame.kind, self.is_attached()) {
                (FrameType::Submit, true) => self.handle_submit(Lane::Bulk, &frame),
                (FrameType::Unknown(_), _) => Ok(()),
                (kind, _) => Err(Violation::unexpected(format!(
                    "{kind} on a stream of its own"
                ))),
            }
        });
        self.close_on_violation(handled);
    }

    /// The longest unidirectional stream worth reading, in bytes.
    pub fn max_bulk_stream(&self) -> usize {
        MAX_HEADER + self.config.max_body
    }

    /// Takes a datagram that came from `observed`.
    pub fn handle_datagram(&mut self, now: Time, bytes: Bytes, observed: SocketAddr) {
        if self.is_closed() {
            return;
        }
        let handled = RawFrame::whole(bytes, MAX_DATAGRAM).and_then(|frame| match frame.kind {
            FrameType::Ping => self.handle_ping(now, frame.header()?, observed),
            FrameType::Unknown(_) => Ok(()),
            kind => Err(Violation::unexpected(format!("{kind} in a datagram"))),
        });
        self.close_on_violation(handled);
    }

    /// Does what is due: ends a session that was not opened, or whose device fell silent.
    pub fn handle_timeout(&mut self, now: Time) {
        match &self.phase {
            Phase::Awaiting { until } if now >= *until => {
                self.close(Violation::new(CloseCode::HelloTimeout, "no hello came"));
            }
            Phase::Greeted { watch } | Phase::Attached { watch, .. } if watch.has_passed(now) => {
                self.close(Violation::new(
                    CloseCode::PingTimeout,
                    "no ping came in time",
                ));
            }
            _ => {}
        }
        if let Some(pong) = self.watch().and_then(|watch| watch.poll(now)) {
            self.datagram(&pong);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Awaiting { until } => Some(*until),
            Phase::Greeted { watch } | Phase::Attached { watch, .. } => Some(watch.due()),
            Phase::Closed => None,
        }
    }

    /// Takes the session that [`Event::Hello`] asked for. `time_ms` and `redial` are as in [`Welcome`].
    pub fn welcome(&mut self, time_ms: u64, redial: Duration) {
        let Phase::Greeted { watch } = self.phase else {
            return;
        };
        self.phase = Phase::Attached {
            watch,
            unanswered: Default::default(),
        };
        self.control(&Welcome {
            relay: self.config.relay.clone(),
            boot: self.config.boot,
            window: Lane::Message.window() as u16,
            bulk_window: Lane::Bulk.window() as u16,
            max_body: u32::try_from(self.config.max_body).unwrap_or(u32::MAX),
            time_ms,
            redial_ms: millis(redial),
        });
    }

    /// Hands the device a message.
    pub fn deliver(&mut self, lane: Lane, deliver: &Deliver, body: Bytes) {
        if !self.is_attached() {
            return;
        }
        let encoded = frame::encode_with_body(deliver, body);
        match lane {
            Lane::Message => {
                self.actions.push_back(Action::Control(encoded.head));
                if !encoded.body.is_empty() {
                    self.actions.push_back(Action::Control(encoded.body));
                }
            }
            Lane::Bulk => self.actions.push_back(Action::Bulk(encoded)),
        }
    }

    /// Tells the device what became of a message of its own.
    pub fn receipt(&mut self, receipt: &Receipt) {
        if let Phase::Attached { unanswered, .. } = &mut self.phase {
            unanswered[receipt.lane as usize].remove(&receipt.seq);
            self.control(receipt);
        }
    }

    /// Tells the device of messages that will not come.
    pub fn gap(&mut self, gap: &Gap) {
        if self.is_attached() {
            self.control(gap);
        }
    }

    /// Answers [`Event::Allow`].
    pub fn allowed(&mut self, tag: u32) {
        if self.is_attached() {
            self.control(&Allowed { tag });
        }
    }

    /// Asks the device to go elsewhere.
    pub fn go_away(&mut self, go_away: &GoAway) {
        if self.is_attached() {
            self.control(go_away);
        }
    }

    /// Ends the session.
    pub fn close(&mut self, violation: Violation) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.actions.push_back(Action::Close(violation));
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Little happens: gives back the memory that busier times have needed.
    pub fn rest(&mut self) {
        self.actions.shrink_to_fit();
    }

    /// Whether the session has been welcomed, and has not ended.
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached { .. })
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn handle_frame(&mut self, now: Time, frame: &RawFrame) -> Result<(), Violation> {
        match (frame.kind, &self.phase) {
            (FrameType::Unknown(_), _) => Ok(()),
            (FrameType::Hello, Phase::Awaiting { .. }) => self.handle_hello(now, frame.header()?),
            (FrameType::Submit, Phase::Attached { .. }) => self.handle_submit(Lane::Message, frame),
            (FrameType::Ack, Phase::Attached { .. }) => self.event(Event::Ack(frame.header()?)),
            (FrameType::Allow, Phase::Attached { .. }) => self.event(Event::Allow(frame.header()?)),
            (kind, Phase::Awaiting { .. } | Phase::Greeted { .. }) => Err(Violation::unexpected(
                format!("{kind} before the session was opened"),
            )),
            (kind, _) => Err(Violation::unexpected(format!("{kind} from a device"))),
        }
    }

    fn handle_hello(&mut self, now: Time, hello: Hello) -> Result<(), Violation> {
        let watch = Watch::new(now, hello.next_within_ms, self.config.ping_grace);
        self.phase = Phase::Greeted { watch };
        self.event(Event::Hello(hello))
    }

    fn handle_submit(&mut self, lane: Lane, frame: &RawFrame) -> Result<(), Violation> {
        let (submit, body) = frame.decode::<Submit>()?;
        if lane == Lane::Message && body.len() > MAX_MESSAGE_BODY {
            return Err(Violation::oversized("a large body on the control stream"));
        }
        if body.len() > self.config.max_body {
            return Err(Violation::oversized(format!(
                "a body of {} bytes",
                body.len()
            )));
        }
        if let Phase::Attached { unanswered, .. } = &mut self.phase {
            admit(&mut unanswered[lane as usize], lane.window(), submit.seq)?;
        }
        self.event(Event::Submit { lane, submit, body })
    }

    fn handle_ping(&mut self, now: Time, ping: Ping, from: SocketAddr) -> Result<(), Violation> {
        let pong = match self.watch() {
            Some(watch) => watch.ping(now, ping, from),
            None => Pong::at_once(&ping, from),
        };
        self.datagram(&pong);
        if self.is_attached() {
            self.event(Event::Seen {
                background: ping.background,
            })?;
        }
        Ok(())
    }

    fn watch(&mut self) -> Option<&mut Watch> {
        match &mut self.phase {
            Phase::Greeted { watch } | Phase::Attached { watch, .. } => Some(watch),
            Phase::Awaiting { .. } | Phase::Closed => None,
        }
    }

    fn datagram(&mut self, pong: &Pong) {
        self.actions
            .push_back(Action::Datagram(frame::encode(pong)));
    }

    fn event(&mut self, event: Event) -> Result<(), Violation> {
        self.actions.push_back(Action::Event(event));
        Ok(())
    }

    fn control<H: frame::Header>(&mut self, header: &H) {
        self.actions
            .push_back(Action::Control(frame::encode(header)));
    }

    fn close_on_violation(&mut self, handled: Result<(), Violation>) {
        if let Err(violation) = handled {
            self.close(violation);
        }
    }
}

/// Counts a message as unanswered, if the window has room for it.
fn admit(unanswered: &mut BTreeSet<u64>, window: u64, seq: u64) -> Result<(), Violation> {
    unanswered.insert(seq);
    let oldest = unanswered.first().copied().unwrap_or(seq);
    let newest = unanswered.last().copied().unwrap_or(seq);
    // Distinct numbers within the span cannot be more than the span.
    if newest - oldest < window {
        return Ok(());
    }
    let what = format!("{newest} was sent while {oldest} is unanswered; the window is {window}");
    Err(Violation::new(CloseCode::WindowExceeded, what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::{Arrival, arrivals},
        heartbeat::Deadline,
        limits::{BULK_WINDOW, WINDOW},
        message::Outcome,
    };

    fn awaiting() -> Server {
        let config = ServerConfig {
            relay: "r1".parse().unwrap(),
            boot: 7,
            max_body: 1024 * 1024,
            ping_grace: Deadline::DEFAULT_GRACE,
        };
        Server::new(config, Time::ZERO)
    }

    fn attached() -> Server {
        let mut server = awaiting();
        let hello = Hello {
            agent: "test/1".parse().unwrap(),
            outbox: 1,
            inbox: 2,
            next_within_ms: 25_000,
            background: false,
        };
        server.handle_control(Time::ZERO, frame::encode(&hello));
        server.welcome(0, Duration::ZERO);
        while server.poll().is_some() {}
        server
    }

    fn submit(server: &mut Server, seq: u64) -> Option<Action> {
        let submit = Submit {
            seq,
            ..Submit::example()
        };
        server.handle_control(Time::ZERO, frame::encode(&submit));
        server.poll()
    }

    fn submit_large(server: &mut Server, seq: u64) -> Option<Action> {
        let submit = Submit {
            seq,
            ..Submit::example()
        };
        server.handle_bulk(frame::encode(&submit));
        server.poll()
    }

    fn is_window_exceeded(action: Option<Action>) -> bool {
        matches!(action, Some(Action::Close(why)) if why.code == CloseCode::WindowExceeded)
    }

    #[test]
    fn as_many_as_the_window_may_be_unanswered_and_no_more() {
        let mut server = attached();
        for seq in 1..=WINDOW {
            assert!(matches!(submit(&mut server, seq), Some(Action::Event(_))));
        }
        for seq in 1..=BULK_WINDOW {
            let taken = submit_large(&mut server, seq);
            assert!(matches!(taken, Some(Action::Event(_))), "lanes are apart");
        }
        assert!(is_window_exceeded(submit_large(
            &mut server,
            BULK_WINDOW + 1
        )));
        let mut server = attached();
        (1..=WINDOW).for_each(|seq| drop(submit(&mut server, seq)));
        assert!(is_window_exceeded(submit(&mut server, WINDOW + 1)));
    }

    #[test]
    fn the_window_bounds_how_far_the_numbers_lie_apart() {
        let mut server = attached();
        submit(&mut server, 1);
        submit(&mut server, 2);
        server.receipt(&Receipt {
            lane: Lane::Message,
            seq: 2,
            outcome: Outcome::Stored,
        });
        server.poll();
        assert!(matches!(
            submit(&mut server, WINDOW),
            Some(Action::Event(_))
        ));
        assert!(is_window_exceeded(submit(&mut server, WINDOW + 1)));
    }

    #[test]
    fn nothing_is_kept_after_the_close() {
        let mut server = attached();
        server.close(Violation::new(CloseCode::Superseded, ""));
        for _ in 0..3 {
            server.handle_control(Time::ZERO, Bytes::from_static(&[0x03]));
        }
        assert_eq!(server.reader.held(), 0);
        assert_eq!(server.deadline(), None);
    }

    fn feed(server: &mut Server, now: &mut Time, arrival: Arrival) {
        let from = "192.0.2.1:4433".parse().unwrap();
        match arrival {
            Arrival::Control(bytes) => server.handle_control(*now, bytes),
            Arrival::Bulk(bytes) => server.handle_bulk(bytes),
            Arrival::Datagram(bytes) => server.handle_datagram(*now, bytes, from),
            Arrival::Silence(ms) => {
                *now = *now + Duration::from_millis(ms);
                server.handle_timeout(*now);
            }
        }
    }

    proptest! {
        #[test]
        fn no_arrival_makes_it_panic_or_hoard(
            welcomed: bool,
            arrivals in arrivals(),
        ) {
            let mut server = if welcomed { attached() } else { awaiting() };
            let mut now = Time::ZERO;
            for arrival in arrivals {
                feed(&mut server, &mut now, arrival);
                prop_assert!(server.reader.held() < MAX_CONTROL_PAYLOAD + 5);
                if let Phase::Attached { unanswered, .. } = &server.phase {
                    for lane in Lane::ALL {
                        prop_assert!(unanswered[lane as usize].len() as u64 <= lane.window());
                    }
                }
                while let Some(action) = server.poll() {
                    let last = matches!(action, Action::Close(_));
                    prop_assert!(!last || server.actions.is_empty(), "nothing follows a close");
                }
            }
        }
    }
}
