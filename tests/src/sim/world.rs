//! The world of one simulated hour: every party, the network between them, and what happens next.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use holdfast::core::Input;
use holdfast_protocol::{
    frame::RawFrame,
    id::{MessageId, Name},
    limits::MAX_DATAGRAM,
    message::Ping,
    time::Time,
};
use holdfast_relay::core::Conn;

use super::{
    allocator::{Allocator, Asked},
    device::Device,
    dice::Dice,
    disk::{Crash, Disk, Health},
    faults::Kind,
    fleet::Fleet,
    judge::Judge,
    network::{Arrived, ConnId, Network, Weather},
    notebook::Notebook,
    party::Party,
    planted::Planted,
    schedule::{Dial, Event, Schedule},
    station::Station,
    story::Story,
};

/// How long the fleet may come up before anything goes wrong.
const DAWN: Duration = Duration::from_secs(30);

/// Between two looks at the online lists.
const INSPECTION: Duration = Duration::from_secs(5);

/// Everything there is.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) schedule: Schedule,
    pub(crate) network: Network,
    pub(crate) devices: Vec<Device>,
    pub(crate) relays: Vec<Station>,
    pub(crate) allocator: Allocator,
    pub(crate) judge: Judge,
    pub(crate) story: Option<Story>,
    pub(crate) planted: Option<Planted>,
    /// What the network does.
    pub(crate) dice: Dice,
    /// What apps do.
    pub(crate) choice: Dice,
    /// What goes wrong.
    pub(crate) fate: Dice,
    pub(crate) faults: BTreeMap<Kind, u64>,
    /// Nothing goes wrong any more, and apps send nothing.
    pub(crate) is_quiet: bool,
    pub(crate) questions: u64,
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Frames that a bug has put into a device's mouth.
    pub(crate) forged: Vec<(usize, Conn, Bytes)>,
    pub(crate) rebinds: u16,
    pub(crate) storms: u64,
    permissions: u32,
    /// Of every byte that was sent, and when.
    digest: DefaultHasher,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, story: Option<Story>) -> Self {
        let mut nature = Dice::new(seed, 1);
        let fleet = Fleet::draw(&mut nature);
        let disk = |purpose: u64, planted| Disk::new(Dice::new(seed, purpose), planted);
        let of_pins = planted.filter(|bug| *bug == Planted::PinsForgotten);
        let of_mail = planted.filter(|bug| *bug != Planted::PinsForgotten);
        let relays = (0..fleet.relays).map(|r| {
            let name = format!("r{}", r + 1).parse().expect("it is a name");
            let address = SocketAddr::from(([192, 0, 2, 1], 4000 + r as u16));
            Station::new(name, address, disk(100 + r as u64, of_mail))
        });
        let relays = relays.collect();
        let people = fleet.people.iter().enumerate();
        let devices: Vec<Device> = people
            .map(|(d, who)| {
                let notebook = Notebook::new(nature.number(), nature.number(), planted);
                Device::new(who.clone(), fleet.address(d, 0), notebook)
            })
            .collect();
        Self {
            judge: Judge::new(devices.len(), fleet.puts_away()),
            devices,
            relays,
            allocator: Allocator::new(SocketAddr::from(([192, 0, 2, 9], 4400)), disk(99, of_pins)),
            fleet,
            schedule: Schedule::default(),
            network: Network::new(),
            story,
            planted,
            dice: Dice::new(seed, 2),
            choice: Dice::new(seed, 3),
            fate: Dice::new(seed, 4),
            faults: BTreeMap::new(),
            is_quiet: false,
            questions: 0,
            asked: BTreeMap::new(),
            forged: Vec::new(),
            rebinds: 0,
            storms: 0,
            permissions: 0,
            digest: DefaultHasher::new(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.schedule.now()
    }

    /// Takes note of something that is sent.
    pub(crate) fn digest(&mut self, bytes: &Bytes) {
        self.now().since_origin().hash(&mut self.digest);
        bytes.hash(&mut self.digest);
    }

    /// A number that any other course of the hour would have made another one.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.digest.finish()
    }

    /// Adds to the story, if one is told.
    pub(crate) fn note(
        &mut self,
        party: Party,
        about: Option<&MessageId>,
        text: impl FnOnce() -> String,
    ) {
        let at = self.now().since_origin().as_millis();
        if let Some(story) = self.story.as_mut().filter(|story| story.wants(about)) {
            story.add(at, party, text());
        }
    }

    /// A promise is broken that is about no one message.
    pub(crate) fn complain(&mut self, what: String) {
        self.judge.breach(None, what);
    }

    /// The fleet comes up; nothing goes wrong yet.
    pub(crate) fn begin(&mut self) {
        self.start_allocator();
        (0..self.relays.len()).for_each(|r| self.start_relay(r));
        for d in 0..self.devices.len() {
            let span = if d < self.fleet.early {
                self.choice.millis(500, 3000)
            } else {
                self.choice.millis(60_000, 3_000_000)
            };
            self.schedule.after(span, Event::Boot(Party::Device(d)));
            let first = DAWN + self.choice.about(self.fleet.pause);
            self.schedule.after(first, Event::Send { device: d });
        }
        self.schedule.after(INSPECTION, Event::Inspection);
        self.schedule.after(DAWN, Event::Fault);
    }

    /// Lets time pass, until a moment or until a promise is broken.
    pub(crate) fn run(&mut self, until: Time) {
        while let Some(event) = self.schedule.next(until) {
            self.judge.set_now(self.schedule.now());
            self.happen(event);
            self.deliver_forgeries();
            if !self.judge.breaches.is_empty() {
                return;
            }
        }
    }

    /// Faults stop, and whoever is down comes up.
    pub(crate) fn calm_down(&mut self) {
        self.is_quiet = true;
        self.network.weather = Weather::CALM;
        self.network.heal_all(&mut self.schedule);
        for r in 0..self.relays.len() {
            self.relays[r].frozen_until = Time::ZERO;
            self.relays[r].armed = None;
            self.stop_losing(r);
            match self.relays[r].disk.health() {
                Health::Unsyncable => self.crash_relay(r, Crash::Kill),
                _ => self.relays[r].disk.set_health(Health::Sound),
            }
            self.schedule
                .after(Duration::from_secs(1), Event::Boot(Party::Relay(r)));
        }
        self.allocator.frozen_until = Time::ZERO;
        self.schedule
            .after(Duration::from_secs(1), Event::Boot(Party::Allocator));
        for d in 0..self.devices.len() {
            self.devices[d].frozen_until = Time::ZERO;
            self.devices[d].armed = None;
            self.come_back(d);
            self.tell_device(d, Input::Background(false));
            self.schedule
                .after(Duration::from_secs(2), Event::Boot(Party::Device(d)));
        }
    }

    /// Everybody looks for a relay anew.
    pub(crate) fn reconnect_all(&mut self) {
        for d in 0..self.devices.len() {
            self.tell_device(d, Input::Reconnect);
        }
    }

    pub(crate) fn life(&self, party: Party) -> u32 {
        match party {
            Party::Allocator => self.allocator.life,
            Party::Relay(r) => self.relays[r].life,
            Party::Device(d) => self.devices[d].life,
        }
    }

    fn frozen_until(&self, party: Party) -> Time {
        match party {
            Party::Allocator => self.allocator.frozen_until,
            Party::Relay(r) => self.relays[r].frozen_until,
            Party::Device(d) => self.devices[d].frozen_until,
        }
    }

    /// Who has to run for an event to have its effect.
    fn concerned(&self, event: &Event) -> Option<Party> {
        match event {
            Event::Arrival { conn, end, .. } | Event::Datagram { conn, end, .. } => {
                self.network.party(*conn, *end)
            }
            Event::Timer(party) | Event::Disk { party, .. } => Some(*party),
            Event::Dial(dial) if dial.given_up => Some(dial.from),
            Event::Dial(dial) => dial.to.map(Party::Relay),
            Event::Question { .. } => Some(Party::Allocator),
            Event::Answer { number, .. } | Event::NoAnswer { number } => {
                Some(self.asked.get(number)?.from)
            }
            Event::Notebook { device, .. }
            | Event::Flushed { device, .. }
            | Event::Send { device }
            | Event::Finish { device, .. } => Some(Party::Device(*device)),
            Event::Idle { .. }
            | Event::Boot(_)
            | Event::Heal(..)
            | Event::Fault
            | Event::Strike(_)
            | Event::Inspection => None,
        }
    }

    fn happen(&mut self, event: Event) {
        let thaw = self.concerned(&event).map(|party| self.frozen_until(party));
        if let Some(thaw) = thaw.filter(|thaw| *thaw > self.now()) {
            return self.schedule.at(thaw, event);
        }
        match event {
            Event::Arrival { conn, end, lane } => match self.network.arrive(conn, end, lane) {
                Arrived::Nothing => {}
                Arrived::Piece(Party::Device(d), piece) => self.device_receives(d, conn, piece),
                Arrived::Piece(Party::Relay(r), piece) => {
                    self.heard_on(conn, end);
                    self.relay_receives(r, conn, piece);
                }
                Arrived::Piece(Party::Allocator, _) => {}
                Arrived::Stray(party) => self.stray(party, conn, end),
            },
            Event::Datagram {
                conn,
                end,
                bytes,
                observed,
            } => self.datagram(conn, end, bytes, observed),
            Event::Idle { conn } => self.idle(conn),
            Event::Timer(Party::Relay(r)) => self.relay_timer(r),
            Event::Timer(Party::Device(d)) => self.device_timer(d),
            Event::Timer(Party::Allocator) => {}
            Event::Dial(dial) => match dial.from {
                Party::Device(d) => self.device_dials(d, &dial),
                Party::Relay(r) => self.relay_dials(r, &dial),
                Party::Allocator => {}
            },
            Event::Question { number } => self.question_arrives(number),
            Event::Answer { number, answer } => self.answer_arrives(number, Some(answer)),
            Event::NoAnswer { number } => self.answer_arrives(number, None),
            Event::Disk { party, life } => match party {
                Party::Relay(r) => self.disk_works(r, life),
                Party::Allocator => self.allocators_disk_works(life),
                Party::Device(_) => {}
            },
            Event::Notebook { device, life } => self.notebook_works(device, life),
            Event::Flushed { device, life, conn } => self.flushed(device, life, conn),
            Event::Send { device } => self.app_sends(device),
            Event::Finish {
                device,
                life,
                source,
                seq,
            } => self.app_finishes(device, life, source, seq),
            Event::Boot(Party::Relay(r)) => self.start_relay(r),
            Event::Boot(Party::Allocator) => self.start_allocator(),
            Event::Boot(Party::Device(d)) => self.start_device(d),
            Event::Heal(one, other) => self.network.heal(one, other, &mut self.schedule),
            Event::Fault => self.fault_strikes(),
            Event::Strike(fault) => self.strike(fault),
            Event::Inspection => {
                self.inspect();
                self.schedule.after(INSPECTION, Event::Inspection);
            }
        }
    }

    fn datagram(&mut self, conn: ConnId, end: usize, bytes: Bytes, observed: SocketAddr) {
        if !self.network.hears(conn, end) {
            return;
        }
        match self.network.party(conn, end) {
            Some(Party::Device(d)) if self.devices[d].conn == Some(conn) => {
                self.tell_device(d, Input::Datagram(bytes));
            }
            Some(Party::Relay(r)) => {
                self.heard_on(conn, end);
                self.announced_on(conn, end, &bytes);
                self.relay_hears(r, conn, bytes, observed);
            }
            _ => {}
        }
    }

    fn heard_on(&mut self, conn: ConnId, end: usize) {
        if let Some(Party::Device(d)) = self.network.other(conn, end) {
            self.devices[d].heard = self.now();
        }
    }

    fn announced_on(&mut self, conn: ConnId, end: usize, datagram: &Bytes) {
        let frame = RawFrame::whole(datagram.clone(), MAX_DATAGRAM);
        let ping = frame.and_then(|frame| frame.header::<Ping>());
        if let (Some(Party::Device(d)), Ok(ping)) = (self.network.other(conn, end), ping) {
            self.devices[d].announced = Duration::from_millis(ping.next_within_ms.into());
        }
    }

    /// Something came for a connection that nobody knows any more: whoever is up there says so.
    fn stray(&mut self, party: Party, conn: ConnId, end: usize) {
        let is_up = match party {
            Party::Device(d) => self.devices[d].is_up(),
            Party::Relay(r) => self.relays[r].is_up(),
            Party::Allocator => false,
        };
        if is_up {
            self.network
                .reset(conn, 1 - end, &mut self.schedule, &mut self.dice);
        }
    }

    fn idle(&mut self, conn: ConnId) {
        for (party, _) in self.network.idle(conn) {
            if let Party::Relay(r) = party {
                let ending = holdfast_transport::Ending::Lost("timed out".to_owned());
                self.relay_receives(r, conn, super::network::Piece::Closed(ending));
            }
        }
    }

    /// Somebody dials: it comes to something or nothing, and in time.
    pub(crate) fn dial(&mut self, dial: Dial, patience: Duration) {
        let there = self.network.delay(&mut self.dice) * 3;
        let given_up = Dial {
            given_up: true,
            ..dial.clone()
        };
        self.schedule.after(there, Event::Dial(dial));
        self.schedule.after(patience, Event::Dial(given_up));
    }

    /// A connection breaks: both ends are told, and what was under way is lost.
    pub(crate) fn break_off(&mut self, conn: ConnId) {
        if let Some(party) = self.network.party(conn, 0) {
            self.note(party, None, || format!("its connection {conn} breaks"));
        }
        self.network.abort(conn, &mut self.schedule, &mut self.dice);
    }

    pub(crate) fn allow(&mut self, d: usize, account: Name, allowed: bool) {
        self.permissions += 1;
        let tag = self.permissions;
        self.note(Party::Device(d), None, || {
            format!("allows {account}: {allowed}")
        });
        self.tell_device(
            d,
            Input::Allow {
                tag,
                account,
                allowed,
            },
        );
    }

    fn deliver_forgeries(&mut self) {
        for (r, conn, bytes) in std::mem::take(&mut self.forged) {
            let moment = self.moment(r);
            if let Some(relay) = &mut self.relays[r].relay {
                relay.control(moment, conn, bytes);
                self.obey_relay(r);
            }
        }
    }
}
