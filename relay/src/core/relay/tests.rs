use holdfast_durable::MemoryRows;
use holdfast_protocol::{
    client::{Action, Client, ClientConfig, Event},
    heartbeat::PingSchedule,
    message::{Ack, Options, Outcome, Submit},
};

use super::*;

mod battery;
mod fairness;
mod leaving;
mod lone;

/// Two relays, of which `r1` is everybody's home, and devices.
struct World {
    now: Moment,
    relays: BTreeMap<Name, Relay>,
    disks: BTreeMap<Name, MemoryRows>,
    /// Where what one relay says on a link arrives.
    wires: BTreeMap<(Name, Conn), (Name, Conn)>,
    devices: Vec<Device>,
    /// The ends of links that a relay has closed.
    closed: Vec<(Name, Conn)>,
}

struct Device {
    relay: Name,
    conn: Conn,
    client: Client,
    is_open: bool,
    heard: Vec<Heard>,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message(u64, Bytes),
    Receipt(u64, Outcome),
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn address(relay: &str) -> RelayAddress {
    RelayAddress {
        name: name(relay),
        addresses: vec![([127, 0, 0, 1], 4433).into()],
    }
}

impl World {
    fn new() -> Self {
        let now = Moment {
            time: Time::ZERO,
            wall_ms: 1_700_000_000_000,
        };
        let mut world = Self {
            now,
            relays: BTreeMap::new(),
            disks: BTreeMap::new(),
            wires: BTreeMap::new(),
            devices: Vec::new(),
            closed: Vec::new(),
        };
        ["r1", "r2"].into_iter().for_each(|relay| world.boot(relay));
        world
    }

    /// Starts a relay on what its disk holds, and breaks whatever was connected to the last run.
    fn boot(&mut self, relay: &str) {
        let relay = name(relay);
        self.relays.remove(&relay);
        let wires = std::mem::take(&mut self.wires);
        for ((_, _), (to, conn)) in wires {
            if let Some(other) = self.relays.get_mut(&to) {
                other.ended(self.now, conn);
            }
        }
        let disk = self.disks.entry(relay.clone()).or_default();
        let started = Relay::boot(Settings::new(relay.clone()), Arc::new(disk.clone()));
        self.relays.insert(relay, started.unwrap());
        self.settle();
    }

    fn attach(&mut self, device: &str, relay: &str) -> usize {
        let who = format!("spiffe://test/device/{device}");
        let (_, who) = Identity::parse(&who).unwrap();
        let relay = name(relay);
        let accepted = self.relays.get_mut(&relay).unwrap();
        let conn = accepted.accept(self.now, &who).unwrap();
        let mut client = Client::new(ClientConfig {
            agent: "test/1".parse().unwrap(),
            outbox: 1,
            inbox: 1,
            pings: PingSchedule::default(),
        });
        client.start(self.now.time);
        self.devices.push(Device {
            relay,
            conn,
            client,
            is_open: true,
            heard: Vec::new(),
        });
        self.settle();
        self.devices.len() - 1
    }

    fn send(&mut self, device: usize, seq: u64, to: &str, body: Bytes) {
        let submit = Submit {
            seq,
            to: to.parse().unwrap(),
            options: Options::default(),
            again: false,
        };
        self.devices[device].client.submit(submit, body).unwrap();
        self.settle();
    }

    fn heard(&mut self, device: usize) -> Vec<Heard> {
        std::mem::take(&mut self.devices[device].heard)
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.time + span;
        loop {
            let deadlines = self.relays.values().map(Relay::deadline);
            let next = deadlines.min().unwrap().max(self.now.time).min(end);
            self.now.wall_ms += u64::try_from(next.since(self.now.time).as_millis()).unwrap();
            self.now.time = next;
            let now = self.now;
            self.relays
                .values_mut()
                .for_each(|relay| relay.timeout(now));
            self.settle();
            if next == end {
                return;
            }
            self.now.time = self.now.time + Duration::from_millis(1);
        }
    }

