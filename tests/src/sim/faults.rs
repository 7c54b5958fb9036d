//! What goes wrong, and when.

use std::{fmt, time::Duration};

use holdfast::core::Input;

use super::{
    disk::{Crash, Health},
    network::{ConnId, Weather},
    party::Party,
    schedule::Event,
    station::{Instant, Losing},
    world::World,
};

/// How long a device is away: longer than it may send again what it sent before.
const AWAY: Duration = Duration::from_secs(70 * 24 * 3600);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    RelayKilled,
    RelayPowerCut,
    /// A relay dies at a certain step of its next commit.
    RelayMidCommit,
    /// A refusal is lost on its way, and soon after the home that gave it dies.
    RefusalLost,
    RelayFrozen,
    RelayDrained,
    RelayClock,
    SyncFails,
    ReadsFail,
    AllocatorKilled,
    AllocatorPowerCut,
    AllocatorFrozen,
    DeviceKilled,
    DevicePowerCut,
    /// A device dies at a certain step of its next commit.
    DeviceMidCommit,
    DeviceFrozen,
    DeviceClosed,
    DeviceReconnects,
    DeviceDiskFull,
    Reinstalled,
    Rebound,
    /// An app goes to the background or comes to the foreground, or loses its network for a while.
    AppState,
    Broken,
    Cut,
    Storm,
    Permission,
    /// A device with unanswered mail dies, and comes back after 70 days.
    DeviceAway,
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::RelayKilled,
        Self::RelayPowerCut,
        Self::RelayMidCommit,
        Self::RefusalLost,
        Self::RelayFrozen,
        Self::RelayDrained,
        Self::RelayClock,
        Self::SyncFails,
        Self::ReadsFail,
        Self::AllocatorKilled,
        Self::AllocatorPowerCut,
        Self::AllocatorFrozen,
        Self::DeviceKilled,
        Self::DevicePowerCut,
        Self::DeviceMidCommit,
        Self::DeviceFrozen,
        Self::DeviceClosed,
        Self::DeviceReconnects,
        Self::DeviceDiskFull,
        Self::Reinstalled,
        Self::Rebound,
        Self::AppState,
        Self::Broken,
        Self::Cut,
        Self::Storm,
        Self::Permission,
        Self::DeviceAway,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::RelayKilled => "relay-kill",
            Self::RelayPowerCut => "relay-power",
            Self::RelayMidCommit => "mid-commit",
            Self::RefusalLost => "refusal-lost",
            Self::RelayFrozen => "relay-freeze",
            Self::RelayDrained => "drain",
            Self::RelayClock => "clock",
            Self::SyncFails => "sync-error",
            Self::ReadsFail => "read-error",
            Self::AllocatorKilled => "allocator-kill",
            Self::AllocatorPowerCut => "allocator-power",
            Self::AllocatorFrozen => "allocator-freeze",
            Self::DeviceKilled => "device-kill",
            Self::DevicePowerCut => "device-power",
            Self::DeviceMidCommit => "device-mid-commit",
            Self::DeviceFrozen => "device-freeze",
            Self::DeviceClosed => "device-close",
            Self::DeviceReconnects => "reconnect",
            Self::DeviceDiskFull => "device-disk",
            Self::Reinstalled => "reinstall",
            Self::Rebound => "rebind",
            Self::AppState => "app-state",
            Self::Broken => "break",
            Self::Cut => "partition",
            Self::Storm => "storm",
            Self::Permission => "permission",
            Self::DeviceAway => "away",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A fault that was prepared, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process of a relay ends, after its disk failed.
    Abort(usize),
    /// A relay that was drained stops.
    Stop { relay: usize, life: u32 },
    /// A disk can be read again.
    Readable(usize),
    /// A device has a network again.
    Back(usize),
    /// After a refusal that was lost its home dies.
    Unheard {
        relay: usize,
        conn: ConnId,
        home: usize,
    },
    /// The storm is over.
    Calm(u64),
}

impl World {
    /// Something goes wrong, and something else will.
    pub(crate) fn fault_strikes(&mut self) {
        if self.is_quiet || self.fleet.kinds.is_empty() {
            return;
        }
        let pause = self.fate.about(self.fleet.calm);
        self.schedule.after(pause, Event::Fault);
        let kind = *self.fate.pick(&self.fleet.kinds);
        if self.inflict(kind) {
            *self.faults.entry(kind).or_default() += 1;
        }
    }

