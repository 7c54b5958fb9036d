//! One relay by itself, at home to everybody, and what it says to each connection.

use std::collections::VecDeque;

use holdfast_protocol::{
    frame::{self, FrameReader, RawFrame},
    limits::MAX_CONTROL_PAYLOAD,
    message::Hello,
};

use super::*;

/// The relay, and what was said and not looked at yet.
pub(super) struct Lone {
    pub(super) relay: Relay,
    pub(super) now: Moment,
    readers: BTreeMap<Conn, FrameReader>,
    said: VecDeque<(Conn, RawFrame)>,
}

impl Lone {
    pub(super) fn boot(settings: Settings, disk: Arc<dyn Store>) -> Self {
        Self {
            relay: Relay::boot(settings, disk).unwrap(),
            now: Moment {
                time: Time::ZERO,
                wall_ms: 0,
            },
            readers: BTreeMap::new(),
            said: VecDeque::new(),
        }
    }

    pub(super) fn connect(&mut self, device: &str) -> Conn {
        let (_, who) = Identity::parse(&format!("spiffe://test/device/{device}")).unwrap();
        self.relay.accept(self.now, &who).unwrap()
    }

    pub(super) fn greet(&mut self, conn: Conn) {
        let hello = Hello {
            agent: "test/1".parse().unwrap(),
            outbox: 1,
            inbox: 1,
            next_within_ms: 60_000,
            background: false,
        };
        self.relay.control(self.now, conn, frame::encode(&hello));
    }

    /// What it has said since.
    pub(super) fn hear(&mut self) -> VecDeque<(Conn, RawFrame)> {
        while let Some(output) = self.relay.poll(self.now) {
            match output {
                Output::Control { conn, bytes } => self.read(conn, bytes),
                Output::Locate(account) => {
                    let home = Allocation::Relays {
                        home: Some(name("r1")),
                        relays: vec![address("r1")],
                    };
                    self.relay.located(self.now, &account, Some(home));
                }
                Output::Close { conn, why } => panic!("{conn:?}: {why}"),
                _ => {}
            }
        }
        std::mem::take(&mut self.said)
    }

    fn read(&mut self, conn: Conn, bytes: Bytes) {
        let reader = self.readers.entry(conn);
        let reader = reader.or_insert_with(|| FrameReader::new(MAX_CONTROL_PAYLOAD));
        reader.push(bytes);
        while let Some(frame) = reader.next().unwrap() {
            self.said.push_back((conn, frame));
        }
    }
}
