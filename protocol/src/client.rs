//! The device's half of a session.
//!
//! ```text
//!            start                Welcome
//!   [idle] --------> [greeting] ----------> [attached] -- GoAway --> [attached, leaving]
//!                        |                       |
//!                        +---- close, lost ------+---------> [closed]
//! ```
//!
//! Feed it the relay's bytes and the time; after each call take its [`Action`]s until there are no
//! more, and call [`Client::handle_timeout`] when [`Client::deadline`] has come.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::{
    close::{CloseCode, Violation},
    frame::{self, Encoded, FrameReader, FrameType, RawFrame},
    heartbeat::{Beat, Learner, Observation, PingSchedule, Pinger, millis},
    id::{Agent, Lane, Name},
    limits::{
        BULK_DELIVERY_WINDOW, MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_DATAGRAM, MAX_HEADER,
        MAX_MESSAGE_BODY, WELCOME_TIMEOUT,
    },
    message::{Ack, Allow, Allowed, Deliver, Gap, GoAway, Hello, Pong, Receipt, Submit, Welcome},
    time::Time,
};

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// As in [`Hello::agent`].
    pub agent: Agent,
    /// As in [`Hello::outbox`].
    pub outbox: u64,
    /// As in [`Hello::inbox`].
    pub inbox: u64,
    /// How to ping.
    pub pings: PingSchedule,
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

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The relay has taken the session.
    Welcomed(Welcome),
    /// Something became of a submitted message.
    Receipt(Receipt),
    /// A message came.
    Message {
        /// The lane it came on.
        lane: Lane,
        /// Its header.
        deliver: Deliver,
        /// Its body.
        body: Bytes,
    },
    /// Messages will not come.
    Gap(Gap),
    /// The relay is stopping.
    GoAway(GoAway),
    /// The list of allowed senders was changed.
    Allowed(Allowed),
    /// A ping was answered.
    Observed(Observation),
}

/// Why a message cannot be submitted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// There is no session yet, or no more.
    #[error("the session is not attached")]
    NotAttached,
    /// As many messages of the lane are unanswered as the relay allows, or the oldest of them lies
    /// as far back.
    #[error("the window is full: wait for receipts")]
    WindowFull,
    /// The relay takes no body as large.
    #[error("the relay takes {limit} bytes at most")]
    TooLarge {
        /// Its limit, in bytes.
        limit: usize,
    },
}

#[derive(Debug)]
enum Phase {
    Idle,
    Greeting {
        until: Time,
        /// Streams that overtook the welcome: QUIC keeps no order between streams.
        early: Vec<Bytes>,
    },
    Attached(Attached),
    Closed,
}

#[derive(Debug)]
struct Attached {
    /// When the welcome came, and what time it told.
    welcomed: (Time, u64),
    /// Per lane.
    windows: [u16; 2],
    max_body: usize,
    unanswered: [BTreeSet<u64>; 2],
}

impl Attached {
    /// Whether the relay's window has room for a message: it and those that are unanswered have to lie
    /// within it. Distinct numbers within the span cannot be more than the span.
    fn has_room(&self, lane: Lane, seq: u64) -> bool {
        let unanswered = &self.unanswered[lane as usize];
        let oldest = unanswered.first().copied().unwrap_or(seq).min(seq);
        let newest = unanswered.last().copied().unwrap_or(seq).max(seq);
        newest - oldest < u64::from(self.windows[lane as usize])
    }
}

/// The device's half of one session.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    pinger: Pinger,
    phase: Phase,
    reader: FrameReader,
    actions: VecDeque<Action>,
}

impl Client {
    /// A session that is not begun, of an app in the foreground, on a network of which nothing is
    /// known.
    pub fn new(config: ClientConfig) -> Self {
        let learner = Learner::new(&config.pings, None);
        Self {
            pinger: Pinger::new(config.pings, learner, Time::ZERO),
            config,
            phase: Phase::Idle,
            reader: FrameReader::new(MAX_CONTROL_PAYLOAD),
            actions: VecDeque::new(),
        }
    }

    /// The connection is there: greets the relay.
    pub fn start(&mut self, now: Time) {
        let hello = self.hello();
        self.greeted(now);
        self.actions.push_back(Action::Control(hello));
    }

    /// What a session begins with, for whoever sends it along with the first packet.
    pub fn hello(&self) -> Bytes {
        frame::encode(&Hello {
            agent: self.config.agent.clone(),
            outbox: self.config.outbox,
            inbox: self.config.inbox,
            next_within_ms: millis(self.config.pings.interval),
            background: self.pinger.is_background(),
        })
    }

