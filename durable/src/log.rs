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
mod tests {
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
}
