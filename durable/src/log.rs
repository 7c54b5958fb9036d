//! sled's log, read without sled: every message that can be made out, whatever is around it.
//!
//! The log is a file of segments, each of which begins with a header of [`HEADER_BYTES`] and goes on
//! with messages, one after the other:
//!
//! ```text
//! crc32(4, LE) kind(1) length(varint) segment(varint) page(varint) ‖ body
//! ```
//!
//! The checksum covers all that follows it, the body first. A segment is used again when nothing in
//! it is live, so one may end in messages of an earlier use; each says which use it belongs to, and
//! its place in the order of all messages follows from that. Behind a message that cannot be made
//! out the next sound one is looked for, byte by byte.
//!
//! The layout is that of sled 0.34.7, to which this crate is pinned.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::engine::SEGMENT_BYTES;

/// What a segment begins with.
const HEADER_BYTES: usize = 20;
/// No message begins in the last bytes of a segment.
pub(crate) const RED_ZONE_BYTES: usize = 32;
/// The kinds of messages are numbered up to this.
const MAX_KIND: u8 = 11;

const CAP: u8 = 2;
const BATCH: u8 = 3;
const NODE: u8 = 8;
const LINK: u8 = 10;

/// A message, as far as it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its place in the order of all messages.
    pub(crate) order: u64,
    /// The page it is about.
    pub(crate) page: u64,
    pub(crate) kind: Kind,
    /// Where its body lies in the log, in bytes.
    pub(crate) body: u64,
    /// The body's length in bytes.
    pub(crate) len: usize,
    /// Whether its checksum is right.
    pub(crate) sound: bool,
}

/// What a message is, as far as it matters for the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole page.
    Node,
    /// A change of one.
    Link,
    /// Says where the last of the messages that count together begins.
    Batch,
    /// The rest of the segment is not used.
    Cap,
    Other,
}

/// All messages of a log, in their order.
pub(crate) fn messages(path: &Path) -> io::Result<Vec<Message>> {
    let mut file = File::open(path)?;
    let mut segment = Vec::new();
    let (mut messages, mut base) = (Vec::new(), 0);
    while read_segment(&mut file, &mut segment)? {
        messages_in(&segment, base, &mut messages);
        base += SEGMENT_BYTES as u64;
    }
    messages.sort_by_key(|message| message.order);
    Ok(messages)
}

/// Reads the next segment, of which the last may be cut off behind what was written; false at the
/// end.
pub(crate) fn read_segment(file: &mut File, segment: &mut Vec<u8>) -> io::Result<bool> {
    segment.clear();
    let read = file.take(SEGMENT_BYTES as u64).read_to_end(segment)?;
    segment.resize(SEGMENT_BYTES, 0);
    Ok(read > 0)
}

/// All messages of the segment that begins at `base`.
fn messages_in(segment: &[u8], base: u64, messages: &mut Vec<Message>) {
    let mut at = HEADER_BYTES;
    let mut after_sound = true;
    while at + RED_ZONE_BYTES <= segment.len() {
        match message_at(segment, at, base) {
            Some((message, end)) if message.sound => {
                messages.push(message);
                at = end;
                after_sound = true;
            }
            // Where a message must begin, its header may be right though its body is not.
            Some((message, _)) if after_sound => {
                messages.push(message);
                at += 1;
                after_sound = false;
            }
            _ => {
                at += 1 + zeros(&segment[at..]);
                after_sound = false;
            }
        }
    }
}

/// How many offsets to pass over where nothing was written: no message is of kind 0.
fn zeros(rest: &[u8]) -> usize {
    const BLANK: [u8; 4096] = [0; 4096];
    let blanks = rest.chunks_exact(BLANK.len());
    let len = blanks.take_while(|part| **part == BLANK).count() * BLANK.len();
    len.saturating_sub(size_of::<u32>() + 1)
}

/// The message that begins at an offset of a segment, and where it ends; none where none can.
pub(crate) fn message_at(segment: &[u8], at: usize, base: u64) -> Option<(Message, usize)> {
    let rest = &segment[at..];
    let (checksum, covered) = rest.split_first_chunk()?;
    let (&kind, mut after) = covered.split_first()?;
    if kind == 0 || kind > MAX_KIND {
        return None;
    }
    let len = usize::try_from(varint(&mut after)?).ok()?;
    let number = varint(&mut after)?;
    let page = varint(&mut after)?;
    let header_len = rest.len() - after.len();
    let body = after.get(..len)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&rest[checksum.len()..header_len]);
    let sound = hasher.finalize() ^ u32::MAX == u32::from_le_bytes(*checksum);
    let message = Message {
        order: number
            .checked_mul(SEGMENT_BYTES as u64)?
            .checked_add(at as u64)?,
        page,
        kind: match kind {
            NODE => Kind::Node,
            LINK => Kind::Link,
            BATCH => Kind::Batch,
            CAP => Kind::Cap,
            _ => Kind::Other,
        },
        body: base + (at + header_len) as u64,
        len,
        sound,
    };
    Some((message, at + header_len + len))
}

