//! The envelope, and every header in it.

use bytes::Bytes;
use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased, Locate},
    close::{CloseCode, Fault, Violation},
    frame::{self, Encoded, FrameReader, FrameType, RawFrame},
    limits::{
        MAX_ALLOCATION_PAYLOAD, MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_DATAGRAM, MAX_HEADER,
    },
    message::{
        Ack, Allow, Allowed, Deliver, Gap, GoAway, Hello, Ping, Pong, Receipt, Submit, Welcome,
    },
    peer::{Attach, Detach, Evict, Pass, Passed, PeerAck, PeerAllow, PeerDeliver, PeerGap},
};

use super::held::Held;

/// What a reader may hold, beside less than one frame: the buffer grows by doubling.
const READER: i64 = 2 * (MAX_CONTROL_PAYLOAD as i64 + 5) + 256;

/// A violation's words travel in a close frame.
const MAX_WORDS: usize = 2048;

/// Of each kind of conversation, the types of its frames.
pub(crate) const MESSAGE: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x10, 0x11];
pub(crate) const ALLOCATION: &[u8] = &[0x20, 0x21, 0x22, 0x23];
pub(crate) const PEER: &[u8] = &[0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38];

/// Any bytes as the one frame of a stream.
pub(crate) fn frame(data: &[u8]) -> bool {
    whole(data, MAX_HEADER + MAX_BULK_BODY)
}

/// A header that device and relay exchange: the first byte chooses which, the rest is its payload.
pub(crate) fn message(data: &[u8]) -> bool {
    headed(MESSAGE, data, MAX_HEADER + MAX_BULK_BODY)
}

/// A header of an exchange with the allocator.
pub(crate) fn allocation(data: &[u8]) -> bool {
    headed(ALLOCATION, data, MAX_ALLOCATION_PAYLOAD)
}

/// A header that relays exchange.
pub(crate) fn peer(data: &[u8]) -> bool {
    headed(PEER, data, MAX_HEADER + MAX_BULK_BODY)
}

/// Any bytes as a datagram.
pub(crate) fn datagram(data: &[u8]) -> bool {
    whole(data, MAX_DATAGRAM)
}

/// A stream of frames, in one piece and in many: the first four bytes say how long the pieces are.
pub(crate) fn stream(data: &[u8]) -> bool {
    let (cuts, stream) = data.split_at(data.len().min(4));
    let at_once = read(&[stream]);
    let mut pieces = Vec::new();
    let (mut rest, mut turn) = (stream, cuts.iter().cycle());
    while !rest.is_empty() {
        let length = 1 + usize::from(*turn.next().unwrap_or(&0));
        let (piece, later) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = later;
    }
    assert_eq!(read(&pieces), at_once, "the pieces make a difference");
    !at_once.0.is_empty()
}

/// What a reader makes of a stream: its frames, and how it ended.
fn read(pieces: &[&[u8]]) -> (Vec<RawFrame>, Result<bool, CloseCode>) {
    let mut reader = FrameReader::new(MAX_CONTROL_PAYLOAD);
    let (mut frames, mut held) = (Vec::new(), Held::default());
    for piece in pieces {
        held.across(|| reader.push(Bytes::copy_from_slice(piece)));
        loop {
            match held.across(|| judged(reader.next())) {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= MAX_CONTROL_PAYLOAD);
                    let copy = Bytes::copy_from_slice(&frame.payload);
                    frames.push(RawFrame {
                        kind: frame.kind,
                        payload: copy,
                    });
                    held.across(|| drop(frame));
                }
                Ok(None) => break,
                Err(violation) => return (frames, Err(violation.code)),
            }
        }
        held.at_most(READER);
    }
    (frames, Ok(reader.is_empty()))
}

fn whole(data: &[u8], limit: usize) -> bool {
    let Ok(frame) = judged(RawFrame::whole(Bytes::copy_from_slice(data), limit)) else {
        return false;
    };
    assert!(frame.payload.len() <= limit);
    let meaning = judged(reencode(&frame));
    if let Ok(meaning) = &meaning {
        same_again(data, &meaning.concat(), limit);
    }
    meaning.is_ok()
}

fn headed(kinds: &[u8], data: &[u8], limit: usize) -> bool {
    let Some((choice, payload)) = data.split_first() else {
        return false;
    };
    let kind = kinds[usize::from(*choice) % kinds.len()];
    whole(&enveloped(kind, payload), limit)
}

/// A payload in an envelope that fits it.
pub(crate) fn enveloped(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![kind];
    let mut length = payload.len();
    while length >= 0x80 {
        wire.push(length as u8 | 0x80);
        length >>= 7;
    }
    wire.push(length as u8);
    wire.extend_from_slice(payload);
    wire
}

/// What was accepted means the same when it is written anew. It may become shorter, as a varint may
/// be longer than it has to; if it does not, it is the same.
fn same_again(given: &[u8], written: &[u8], limit: usize) {
    assert!(written.len() <= given.len(), "it grew");
    if written.len() == given.len() {
        assert_eq!(written, given, "it was changed");
    }
    let frame = RawFrame::whole(Bytes::copy_from_slice(written), limit).expect("we wrote it");
    assert_eq!(reencode(&frame).expect("we wrote it").concat(), written);
}

/// Whoever broke the wire's rules is told so with a code that blames them, in few words.
pub(crate) fn judged<T>(handled: Result<T, Violation>) -> Result<T, Violation> {
    if let Err(violation) = &handled {
        blames_the_other(violation);
    }
    handled
}

/// Checks that a violation of the wire's rules is none of ours.
pub(crate) fn blames_the_other(violation: &Violation) {
    assert!(
        matches!(
            violation.code,
            CloseCode::MalformedFrame | CloseCode::OversizedFrame | CloseCode::UnexpectedFrame
        ),
        "{violation}"
    );
    assert_eq!(violation.code.fault(), Fault::Yours);
    assert!(violation.what.len() <= MAX_WORDS, "{violation}");
}

/// Decodes a frame of any type, and encodes what came out.
pub(crate) fn reencode(frame: &RawFrame) -> Result<Encoded, Violation> {
    macro_rules! by_type {
        ($($name:ident)*) => {
            match frame.kind {
                $(FrameType::$name => frame
                    .decode::<$name>()
                    .map(|(header, body)| frame::encode_with_body(&header, body)),)*
                FrameType::Unknown(_) => Err(Violation::unexpected("unknown")),
            }
        };
    }
    by_type! {
        Hello Welcome Submit Receipt Deliver Ack Gap GoAway Allow Allowed Ping Pong
        Locate Allocation Lease Leased
        Pass Passed Attach Detach PeerDeliver PeerAck PeerGap Evict PeerAllow
    }
}