    fn settle(&mut self) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            let names: Vec<Name> = self.relays.keys().cloned().collect();
            for from in names {
                while let Some(output) = self.relays.get_mut(&from).unwrap().poll(self.now) {
                    is_quiet = false;
                    self.carry(&from, output);
                }
            }
            for device in 0..self.devices.len() {
                while let Some(action) = self.devices[device].client.poll() {
                    is_quiet = false;
                    self.act(device, action);
                }
            }
        }
    }

    fn carry(&mut self, from: &Name, output: Output) {
        let now = self.now;
        match output {
            Output::Control { conn, bytes } => match self.wires.get(&(from.clone(), conn)) {
                Some((to, conn)) => self.relays.get_mut(to).unwrap().control(now, *conn, bytes),
                None => self
                    .device(from, conn)
                    .client
                    .handle_control(now.time, bytes),
            },
            Output::Bulk { conn, frame } => match self.wires.get(&(from.clone(), conn)) {
                Some((to, conn)) => {
                    let relay = self.relays.get_mut(to).unwrap();
                    relay.bulk(now, *conn, frame.concat());
                }
                None => self.device(from, conn).client.handle_bulk(frame.concat()),
            },
            Output::Datagram { conn, bytes } => {
                self.device(from, conn)
                    .client
                    .handle_datagram(now.time, bytes);
            }
            Output::Close { conn, .. } => self.close(from, conn),
            Output::Dial(relay) => self.dial(from, &relay.name),
            Output::Lease(lease) => {
                let leased = Leased {
                    valid_ms: 15_000,
                    others: Vec::new(),
                };
                assert_eq!(lease.boot, self.relays[from].boot_number());
                self.relays.get_mut(from).unwrap().leased(now, Some(leased));
            }
            Output::Locate(account) => {
                let answer = Allocation::Relays {
                    home: Some(name("r1")),
                    relays: vec![address("r1")],
                };
                let relay = self.relays.get_mut(from).unwrap();
                relay.located(now, &account, Some(answer));
            }
        }
    }

    fn close(&mut self, from: &Name, conn: Conn) {
        let mut devices = self.devices.iter_mut();
        let device = devices.find(|device| device.relay == *from && device.conn == conn);
        match device {
            Some(device) => device.is_open = false,
            None => self.closed.push((from.clone(), conn)),
        }
    }

    fn dial(&mut self, from: &Name, to: &Name) {
        let who = Identity::Relay(from.clone());
        let there = self.relays.get_mut(to).unwrap();
        let there = (to.clone(), there.accept(self.now, &who).unwrap());
        let here = self.relays.get_mut(from).unwrap();
        let here = (from.clone(), here.linked(self.now, to).unwrap());
        self.wires.insert(here.clone(), there.clone());
        self.wires.insert(there, here);
    }

    fn device(&mut self, relay: &Name, conn: Conn) -> &mut Device {
        let mut devices = self.devices.iter_mut();
        devices
            .find(|device| device.relay == *relay && device.conn == conn)
            .unwrap()
    }

    fn act(&mut self, device: usize, action: Action) {
        let device = &mut self.devices[device];
        let relay = self.relays.get_mut(&device.relay).unwrap();
        let from = SocketAddr::from(([192, 0, 2, 1], 9));
        match action {
            Action::Control(bytes) => relay.control(self.now, device.conn, bytes),
            Action::Bulk(frame) => relay.bulk(self.now, device.conn, frame.concat()),
            Action::Datagram(bytes) => relay.datagram(self.now, device.conn, bytes, from),
            Action::Event(Event::Receipt(receipt)) => device
                .heard
                .push(Heard::Receipt(receipt.seq, receipt.outcome)),
            Action::Event(Event::Message {
                lane,
                deliver,
                body,
            }) => {
                device.heard.push(Heard::Message(deliver.seq, body));
                device.client.ack(Ack {
                    lane,
                    through: deliver.position,
                });
            }
            Action::Event(_) | Action::Close(_) => {}
        }
    }
}

