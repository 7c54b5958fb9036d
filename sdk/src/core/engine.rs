//! The client's course: between a session, the search for one, and the end. While a session serves,
//! a [rival](super::rival) may be dialled beside it, and take its place; so it does when the relay is
//! stopping.
//!
//! ```text
//!              welcome                closed, failed
//!  searching ─────────> serving ────────────────────────> closing ─> stopped
//!      ^ ^                │ │                              ^
//!      │ └─ lost, go away ┘ │ superseded                   │
//!      │                    v                              │
//!      └─── reconnect ─── parked ──────── closed, failed ──┘
//! ```

use std::{mem, net::SocketAddr, time::Duration};

use holdfast_protocol::{
    allocation::Allocation,
    client::{Action, ClientConfig, Event},
    close::CloseCode,
    id::Name,
    message::{GoAway, RelayAddress, Welcome},
    radio::RadioAccount,
    time::Time,
};
use holdfast_transport::Ending;

use super::{
    allowing::Change,
    backoff::Backoff,
    desk::Desk,
    failure::Failure,
    ghosts::Ghosts,
    inbox::Mark,
    itinerary::{Itinerary, Stop},
    logbook::Logbook,
    rival::Rival,
    search::{Errand, Search, Superseded},
    session::Session,
    signal::{Input, Job, Output, Outputs},
    surroundings::{KnownNetwork, Surroundings},
};
use crate::{State, config::Retry};

mod leaving;
mod moving;

/// How long an end waits until what was written has arrived.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What an engine is made from.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where the allocators listen, in the order in which they are asked.
    pub allocators: Vec<SocketAddr>,
    /// What each session is opened with.
    pub session: ClientConfig,
    /// How long to wait between two rounds.
    pub retry: Retry,
    /// Decides the waits.
    pub seed: u64,
}

/// What the disk knew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Per lane, the number of the last message that was ever put into the outbox.
    pub tails: [u64; 2],
    /// How far the app has come with each source.
    pub marks: Vec<Mark>,
    /// The account of time.
    pub logbook: Logbook,
    /// The relays of the last allocation.
    pub relays: Vec<RelayAddress>,
    /// What was learned of networks.
    pub networks: Vec<KnownNetwork>,
}

/// Where the client is on its course.
#[derive(Debug)]
enum Phase {
    Dialling {
        stop: Stop,
        session: Session,
    },
    Asking,
    Resting {
        until: Time,
    },
    Greeting {
        stop: Stop,
        session: Session,
    },
    Serving {
        stop: Stop,
        session: Session,
        rival: Rival,
        /// The relay is stopping, and has asked the device to go.
        leaving: Option<GoAway>,
    },
    /// What was written is to arrive before the connection is closed. Closing a QUIC connection
    /// throws away what is under way, so a ping is sent after it, and its answer awaited.
    Leaving {
        session: Session,
        pinged: bool,
        until: Time,
        then: Next,
    },
    /// Until the device is in a network again.
    Offline,
    /// Until the app asks for a relay.
    Parked,
    /// Until the storage has done what was asked of it.
    Closing {
        state: State,
        session: Option<Session>,
    },
    Stopped,
}

/// How a session was lost.
struct Loss<'a> {
    relay: Name,
    /// How old it was.
    age: Duration,
    ending: &'a Ending,
    /// The device was about to go.
    leaving: Option<GoAway>,
}

impl Loss<'_> {
    fn is_superseded(&self) -> bool {
        let code = CloseCode::Superseded;
        matches!(self.ending, Ending::Closed { code: found, .. } if *found == code)
    }
}

/// What comes after a session that was left.
#[derive(Debug)]
enum Next {
    Search,
    Stop(State),
}

/// One client.
#[derive(Debug)]
pub struct Engine {
    config: ClientConfig,
    search: Search,
    ghosts: Ghosts,
    desk: Desk,
    surroundings: Surroundings,
    radio: RadioAccount,
    /// The last one that was measured.
    round_trip: Option<Duration>,
    /// When the sockets were last exchanged.
    moved: Option<Time>,
    /// The app was told that its session has no network.
    was_offline: bool,
    phase: Phase,
    outputs: Outputs,
}

