//! Arbitrary messages, and what must hold for every one of them: it survives the wire, and no
//! damage to its bytes does more than end the conversation with a reason.

use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use proptest::{option, prelude::*};

use crate::{
    allocation::{Allocation, Lease, Leased, Locate},
    close::CloseCode,
    frame::{Header, RawFrame, encode_with_body},
    golden::reencode,
    id::{Agent, Device, Key, Lane, MessageId, Name, Recipient, Sender},
    limits::{MAX_ADDRESSES, MAX_PING_INTERVAL, MAX_RELAYS, MAX_TTL},
    message::{
        Ack, Allow, Allowed, Deliver, Gap, GoAway, Hello, Options, Outcome, Ping, Pong, Priority,
        Receipt, RelayAddress, Submit, Welcome,
    },
    peer::{Attach, Detach, Evict, Pass, Passed, PeerAck, PeerAllow, PeerDeliver, PeerGap},
};

/// Above every payload made here.
const LIMIT: usize = 64 * 1024;

/// Strategies for structs: each field from its own strategy.
macro_rules! strategies {
    ($($function:ident: $struct:ident { $($field:ident: $strategy:expr),* $(,)? })*) => {
        $(fn $function() -> impl Strategy<Value = $struct> {
            ($($strategy,)*).prop_map(|($($field,)*)| $struct { $($field),* })
        })*
    };
}

strategies! {
    device: Device { account: name(), device: name() }
    options: Options {
        ttl_s: option::of(0..=MAX_TTL.as_secs() as u32),
        key: option::of(key()),
        retain: any::<bool>(),
        notify: any::<bool>(),
        priority: prop::sample::select(&Priority::ALL),
    }
    message_id: MessageId {
        sender: sender(), epoch: any::<u64>(), lane: lane(), seq: any::<u64>(),
    }
    relay_address: RelayAddress { name: name(), addresses: addresses(0) }

    hello: Hello {
        agent: agent(), outbox: any::<u64>(), inbox: any::<u64>(), next_within_ms: interval(),
        background: any::<bool>(),
    }
    welcome: Welcome {
        relay: name(), boot: any::<u64>(), window: any::<u16>(), bulk_window: any::<u16>(),
        max_body: any::<u32>(), time_ms: any::<u64>(), redial_ms: any::<u32>(),
    }
    submit: Submit {
        seq: 1..=u64::MAX, to: recipient(), options: options(), again: any::<bool>(),
    }
    receipt: Receipt { lane: lane(), seq: any::<u64>(), outcome: outcome() }
    deliver: Deliver {
        position: any::<u64>(),
        from: sender(),
        epoch: any::<u64>(),
        seq: any::<u64>(),
        accepted_ms: any::<u64>(),
        options: options(),
    }
    ack: Ack { lane: lane(), through: any::<u64>() }
    gap: Gap { position: any::<u64>(), missed: any::<u64>() }
    go_away: GoAway {
        within_ms: any::<u32>(), spread_ms: any::<u32>(), successors: relays(),
    }
    allow: Allow { tag: any::<u32>(), sender: name(), allowed: any::<bool>() }
    allowed: Allowed { tag: any::<u32>() }
    ping: Ping {
        seq: any::<u32>(), next_within_ms: interval(), echo_after_ms: interval(),
        background: any::<bool>(),
    }
    pong: Pong { seq: any::<u32>(), observed: address(), late: any::<bool>() }

    locate: Locate { account: option::of(name()) }
    lease: Lease {
        boot: any::<u64>(),
        addresses: addresses(1),
        capacity: 1..=u32::MAX,
        sessions: any::<u32>(),
        draining: any::<bool>(),
    }
    leased: Leased { valid_ms: any::<u32>(), others: relays() }

    pass: Pass {
        tag: any::<u64>(), id: message_id(), to: recipient(), options: options(),
        again: any::<bool>(),
    }
    passed: Passed { tag: any::<u64>(), outcome: outcome() }
    attach: Attach {
        session: any::<u64>(),
        device: device(),
        outbox: any::<u64>(),
        inbox: any::<u64>(),
        age_ms: any::<u64>(),
    }
    detach: Detach { session: any::<u64>() }
    peer_deliver: PeerDeliver { session: any::<u64>(), deliver: deliver() }
    peer_ack: PeerAck { session: any::<u64>(), ack: ack() }
    peer_gap: PeerGap { session: any::<u64>(), gap: gap() }
    evict: Evict { session: any::<u64>() }
    peer_allow: PeerAllow {
        tag: any::<u64>(), account: name(), sender: name(), allowed: any::<bool>(),
    }
}

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}".prop_map(|text| text.parse().unwrap())
}

fn key() -> impl Strategy<Value = Key> {
    "\\PC{1,16}".prop_map(|text| text.parse().unwrap())
}

fn agent() -> impl Strategy<Value = Agent> {
    "\\PC{1,16}".prop_map(|text| text.parse().unwrap())
}

fn interval() -> impl Strategy<Value = u32> {
    0..=MAX_PING_INTERVAL.as_millis() as u32
}