    fn inflict(&mut self, kind: Kind) -> bool {
        let (r, d) = (self.some_relay(), self.some_device());
        match kind {
            Kind::RelayKilled => self.kill_relay(r, Crash::Kill),
            Kind::RelayPowerCut => self.kill_relay(r, Crash::PowerCut),
            Kind::RelayMidCommit => self.arm(r),
            Kind::RefusalLost => self.lose_next_refusals(),
            Kind::RelayFrozen => self.freeze(Party::Relay(r), 30),
            Kind::RelayDrained => self.drain(r),
            Kind::RelayClock => self.jump(r),
            Kind::SyncFails => self.spoil(r, Health::Unsyncable),
            Kind::ReadsFail => self.spoil(r, Health::Unreadable),
            Kind::AllocatorKilled => self.kill_allocator(Crash::Kill),
            Kind::AllocatorPowerCut => self.kill_allocator(Crash::PowerCut),
            Kind::AllocatorFrozen => self.freeze(Party::Allocator, 20),
            Kind::DeviceKilled => self.kill_device(d, Crash::Kill),
            Kind::DevicePowerCut => self.kill_device(d, Crash::PowerCut),
            Kind::DeviceMidCommit => self.arm_device(d),
            Kind::DeviceFrozen => self.freeze(Party::Device(d), 90),
            Kind::DeviceClosed => self.shut_device(d),
            Kind::DeviceReconnects => self.reconnect(d),
            Kind::DeviceDiskFull => self.fill_disk(d),
            Kind::Reinstalled => self.reinstall(d),
            Kind::Rebound => self.rebind(d),
            Kind::AppState => self.change_state(d),
            Kind::Broken => self.break_connection(),
            Kind::Cut => self.cut_some(r, d),
            Kind::Storm => self.storm(),
            Kind::Permission => self.change_permission(d),
            Kind::DeviceAway => self.send_away(),
        }
    }

    fn some_relay(&mut self) -> usize {
        self.fate.below(self.relays.len())
    }

    fn some_device(&mut self) -> usize {
        self.fate.below(self.devices.len())
    }

    fn kill_relay(&mut self, r: usize, crash: Crash) -> bool {
        let is_up = self.relays[r].is_up();
        self.crash_relay(r, crash);
        is_up
    }

    fn arm(&mut self, r: usize) -> bool {
        let instants = [
            Instant::BeforeApply,
            Instant::BeforeSync,
            Instant::BeforeTell,
            Instant::BeforeAnswer,
            Instant::MidAnswer,
        ];
        let instant = *self.fate.pick(&instants);
        let crash = *self.fate.pick(&[Crash::Kill, Crash::PowerCut]);
        self.relays[r].armed = Some((instant, crash));
        self.relays[r].is_up()
    }

    /// Of every relay, for few messages are refused at all.
    fn lose_next_refusals(&mut self) -> bool {
        let relays = 0..self.relays.len();
        relays.filter(|r| self.lose_next_refusal(*r)).count() > 0
    }

    fn lose_next_refusal(&mut self, r: usize) -> bool {
        let station = &mut self.relays[r];
        if !station.is_up() || station.refusal != Losing::Nothing {
            return false;
        }
        station.refusal = Losing::Next;
        true
    }

    /// What was lost stays lost: a connection with a hole in it is of no use.
    pub(crate) fn stop_losing(&mut self, r: usize) {
        let losing = std::mem::replace(&mut self.relays[r].refusal, Losing::Nothing);
        if let Losing::After(conn) = losing {
            self.break_off(conn);
        }
    }

    fn arm_device(&mut self, d: usize) -> bool {
        let hears = self.fate.chance(0.5);
        let crash = *self.fate.pick(&[Crash::Kill, Crash::PowerCut]);
        self.devices[d].armed = Some((hears, crash));
        self.devices[d].is_up()
    }

    fn freeze(&mut self, party: Party, most: u64) -> bool {
        let span = self.fate.millis(100, most * 1000);
        let until = self.now() + span;
        self.note(party, None, || format!("is frozen for {span:?}"));
        match party {
            Party::Allocator => self.allocator.frozen_until = until,
            Party::Relay(r) => {
                self.relays[r].frozen_until = until;
                self.relays[r].running_since = until;
            }
            Party::Device(d) => self.devices[d].frozen_until = until,
        }
        true
    }

