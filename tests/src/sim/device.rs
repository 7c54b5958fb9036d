//! A device or service: the client's engine, the disk beneath it, and the app above it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use holdfast::{
    Retry, State,
    core::{Engine, EngineConfig, Failure, Input, Output, Source, Stop},
};
use holdfast_protocol::{
    allocation::Allocation,
    client::ClientConfig,
    close::{CloseCode, Violation},
    heartbeat::PingSchedule,
    id::{Identity, MessageId, Name, Sender},
    time::Time,
};
use holdfast_transport::Ending;

use super::{
    disk::Crash,
    network::{ConnId, Piece},
    notebook::{News, Notebook},
    party::Party,
    schedule::{Answer, Dial, Event, Question},
    station::MOMENT,
    world::World,
};

/// How long one address may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Which end of its connections a device is.
const END: usize = 0;

/// A device or service.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) who: Sender,
    pub(crate) notebook: Notebook,
    engine: Option<Engine>,
    /// Which run of the program this is.
    pub(crate) life: u32,
    /// What others see it come from.
    pub(crate) address: SocketAddr,
    pub(crate) frozen_until: Time,
    pub(crate) conn: Option<ConnId>,
    /// The connection that is being dialled, once the relay is there; and what came of it on streams of
    /// their own.
    greeting: Option<(ConnId, Vec<Bytes>)>,
    attempt: u64,
    dialling: bool,
    /// What a session begins with that is being dialled.
    hello: Bytes,
    asked: Option<u64>,
    pub(crate) attached: Option<Time>,
    /// When a relay last heard of it.
    pub(crate) heard: Time,
    /// Within how long its next ping is to come.
    pub(crate) announced: Duration,
    pub(crate) stopping: bool,
    timer: Option<Time>,
    notebook_at_work: bool,
    /// It dies at the next step of its disk, before or after it hears of it.
    pub(crate) armed: Option<(bool, Crash)>,
    /// Since when it has stood on its home's list.
    pub(crate) listed: Option<Time>,
    /// How much more time has passed for it than for others: it was away for so long.
    pub(crate) away: Duration,
    /// What the relay of its session said of the time, and when.
    told: Option<(u64, Time)>,
    /// From when on it surely is one of its account's devices.
    pub(crate) joined: Option<Time>,
}

