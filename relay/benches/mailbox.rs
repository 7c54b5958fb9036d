//! What a message costs a relay without network and disk: its frames are read and written, and the
//! rules of a mailbox are applied.
//!
//! `cargo bench -p holdfast-relay`

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use holdfast_durable::MemoryRows;
use holdfast_protocol::{
    allocation::Allocation,
    frame::{self, FrameReader, FrameType},
    id::{Identity, Lane, Name},
    limits::MAX_CONTROL_PAYLOAD,
    message::{Ack, Deliver, Hello, Options, RelayAddress, Submit},
    time::Time,
};
use holdfast_relay::core::{Conn, Moment, Output, Relay, Settings};

/// How many messages come at once.
const BURST: u64 = 16;

const NOW: Moment = Moment {
    time: Time::ZERO,
    wall_ms: 1_700_000_000_000,
};

fn main() {
    divan::main();
}

/// To devices that are away, one after the other.
#[divan::bench(args = [1, 1_000], sample_count = 50, sample_size = 10)]
fn store(bencher: Bencher<'_, '_>, mailboxes: u64) {
    let site = RefCell::new(Site::new());
    let bencher = bencher.counter(ItemsCount::new(BURST));
    bencher.bench_local(|| {
        let told = site.borrow_mut().submit(|number| number % mailboxes);
        assert_eq!(told.receipts, BURST);
    });
}

/// To a device that is there, and has each burst.
#[divan::bench(sample_count = 50, sample_size = 10)]
fn forward(bencher: Bencher<'_, '_>) {
    let mut site = Site::new();
    let phone = site.connect("device/account-0/phone");
    let site = RefCell::new(site);
    let bencher = bencher.counter(ItemsCount::new(BURST));
    bencher.bench_local(|| {
        let mut site = site.borrow_mut();
        let through = site.submit(|_| 0).delivered;
        let lane = Lane::Message;
        let told = site.say(phone, frame::encode(&Ack { lane, through }));
        assert_eq!(told.receipts, BURST);
    });
}

/// A relay at home to everybody, and a service that sends.
struct Site {
    relay: Relay,
    push: Conn,
    sent: u64,
    readers: BTreeMap<Conn, FrameReader>,
}

/// What the relay said.
#[derive(Default)]
struct Told {
    receipts: u64,
    /// The last position that was delivered.
    delivered: u64,
}

#[expect(clippy::unwrap_used, reason = "the relay refuses nothing of this")]
impl Site {
    fn new() -> Self {
        let settings = Settings::new("r1".parse().unwrap());
        let mut relay = Relay::boot(settings, Arc::new(MemoryRows::default())).unwrap();
        let push = greet(&mut relay, "service/push");
        let (sent, readers) = (0, BTreeMap::new());
        Self {
            relay,
            push,
            sent,
            readers,
        }
    }

    fn connect(&mut self, who: &str) -> Conn {
        let conn = greet(&mut self.relay, who);
        self.hear();
        conn
    }

    /// A burst of messages, each to the account that its number says.
    fn submit(&mut self, account: impl Fn(u64) -> u64) -> Told {
        let numbers = self.sent..self.sent + BURST;
        self.sent = numbers.end;
        let frame = |number| {
            let submit = Submit {
                seq: number + 1,
                to: format!("account-{}/phone", account(number))
                    .parse()
                    .unwrap(),
                options: Options::default(),
                again: false,
            };
            frame::encode_with_body(&submit, Bytes::from_static(&[7; 256])).concat()
        };
        let frames: Vec<u8> = numbers.flat_map(frame).collect();
        self.say(self.push, frames.into())
    }

    fn say(&mut self, conn: Conn, bytes: Bytes) -> Told {
        self.relay.control(NOW, conn, bytes);
        self.hear()
    }

    fn hear(&mut self) -> Told {
        let mut told = Told::default();
        while let Some(output) = self.relay.poll(NOW) {
            match output {
                Output::Control { conn, bytes } => {
                    self.relay.set_backlog(NOW, conn, 0);
                    let reader = self.readers.entry(conn);
                    let reader = reader.or_insert_with(|| FrameReader::new(MAX_CONTROL_PAYLOAD));
                    reader.push(bytes);
                    told.read(reader);
                }
                Output::Locate(account) => self.relay.located(NOW, &account, Some(home())),
                _ => {}
            }
        }
        told
    }
}

#[expect(clippy::unwrap_used, reason = "the relay says only what it should")]
impl Told {
    fn read(&mut self, reader: &mut FrameReader) {
        while let Some(frame) = reader.next().unwrap() {
            match frame.kind {
                FrameType::Receipt => self.receipts += 1,
                FrameType::Deliver => {
                    let (deliver, _) = frame.decode::<Deliver>().unwrap();
                    self.delivered = deliver.position;
                }
                _ => {}
            }
        }
    }
}

#[expect(clippy::unwrap_used, reason = "the identity is one")]
fn greet(relay: &mut Relay, who: &str) -> Conn {
    let (_, who) = Identity::parse(&format!("spiffe://bench/{who}")).unwrap();
    let conn = relay.accept(NOW, &who).unwrap();
    let hello = Hello {
        agent: "bench/1".parse().unwrap(),
        outbox: 1,
        inbox: 1,
        next_within_ms: 60_000,
        background: false,
    };
    relay.control(NOW, conn, frame::encode(&hello));
    conn
}

#[expect(clippy::unwrap_used, reason = "the name is one")]
fn home() -> Allocation {
    let name: Name = "r1".parse().unwrap();
    let here = RelayAddress {
        name: name.clone(),
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 1))],
    };
    Allocation::Relays {
        home: Some(name),
        relays: vec![here],
    }
}