    fn drain(&mut self, r: usize) -> bool {
        let moment = self.moment(r);
        let life = self.relays[r].life;
        let within = self.fate.millis(500, 20_000);
        let Some(relay) = self.relays[r]
            .relay
            .as_mut()
            .filter(|relay| relay.is_ready())
        else {
            return false;
        };
        relay.drain(moment, within);
        self.note(Party::Relay(r), None, || "is asked to stop".to_owned());
        let stop = Fault::Stop { relay: r, life };
        self.schedule.after(within, Event::Strike(stop));
        self.obey_relay(r);
        true
    }

    fn jump(&mut self, r: usize) -> bool {
        let hours = [-24, -1, 1, 30, 24 * 40];
        let by = *self.fate.pick(&hours) * 3_600_000;
        self.relays[r].wall_offset += by;
        if by > 0 {
            self.relays[r].jumped = Some(self.now());
        }
        self.note(Party::Relay(r), None, || {
            format!("its wall clock jumps by {by} ms")
        });
        true
    }

    fn spoil(&mut self, r: usize, health: Health) -> bool {
        if !self.relays[r].is_ready() || self.relays[r].disk.health() != Health::Sound {
            return false;
        }
        self.relays[r].disk.set_health(health);
        self.note(Party::Relay(r), None, || format!("its disk is {health:?}"));
        if health == Health::Unreadable {
            let span = self.fate.millis(500, 10_000);
            self.schedule.after(span, Event::Strike(Fault::Readable(r)));
        } else {
            // It stops at its next sync, or, if it has nothing to write, some time.
            self.relays[r].failed_since = Some(self.now());
            self.schedule
                .after(Duration::from_secs(5), Event::Strike(Fault::Abort(r)));
        }
        true
    }

    fn kill_allocator(&mut self, crash: Crash) -> bool {
        let is_up = self.allocator.is_up();
        self.crash_allocator(crash);
        is_up
    }

    pub(crate) fn kill_device(&mut self, d: usize, crash: Crash) -> bool {
        if !self.devices[d].is_up() {
            return false;
        }
        self.crash_device(d, crash);
        self.restart_device_later(d);
        true
    }

    /// For the world it is gone for a moment; to the device its relays say that it was long.
    fn send_away(&mut self) -> bool {
        let waits = |d: &usize| {
            let device = &self.devices[*d];
            device.is_up() && device.notebook.unanswered().next().is_some()
        };
        let waiting: Vec<usize> = (0..self.devices.len()).filter(waits).collect();
        if waiting.is_empty() {
            return false;
        }
        let d = *self.fate.pick(&waiting);
        self.devices[d].away += AWAY;
        self.note(Party::Device(d), None, || format!("is away for {AWAY:?}"));
        self.kill_device(d, Crash::Kill)
    }

    fn restart_device_later(&mut self, d: usize) {
        let rest = self.fate.about(Duration::from_secs(30));
        self.schedule.after(rest, Event::Boot(Party::Device(d)));
    }

    fn shut_device(&mut self, d: usize) -> bool {
        if !self.devices[d].is_up() || self.devices[d].stopping {
            return false;
        }
        self.close_device(d);
        self.restart_device_later(d);
        true
    }

    fn fill_disk(&mut self, d: usize) -> bool {
        if !self.devices[d].is_up() || self.devices[d].stopping {
            return false;
        }
        self.fail_notebook(d);
        self.restart_device_later(d);
        true
    }

    fn reconnect(&mut self, d: usize) -> bool {
        self.tell_device(d, Input::Reconnect);
        self.devices[d].is_up()
    }

    fn reinstall(&mut self, d: usize) -> bool {
        if self.devices[d].is_up() {
            self.crash_device(d, Crash::PowerCut);
        }
        let (outbox, inbox) = (self.fate.number(), self.fate.number());
        let device = &mut self.devices[d];
        let who = device.who.clone();
        let old = std::mem::replace(
            &mut device.notebook,
            super::notebook::Notebook::new(outbox, inbox, self.planted),
        );
        self.judge.reinstalled(d, &who, old.outbox);
        self.note(Party::Device(d), None, || "is installed anew".to_owned());
        self.restart_device_later(d);
        true
    }

