//! PROTOCOL.md says what the code does: its tables of types, codes and limits, and the example
//! session, which both halves here hold once more. (Each single frame is checked beside its type.)

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test should end it"
)]

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    client::{self, Client, ClientConfig},
    close::{CloseCode, Fault},
    frame::FrameType,
    heartbeat::{Deadline, PingSchedule},
    id::Lane,
    limits,
    message::{Ack, Deliver, Options, Outcome, Receipt, Refusal, Submit},
    server::{self, Server, ServerConfig},
    time::Time,
};

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

fn assert_row(row: &str) {
    let found = DOCUMENT.lines().any(|line| line.starts_with(row));
    assert!(found, "PROTOCOL.md lacks the row {row}");
}

#[test]
fn every_frame_type_is_listed() {
    for value in 0..=u8::MAX {
        match FrameType::from(value) {
            FrameType::Unknown(_) => {}
            known => assert_row(&format!("| `{value:#04x}` | {known:?} |")),
        }
    }
}

#[test]
fn every_close_code_is_listed_with_who_erred() {
    for code in CloseCode::ALL {
        let erred = match code.fault() {
            Fault::Nobody => "nobody",
            Fault::Yours => "you",
            Fault::Mine => "closing side",
        };
        assert_row(&format!("| `{:#04x}` | {code:?} | {erred} |", code.value()));
    }
}

#[test]
fn every_reason_of_a_refusal_is_listed() {
    for refusal in Refusal::ALL {
        assert_row(&format!("| {} | `{}` |", refusal.value(), refusal.label()));
    }
}

#[test]
fn every_limit_is_listed_with_its_value() {
    macro_rules! limits {
        ($($name:ident: $value:expr,)*) => { [$((stringify!($name), $value as u64)),*] };
    }
    let limits = limits! {
        MAX_NAME: limits::MAX_NAME,
        MAX_TRUST_DOMAIN: limits::MAX_TRUST_DOMAIN,
        MAX_KEY: limits::MAX_KEY,
        MAX_AGENT: limits::MAX_AGENT,
        MAX_HEADER: limits::MAX_HEADER,
        MAX_MESSAGE_BODY: limits::MAX_MESSAGE_BODY,
        DEFAULT_BULK_BODY: limits::DEFAULT_BULK_BODY,
        MAX_BULK_BODY: limits::MAX_BULK_BODY,
        MAX_CONTROL_PAYLOAD: limits::MAX_CONTROL_PAYLOAD,
        MAX_ALLOCATION_PAYLOAD: limits::MAX_ALLOCATION_PAYLOAD,
        MAX_DATAGRAM: limits::MAX_DATAGRAM,
        WINDOW: limits::WINDOW,
        BULK_WINDOW: limits::BULK_WINDOW,
        DELIVERY_WINDOW: limits::DELIVERY_WINDOW,
        BULK_DELIVERY_WINDOW: limits::BULK_DELIVERY_WINDOW,
        DELIVERY_WINDOW_BYTES: limits::DELIVERY_WINDOW_BYTES,
        MAX_RELAYS: limits::MAX_RELAYS,
        MAX_ADDRESSES: limits::MAX_ADDRESSES,
        MAX_PING_INTERVAL: limits::MAX_PING_INTERVAL.as_secs(),
        HELLO_TIMEOUT: limits::HELLO_TIMEOUT.as_secs(),
        WELCOME_TIMEOUT: limits::WELCOME_TIMEOUT.as_secs(),
        MAX_TTL: limits::MAX_TTL.as_secs(),
        MAX_RETRY_AGE: limits::MAX_RETRY_AGE.as_secs(),
        SOURCE_MEMORY: limits::SOURCE_MEMORY.as_secs(),
    };
    for (name, value) in limits {
        assert_row(&format!("| `{name}` | {value} |"));
    }
    let declared = include_str!("../src/limits.rs")
        .matches("pub const ")
        .count();
    assert_eq!(declared, limits.len(), "a limit is not checked here");
}

/// The frames of a section one after the other, without comments and spaces.
fn examples(section: &str) -> String {
    let (_, rest) = DOCUMENT.split_once(section).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```hex\n").skip(1);
    blocks
        .flat_map(|block| block.split("```").next().unwrap().lines())
        .flat_map(|line| line.split('#').next().unwrap().split_whitespace())
        .collect()
}

/// Both halves, and what they have said to each other, in hex.
struct Conversation {
    device: Client,
    relay: Server,
    said: String,
}

impl Conversation {
    fn begin() -> Self {
        let mut device = Client::new(ClientConfig {
            agent: "holdfast-py/0.1".parse().unwrap(),
            outbox: 1_234_567_890_123,
            inbox: 42,
            pings: PingSchedule::default(),
        });
        let relay = ServerConfig {
            relay: "r1".parse().unwrap(),
            boot: 7,
            max_body: limits::DEFAULT_BULK_BODY,
            ping_grace: Deadline::DEFAULT_GRACE,
        };
        device.start(Time::ZERO);
        Self {
            device,
            relay: Server::new(relay, Time::ZERO),
            said: String::new(),
        }
    }

    fn note(&mut self, bytes: &Bytes) {
        self.said
            .extend(bytes.iter().map(|byte| format!("{byte:02x}")));
    }

    /// Lets the device speak.
    fn device(&mut self) {
        while let Some(action) = self.device.poll() {
            match action {
                client::Action::Control(bytes) => {
                    self.note(&bytes);
                    self.relay.handle_control(Time::ZERO, bytes);
                }
                client::Action::Datagram(bytes) => {
                    self.note(&bytes);
                    let observed = "203.0.113.7:50000".parse().unwrap();
                    self.relay.handle_datagram(Time::ZERO, bytes, observed);
                }
                client::Action::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets the relay speak.
    fn relay(&mut self) {
        while let Some(action) = self.relay.poll() {
            match action {
                server::Action::Control(bytes) => {
                    self.note(&bytes);
                    self.device.handle_control(Time::ZERO, bytes);
                }
                server::Action::Datagram(bytes) => {
                    self.note(&bytes);
                    self.device.handle_datagram(Time::ZERO, bytes);
                }
                server::Action::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_example_session_is_what_both_halves_say() {
    let mut talk = Conversation::begin();
    talk.device();
    talk.relay
        .welcome(1_767_225_600_000, Duration::from_secs(10));
    talk.relay();
    talk.device();
    talk.relay();
    let hi = Submit {
        seq: 1,
        to: "alice/phone".parse().unwrap(),
        options: Options::default(),
        again: false,
    };
    talk.device.submit(hi, Bytes::from_static(b"hi")).unwrap();
    talk.device();
    talk.relay.receipt(&Receipt {
        lane: Lane::Message,
        seq: 1,
        outcome: Outcome::Stored,
    });
    let deliver = Deliver {
        position: 300,
        from: holdfast_protocol::id::Sender::Device("bob/pc".parse().unwrap()),
        epoch: 1_234_567_890_123,
        seq: 1,
        accepted_ms: 1_767_225_600_000,
        options: Options::default(),
    };
    talk.relay
        .deliver(Lane::Message, &deliver, Bytes::from_static(b"hi"));
    talk.relay();
    talk.device.ack(Ack {
        lane: Lane::Message,
        through: 300,
    });
    talk.device();
    assert_eq!(talk.said, examples("\n## An example session"));
}