    /// The connection is there, and [`hello`](Self::hello) is on its way.
    pub fn greeted(&mut self, now: Time) {
        self.phase = Phase::Greeting {
            until: now + WELCOME_TIMEOUT,
            early: Vec::new(),
        };
    }

    /// Takes bytes of the control stream.
    pub fn handle_control(&mut self, now: Time, bytes: Bytes) {
        if self.is_closed() {
            return;
        }
        self.pinger.disturb();
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

    /// Takes a whole unidirectional stream, in the order in which the relay opened them.
    pub fn handle_bulk(&mut self, bytes: Bytes) {
        self.pinger.disturb();
        let handled = match &mut self.phase {
            Phase::Closed => return,
            Phase::Greeting { early, .. } if early.len() < BULK_DELIVERY_WINDOW => {
                early.push(bytes);
                return;
            }
            Phase::Idle | Phase::Greeting { .. } => {
                Err(Violation::unexpected("messages before the welcome"))
            }
            Phase::Attached(_) => self.handle_stream(bytes),
        };
        self.close_on_violation(handled);
    }

    /// Takes a datagram.
    pub fn handle_datagram(&mut self, now: Time, bytes: Bytes) {
        if self.is_closed() {
            return;
        }
        let handled = RawFrame::whole(bytes, MAX_DATAGRAM).and_then(|frame| match frame.kind {
            FrameType::Pong => self.handle_pong(now, frame.header()?),
            FrameType::Unknown(_) => Ok(()),
            kind => Err(Violation::unexpected(format!("{kind} in a datagram"))),
        });
        self.close_on_violation(handled);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Greeting { until, .. } if now >= *until => {
                self.close(Violation::new(CloseCode::Unresponsive, "no welcome came"));
            }
            Phase::Attached(_) => match self.pinger.poll(now) {
                Beat::Rest => {}
                Beat::Ping(ping) => self
                    .actions
                    .push_back(Action::Datagram(frame::encode(&ping))),
                Beat::Lost => {
                    self.close(Violation::new(CloseCode::Unresponsive, "no pong came"));
                }
            },
            Phase::Idle | Phase::Greeting { .. } | Phase::Closed => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Greeting { until, .. } => Some(*until),
            Phase::Attached(_) => Some(self.pinger.deadline()),
            Phase::Idle | Phase::Closed => None,
        }
    }

    /// Pings now: something suggests that the path has changed.
    pub fn ping_now(&mut self, now: Time) {
        self.pinger.ping_now(now);
        self.handle_timeout(now);
    }

    /// The app went to the background, or came to the foreground.
    pub fn set_background(&mut self, background: bool, now: Time) {
        self.pinger.set_background(background, now);
        self.handle_timeout(now);
    }

    /// The device has another socket; in another network if that is given, with what is known of it.
    /// Pings at once.
    pub fn rebound(&mut self, network: Option<Learner>, now: Time) {
        self.pinger.rebound(network, now);
        self.handle_timeout(now);
    }

    /// What is known of the network.
    pub fn learner(&self) -> &Learner {
        self.pinger.learner()
    }

    /// Hands the relay a message; its size decides the lane. Messages of a lane are submitted in
    /// the order of their numbers, and after a new session every unanswered one again, from the
    /// oldest.
    ///
    /// # Errors
    /// [`NotNow`] says what to wait for; nothing was sent.
    pub fn submit(&mut self, submit: Submit, body: Bytes) -> Result<(), NotNow> {
        let Phase::Attached(attached) = &mut self.phase else {
            return Err(NotNow::NotAttached);
        };
        if body.len() > attached.max_body {
            return Err(NotNow::TooLarge {
                limit: attached.max_body,
            });
        }
        let lane = Lane::for_body(body.len());
        if !attached.has_room(lane, submit.seq) {
            return Err(NotNow::WindowFull);
        }
        attached.unanswered[lane as usize].insert(submit.seq);
        self.pinger.disturb();
        let encoded = frame::encode_with_body(&submit, body);
        match lane {
            Lane::Message => self.push_control(encoded),
            Lane::Bulk => self.actions.push_back(Action::Bulk(encoded)),
        }
        Ok(())
    }

    /// The application has every message of the lane up to this place.
    pub fn ack(&mut self, ack: Ack) {
        if self.is_attached() {
            self.control(&ack);
        }
    }

    /// Lets another account's devices write to this one's, or no longer. Answered by
    /// [`Event::Allowed`] with the same tag.
    pub fn allow(&mut self, tag: u32, sender: Name, allowed: bool) {
        if self.is_attached() {
            self.control(&Allow {
                tag,
                sender,
                allowed,
            });
        }
    }

