//! How a row's value is framed: `version ‖ crc32 ‖ payload`.
//!
//! The version byte leaves room to change what follows it. The checksum (CRC-32, IEEE, big-endian)
//! covers the row's key, the version and the payload, so that neither a flipped bit nor a row that
//! turns up under another key is taken for a value. sled checks its log when it recovers, not what
//! it hands out.

use crate::census::Share;
use crate::error::Damage;

/// Version of a row that holds its payload as it is.
const WHOLE: u8 = 1;
/// Version of a row whose payload names the chunks that hold the value. (2 named chunks of 60 KiB.)
const CHUNKED: u8 = 3;
/// Version and checksum.
const HEADER_BYTES: usize = 5;

/// What a row holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed<'a> {
    /// The value itself.
    Whole(&'a [u8]),
    /// The description of the chunks that hold it.
    Chunked(&'a [u8]),
}

impl<'a> Framed<'a> {
    /// The bytes to store under the row key `key`.
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let (version, payload) = match self {
            Self::Whole(payload) => (WHOLE, payload),
            Self::Chunked(payload) => (CHUNKED, payload),
        };
        let mut row = Vec::with_capacity(HEADER_BYTES + payload.len());
        row.push(version);
        row.extend_from_slice(&checksum(key, version, payload).to_be_bytes());
        row.extend_from_slice(payload);
        row
    }

    /// Reads what was stored under the row key `key`.
    pub(crate) fn decode(key: &[u8], row: &'a [u8]) -> Result<Self, Damage> {
        let (version, stored, payload) = split(row).ok_or(Damage::Short { len: row.len() })?;
        let computed = checksum(key, version, payload);
        if stored != computed {
            return Err(Damage::Checksum { stored, computed });
        }
        match version {
            WHOLE => Ok(Self::Whole(payload)),
            CHUNKED => Ok(Self::Chunked(payload)),
            unknown => Err(Damage::Version(unknown)),
        }
    }
}

/// What a row under the row key `key` contributes to the census, by the checksum it carries, right
/// or wrong.
pub(crate) fn share(key: &[u8], row: &[u8]) -> Share {
    Share {
        sum: split(row).map_or(0, |(_, stored, _)| stored.into()),
        bytes: (key.len() + row.len()) as u64,
    }
}

fn split(row: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (version, rest) = row.split_first()?;
    let (stored, payload) = rest.split_first_chunk()?;
    Some((*version, u32::from_be_bytes(*stored), payload))
}

fn checksum(key: &[u8], version: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[version]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_as_it_was_written() {
        for framed in [
            Framed::Whole(b""),
            Framed::Whole(b"abc"),
            Framed::Chunked(b"set"),
        ] {
            let row = framed.encode(b"key");
            assert_eq!(Framed::decode(b"key", &row), Ok(framed));
        }
    }

    #[test]
    fn every_single_flipped_bit_is_found() {
        let row = Framed::Whole(b"abc").encode(b"key");
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Framed::decode(b"key", &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_row_under_another_key_is_found() {
        let row = Framed::Whole(b"abc").encode(b"key");
        assert!(matches!(
            Framed::decode(b"kez", &row),
            Err(Damage::Checksum { .. })
        ));
    }

    #[test]
    fn a_row_of_a_later_version_is_named() {
        let mut row = vec![9];
        row.extend_from_slice(&checksum(b"key", 9, b"abc").to_be_bytes());
        row.extend_from_slice(b"abc");
        assert_eq!(Framed::decode(b"key", &row), Err(Damage::Version(9)));
    }

    #[test]
    fn a_row_cut_short_is_found() {
        let row = Framed::Whole(b"abc").encode(b"key");
        assert_eq!(
            Framed::decode(b"key", &row[..4]),
            Err(Damage::Short { len: 4 })
        );
        assert!(matches!(
            Framed::decode(b"key", &row[..7]),
            Err(Damage::Checksum { .. })
        ));
    }
}
