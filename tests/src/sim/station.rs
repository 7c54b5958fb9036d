//! A relay's machine: its disk, its clocks, its connections, and the relay that runs there, if one
//! does.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use holdfast_protocol::{
    id::{Identity, Name},
    message::RelayAddress,
    time::Time,
};
use holdfast_relay::core::{Conn, Moment, Output, Relay, Settings};
use holdfast_transport::Ending;

use super::{
    disk::{Crash, Disk, Health, Step, SyncFailed},
    network::{ConnId, Piece},
    party::Party,
    schedule::{Answer, Dial, Event, Question},
    world::World,
};

/// How long one address of another relay is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// The shortest time between two looks at what is due.
pub(crate) const MOMENT: Duration = Duration::from_micros(500);

/// The wall clock when an hour begins, in milliseconds since 1970.
pub(crate) const MORNING: u64 = 1_800_000_000_000;

/// A jump of the wall clock may not be written down for so long.
const UNRECORDED: Duration = Duration::from_secs(180);

/// A moment in the life of a commit at which a relay can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    BeforeApply,
    BeforeSync,
    BeforeTell,
    /// It knows that the change is durable, and has told nobody.
    BeforeAnswer,
    /// It has told some.
    MidAnswer,
}

/// Which refusal of a relay's is lost on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losing {
    Nothing,
    /// The next one.
    Next,
    /// It was one on this connection, and nothing more of the relay's arrives there.
    After(ConnId),
}

/// A relay's machine.
pub(crate) struct Station {
    pub(crate) name: Name,
    pub(crate) address: SocketAddr,
    pub(crate) disk: Arc<Disk>,
    pub(crate) relay: Option<Relay>,
    pub(crate) life: u32,
    pub(crate) frozen_until: Time,
    /// Since when it has run without a pause.
    pub(crate) running_since: Time,
    /// How far its wall clock is off, in milliseconds.
    pub(crate) wall_offset: i64,
    /// When it last jumped forward.
    pub(crate) jumped: Option<Time>,
    pub(crate) armed: Option<(Instant, Crash)>,
    /// Which refusal of its is lost.
    pub(crate) refusal: Losing,
    /// Since when its disk takes nothing.
    pub(crate) failed_since: Option<Time>,
    is_ready: bool,
    conns: BTreeMap<Conn, (ConnId, usize)>,
    ends: BTreeMap<ConnId, Conn>,
    dials: BTreeMap<Name, u64>,
    attempts: u64,
    leasing: Option<u64>,
    locating: BTreeMap<u64, Name>,
    timer: Option<Time>,
    disk_at_work: bool,
}

impl Station {
    pub(crate) fn new(name: Name, address: SocketAddr, disk: Arc<Disk>) -> Self {
        Self {
            name,
            address,
            disk,
            relay: None,
            life: 0,
            frozen_until: Time::ZERO,
            running_since: Time::ZERO,
            wall_offset: 0,
            jumped: None,
            armed: None,
            refusal: Losing::Nothing,
            failed_since: None,
            is_ready: false,
            conns: BTreeMap::new(),
            ends: BTreeMap::new(),
            dials: BTreeMap::new(),
            attempts: 0,
            leasing: None,
            locating: BTreeMap::new(),
            timer: None,
            disk_at_work: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.relay.is_some()
    }

    /// Whether its wall clock has ever jumped.
    pub(crate) fn has_jumped(&self) -> bool {
        self.jumped.is_some() || self.wall_offset != 0
    }

    /// Whether it takes connections.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready && self.is_up()
    }

    pub(crate) fn moment(&self, now: Time) -> Moment {
        let since = u64::try_from(now.since_origin().as_millis()).unwrap_or_default();
        Moment {
            time: now,
            wall_ms: (MORNING + since).saturating_add_signed(self.wall_offset),
        }
    }
}

impl World {
    pub(crate) fn moment(&self, r: usize) -> Moment {
        self.relays[r].moment(self.schedule.now())
    }

    /// The relay starts, on what its disk holds.
    pub(crate) fn start_relay(&mut self, r: usize) {
        if self.relays[r].is_up() {
            return;
        }
        let moment = self.moment(r);
        let settings = Settings {
            addresses: vec![self.relays[r].address],
            rules: self.fleet.rules.clone(),
            handshake_rate: self.fleet.handshake_rate,
            seed: self.choice.number(),
            ..Settings::new(self.relays[r].name.clone())
        };
        let station = &mut self.relays[r];
        let jumped = station
            .jumped
            .filter(|at| moment.time.since(*at) < UNRECORDED);
        self.judge.doubts_clocks |= jumped.is_some();
        station.life += 1;
        station.is_ready = false;
        station.timer = None;
        station.disk_at_work = false;
        station.running_since = moment.time;
        match Relay::boot(settings, station.disk.clone()) {
            Ok(relay) => station.relay = Some(relay),
            Err(error) => self.complain(format!("r{} does not start: {error}", r + 1)),
        }
        self.note(Party::Relay(r), None, || "starts".to_owned());
        self.obey_relay(r);
    }

