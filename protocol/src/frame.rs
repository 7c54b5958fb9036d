//! The envelope of everything on a stream or in a datagram: `type, length, header, body`.
//!
//! ```text
//! +------+---------+----------------------------+
//! | type | length  | payload (`length` bytes)   |
//! | u8   | varint  | header (postcard) │ body   |
//! +------+---------+----------------------------+
//! ```
//!
//! The length is an unsigned LEB128 varint, as everywhere in postcard. The header delimits itself;
//! whatever follows it is the body, raw bytes that a relay forwards without decoding or copying.
//! Frame types without a body refuse left-over bytes. A type that the reader does not know is
//! skipped by its length, so that a later version can add one.

use std::{cmp::Ordering, fmt};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::close::Violation;

/// A header of at most so many bytes, as nearly every one is, is encoded without an allocation of its
/// own.
const SHORT_HEADER: usize = 256;

macro_rules! frame_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FrameType {
            $($(#[$doc])* $name,)*
            /// A type of a later version; its frame is skipped.
            Unknown(u8),
        }

        impl FrameType {
            /// The number on the wire.
            pub const fn value(self) -> u8 {
                match self {
                    $(Self::$name => $value,)*
                    Self::Unknown(value) => value,
                }
            }
        }

        impl From<u8> for FrameType {
            fn from(value: u8) -> Self {
                match value {
                    $($value => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }
        }
    };
}

frame_types! {
    /// [`Hello`](crate::message::Hello)
    Hello = 0x01;
    /// [`Welcome`](crate::message::Welcome)
    Welcome = 0x02;
    /// [`Submit`](crate::message::Submit)
    Submit = 0x03;
    /// [`Receipt`](crate::message::Receipt)
    Receipt = 0x04;
    /// [`Deliver`](crate::message::Deliver)
    Deliver = 0x05;
    /// [`Ack`](crate::message::Ack)
    Ack = 0x06;
    /// [`Gap`](crate::message::Gap)
    Gap = 0x07;
    /// [`GoAway`](crate::message::GoAway)
    GoAway = 0x08;
    /// [`Allow`](crate::message::Allow)
    Allow = 0x09;
    /// [`Allowed`](crate::message::Allowed)
    Allowed = 0x0a;
    /// [`Ping`](crate::message::Ping)
    Ping = 0x10;
    /// [`Pong`](crate::message::Pong)
    Pong = 0x11;
    /// [`Locate`](crate::allocation::Locate)
    Locate = 0x20;
    /// [`Allocation`](crate::allocation::Allocation)
    Allocation = 0x21;
    /// [`Lease`](crate::allocation::Lease)
    Lease = 0x22;
    /// [`Leased`](crate::allocation::Leased)
    Leased = 0x23;
    /// [`Pass`](crate::peer::Pass)
    Pass = 0x30;
    /// [`Passed`](crate::peer::Passed)
    Passed = 0x31;
    /// [`Attach`](crate::peer::Attach)
    Attach = 0x32;
    /// [`Detach`](crate::peer::Detach)
    Detach = 0x33;
    /// [`PeerDeliver`](crate::peer::PeerDeliver)
    PeerDeliver = 0x34;
    /// [`PeerAck`](crate::peer::PeerAck)
    PeerAck = 0x35;
    /// [`PeerGap`](crate::peer::PeerGap)
    PeerGap = 0x36;
    /// [`Evict`](crate::peer::Evict)
    Evict = 0x37;
    /// [`PeerAllow`](crate::peer::PeerAllow)
    PeerAllow = 0x38;
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({:#04x})", self.value())
    }
}

/// A frame's header: what the envelope says it is, and whether a body follows.
pub trait Header: Serialize + DeserializeOwned {
    /// The type in the envelope.
    const TYPE: FrameType;
    /// Whether raw bytes may follow the header.
    const HAS_BODY: bool = false;

    /// What the types alone do not say: the limits that a decoded header keeps.
    ///
    /// # Errors
    /// A [`Violation`] when one is exceeded.
    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

/// A frame as bytes to send: the envelope with its header, and the body as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Type, length and header.
    pub head: Bytes,
    /// The body, not copied.
    pub body: Bytes,
}

impl Encoded {
    /// How many bytes this puts on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether there is nothing to send; no frame is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it in one piece.
    pub fn concat(&self) -> Bytes {
        if self.body.is_empty() {
            return self.head.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole.freeze()
    }
}

/// The frame of `header` and no body.
pub fn encode<H: Header>(header: &H) -> Bytes {
    encode_with_body(header, Bytes::new()).head
}

/// The frame of `header` and `body`.
///
/// Encoding cannot fail: headers are plain data, and memory grows as needed.
pub fn encode_with_body<H: Header>(header: &H, body: Bytes) -> Encoded {
    debug_assert!(
        H::HAS_BODY || body.is_empty(),
        "{} carries no body",
        H::TYPE
    );
    let mut room = [0; SHORT_HEADER];
    let head = match postcard::to_slice(header, &mut room) {
        Ok(header) => head(H::TYPE, header, body.len()),
        Err(_) => {
            let header = postcard::to_allocvec(header).unwrap_or_default();
            head(H::TYPE, &header, body.len())
        }
    };
    Encoded { head, body }
}

/// Type, length and header, in an allocation of exactly their size: [`Bytes`] takes that over as it is.
fn head(kind: FrameType, header: &[u8], body: usize) -> Bytes {
    let length = header.len() + body;
    let mut head = Vec::with_capacity(1 + varint_size(length) + header.len());
    head.put_u8(kind.value());
    put_varint(&mut head, length);
    head.put_slice(header);
    head.into()
}

/// A frame as it came: its type, and its payload not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// The type in the envelope.
    pub kind: FrameType,
    /// Header and body.
    pub payload: Bytes,
}

impl RawFrame {
    /// Decodes the header, and hands out the body without copying it.
    ///
    /// # Errors
    /// A [`Violation`] when the header does not decode, or bytes are left over after the header of
    /// a frame that has no body.
    pub fn decode<H: Header>(&self) -> Result<(H, Bytes), Violation> {
        let (header, rest) = postcard::take_from_bytes::<H>(&self.payload)
            .map_err(|error| Violation::malformed(format!("{}: {error}", self.kind)))?;
        if !H::HAS_BODY && !rest.is_empty() {
            return Err(Violation::malformed(format!(
                "{}: {} bytes left over",
                self.kind,
                rest.len()
            )));
        }
        header.check()?;
        let body = self.payload.slice(self.payload.len() - rest.len()..);
        Ok((header, body))
    }

    /// Decodes the header of a frame that carries no body.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn header<H: Header>(&self) -> Result<H, Violation> {
        self.decode().map(|(header, _)| header)
    }

    /// Reads the one frame that `bytes` are: a datagram, or a stream of its own.
    ///
    /// # Errors
    /// A [`Violation`] when there is less than a frame, or more, or a payload over `limit` bytes.
    pub fn whole(mut bytes: Bytes, limit: usize) -> Result<Self, Violation> {
        let cut_off = || Violation::malformed("the frame was cut off");
        let envelope = Envelope::read(&bytes, limit)?.ok_or_else(cut_off)?;
        match bytes.len().cmp(&envelope.frame_len()) {
            Ordering::Less => Err(cut_off()),
            Ordering::Equal => Ok(envelope.cut(&mut bytes)),
            Ordering::Greater => Err(Violation::malformed(format!(
                "{}: bytes after the only frame",
                envelope.kind
            ))),
        }
    }
}

/// What stands before the payload.
struct Envelope {
    kind: FrameType,
    /// How many bytes type and length take.
    prefix: usize,
    length: usize,
}

impl Envelope {
    /// The envelope at the beginning of `bytes`, if all of it has come.
    fn read(bytes: &[u8], limit: usize) -> Result<Option<Self>, Violation> {
        let Some((&kind, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let kind = FrameType::from(kind);
        let Some((length, size)) = take_varint(rest, kind)? else {
            return Ok(None);
        };
        if length > limit {
            return Err(Violation::oversized(format!(
                "{kind}: {length} bytes, {limit} at most"
            )));
        }
        Ok(Some(Self {
            kind,
            prefix: 1 + size,
            length,
        }))
    }

    fn frame_len(&self) -> usize {
        self.prefix + self.length
    }

    /// Takes the frame from the front of `bytes`, which hold all of it.
    fn cut(self, bytes: &mut Bytes) -> RawFrame {
        bytes.advance(self.prefix);
        RawFrame {
            kind: self.kind,
            payload: bytes.split_to(self.length),
        }
    }
}

/// Cuts a stream of bytes into frames.
///
/// Whole frames are cut from what was pushed without a copy. Only the beginning of a frame whose
/// end has not come is copied, once, to where the rest is appended; so the work is linear in the
/// bytes however they are cut, memory grows with what has come and not with what a length
/// announces, and once [`next`](Self::next) has no more, less than one frame is held and no
/// pushed buffer is kept alive for its sake.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    /// Received and not yet handed out.
    ready: Bytes,
    /// The beginning of a frame whose end had not come; if this is not empty, `ready` is.
    partial: BytesMut,
}

impl FrameReader {
    /// A reader that refuses payloads over `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ready: Bytes::new(),
            partial: BytesMut::new(),
        }
    }

    /// Takes the next bytes of the stream. Call [`next`](Self::next) until it has no more.
    pub fn push(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.ready = bytes;
            return;
        }
        self.set_aside();
        self.partial.extend_from_slice(&bytes);
    }

    /// Whether every byte that came has been handed out.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.partial.is_empty()
    }

    /// How many bytes wait here.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.ready.len() + self.partial.len()
    }

    /// The next whole frame, if it has come.
    ///
    /// # Errors
    /// A [`Violation`] when a length is no varint or past the limit. The stream cannot be read on.
    #[allow(
        clippy::should_implement_trait,
        reason = "fallible, and not an iterator: more may come"
    )]
    pub fn next(&mut self) -> Result<Option<RawFrame>, Violation> {
        let held = if self.partial.is_empty() {
            &self.ready[..]
        } else {
            &self.partial[..]
        };
        match Envelope::read(held, self.limit)? {
            Some(envelope) if envelope.frame_len() <= held.len() => {
                self.complete();
                Ok(Some(envelope.cut(&mut self.ready)))
            }
            _ => {
                self.set_aside();
                Ok(None)
            }
        }
    }

    /// What was unfinished is not any more: it can be cut.
    fn complete(&mut self) {
        if !self.partial.is_empty() {
            self.ready = std::mem::take(&mut self.partial).freeze();
        }
    }

    /// Keeps what is unfinished where the rest of it can be appended.
    fn set_aside(&mut self) {
        let begun = std::mem::take(&mut self.ready);
        self.partial.extend_from_slice(&begun);
    }
}