impl Device {
    pub(crate) fn new(who: Sender, address: SocketAddr, notebook: Notebook) -> Self {
        Self {
            who,
            notebook,
            engine: None,
            life: 0,
            address,
            frozen_until: Time::ZERO,
            conn: None,
            greeting: None,
            attempt: 0,
            dialling: false,
            hello: Bytes::new(),
            asked: None,
            attached: None,
            heard: Time::ZERO,
            announced: PingSchedule::default().interval,
            stopping: false,
            timer: None,
            notebook_at_work: false,
            armed: None,
            listed: None,
            away: Duration::ZERO,
            told: None,
            joined: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// What its relay's clock shows, as far as it can know.
    pub(crate) fn relay_time(&self, now: Time) -> Option<Duration> {
        let (told_ms, at) = self.told?;
        Some(Duration::from_millis(told_ms) + now.since(at))
    }

    pub(crate) fn account(&self) -> Option<&Name> {
        self.who.account()
    }

    pub(crate) fn identity(&self) -> Identity {
        match &self.who {
            Sender::Device(device) => Identity::Device(device.clone()),
            Sender::Service(name) => Identity::Service(name.clone()),
        }
    }

    pub(crate) fn id(&self, source_lane: holdfast_protocol::id::Lane, seq: u64) -> MessageId {
        MessageId {
            sender: self.who.clone(),
            epoch: self.notebook.outbox,
            lane: source_lane,
            seq,
        }
    }
}

impl World {
    /// The app starts, on what its disk holds.
    pub(crate) fn start_device(&mut self, d: usize) {
        if self.devices[d].is_up() {
            return;
        }
        let seed = self.choice.number();
        let now = self.now();
        let allocators = vec![self.allocator.address];
        let device = &mut self.devices[d];
        device.life += 1;
        let config = EngineConfig {
            allocators,
            session: ClientConfig {
                agent: "sim/1".parse().expect("it is a name"),
                outbox: device.notebook.outbox,
                inbox: device.notebook.inbox,
                pings: PingSchedule::default(),
            },
            retry: Retry {
                cap: Duration::from_secs(20),
                ..Retry::default()
            },
            seed,
        };
        device.engine = Some(Engine::new(config, device.notebook.restore(), now));
        device.stopping = false;
        device.timer = None;
        device.notebook_at_work = false;
        self.judge.restarted(d);
        self.note(Party::Device(d), None, || "starts".to_owned());
        self.obey_device(d);
    }

    /// The app is killed, or the device loses its power.
    pub(crate) fn crash_device(&mut self, d: usize, crash: Crash) {
        if !self.devices[d].is_up() {
            return;
        }
        self.note(Party::Device(d), None, || format!("dies: {crash:?}"));
        self.devices[d].notebook.crash(crash, &mut self.fate);
        self.end_device(d);
        self.judge.crashed(d);
    }

    fn end_device(&mut self, d: usize) {
        let device = &mut self.devices[d];
        device.engine = None;
        device.conn = None;
        device.greeting = None;
        device.dialling = false;
        device.asked = None;
        device.attached = None;
        let (network, schedule) = (&mut self.network, &mut self.schedule);
        network.vanish(Party::Device(d), schedule, &mut self.dice);
    }

    /// Tells a device's engine what happened, and does what it says.
    pub(crate) fn tell_device(&mut self, d: usize, input: Input) {
        let now = self.now();
        if let Some(engine) = &mut self.devices[d].engine {
            engine.handle(now, input);
            self.obey_device(d);
        }
    }

    pub(crate) fn device_timer(&mut self, d: usize) {
        let now = self.now();
        let device = &mut self.devices[d];
        if device.timer.is_some_and(|due| due <= now) {
            device.timer = None;
            self.tell_device(d, Input::Timeout);
        }
    }

    fn obey_device(&mut self, d: usize) {
        let mut control = BytesMut::new();
        while let Some(output) = self.devices[d].engine.as_mut().and_then(Engine::poll) {
            if let Output::Control(bytes) = output {
                control.extend_from_slice(&bytes);
                continue;
            }
            self.say_to_relay(d, &mut control);
            self.carry_out(d, output);
        }
        self.say_to_relay(d, &mut control);
        self.wind_device(d);
    }

    fn wind_device(&mut self, d: usize) {
        let device = &mut self.devices[d];
        let due = device.engine.as_ref().and_then(Engine::deadline);
        let due = due.map(|due| due.max(self.schedule.now() + MOMENT));
        if let Some(due) = due.filter(|due| device.timer.is_none_or(|timer| *due < timer)) {
            device.timer = Some(due);
            self.schedule.at(due, Event::Timer(Party::Device(d)));
        }
    }

    fn say_to_relay(&mut self, d: usize, control: &mut BytesMut) {
        let bytes = control.split().freeze();
        let Some(conn) = self.devices[d].conn.filter(|_| !bytes.is_empty()) else {
            return;
        };
        let bytes = self.tamper_up(d, conn, bytes);
        self.send_control(conn, END, bytes);
    }

    /// Sends bytes of a control stream, now and then in two parts.
    pub(crate) fn send_control(&mut self, conn: ConnId, end: usize, mut bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.digest(&bytes);
        let (network, schedule) = (&mut self.network, &mut self.schedule);
        if bytes.len() > 1 && self.dice.chance(0.05) {
            let first = bytes.split_to(1 + self.dice.below(bytes.len() - 1));
            network.send(conn, end, Piece::Control(first), schedule, &mut self.dice);
        }
        network.send(conn, end, Piece::Control(bytes), schedule, &mut self.dice);
    }

    fn carry_out(&mut self, d: usize, output: Output) {
        match output {
            Output::Dial { stop, hello } => {
                self.devices[d].hello = hello;
                self.dial_relay(d, &stop);
            }
            // Nothing here depends on sockets.
            Output::Rebind => {}
            Output::Ask(_) => {
                let number = self.ask(Party::Device(d), Question::Where);
                self.devices[d].asked = Some(number);
            }
            Output::Abandon => {
                self.hang_up_dial(d);
                self.devices[d].asked = None;
            }
            Output::Bulk(frame) => {
                if let Some(conn) = self.devices[d].conn {
                    let bytes = self.tamper_up(d, conn, frame.concat());
                    self.digest(&bytes);
                    let piece = Piece::Bulk(bytes);
                    let (network, schedule) = (&mut self.network, &mut self.schedule);
                    network.send(conn, END, piece, schedule, &mut self.dice);
                }
            }
            Output::Datagram(bytes) => {
                let observed = self.devices[d].address;
                self.digest(&bytes);
                if let Some(conn) = self.devices[d].conn {
                    let (network, schedule) = (&mut self.network, &mut self.schedule);
                    network.datagram(conn, END, (&bytes, observed), schedule, &mut self.dice);
                }
            }
            Output::Flush => self.flush(d),
            Output::Close(violation) => self.leave_relay(d, violation),
            Output::Store(job) => {
                self.devices[d].notebook.store(job);
                self.wake_notebook(d);
            }
            Output::Shut => {
                self.devices[d].stopping = true;
                self.wake_notebook(d);
            }
            output => self.app_hears(d, output),
        }
    }

    fn leave_relay(&mut self, d: usize, why: Violation) {
        if let Some(conn) = self.devices[d].conn.take() {
            self.close_connection(conn, why);
        }
    }

    /// Gives up what is being dialled.
    fn hang_up_dial(&mut self, d: usize) {
        self.devices[d].dialling = false;
        if let Some((conn, _)) = self.devices[d].greeting.take() {
            self.close_connection(conn, Violation::new(CloseCode::Goodbye, ""));
        }
    }

    fn close_connection(&mut self, conn: ConnId, why: Violation) {
        let ending = Ending::Closed {
            code: why.code,
            reason: why.what,
        };
        let (network, schedule) = (&mut self.network, &mut self.schedule);
        network.close(conn, END, ending, schedule, &mut self.dice);
    }

    fn flush(&mut self, d: usize) {
        let device = &self.devices[d];
        if let Some(conn) = device.conn {
            let life = device.life;
            let event = Event::Flushed {
                device: d,
                life,
                conn,
            };
            self.schedule.after(Duration::from_millis(2), event);
        }
    }

    pub(crate) fn flushed(&mut self, d: usize, life: u32, conn: ConnId) {
        if self.devices[d].life == life && self.devices[d].conn == Some(conn) {
            self.tell_device(d, Input::Flushed);
        }
    }

    fn dial_relay(&mut self, d: usize, stop: &Stop) {
        let to = self
            .relays
            .iter()
            .position(|relay| relay.address == stop.address);
        self.hang_up_dial(d);
        let device = &mut self.devices[d];
        device.attempt += 1;
        device.dialling = true;
        let dial = Dial {
            from: Party::Device(d),
            life: device.life,
            attempt: device.attempt,
            to,
            given_up: false,
        };
        self.dial(dial, DIAL_TIMEOUT);
    }

    /// A device's dial has come to the relay, or to nothing.
    pub(crate) fn device_dials(&mut self, d: usize, dial: &Dial) {
        let device = &self.devices[d];
        if device.life != dial.life || device.attempt != dial.attempt || !device.dialling {
            return;
        }
        let reached = dial
            .to
            .filter(|r| !dial.given_up && self.answers(Party::Device(d), *r));
        if let Some(r) = reached {
            self.greet(d, r);
        } else if dial.given_up {
            self.hang_up_dial(d);
            let failure = Failure::Unreachable("no answer in time".to_owned());
            self.tell_device(d, Input::DialFailed(failure));
        }
    }

    /// The relay answers a dial, and is greeted; until it has welcomed the device, the connection that
    /// stands is used.
    fn greet(&mut self, d: usize, r: usize) {
        let conn = self.network.open(Party::Device(d), Party::Relay(r), false);
        let who = self.devices[d].identity();
        self.devices[d].greeting = Some((conn, Vec::new()));
        self.devices[d].heard = self.now();
        self.devices[d].announced = PingSchedule::default().interval;
        if self.accept(r, conn, &who) {
            self.note(Party::Device(d), None, || format!("greets r{}", r + 1));
            let hello = self.devices[d].hello.clone();
            self.send_control(conn, END, hello);
        }
    }

    /// Something has come of a relay that was greeted. Its first words on the control stream make the
    /// connection the one that is used.
    fn greeted(&mut self, d: usize, conn: ConnId, piece: Piece) {
        let control = match piece {
            Piece::Control(bytes) => bytes,
            Piece::Bulk(bytes) => {
                let early = self.devices[d].greeting.as_mut();
                return early.map_or((), |(_, early)| early.push(bytes));
            }
            Piece::Closed(ending) => {
                self.devices[d].greeting = None;
                self.devices[d].dialling = false;
                let failure = Failure::from_ending(&"the relay", &ending);
                return self.tell_device(d, Input::DialFailed(failure));
            }
        };
        let early = self.devices[d].greeting.take().map(|(_, early)| early);
        self.devices[d].dialling = false;
        self.leave_relay(d, Violation::new(CloseCode::Goodbye, ""));
        self.devices[d].conn = Some(conn);
        self.tell_device(d, Input::Connected);
        self.device_receives(d, conn, Piece::Control(control));
        for bytes in early.into_iter().flatten() {
            self.device_receives(d, conn, Piece::Bulk(bytes));
        }
    }

    /// Something has come for a device.
    pub(crate) fn device_receives(&mut self, d: usize, conn: ConnId, piece: Piece) {
        if matches!(&self.devices[d].greeting, Some((greeting, _)) if *greeting == conn) {
            return self.greeted(d, conn, piece);
        }
        if self.devices[d].conn != Some(conn) {
            return;
        }
        let input = match piece {
            Piece::Control(bytes) => Input::Control(bytes),
            Piece::Bulk(bytes) => Input::Bulk(bytes),
            Piece::Closed(ending) => {
                self.devices[d].conn = None;
                self.note(Party::Device(d), None, || {
                    format!("its session ends: {ending}")
                });
                Input::Ended(ending)
            }
        };
        self.tell_device(d, input);
    }

    pub(crate) fn device_answered(&mut self, d: usize, number: u64, answer: Option<Answer>) {
        if self.devices[d].asked != Some(number) {
            return;
        }
        self.devices[d].asked = None;
        let input = match answer {
            Some(Answer::Allocation(allocation)) => Input::Allocated(allocation),
            Some(_) => Input::Allocated(Allocation::Denied),
            None => Input::DialFailed(Failure::Unreachable("no answer in time".to_owned())),
        };
        self.tell_device(d, input);
    }

    pub(crate) fn wake_notebook(&mut self, d: usize) {
        let device = &mut self.devices[d];
        if device.notebook_at_work || !(device.notebook.is_busy() || device.stopping) {
            return;
        }
        device.notebook_at_work = true;
        let event = Event::Notebook {
            device: d,
            life: device.life,
        };
        let span = self.dice.millis(0, 8);
        self.schedule.after(span, event);
    }

    /// The device's disk takes its next step.
    pub(crate) fn notebook_works(&mut self, d: usize, life: u32) {
        let device = &mut self.devices[d];
        if device.life != life || !device.is_up() {
            return;
        }
        device.notebook_at_work = false;
        if !device.notebook.is_busy() {
            if device.stopping {
                self.tell_device(d, Input::StorageEnded);
            }
            return;
        }
        let news = device.notebook.step();
        let armed = device.armed.take();
        let hears = armed.is_none_or(|(hears, _)| hears);
        for news in news {
            // What has a number may be on the disk, and be sent in another life.
            if hears || matches!(news, News::Numbered(..)) {
                self.heed_notebook(d, news);
            }
        }
        match armed {
            Some((_, crash)) => drop(self.kill_device(d, crash)),
            None => self.wake_notebook(d),
        }
    }

    fn heed_notebook(&mut self, d: usize, news: News) {
        match news {
            News::Numbered(lane, entry) => self.numbered(d, lane, &entry),
            News::Appended(lane, entry) => {
                let id = self.devices[d].id(lane, entry.seq);
                self.judge.taken(&id);
                self.note(Party::Device(d), Some(&id), || {
                    "is in the outbox".to_owned()
                });
                self.tell_device(d, Input::Appended { lane, entry });
            }
            News::Marked(mark) => {
                let durable = self.devices[d].notebook.mark(&mark.source);
                let text = || {
                    format!(
                        "marks {} up to {} (on disk: {durable})",
                        mark.source.sender, mark.seq
                    )
                };
                let id = id_of(&mark.source, mark.seq);
                self.note(Party::Device(d), Some(&id), text);
                self.tell_device(d, Input::Marked(mark));
            }
            News::Begun(page) => self.tell_device(d, Input::Begun { page }),
            News::Loaded(loaded) => self.tell_device(d, Input::Loaded(loaded)),
        }
    }

    fn app_hears(&mut self, d: usize, output: Output) {
        let now = self.now();
        match output {
            Output::Show {
                source,
                deliver,
                body,
            } => self.show(d, &source, &deliver, &body),
            Output::Gap { missed } => {
                self.note(Party::Device(d), None, || {
                    format!("hears of a gap of {missed}")
                });
                self.judge.gap(d, missed);
            }
            Output::Remembered { source, seq } => {
                let id = id_of(&source, seq);
                self.note(Party::Device(d), Some(&id), || {
                    "is done, and remembered".to_owned()
                });
                self.judge.remembered(d, &id);
            }
            Output::Answered {
                lane,
                seq,
                outcome,
                last,
            } => {
                let id = self.devices[d].id(lane, seq);
                self.note(Party::Device(d), Some(&id), || {
                    format!("is answered {outcome:?}, last {last}")
                });
                let devices = &self.devices;
                self.judge.answered(&id, outcome, last, |d, source, seq| {
                    devices[d].notebook.mark(source) >= seq
                });
            }
            Output::GivenUp { lane, seq } => {
                let id = self.devices[d].id(lane, seq);
                self.note(Party::Device(d), Some(&id), || "gives it up".to_owned());
                let relay_time = self.devices[d].relay_time(now);
                let clocks_are_right = self.relays.iter().all(|relay| !relay.has_jumped());
                self.judge.given_up(&id, relay_time, clocks_are_right);
            }
            Output::Welcomed(welcome) => {
                self.devices[d].told = Some((welcome.time_ms, now));
                let relay_time = Duration::from_millis(welcome.time_ms);
                self.judge.welcomed(d, relay_time);
            }
            Output::State(state) => {
                let attached = matches!(state, State::Attached { .. });
                self.devices[d].attached = attached.then_some(now);
                self.note(Party::Device(d), None, || format!("{state:?}"));
            }
            Output::Stopped(_) => {
                self.note(Party::Device(d), None, || "has closed".to_owned());
                self.end_device(d);
                if self.is_quiet {
                    // It was still closing when all others were started for the last time.
                    let rest = Duration::from_secs(1);
                    self.schedule.after(rest, Event::Boot(Party::Device(d)));
                }
            }
            _ => {}
        }
    }

    /// A client closes politely.
    pub(crate) fn close_device(&mut self, d: usize) {
        self.tell_device(d, Input::Close);
    }

    /// The disk of a device fails for good; its client must stop.
    pub(crate) fn fail_notebook(&mut self, d: usize) {
        let why = "the disk is full".to_owned();
        self.tell_device(d, Input::StorageFailed(why));
    }
}

/// The message of a source with a number.
pub(crate) fn id_of(source: &Source, seq: u64) -> MessageId {
    MessageId {
        sender: source.sender.clone(),
        epoch: source.epoch,
        lane: source.lane,
        seq,
    }
}

/// What the app has in its hands, by message.
pub(crate) type Hands = BTreeMap<MessageId, Hold>;

/// What became of a message in the app's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The app works on it.
    Open,
    /// The app said that it is done.
    Done,
    /// The app let go of it.
    Dropped,
}
