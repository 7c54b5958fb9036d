//! A relay without sockets, and devices that write to each other in pairs.

use std::{mem, sync::Arc};

use bytes::Bytes;
use holdfast_durable::MemoryRows;
use holdfast_protocol::{
    allocation::{Allocation, Leased},
    client::{Action, Client, ClientConfig, Event},
    heartbeat::PingSchedule,
    id::{Device, Identity, Name},
    message::{Ack, Options, RelayAddress, Submit},
    time::Time,
};
use holdfast_relay::core::{Conn, Moment, Output, Relay, Settings};

/// Bytes of each message's body.
const BODY: usize = 256;

/// The relay, and the devices that are attached to it.
pub(crate) struct World {
    now: Moment,
    relay: Relay,
    /// Those that write, and then those that read.
    devices: Vec<Attached>,
    writers: u64,
    sent: u64,
    answered: u64,
}

struct Attached {
    conn: Conn,
    client: Client,
}

impl World {
    /// So many devices that write, and the one that each of them writes to.
    pub(crate) fn of_pairs(pairs: u64) -> Self {
        let mut world = Self::of_writers(pairs);
        (0..pairs).for_each(|pair| world.attach(&reader(pair)));
        world
    }

    /// So many devices that write to others that are not there.
    pub(crate) fn of_writers(writers: u64) -> Self {
        let settings = Settings::new(name("r1"));
        let mut world = Self {
            now: Moment {
                time: Time::ZERO,
                wall_ms: 1_700_000_000_000,
            },
            relay: Relay::boot(settings, Arc::new(MemoryRows::default())).unwrap(),
            devices: Vec::new(),
            writers,
            sent: 0,
            answered: 0,
        };
        world.settle();
        (0..writers).for_each(|pair| world.attach(&writer(pair)));
        world
    }

    /// Everybody who writes sends so many messages at once; how many were answered.
    pub(crate) fn burst(&mut self, messages: u64) -> u64 {
        for pair in 0..self.writers {
            for seq in self.sent + 1..=self.sent + messages {
                let submit = Submit {
                    seq,
                    to: reader(pair).to_string().parse().unwrap(),
                    options: Options::default(),
                    again: false,
                };
                let client = &mut self.devices[pair as usize].client;
                client
                    .submit(submit, Bytes::from_static(&[7; BODY]))
                    .unwrap();
            }
        }
        self.sent += messages;
        self.settle();
        mem::take(&mut self.answered)
    }

    fn attach(&mut self, device: &Device) {
        let who = Identity::Device(device.clone());
        let conn = self.relay.accept(self.now, &who).unwrap();
        let mut client = Client::new(ClientConfig {
            agent: "test/1".parse().unwrap(),
            outbox: 1,
            inbox: 1,
            pings: PingSchedule::default(),
        });
        client.start(self.now.time);
        self.devices.push(Attached { conn, client });
        self.settle();
    }

    fn settle(&mut self) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            while let Some(output) = self.relay.poll(self.now) {
                is_quiet = false;
                self.carry(output);
            }
            for device in 0..self.devices.len() {
                is_quiet &= !self.hear(device);
            }
        }
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Control { conn, bytes } => {
                let device = self.devices.iter_mut().find(|device| device.conn == conn);
                let client = &mut device.unwrap().client;
                client.handle_control(self.now.time, bytes);
            }
            Output::Lease(_) => {
                let leased = Leased {
                    valid_ms: u32::MAX,
                    others: Vec::new(),
                };
                self.relay.leased(self.now, Some(leased));
            }
            Output::Locate(account) => {
                let answer = Allocation::Relays {
                    home: Some(name("r1")),
                    relays: vec![RelayAddress {
                        name: name("r1"),
                        addresses: vec![([127, 0, 0, 1], 4433).into()],
                    }],
                };
                self.relay.located(self.now, &account, Some(answer));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Hands the relay what a device says, in one piece; whether it said anything.
    fn hear(&mut self, device: usize) -> bool {
        let Attached { conn, client } = &mut self.devices[device];
        let mut said = Vec::new();
        while let Some(action) = client.poll() {
            match action {
                Action::Control(bytes) => said.extend_from_slice(&bytes),
                Action::Event(Event::Message { lane, deliver, .. }) => client.ack(Ack {
                    lane,
                    through: deliver.position,
                }),
                Action::Event(Event::Receipt(_)) => self.answered += 1,
                _ => {}
            }
        }
        if said.is_empty() {
            return false;
        }
        self.relay.control(self.now, *conn, said.into());
        true
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn writer(pair: u64) -> Device {
    format!("account-{pair}/pc").parse().unwrap()
}

fn reader(pair: u64) -> Device {
    format!("account-{pair}/phone").parse().unwrap()
}