/// The next number in sled's encoding, which is SQLite 4's but for the order of bytes.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let byte = |at: usize| rest.get(at).map(|byte| u64::from(*byte));
    let (number, len) = match first {
        0..=240 => (u64::from(first), 0),
        241..=248 => (240 + 256 * (u64::from(first) - 241) + byte(0)?, 1),
        249 => (2288 + 256 * byte(0)? + byte(1)?, 2),
        250.. => {
            let len = usize::from(first) - 247;
            let mut number = [0; 8];
            number[..len].copy_from_slice(rest.get(..len)?);
            (u64::from_le_bytes(number), len)
        }
    };
    *bytes = &rest[len..];
    Some(number)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_sled_writes_them() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[240], 240),
            (&[241, 0], 240),
            (&[241, 1], 241),
            (&[248, 255], 2287),
            (&[249, 0, 0], 2288),
            (&[250, 1, 2, 3], 0x03_02_01),
            (&[255, 1, 0, 0, 0, 0, 0, 0, 2], 1 | 2 << 56),
        ] {
            let mut rest = bytes;
            assert_eq!(varint(&mut rest), Some(number), "{bytes:?}");
            assert!(rest.is_empty());
            assert_eq!(
                varint(&mut &bytes[..bytes.len() - 1]),
                None,
                "cut {bytes:?}"
            );
        }
    }

    /// A message of the second segment in the order, as sled writes it.
    fn message(kind: u8, page: u8, body: &[u8]) -> Vec<u8> {
        message_in(1, kind, page, body)
    }

    fn message_in(number: u8, kind: u8, page: u8, body: &[u8]) -> Vec<u8> {
        let header = [kind, body.len() as u8, number, page];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(body);
        hasher.update(&header);
        let checksum = hasher.finalize() ^ u32::MAX;
        [&checksum.to_le_bytes()[..], &header, body].concat()
    }

    /// A whole page, or as much of one as the body is.
    pub(crate) fn node(page: u8, body: &[u8]) -> Vec<u8> {
        message(NODE, page, body)
    }

    /// A change of a page.
    pub(crate) fn link(page: u8, body: &[u8]) -> Vec<u8> {
        link_in(1, page, body)
    }

    /// A change of a page, in another segment.
    pub(crate) fn link_in(number: u8, page: u8, body: &[u8]) -> Vec<u8> {
        message_in(number, LINK, page, body)
    }

    /// Says where the last message of a batch lies.
    pub(crate) fn batch_in(number: u8, last: u64) -> Vec<u8> {
        message_in(number, BATCH, 0, &last.to_le_bytes())
    }

    /// Ends a segment.
    pub(crate) fn cap_in(number: u8) -> Vec<u8> {
        message_in(number, CAP, 0, b"")
    }

    /// A segment with these messages, as far as it is written.
    pub(crate) fn segment(parts: &[&[u8]]) -> Vec<u8> {
        let blank = [0; HEADER_BYTES];
        let mut segment = [&[&blank[..]], parts].concat().concat();
        segment.resize(segment.len() + RED_ZONE_BYTES, 0);
        segment
    }

    fn found(segment: &[u8]) -> Vec<(u64, Kind, bool)> {
        let mut messages = Vec::new();
        messages_in(segment, 0, &mut messages);
        let shown = |message: &Message| (message.page, message.kind, message.sound);
        messages.iter().map(shown).collect()
    }

    #[test]
    fn a_message_is_found_with_its_kind_and_its_place() {
        let kinds = [NODE, LINK, BATCH, CAP, 1];
        let messages = kinds.map(|kind| message(kind, kind, b"body"));
        let segment = segment(&[&messages.concat()]);
        let expected = [Kind::Node, Kind::Link, Kind::Batch, Kind::Cap, Kind::Other];
        let pages = kinds.map(u64::from).into_iter();
        let expected: Vec<_> = pages
            .zip(expected)
            .map(|(page, kind)| (page, kind, true))
            .collect();
        assert_eq!(found(&segment), expected);
        let at = HEADER_BYTES + messages[0].len();
        let (second, end) = message_at(&segment, at, 1000).unwrap();
        assert_eq!(second.order, (SEGMENT_BYTES + at) as u64);
        assert_eq!((second.body, second.len), (1000 + at as u64 + 8, 4));
        assert_eq!(end, at + messages[1].len());
    }

    #[test]
    fn the_messages_of_all_segments_come_in_their_order() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut later = segment(&[&message_in(2, NODE, 7, b"later")]);
        later.resize(SEGMENT_BYTES, 0);
        let earlier = segment(&[&message_in(1, NODE, 8, b"earlier")]);
        std::fs::write(log.path(), [later, earlier].concat()).unwrap();
        let all = messages(log.path()).unwrap();
        let shown = all.iter().map(|message| (message.page, message.body));
        let body = (HEADER_BYTES + 8) as u64;
        let expected = [(8, SEGMENT_BYTES as u64 + body), (7, body)];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_of_no_kind_is_no_message() {
        for kind in [0, MAX_KIND + 1, u8::MAX] {
            assert_eq!(found(&segment(&[&message(kind, 7, b"body")])), []);
        }
        let last = segment(&[&message(MAX_KIND, 7, b"body")]);
        assert_eq!(found(&last), [(7, Kind::Other, true)]);
    }

    /// Where one must begin, its header counts; what only looks like one behind it does not.
    #[test]
    fn behind_a_damaged_message_the_next_sound_one_is_found() {
        let mut damaged = message(NODE, 7, b"damaged");
        *damaged.last_mut().unwrap() ^= 1;
        let alike = &message(LINK, 8, b"alike")[1..];
        let sound = message(LINK, 9, b"sound");
        let segment = segment(&[&damaged, alike, &[0; 10_000], &sound]);
        let expected = [(7, Kind::Node, false), (9, Kind::Link, true)];
        assert_eq!(found(&segment), expected);
    }

    /// But for a checksum of zeros, which may be the end of them.
    #[test]
    fn what_is_blank_is_passed_over() {
        assert_eq!(zeros(&[0; 10_000]), 2 * 4096 - 5);
        assert_eq!(zeros(&[0; 4095]), 0);
        let mut written = [0; 10_000];
        written[5000] = 1;
        assert_eq!(zeros(&written), 4096 - 5);
    }
}