    /// Ends the session.
    pub fn goodbye(&mut self) {
        self.close(Violation::new(CloseCode::Goodbye, ""));
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the relay has taken the session, and it has not ended.
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached(_))
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn handle_frame(&mut self, now: Time, frame: &RawFrame) -> Result<(), Violation> {
        match (frame.kind, &self.phase) {
            (FrameType::Unknown(_), _) => Ok(()),
            (FrameType::Welcome, Phase::Greeting { .. }) => {
                self.handle_welcome(now, frame.header()?)
            }
            (FrameType::Receipt, Phase::Attached(_)) => self.handle_receipt(frame.header()?),
            (FrameType::Deliver, Phase::Attached(_)) => self.handle_deliver(Lane::Message, frame),
            (FrameType::Gap, Phase::Attached(_)) => self.event(Event::Gap(frame.header()?)),
            (FrameType::GoAway, Phase::Attached(_)) => self.event(Event::GoAway(frame.header()?)),
            (FrameType::Allowed, Phase::Attached(_)) => self.event(Event::Allowed(frame.header()?)),
            (kind, Phase::Attached(_)) => {
                Err(Violation::unexpected(format!("{kind} from a relay")))
            }
            (kind, _) => Err(Violation::unexpected(format!("{kind} before the welcome"))),
        }
    }

    fn handle_stream(&mut self, bytes: Bytes) -> Result<(), Violation> {
        let frame = RawFrame::whole(bytes, MAX_HEADER + MAX_BULK_BODY)?;
        match frame.kind {
            FrameType::Deliver => self.handle_deliver(Lane::Bulk, &frame),
            FrameType::Unknown(_) => Ok(()),
            kind => Err(Violation::unexpected(format!(
                "{kind} on a stream of its own"
            ))),
        }
    }

    fn handle_welcome(&mut self, now: Time, welcome: Welcome) -> Result<(), Violation> {
        let attached = Phase::Attached(Attached {
            welcomed: (now, welcome.time_ms),
            windows: [welcome.window, welcome.bulk_window],
            max_body: welcome.max_body as usize,
            unanswered: Default::default(),
        });
        let greeting = std::mem::replace(&mut self.phase, attached);
        self.event(Event::Welcomed(welcome))?;
        self.ping_now(now);
        if let Phase::Greeting { early, .. } = greeting {
            early
                .into_iter()
                .try_for_each(|bytes| self.handle_stream(bytes))?;
        }
        Ok(())
    }

    fn handle_receipt(&mut self, receipt: Receipt) -> Result<(), Violation> {
        if let Phase::Attached(attached) = &mut self.phase {
            attached.unanswered[receipt.lane as usize].remove(&receipt.seq);
        }
        self.event(Event::Receipt(receipt))
    }

    fn handle_deliver(&mut self, lane: Lane, frame: &RawFrame) -> Result<(), Violation> {
        let (deliver, body) = frame.decode::<Deliver>()?;
        if lane == Lane::Message && body.len() > MAX_MESSAGE_BODY {
            return Err(Violation::oversized("a large body on the control stream"));
        }
        self.event(Event::Message {
            lane,
            deliver,
            body,
        })
    }

    fn handle_pong(&mut self, now: Time, pong: Pong) -> Result<(), Violation> {
        let Phase::Attached(attached) = &self.phase else {
            return Ok(());
        };
        let (welcomed, time_ms) = attached.welcomed;
        let now_ms = time_ms.saturating_add(u64::from(millis(now.since(welcomed))));
        if let Some(observation) = self.pinger.pong(now, now_ms, pong) {
            self.event(Event::Observed(observation))?;
        }
        // A late answer lets it ping at once, while the radio is awake.
        self.handle_timeout(now);
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), Violation> {
        self.actions.push_back(Action::Event(event));
        Ok(())
    }

    fn control<H: frame::Header>(&mut self, header: &H) {
        self.pinger.disturb();
        self.actions
            .push_back(Action::Control(frame::encode(header)));
    }

    fn push_control(&mut self, encoded: Encoded) {
        self.actions.push_back(Action::Control(encoded.head));
        if !encoded.body.is_empty() {
            self.actions.push_back(Action::Control(encoded.body));
        }
    }

    fn close_on_violation(&mut self, handled: Result<(), Violation>) {
        if let Err(violation) = handled {
            self.close(violation);
        }
    }

    fn close(&mut self, violation: Violation) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.actions.push_back(Action::Close(violation));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{Arrival, arrivals};