    fn rebind(&mut self, d: usize) -> bool {
        self.rebinds += 1;
        let address = self.fleet.address(d, self.rebinds);
        self.devices[d].address = address;
        self.network.rebind(Party::Device(d));
        self.note(Party::Device(d), None, || format!("moves to {address}"));
        if self.fate.chance(0.5) {
            let name = self
                .fate
                .chance(0.7)
                .then(|| format!("n{}", self.rebinds % 5));
            self.tell_device(d, Input::Network { name });
        }
        true
    }

    /// The app goes to the background, or comes to the foreground; or the device comes into a tunnel,
    /// and out of it.
    fn change_state(&mut self, d: usize) -> bool {
        let input = match self.fate.below(4) {
            0 => Input::Background(false),
            1 => Input::NetworkLost,
            _ => Input::Background(true),
        };
        self.note(Party::Device(d), None, || format!("{input:?}"));
        if input == Input::NetworkLost {
            let back = Duration::from_secs(self.fate.below(120) as u64);
            self.schedule.after(back, Event::Strike(Fault::Back(d)));
        }
        self.tell_device(d, input);
        true
    }

    pub(crate) fn come_back(&mut self, d: usize) {
        self.note(Party::Device(d), None, || "has a network again".to_owned());
        self.tell_device(d, Input::Network { name: None });
    }

    fn break_connection(&mut self) -> bool {
        let conns: Vec<ConnId> = self.network.all();
        if conns.is_empty() {
            return false;
        }
        let conn = *self.fate.pick(&conns);
        self.break_off(conn);
        true
    }

    fn cut_some(&mut self, r: usize, d: usize) -> bool {
        let other = self.some_relay();
        let pairs = [
            (Party::Device(d), Party::Relay(r)),
            (Party::Relay(r), Party::Relay(other)),
            (Party::Relay(r), Party::Allocator),
            (Party::Device(d), Party::Allocator),
        ];
        let (one, two) = *self.fate.pick(&pairs);
        if one == two {
            return false;
        }
        let span = self.fate.about(Duration::from_secs(25));
        self.note(one, None, || format!("is cut off from {two} for {span:?}"));
        self.network.cut(one, two, &mut self.schedule);
        self.schedule.after(span, Event::Heal(one, two));
        true
    }

    fn storm(&mut self) -> bool {
        self.storms += 1;
        self.network.weather = Weather {
            delay: (50, 1500),
            loss: 0.5,
            twice: 0.2,
            late: 0.2,
            dial_loss: 0.5,
        };
        let span = self.fate.about(Duration::from_secs(20));
        self.schedule
            .after(span, Event::Strike(Fault::Calm(self.storms)));
        true
    }

    fn change_permission(&mut self, d: usize) -> bool {
        let account = self.fate.pick(&self.fleet.accounts).clone();
        let allowed = self.fate.chance(0.7);
        if self.devices[d].account().is_none() || !self.devices[d].is_up() {
            return false;
        }
        self.allow(d, account, allowed);
        true
    }

    /// A fault that was prepared comes, or goes.
    pub(crate) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Abort(r) => {
                if self.has_failed(r) {
                    self.crash_relay(r, Crash::Kill);
                }
            }
            Fault::Unheard { relay, conn, home } => {
                if self.relays[relay].refusal == Losing::After(conn) {
                    self.stop_losing(relay);
                    self.crash_relay(home, Crash::Kill);
                }
            }
            Fault::Stop { relay, life } => self.stop_relay(relay, life),
            Fault::Back(d) => self.come_back(d),
            Fault::Readable(r) => {
                if self.relays[r].disk.health() == Health::Unreadable {
                    self.relays[r].disk.set_health(Health::Sound);
                }
            }
            Fault::Calm(storm) => {
                if storm == self.storms {
                    self.network.weather = self.fleet.weather;
                }
            }
        }
    }

    fn stop_relay(&mut self, r: usize, life: u32) {
        let moment = self.moment(r);
        if self.relays[r].life != life {
            return;
        }
        if let Some(relay) = &mut self.relays[r].relay {
            relay.stop(moment);
            self.obey_relay(r);
            self.crash_relay(r, Crash::Kill);
        }
    }
}