#[test]
fn a_message_passes_over_two_relays_in_both_lanes() {
    let mut world = World::new();
    let phone = world.attach("alice/phone", "r1");
    let pc = world.attach("alice/pc", "r2");
    assert_eq!(
        world.relays[&name("r1")].online(&name("alice")),
        [name("pc"), name("phone")]
    );
    let photo = Bytes::from(vec![7; 40_000]);
    world.send(pc, 1, "alice/phone", "hi".into());
    world.send(pc, 1, "alice/phone", photo.clone());
    let messages = [Heard::Message(1, "hi".into()), Heard::Message(1, photo)];
    assert_eq!(world.heard(phone), messages);
    let delivered = || Heard::Receipt(1, Outcome::Delivered);
    assert_eq!(world.heard(pc), [delivered(), delivered()]);
}

#[test]
fn what_was_stored_outlives_the_relay_and_links_come_back() {
    let mut world = World::new();
    let pc = world.attach("alice/pc", "r2");
    world.send(pc, 1, "alice/phone", "kept".into());
    assert_eq!(world.heard(pc), [Heard::Receipt(1, Outcome::Stored)]);
    world.boot("r1");
    assert_eq!(world.relays[&name("r1")].boot_number(), 2);
    assert_eq!(world.relays[&name("r1")].online(&name("alice")), []);
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.relays[&name("r1")].online(&name("alice")),
        [name("pc")]
    );
    let phone = world.attach("alice/phone", "r1");
    assert_eq!(world.heard(phone), [Heard::Message(1, "kept".into())]);
    world.send(pc, 2, "alice/phone", "more".into());
    assert_eq!(world.heard(pc), [Heard::Receipt(2, Outcome::Delivered)]);
}

/// The edge takes a link for broken, and the home has not noticed.
#[test]
fn a_new_link_takes_the_place_of_one_that_the_home_takes_for_up() {
    let mut world = World::new();
    let pc = world.attach("alice/pc", "r2");
    let wires = std::mem::take(&mut world.wires);
    let [(_, here), (_, there)] = [0, 1].map(|at| wires.keys().nth(at).unwrap().clone());
    let edge = world.relays.get_mut(&name("r2")).unwrap();
    edge.ended(world.now, there);
    assert_eq!(
        world.relays[&name("r1")].online(&name("alice")),
        [name("pc")]
    );
    world.pass(Duration::from_secs(1));
    assert_eq!(world.closed, [(name("r1"), here)], "the older link");
    assert!(world.devices[pc].is_open, "its session goes on");
    let phone = world.attach("alice/phone", "r1");
    world.send(phone, 1, "alice/pc", "still there?".into());
    assert_eq!(world.heard(pc), [Heard::Message(1, "still there?".into())]);
    assert_eq!(world.heard(phone), [Heard::Receipt(1, Outcome::Delivered)]);
}

#[test]
fn a_silent_device_leaves_the_list_and_is_told() {
    let mut world = World::new();
    let phone = world.attach("alice/phone", "r1");
    world.pass(Duration::from_secs(40));
    assert!(world.devices[phone].is_open);
    world.pass(Duration::from_secs(20));
    assert!(!world.devices[phone].is_open);
    let relay = &world.relays[&name("r1")];
    assert_eq!(relay.online(&name("alice")), []);
    assert_eq!(relay.sessions(), []);
}

#[test]
fn nobody_is_served_before_the_number_of_the_run_is_durable() {
    /// Says that nothing is durable.
    struct Stuck(MemoryRows);

    impl Store for Stuck {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, holdfast_durable::ReadError> {
            self.0.get(key)
        }

        fn scan(&self, prefix: &[u8]) -> holdfast_durable::RowsInOrder<'_> {
            self.0.scan(prefix)
        }

        fn commit(&self, batch: holdfast_durable::Batch, _done: holdfast_durable::Done) {
            self.0.write(batch);
        }

        fn write(&self, batch: holdfast_durable::Batch) {
            self.0.write(batch);
        }
    }

    let store = Arc::new(Stuck(MemoryRows::default()));
    let mut relay = Relay::boot(Settings::new(name("r1")), store).unwrap();
    let now = Moment {
        time: Time::ZERO,
        wall_ms: 0,
    };
    assert!(!relay.is_ready());
    assert_eq!(relay.poll(now), None, "not even a lease");
    let (_, who) = Identity::parse("spiffe://test/device/alice/pc").unwrap();
    assert!(relay.accept(now, &who).is_err());
}