    /// The relay dies.
    pub(crate) fn crash_relay(&mut self, r: usize, crash: Crash) {
        if !self.relays[r].is_up() {
            return;
        }
        let station = &mut self.relays[r];
        station.relay = None;
        station.armed = None;
        station.refusal = Losing::Nothing;
        station.failed_since = None;
        station.is_ready = false;
        station.conns.clear();
        station.ends.clear();
        station.dials.clear();
        station.leasing = None;
        station.locating.clear();
        self.judge.relay_died = self.schedule.now();
        let lost = station.disk.crash(crash);
        self.devices
            .iter_mut()
            .for_each(|device| device.listed = None);
        self.note(Party::Relay(r), None, || {
            format!("dies: {crash:?}, {lost} changes lost")
        });
        let (network, schedule) = (&mut self.network, &mut self.schedule);
        network.vanish(Party::Relay(r), schedule, &mut self.dice);
        let rest = if self.is_quiet {
            Duration::from_secs(1)
        } else {
            self.fate.about(Duration::from_secs(12))
        };
        self.schedule.after(rest, Event::Boot(Party::Relay(r)));
    }

    /// Whether somebody who dials a relay now is answered.
    pub(crate) fn answers(&mut self, from: Party, r: usize) -> bool {
        let lost = self.dice.chance(self.network.weather.dial_loss);
        !lost && self.relays[r].is_ready() && !self.network.is_cut(from, Party::Relay(r))
    }

    /// A relay takes a connection that was dialled. Says whether it did.
    pub(crate) fn accept(&mut self, r: usize, conn: ConnId, who: &Identity) -> bool {
        let moment = self.moment(r);
        let Some(relay) = &mut self.relays[r].relay else {
            return false;
        };
        match relay.accept(moment, who) {
            Ok(own) => {
                self.relays[r].bind(own, conn, 1);
                self.obey_relay(r);
                true
            }
            Err(violation) => {
                self.complain(format!("r{} turns {who} away: {violation}", r + 1));
                false
            }
        }
    }

    /// Something has come for a relay.
    pub(crate) fn relay_receives(&mut self, r: usize, conn: ConnId, piece: Piece) {
        let moment = self.moment(r);
        let station = &mut self.relays[r];
        let (Some(own), Some(relay)) = (station.ends.get(&conn).copied(), &mut station.relay)
        else {
            return;
        };
        match piece {
            Piece::Control(bytes) => relay.control(moment, own, bytes),
            Piece::Bulk(bytes) => relay.bulk(moment, own, bytes),
            Piece::Closed(_) => {
                relay.ended(moment, own);
                station.unbind(own);
            }
        }
        self.obey_relay(r);
    }

    pub(crate) fn relay_hears(&mut self, r: usize, conn: ConnId, bytes: Bytes, from: SocketAddr) {
        let moment = self.moment(r);
        let station = &mut self.relays[r];
        if let (Some(own), Some(relay)) = (station.ends.get(&conn).copied(), &mut station.relay) {
            relay.datagram(moment, own, bytes, from);
            self.obey_relay(r);
        }
    }

    pub(crate) fn relay_timer(&mut self, r: usize) {
        let moment = self.moment(r);
        let station = &mut self.relays[r];
        if station.timer.is_none_or(|due| due > moment.time) {
            return;
        }
        station.timer = None;
        if let Some(relay) = &mut station.relay {
            relay.timeout(moment);
            self.obey_relay(r);
        }
    }

    /// Does what a relay says, or, if its hour has come, some of it.
    pub(crate) fn obey_relay(&mut self, r: usize) {
        self.relays[r].disk.lie();
        let moment = self.moment(r);
        let mut outputs = Vec::new();
        if let Some(relay) = &mut self.relays[r].relay {
            while let Some(output) = relay.poll(moment) {
                outputs.push(output);
            }
        }
        self.carry_out_for(r, outputs);
        self.wind_relay(r);
    }