    fn greeting() -> Client {
        let mut client = Client::new(ClientConfig {
            agent: "test/1".parse().unwrap(),
            outbox: 1,
            inbox: 2,
            pings: PingSchedule::default(),
        });
        client.start(Time::ZERO);
        client
    }

    fn attached() -> Client {
        let mut client = greeting();
        let welcome = Welcome {
            relay: "r1".parse().unwrap(),
            boot: 7,
            window: 4,
            bulk_window: 2,
            max_body: 1024 * 1024,
            time_ms: 0,
            redial_ms: 0,
        };
        client.handle_control(Time::ZERO, frame::encode(&welcome));
        client
    }

    fn submit(seq: u64) -> Submit {
        Submit {
            seq,
            ..Submit::example()
        }
    }

    #[test]
    fn the_window_bounds_how_far_the_numbers_lie_apart() {
        let mut client = attached();
        for seq in 1..=4 {
            assert_eq!(client.submit(submit(seq), Bytes::new()), Ok(()));
        }
        let receipt = Receipt {
            lane: Lane::Message,
            seq: 3,
            outcome: crate::message::Outcome::Stored,
        };
        client.handle_control(Time::ZERO, frame::encode(&receipt));
        assert_eq!(
            client.submit(submit(5), Bytes::new()),
            Err(NotNow::WindowFull)
        );
        let oldest = Receipt { seq: 1, ..receipt };
        client.handle_control(Time::ZERO, frame::encode(&oldest));
        assert_eq!(client.submit(submit(5), Bytes::new()), Ok(()));
        assert_eq!(
            client.submit(submit(6), Bytes::new()),
            Err(NotNow::WindowFull)
        );
    }

    #[test]
    fn a_number_below_the_window_is_held_back_too() {
        let mut client = attached();
        assert_eq!(client.submit(submit(9), Bytes::new()), Ok(()));
        let full = Err(NotNow::WindowFull);
        assert_eq!(client.submit(submit(5), Bytes::new()), full);
        assert_eq!(client.submit(submit(6), Bytes::new()), Ok(()));
        assert_eq!(client.submit(submit(10), Bytes::new()), full);
    }

    #[test]
    fn the_bulk_lane_has_a_window_of_its_own() {
        let mut client = attached();
        let large = Bytes::from(vec![0; MAX_MESSAGE_BODY + 1]);
        for seq in 1..=2 {
            assert_eq!(client.submit(submit(seq), large.clone()), Ok(()));
        }
        assert_eq!(client.submit(submit(3), large), Err(NotNow::WindowFull));
        assert_eq!(client.submit(submit(1), Bytes::new()), Ok(()));
    }

    #[test]
    fn more_streams_than_may_be_on_their_way_do_not_wait_for_the_welcome() {
        let mut client = greeting();
        for _ in 0..BULK_DELIVERY_WINDOW {
            client.handle_bulk(Bytes::from_static(b"anything"));
        }
        assert!(!client.is_closed());
        client.handle_bulk(Bytes::from_static(b"anything"));
        assert!(client.is_closed());
    }

    #[test]
    fn nothing_is_kept_after_the_close() {
        let mut client = attached();
        client.goodbye();
        for _ in 0..3 {
            client.handle_control(Time::ZERO, Bytes::from_static(&[0x04]));
        }
        assert_eq!(client.reader.held(), 0);
        assert_eq!(client.deadline(), None);
    }

    fn feed(client: &mut Client, now: &mut Time, arrival: Arrival) {
        match arrival {
            Arrival::Control(bytes) => client.handle_control(*now, bytes),
            Arrival::Bulk(bytes) => client.handle_bulk(bytes),
            Arrival::Datagram(bytes) => client.handle_datagram(*now, bytes),
            Arrival::Silence(ms) => {
                *now = *now + Duration::from_millis(ms);
                client.handle_timeout(*now);
            }
        }
    }

    proptest! {
        #[test]
        fn no_arrival_makes_it_panic_or_hoard(
            welcomed: bool,
            arrivals in arrivals(),
        ) {
            let mut client = if welcomed { attached() } else { greeting() };
            let mut now = Time::ZERO;
            for arrival in arrivals {
                feed(&mut client, &mut now, arrival);
                prop_assert!(client.reader.held() < MAX_CONTROL_PAYLOAD + 5);
                if let Phase::Greeting { early, .. } = &client.phase {
                    prop_assert!(early.len() <= BULK_DELIVERY_WINDOW);
                }
                while let Some(action) = client.poll() {
                    let last = matches!(action, Action::Close(_));
                    prop_assert!(!last || client.actions.is_empty(), "nothing follows a close");
                }
            }
        }
    }
}