impl Engine {
    /// A client that begins to look for a relay.
    pub fn new(config: EngineConfig, mut restored: Restored, now: Time) -> Self {
        let relays = mem::take(&mut restored.relays);
        let networks = mem::take(&mut restored.networks);
        let itinerary = Itinerary::new(config.allocators, relays);
        let mut engine = Self {
            surroundings: Surroundings::new(config.session.pings, networks),
            radio: RadioAccount::new(now),
            ghosts: Ghosts::default(),
            round_trip: None,
            moved: None,
            was_offline: false,
            config: config.session,
            search: Search::new(itinerary, Backoff::new(config.retry, config.seed)),
            desk: Desk::new(restored),
            phase: Phase::Parked,
            outputs: Outputs::new(),
        };
        engine.seek(now);
        engine.count_said(0, now);
        engine
    }

    /// Takes what happened. `now` never goes back.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.handle_all(now, [input]);
    }

    /// Takes what happened at the same time, and says only then what is to be said of it: an
    /// acknowledgement of the last covers the others.
    pub fn handle_all(&mut self, now: Time, inputs: impl IntoIterator<Item = Input>) {
        let before = self.outputs.len();
        for input in inputs {
            self.take(now, input);
        }
        self.converse(now);
        self.count_said(before, now);
    }

    fn take(&mut self, now: Time, input: Input) {
        if let Some(bytes) = input.air_bytes() {
            self.radio.receive(bytes, now);
        }
        match input {
            Input::Connected => self.connected(now),
            Input::DialFailed(failure) => self.dial_failed(now, failure),
            Input::Allocated(allocation) => self.allocated(now, allocation),
            Input::Control(bytes) => self.with_session(|session| session.control(now, bytes)),
            Input::Bulk(bytes) => self.with_session(|session| session.bulk(bytes)),
            Input::Datagram(bytes) => self.with_session(|session| session.datagram(now, bytes)),
            Input::Flushed => self.flushed(now),
            Input::Ended(ending) => self.ended(now, &ending),
            Input::Appended { lane, entry } => self.desk.appended(lane, entry),
            Input::Loaded(loaded) => self.desk.loaded(loaded),
            Input::Marked(mark) => self.desk.marked(&mark, &mut self.outputs),
            Input::Begun { page } => self.desk.begun(page),
            Input::Done { source, seq } => self.desk.done(source, seq, &mut self.outputs),
            Input::Dropped { source, seq } => self.desk.dropped(&source, seq),
            Input::Allow {
                tag,
                account,
                allowed,
            } => self.desk.allow(Change {
                tag,
                account,
                allowed,
            }),
            Input::Background(background) => self.set_background(background, now),
            Input::Network { name } => self.network_changed(name, now),
            Input::NetworkLost => self.network_lost(),
            Input::SendFailed => self.send_failed(now),
            Input::Reconnect => self.reconnect(now),
            Input::Close => self.close(State::Closed),
            Input::StorageFailed(why) => self.close(State::Failed { why }),
            Input::StorageEnded => self.storage_ended(now),
            Input::Timeout => self.handle_timeout(now),
        }
    }

    /// Counts what was said last, behind so many outputs that nobody has fetched yet.
    fn count_said(&mut self, before: usize, now: Time) {
        for output in self.outputs.iter().skip(before) {
            if let Some(bytes) = output.air_bytes() {
                self.radio.send(bytes, now);
            }
        }
    }

    /// What the radio was used for so far.
    pub fn radio(&self) -> &RadioAccount {
        &self.radio
    }

    /// So much of what was given out has not left yet, in bytes: large bodies wait while it is much.
    pub fn set_backlog(&mut self, bytes: usize) {
        self.with_session(|session| session.set_backlog(bytes));
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Resting { until } => Some(*until),
            Phase::Greeting { session, .. } => session.deadline(),
            // What is due has to wait for a network.
            Phase::Serving { .. } if self.surroundings.is_offline() => None,
            Phase::Serving { session, rival, .. } => [session.deadline(), rival.due()]
                .into_iter()
                .flatten()
                .min(),
            Phase::Leaving { session, until, .. } => {
                Some(session.deadline().map_or(*until, |due| due.min(*until)))
            }
            Phase::Dialling { .. }
            | Phase::Asking
            | Phase::Offline
            | Phase::Parked
            | Phase::Closing { .. }
            | Phase::Stopped => None,
        }
    }

    fn seek(&mut self, now: Time) {
        if self.surroundings.is_offline() {
            self.phase = Phase::Offline;
            self.outputs.push_back(Output::State(State::Offline));
            return;
        }
        let (errand, state) = self.search.next();
        self.outputs.push_back(Output::State(state));
        self.phase = match errand {
            Errand::Dial(stop) => {
                let session = self.dial(stop.clone(), now);
                Phase::Dialling { stop, session }
            }
            Errand::Ask(address) => {
                self.outputs.push_back(Output::Ask(address));
                Phase::Asking
            }
            Errand::Rest(span) => Phase::Resting { until: now + span },
        };
    }

    /// Has a relay dialled, and greeted at once. The session that this is to become.
    fn dial(&mut self, stop: Stop, now: Time) -> Session {
        let (learner, background) = (
            self.surroundings.learner(),
            self.surroundings.is_background(),
        );
        let session = Session::new(self.config.clone(), learner, background, now);
        let hello = session.hello();
        self.ghosts.dialled(now);
        self.outputs.push_back(Output::Dial { stop, hello });
        session
    }

    fn seek_unless(&mut self, superseded: Result<(), Superseded>, now: Time) {
        match superseded {
            Ok(()) => self.seek(now),
            Err(Superseded) => {
                self.phase = Phase::Parked;
                self.outputs.push_back(Output::State(State::Superseded));
            }
        }
    }

    fn connected(&mut self, now: Time) {
        self.phase = match mem::replace(&mut self.phase, Phase::Parked) {
            Phase::Dialling { stop, mut session } => {
                session.set_background(self.surroundings.is_background(), now);
                session.greeted(now);
                Phase::Greeting { stop, session }
            }
            Phase::Serving {
                session: former,
                rival: Rival::Dialling { stop, mut session },
                ..
            } => {
                self.retire(&former);
                session.set_background(self.surroundings.is_background(), now);
                session.greeted(now);
                let session = *session;
                Phase::Greeting { stop, session }
            }
            other => other,
        };
    }

    fn dial_failed(&mut self, now: Time, failure: Failure) {
        match &self.phase {
            Phase::Dialling { .. } => self.failed(now, failure),
            Phase::Asking => {
                self.search.unanswered(failure);
                self.seek(now);
            }
            Phase::Serving { .. } => self.rival_failed(failure, now),
            _ => {}
        }
    }

    fn failed(&mut self, now: Time, failure: Failure) {
        let done = self.search.failed(failure);
        self.seek_unless(done, now);
    }

    fn allocated(&mut self, now: Time, allocation: Allocation) {
        if let Phase::Asking = self.phase {
            let relays = self.search.allocated(allocation).map(Job::Remember);
            self.outputs.extend(relays.map(Output::Store));
            self.seek(now);
        }
    }

    /// The session has begun.
    fn welcomed(&mut self, now: Time, welcome: Welcome) {
        let Phase::Greeting { stop, session } = mem::replace(&mut self.phase, Phase::Parked) else {
            return;
        };
        if welcome.relay != stop.relay {
            return self.mistaken(&stop, session, &welcome.relay, now);
        }
        let relay = stop.relay.clone();
        let redial = Duration::from_millis(welcome.redial_ms.into());
        self.ghosts.welcomed();
        self.search.attached(&relay, redial);
        let time_ms = welcome.time_ms;
        self.desk.begin_session(now, time_ms, &mut self.outputs);
        self.outputs.push_back(Output::Welcomed(welcome));
        self.outputs
            .push_back(Output::State(State::Attached { relay }));
        self.phase = Phase::Serving {
            stop,
            session,
            rival: Rival::None,
            leaving: None,
        };
    }

    /// Somebody else answers there. A resumed connection proves no more than that it is a relay of the
    /// trust domain; its name is what it says of itself.
    fn mistaken(&mut self, stop: &Stop, mut session: Session, found: &Name, now: Time) {
        session.goodbye();
        self.hang_up(session);
        let (relay, address) = (&stop.relay, stop.address);
        let why = format!("relay {relay} at {address}: this is relay/{found}");
        self.failed(now, Failure::Untrusted(why));
    }

    /// The connection has ended by itself.
    fn ended(&mut self, now: Time, ending: &Ending) {
        match mem::replace(&mut self.phase, Phase::Parked) {
            Phase::Greeting { stop, .. } => {
                let who = format!("relay {} at {}", stop.relay, stop.address);
                self.failed(now, Failure::from_ending(&who, ending));
            }
            Phase::Serving {
                stop,
                session,
                rival,
                leaving,
            } => {
                self.retire(&session);
                let loss = Loss {
                    relay: stop.relay,
                    age: session.age(now),
                    ending,
                    leaving,
                };
                self.lost(loss, rival, now);
            }
            Phase::Leaving { then, .. } => self.proceed(then, now),
            Phase::Closing { state, .. } => {
                let session = None;
                self.phase = Phase::Closing { state, session };
            }
            other => self.phase = other,
        }
    }

    fn lost(&mut self, loss: Loss<'_>, rival: Rival, now: Time) {
        match rival {
            Rival::Dialling { stop, session } => {
                let session = *session;
                self.phase = Phase::Dialling { stop, session };
            }
            _ if loss.is_superseded() && self.ghosts.may_walk(now) => {
                self.search.hurry();
                self.seek(now);
            }
            _ => {
                let successors = loss.leaving.as_ref().map(|it| &it.successors[..]);
                let done = self
                    .search
                    .lost(&loss.relay, successors, (loss.ending, loss.age));
                self.seek_unless(done, now);
            }
        }
    }

    /// A session is over: what it has learned and what it did not finish outlives it.
    fn retire(&mut self, session: &Session) {
        self.surroundings.keep(session.learner());
        self.desk.end_session(&mut self.outputs);
    }

    fn reconnect(&mut self, now: Time) {
        if self.is_ending() || matches!(self.phase, Phase::Leaving { .. }) {
            return;
        }
        self.surroundings.find_network();
        self.search.hurry();
        match self.end_session() {
            Some(session) => self.leave(session, Next::Search, now),
            None => self.seek(now),
        }
    }

    /// Ends everything. What the app was told is done is remembered and acknowledged before.
    fn close(&mut self, state: State) {
        if self.is_ending() {
            return;
        }
        let session = self.end_session();
        self.phase = Phase::Closing { state, session };
        self.outputs.push_back(Output::Shut);
    }

    fn storage_ended(&mut self, now: Time) {
        self.close(State::Failed {
            why: "the thread that writes has ended".to_owned(),
        });
        match mem::replace(&mut self.phase, Phase::Parked) {
            Phase::Closing { state, session } => match session {
                Some(mut session) => {
                    self.desk.acknowledge(&mut session);
                    self.leave(session, Next::Stop(state), now);
                }
                None => self.proceed(Next::Stop(state), now),
            },
            other => self.phase = other,
        }
    }

    /// Leaves what the phase was about, and hands back its session, if it is attached.
    fn end_session(&mut self) -> Option<Session> {
        match mem::replace(&mut self.phase, Phase::Parked) {
            Phase::Serving { session, rival, .. } => {
                self.retire(&session);
                if rival.is_dialling() {
                    self.outputs.push_back(Output::Abandon);
                }
                return Some(session);
            }
            Phase::Leaving { session, .. } => return Some(session),
            Phase::Dialling { .. } | Phase::Asking => self.outputs.push_back(Output::Abandon),
            Phase::Greeting { mut session, .. } => {
                session.goodbye();
                self.hang_up(session);
            }
            Phase::Resting { .. }
            | Phase::Offline
            | Phase::Parked
            | Phase::Closing { .. }
            | Phase::Stopped => {}
        }
        None
    }

    /// Ends a session once what was written has arrived, or after a second: past the time, what was
    /// not confirmed is sent again with the next session. What the relay says meanwhile, it says
    /// again then, too.
    fn leave(&mut self, session: Session, then: Next, now: Time) {
        self.phase = Phase::Leaving {
            session,
            pinged: false,
            until: now + LEAVE_TIMEOUT,
            then,
        };
        self.carry_out(now);
        if let Phase::Leaving { .. } = self.phase {
            self.outputs.push_back(Output::Flush);
        }
    }

    fn flushed(&mut self, now: Time) {
        if let Phase::Leaving {
            session, pinged, ..
        } = &mut self.phase
        {
            *pinged = true;
            session.ping_now(now);
        }
    }

    fn depart(&mut self, now: Time) {
        match mem::replace(&mut self.phase, Phase::Parked) {
            Phase::Leaving {
                mut session, then, ..
            } => {
                session.goodbye();
                self.hang_up(session);
                self.proceed(then, now);
            }
            other => self.phase = other,
        }
    }

    fn hang_up(&mut self, mut session: Session) {
        while let Some(action) = session.poll() {
            if let Action::Close(violation) = action {
                self.outputs.push_back(Output::Close(violation));
            }
        }
    }

    fn proceed(&mut self, then: Next, now: Time) {
        match then {
            Next::Search => self.seek(now),
            Next::Stop(state) => {
                self.phase = Phase::Stopped;
                self.outputs.push_back(Output::Stopped(state));
            }
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        match &self.phase {
            Phase::Resting { until } if now >= *until => self.seek(now),
            Phase::Leaving { until, .. } if now >= *until => self.depart(now),
            Phase::Serving { .. } if self.surroundings.is_offline() => {}
            Phase::Serving { rival, .. } if rival.due().is_some_and(|due| now >= due) => {
                self.rival_due(now);
            }
            _ => self.with_session(|session| session.handle_timeout(now)),
        }
    }

    /// Hands the session what it can take, and does what it asks for, until there is nothing more.
    fn converse(&mut self, now: Time) {
        loop {
            self.desk.write_marks(&mut self.outputs);
            if let Phase::Serving { session, .. } = &mut self.phase {
                self.desk.serve(session, now, &mut self.outputs);
            }
            if !self.carry_out(now) {
                break;
            }
        }
        if let Phase::Serving { session, .. } = &self.phase {
            let learned = self.surroundings.note(session.learner()).map(Job::Learn);
            self.outputs.extend(learned.map(Output::Store));
        }
    }

    /// Does what the session asks for. Says whether there was anything.
    fn carry_out(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(action) = self.session().and_then(Session::poll) {
            any = true;
            match action {
                Action::Control(bytes) => self.outputs.push_back(Output::Control(bytes)),
                Action::Bulk(frame) => self.outputs.push_back(Output::Bulk(frame)),
                Action::Datagram(bytes) => self.outputs.push_back(Output::Datagram(bytes)),
                Action::Event(event) => self.hear(event, now),
                Action::Close(violation) => {
                    let ending = Ending::Lost(violation.to_string());
                    self.outputs.push_back(Output::Close(violation));
                    self.ended(now, &ending);
                }
            }
        }
        any
    }

    fn hear(&mut self, event: Event, now: Time) {
        match (&self.phase, event) {
            (Phase::Greeting { .. }, Event::Welcomed(welcome)) => self.welcomed(now, welcome),
            (Phase::Serving { .. }, event) => {
                if let Event::Observed(observation) = &event {
                    self.observed(*observation);
                }
                if let Some(go_away) = self.desk.hear(event, &mut self.outputs) {
                    self.sent_away(go_away, now);
                }
            }
            (Phase::Leaving { pinged: true, .. }, Event::Observed(_)) => self.depart(now),
            _ => {}
        }
    }

    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Greeting { session, .. }
            | Phase::Serving { session, .. }
            | Phase::Leaving { session, .. } => Some(session),
            Phase::Closing { session, .. } => session.as_mut(),
            Phase::Dialling { .. }
            | Phase::Asking
            | Phase::Resting { .. }
            | Phase::Offline
            | Phase::Parked
            | Phase::Stopped => None,
        }
    }

    fn with_session(&mut self, tell: impl FnOnce(&mut Session)) {
        if let Some(session) = self.session() {
            tell(session);
        }
    }

    fn is_ending(&self) -> bool {
        match &self.phase {
            Phase::Closing { .. } | Phase::Stopped => true,
            Phase::Leaving { then, .. } => matches!(then, Next::Stop(_)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