    fn carry_out_for(&mut self, r: usize, outputs: Vec<Output>) {
        let mut control: BTreeMap<Conn, BytesMut> = BTreeMap::new();
        for output in outputs {
            match output {
                Output::Control { conn, bytes } => {
                    control.entry(conn).or_default().extend_from_slice(&bytes);
                }
                Output::Close { conn, why } => {
                    let written = control.remove(&conn).unwrap_or_default();
                    self.say_to(r, conn, written.freeze());
                    self.hang_up(r, conn, why.code, why.what);
                }
                output => self.carry_out_one(r, output),
            }
        }
        for (conn, bytes) in control {
            self.say_to(r, conn, bytes.freeze());
        }
    }

    fn carry_out_one(&mut self, r: usize, output: Output) {
        match output {
            Output::Bulk { conn, frame } => {
                if let Some((conn, end)) = self.relays[r].conns.get(&conn).copied() {
                    let bytes = self.tamper_down(r, conn, frame.concat());
                    self.digest(&bytes);
                    let (network, schedule) = (&mut self.network, &mut self.schedule);
                    network.send(conn, end, Piece::Bulk(bytes), schedule, &mut self.dice);
                }
            }
            Output::Datagram { conn, bytes } => {
                let observed = self.relays[r].address;
                self.digest(&bytes);
                if let Some((conn, end)) = self.relays[r].conns.get(&conn).copied() {
                    let (network, schedule) = (&mut self.network, &mut self.schedule);
                    network.datagram(conn, end, (&bytes, observed), schedule, &mut self.dice);
                }
            }
            Output::Dial(relay) => self.dial_peer(r, &relay),
            Output::Lease(lease) => {
                let number = self.ask(Party::Relay(r), Question::Lease(lease));
                self.relays[r].leasing = Some(number);
            }
            Output::Locate(account) => {
                let number = self.ask(Party::Relay(r), Question::Home(account.clone()));
                self.relays[r].locating.insert(number, account);
            }
            Output::Control { .. } | Output::Close { .. } => {}
        }
    }

    fn say_to(&mut self, r: usize, conn: Conn, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if let Some((conn, end)) = self.relays[r].conns.get(&conn).copied() {
            let bytes = self.tamper_down(r, conn, bytes);
            self.send_control(conn, end, bytes);
        }
    }

    fn hang_up(
        &mut self,
        r: usize,
        conn: Conn,
        code: holdfast_protocol::close::CloseCode,
        reason: String,
    ) {
        if let Some((network_conn, end)) = self.relays[r].unbind(conn) {
            let ending = Ending::Closed { code, reason };
            let (network, schedule) = (&mut self.network, &mut self.schedule);
            network.close(network_conn, end, ending, schedule, &mut self.dice);
        }
    }

    fn wind_relay(&mut self, r: usize) {
        let station = &mut self.relays[r];
        let Some(relay) = &station.relay else {
            return;
        };
        station.is_ready = relay.is_ready();
        // A moment from now at least: what is due and is not done would stop the world.
        let due = relay.deadline().max(self.schedule.now() + MOMENT);
        if station.timer.is_none_or(|timer| due < timer) {
            station.timer = Some(due);
            self.schedule.at(due, Event::Timer(Party::Relay(r)));
        }
        self.wake_disk(r);
    }

    fn wake_disk(&mut self, r: usize) {
        let station = &mut self.relays[r];
        let Some(step) = station.disk.due().filter(|_| !station.disk_at_work) else {
            return;
        };
        station.disk_at_work = true;
        let event = Event::Disk {
            party: Party::Relay(r),
            life: station.life,
        };
        let span = disk_span(step, &mut self.dice);
        self.schedule.after(span, event);
    }

    /// The relay's disk takes its next step, unless the relay's hour has come.
    pub(crate) fn disk_works(&mut self, r: usize, life: u32) {
        if self.relays[r].life != life || !self.relays[r].is_up() {
            return;
        }
        self.relays[r].disk_at_work = false;
        let step = self.relays[r].disk.due();
        let fatal = match step {
            Some(Step::Apply) => Instant::BeforeApply,
            Some(Step::Sync) => Instant::BeforeSync,
            _ => Instant::BeforeTell,
        };
        if self.dies_at(r, fatal) {
            return;
        }
        if self.relays[r].disk.step() == Err(SyncFailed) {
            // The process ends; until the system has done so, it may go on.
            let rest = self.fate.millis(0, 300);
            let strike = Event::Strike(super::faults::Fault::Abort(r));
            return self.schedule.after(rest, strike);
        }
        if step == Some(Step::Tell) {
            if self.dies_at(r, Instant::BeforeAnswer) {
                return;
            }
            if let Some((Instant::MidAnswer, crash)) = self.relays[r].armed {
                self.answer_some(r);
                return self.crash_relay(r, crash);
            }
        }
        self.obey_relay(r);
    }