fn lane() -> impl Strategy<Value = Lane> {
    prop::sample::select(&Lane::ALL)
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![
        device().prop_map(Sender::Device),
        name().prop_map(Sender::Service)
    ]
}

fn recipient() -> impl Strategy<Value = Recipient> {
    prop_oneof![
        device().prop_map(Recipient::Device),
        name().prop_map(Recipient::Account)
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Stored),
        Just(Outcome::Delivered),
        Just(Outcome::Expired),
        Just(Outcome::Replaced),
        any::<u16>().prop_map(|value| Outcome::Refused(value.into())),
    ]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(SocketAddr::from)
}

fn addresses(least: usize) -> impl Strategy<Value = Vec<SocketAddr>> {
    prop::collection::vec(address(), least..=MAX_ADDRESSES)
}

fn relays() -> impl Strategy<Value = Vec<RelayAddress>> {
    prop::collection::vec(relay_address(), 0..=MAX_RELAYS)
}

fn allocation() -> impl Strategy<Value = Allocation> {
    prop_oneof![
        (option::of(name()), relays())
            .prop_map(|(home, relays)| Allocation::Relays { home, relays }),
        any::<u32>().prop_map(|retry_after_ms| Allocation::NoRelay { retry_after_ms }),
        Just(Allocation::Denied),
    ]
}

/// The bytes of a frame, with a body if its type carries one.
fn wire<H: Header>(header: &H, body: &[u8]) -> Bytes {
    let body = if H::HAS_BODY { body } else { &[] };
    encode_with_body(header, Bytes::copy_from_slice(body)).concat()
}

fn survives_the_wire<H: Header + PartialEq + Debug>(
    header: &H,
    body: &[u8],
) -> Result<(), TestCaseError> {
    let frame = RawFrame::whole(wire(header, body), LIMIT).unwrap();
    let (decoded, rest) = frame.decode::<H>().unwrap();
    prop_assert_eq!(&decoded, header);
    prop_assert_eq!(&rest[..], if H::HAS_BODY { body } else { &[] });
    Ok(())
}

macro_rules! every_header {
    ($($function:ident)*) => {
        mod round_trip {
            use super::*;

            $(proptest! {
                #[test]
                fn $function(header in super::$function(), body: Vec<u8>) {
                    survives_the_wire(&header, &body)?;
                }
            })*
        }

        /// The bytes of any frame.
        pub(crate) fn any_wire() -> impl Strategy<Value = Bytes> {
            prop_oneof![
                $(($function(), any::<Vec<u8>>()).prop_map(|(header, body)| wire(&header, &body)),)*
            ]
        }
    };
}

every_header! {
    hello welcome submit receipt deliver ack gap go_away allow allowed ping pong
    locate allocation lease leased
    pass passed attach detach peer_deliver peer_ack peer_gap evict peer_allow
}

/// One way in which bytes go wrong; places are taken modulo the length.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Insert(usize, u8),
    Truncate(usize),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match *self {
            Self::Flip(at, bits) if length > 0 => bytes[at % length] ^= bits,
            Self::Insert(at, byte) => bytes.insert(at % (length + 1), byte),
            Self::Truncate(at) => bytes.truncate(at % (length + 1)),
            Self::Flip(..) => {}
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), 1..=u8::MAX).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<(usize, u8)>().prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<usize>().prop_map(Damage::Truncate),
    ]
}

/// The bytes of any frame, after up to three accidents.
pub(crate) fn any_damaged_wire() -> impl Strategy<Value = Bytes> {
    (any_wire(), prop::collection::vec(damage(), 0..=3)).prop_map(|(wire, damages)| {
        let mut bytes = wire.to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        bytes.into()
    })
}

/// What may come over a hostile connection.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Control(Bytes),
    Bulk(Bytes),
    Datagram(Bytes),
    /// Nothing, for so many milliseconds.
    Silence(u64),
}

pub(crate) fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let bytes = || {
        prop_oneof![
            4 => any_wire(),
            2 => any_damaged_wire(),
            1 => any::<Vec<u8>>().prop_map(Bytes::from),
        ]
    };
    let arrival = prop_oneof![
        bytes().prop_map(Arrival::Control),
        bytes().prop_map(Arrival::Bulk),
        bytes().prop_map(Arrival::Datagram),
        (0..20_000u64).prop_map(Arrival::Silence),
    ];
    prop::collection::vec(arrival, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn damaged_bytes_are_refused_with_a_reason_or_mean_something(bytes in any_damaged_wire()) {
        let reread = |bytes| RawFrame::whole(bytes, LIMIT).and_then(|frame| reencode(&frame));
        match reread(bytes) {
            Ok(meaning) => {
                let bytes = meaning.concat();
                prop_assert_eq!(reread(bytes.clone()).unwrap().concat(), bytes);
            }
            Err(violation) => prop_assert!(matches!(
                violation.code,
                CloseCode::MalformedFrame | CloseCode::OversizedFrame | CloseCode::UnexpectedFrame
            )),
        }
    }
}