/// How many bytes [`put_varint`] takes.
fn varint_size(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn put_varint(out: &mut impl BufMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A varint of at most four bytes, as many as any length within our limits needs.
fn take_varint(bytes: &[u8], kind: FrameType) -> Result<Option<(usize, usize)>, Violation> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(Violation::oversized(format!(
        "{kind}: a length of more than four bytes"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        close::CloseCode,
        id::Lane,
        limits::{MAX_HEADER, MAX_RELAYS},
        message::{Ack, GoAway, RelayAddress, Submit},
    };

    fn ack() -> Ack {
        Ack {
            lane: Lane::Message,
            through: 300,
        }
    }

    #[test]
    fn a_frame_is_read_in_whatever_pieces_it_comes() {
        let bytes = encode(&ack());
        let stream: Vec<u8> = bytes.iter().chain(bytes.iter()).copied().collect();
        for cut in 0..stream.len() {
            let mut reader = FrameReader::new(64);
            let mut seen = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                reader.push(Bytes::copy_from_slice(piece));
                while let Some(frame) = reader.next().unwrap() {
                    seen.push(frame.header::<Ack>().unwrap());
                }
            }
            assert_eq!(seen, [ack(), ack()], "cut at {cut}");
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_header_of_any_length_is_encoded_and_takes_no_more_room_than_it_needs() {
        let address = RelayAddress {
            name: "r1".parse().unwrap(),
            addresses: vec![([192, 0, 2, 1], 4433).into(); 8],
        };
        for successors in 0..=MAX_RELAYS {
            let go_away = GoAway {
                within_ms: 1,
                spread_ms: 1,
                successors: vec![address.clone(); successors],
            };
            let frame = encode(&go_away);
            let header = postcard::to_allocvec(&go_away).unwrap();
            let length = if header.len() < 128 { 1 } else { 2 };
            assert_eq!(frame.len(), 1 + length + header.len());
            let whole = RawFrame::whole(frame, MAX_HEADER).unwrap();
            assert_eq!(whole.header::<GoAway>(), Ok(go_away));
        }
    }

    #[test]
    fn a_length_takes_as_many_bytes_as_it_is_said_to() {
        for bits in 0..28 {
            for length in [(1 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                let mut written = BytesMut::new();
                put_varint(&mut written, length);
                assert_eq!(varint_size(length), written.len(), "{length}");
            }
        }
    }

    #[test]
    fn a_body_is_handed_on_without_a_copy() {
        let submit = Submit::example();
        let wire = encode_with_body(&submit, Bytes::from_static(b"hello")).concat();
        let frame = RawFrame::whole(wire.clone(), 64).unwrap();
        let (decoded, body) = frame.decode::<Submit>().unwrap();
        assert_eq!(decoded, submit);
        assert_eq!(&body[..], b"hello");
        assert!(wire.as_ptr_range().contains(&body.as_ptr()));
    }

    #[test]
    fn an_unknown_type_is_stepped_over() {
        let mut stream = vec![0x7f, 3, 1, 2, 3];
        stream.extend_from_slice(&encode(&ack()));
        let mut reader = FrameReader::new(64);
        reader.push(stream.into());
        assert_eq!(
            reader.next().unwrap().unwrap().kind,
            FrameType::Unknown(0x7f)
        );
        assert_eq!(
            reader.next().unwrap().unwrap().header::<Ack>().unwrap(),
            ack()
        );
    }

    #[test]
    fn a_length_past_the_limit_is_refused_before_it_is_read() {
        let mut reader = FrameReader::new(64);
        reader.push(Bytes::from_static(&[0x06, 65]));
        assert_eq!(reader.next().unwrap_err().code, CloseCode::OversizedFrame);
        let mut reader = FrameReader::new(usize::MAX);
        reader.push(Bytes::from_static(&[0x06, 0xff, 0xff, 0xff, 0xff]));
        assert_eq!(reader.next().unwrap_err().code, CloseCode::OversizedFrame);
    }

    #[test]
    fn a_length_that_is_only_announced_takes_no_memory() {
        let announced = Bytes::from_static(&[0x03, 0xff, 0xff, 0xff, 0x7f]);
        let mut reader = FrameReader::new(usize::MAX);
        reader.push(announced.clone());
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.partial.capacity() < 1024);
        assert_eq!(
            RawFrame::whole(announced.clone(), usize::MAX),
            Err(Violation::malformed("the frame was cut off"))
        );
    }

    #[test]
    fn a_beginning_does_not_keep_the_buffer_it_came_in() {
        let mut buffer = BytesMut::zeroed(64 * 1024);
        buffer[..2].copy_from_slice(&[0x03, 64]);
        let chunk = buffer.freeze();
        let mut reader = FrameReader::new(64);
        reader.push(chunk.slice(..2));
        assert_eq!(reader.next(), Ok(None));
        assert!(chunk.is_unique());
    }

    /// What came before a piece stays where it is, but for the buffer's growth by doubling.
    #[test]
    fn a_large_frame_in_small_pieces_costs_linear_work() {
        let body = Bytes::from(vec![7; 1024 * 1024]);
        let wire = encode_with_body(&Submit::example(), body.clone()).concat();
        let mut reader = FrameReader::new(wire.len());
        let mut places = std::collections::BTreeSet::new();
        for piece in wire.chunks(32) {
            assert_eq!(reader.next(), Ok(None));
            reader.push(Bytes::copy_from_slice(piece));
            places.insert(reader.partial.as_ptr());
        }
        assert!(places.len() <= 24, "moved {} times", places.len());
        let (_, read) = reader.next().unwrap().unwrap().decode::<Submit>().unwrap();
        assert_eq!(read, body);
        assert!(reader.is_empty());
    }

    #[test]
    fn bytes_left_over_are_malformed() {
        let frame = RawFrame {
            kind: FrameType::Ack,
            payload: Bytes::from_static(&[0, 1, 9]),
        };
        assert_eq!(
            frame.header::<Ack>().unwrap_err().code,
            CloseCode::MalformedFrame
        );
        let mut wire = encode(&ack()).to_vec();
        wire.push(0);
        assert_eq!(
            RawFrame::whole(wire.into(), 64).unwrap_err().code,
            CloseCode::MalformedFrame
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_hoard(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
        ) {
            let mut reader = FrameReader::new(100);
            for piece in pieces {
                reader.push(piece.into());
                loop {
                    match reader.next() {
                        Ok(Some(frame)) => prop_assert!(frame.payload.len() <= 100),
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(reader.partial.len() <= 105);
                prop_assert!(reader.ready.is_empty());
            }
        }
    }
}