    fn answer_some(&mut self, r: usize) {
        let moment = self.moment(r);
        let mut outputs = Vec::new();
        if let Some(relay) = &mut self.relays[r].relay {
            while let Some(output) = relay.poll(moment) {
                outputs.push(output);
            }
        }
        let some = self.fate.below(outputs.len() + 1);
        outputs.truncate(some);
        self.carry_out_for(r, outputs);
    }

    fn dies_at(&mut self, r: usize, instant: Instant) -> bool {
        match self.relays[r].armed {
            Some((at, crash)) if at == instant => {
                self.note(Party::Relay(r), None, || {
                    format!("its hour has come: {instant:?}")
                });
                self.crash_relay(r, crash);
                true
            }
            _ => false,
        }
    }

    fn dial_peer(&mut self, r: usize, relay: &RelayAddress) {
        let address = relay.addresses.first();
        let to = self
            .relays
            .iter()
            .position(|other| Some(&other.address) == address);
        let station = &mut self.relays[r];
        station.attempts += 1;
        station.dials.insert(relay.name.clone(), station.attempts);
        let dial = Dial {
            from: Party::Relay(r),
            life: station.life,
            attempt: station.attempts,
            to,
            given_up: false,
        };
        self.dial(dial, DIAL_TIMEOUT);
    }

    /// A relay's dial has come to the other relay, or to nothing.
    pub(crate) fn relay_dials(&mut self, r: usize, dial: &Dial) {
        let station = &self.relays[r];
        let dials = station.dials.iter();
        let wanted = dials.clone().find(|(_, attempt)| **attempt == dial.attempt);
        let Some(name) = wanted.map(|(name, _)| name.clone()) else {
            return;
        };
        if station.life != dial.life || !station.is_up() {
            return;
        }
        let reached = dial
            .to
            .filter(|to| !dial.given_up && self.answers(Party::Relay(r), *to));
        if let Some(to) = reached {
            self.relays[r].dials.remove(&name);
            self.open_link(r, to, &name);
        } else if dial.given_up {
            self.relays[r].dials.remove(&name);
            let moment = self.moment(r);
            if let Some(relay) = &mut self.relays[r].relay {
                relay.unlinked(moment, &name);
            }
            self.obey_relay(r);
        }
    }

    fn open_link(&mut self, r: usize, to: usize, name: &Name) {
        let conn = self.network.open(Party::Relay(r), Party::Relay(to), true);
        let who = Identity::Relay(self.relays[r].name.clone());
        let moment = self.moment(r);
        if !self.accept(to, conn, &who) {
            return;
        }
        self.note(Party::Relay(r), None, || format!("is linked to {name}"));
        let relay = self.relays[r].relay.as_mut();
        if let Some(own) = relay.and_then(|relay| relay.linked(moment, name)) {
            self.relays[r].bind(own, conn, 0);
        }
        self.obey_relay(r);
    }

    /// The allocator's answer to a relay's question, or that there is none.
    pub(crate) fn relay_answered(&mut self, r: usize, number: u64, answer: Option<Answer>) {
        let moment = self.moment(r);
        let station = &mut self.relays[r];
        let Some(relay) = &mut station.relay else {
            return;
        };
        if station.leasing == Some(number) {
            station.leasing = None;
            let leased = match answer {
                Some(Answer::Leased(leased)) => Some(leased),
                _ => None,
            };
            relay.leased(moment, leased);
        } else if let Some(account) = station.locating.remove(&number) {
            let allocation = match answer {
                Some(Answer::Allocation(allocation)) => Some(allocation),
                _ => None,
            };
            relay.located(moment, &account, allocation);
        }
        self.obey_relay(r);
    }

    /// Whether a relay's disk is of no use at present.
    pub(crate) fn has_failed(&self, r: usize) -> bool {
        self.relays[r].disk.health() == Health::Unsyncable
    }
}

impl Station {
    fn bind(&mut self, own: Conn, conn: ConnId, end: usize) {
        self.conns.insert(own, (conn, end));
        self.ends.insert(conn, own);
    }

    fn unbind(&mut self, own: Conn) -> Option<(ConnId, usize)> {
        let bound = self.conns.remove(&own)?;
        self.ends.remove(&bound.0);
        Some(bound)
    }

    /// The relay's name of a connection.
    pub(crate) fn own_conn(&self, conn: ConnId) -> Option<Conn> {
        self.ends.get(&conn).copied()
    }
}

/// How long a disk takes for a step.
pub(crate) fn disk_span(step: Step, dice: &mut super::dice::Dice) -> Duration {
    match step {
        Step::Apply => dice.millis(0, 2),
        Step::Sync => dice.millis(1, 15),
        Step::Tell => dice.millis(0, 1),
    }
}
