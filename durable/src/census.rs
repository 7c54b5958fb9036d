//! What the store must hold: the newest commit's number, how many keys, and two sums over their
//! rows.
//!
//! sled's recovery skips the rest of a segment when it meets a damaged message in the middle of
//! the log, and goes on with the next: a flipped bit takes many rows with it, or brings their old
//! values back, without a word. So every commit writes the census in the same atomic change, and
//! every open counts. One sum is that of the rows' checksums, which cover key and value; that
//! another set of rows has as many keys and the same sum is a matter of one in four thousand
//! millions. The other is that of their lengths, which tells when the log is worth compacting.

use crate::error::Damage;
use crate::rows;

/// The census as of one commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// The commit's number; 0 before the first.
    pub(crate) commit: u64,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// What all their rows amount to.
    pub(crate) share: Share,
}

/// What some rows contribute to the census.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// The sum of the rows' checksums, modulo 2^64.
    pub(crate) sum: u64,
    /// The length of their keys and values, in bytes.
    pub(crate) bytes: u64,
}

impl Share {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            sum: self.sum.wrapping_add(other.sum),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            sum: self.sum.wrapping_sub(other.sum),
            bytes: self.bytes.wrapping_sub(other.bytes),
        }
    }
}

impl Census {
    const BYTES: usize = 32;

    /// A key was added, with this share.
    pub(crate) fn add(&mut self, share: Share) {
        self.keys = self.keys.wrapping_add(1);
        self.share = self.share.and(share);
    }

    /// A key was removed, with its share.
    pub(crate) fn remove(&mut self, share: Share) {
        self.keys = self.keys.wrapping_sub(1);
        self.share = self.share.without(share);
    }

    /// A row was added, with this share.
    pub(crate) fn enter(&mut self, key: &[u8], share: Share) {
        match rows::is_head(key) {
            true => self.add(share),
            false => self.share = self.share.and(share),
        }
    }

    /// A row was removed, with its share.
    pub(crate) fn leave(&mut self, key: &[u8], share: Share) {
        match rows::is_head(key) {
            true => self.remove(share),
            false => self.share = self.share.without(share),
        }
    }

    /// All that both count, as of this one's commit.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            keys: self.keys.wrapping_add(other.keys),
            share: self.share.and(other.share),
            ..self
        }
    }

    /// Whether both hold the same rows, whatever the commit.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        (self.keys, self.share) == (other.keys, other.share)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.commit, self.keys, self.share.sum, self.share.bytes]
            .map(u64::to_be_bytes)
            .concat()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Damage> {
        let short = Damage::Short { len: payload.len() };
        let payload: &[u8; Self::BYTES] = payload.try_into().map_err(|_| short)?;
        let (fields, _) = payload.as_chunks();
        let [commit, keys, sum, bytes] =
            [0, 1, 2, 3].map(|field| u64::from_be_bytes(fields[field]));
        Ok(Self {
            commit,
            keys,
            share: Share { sum, bytes },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_and_removed_leaves_no_trace() {
        let share = |sum| Share {
            sum,
            bytes: 2 * sum,
        };
        let mut census = Census {
            commit: 1,
            keys: 3,
            share: share(u64::MAX / 2),
        };
        let before = census;
        census.add(share(7));
        assert!(!census.agrees_with(&before));
        census.add(share(u64::MAX / 2));
        census.remove(share(7));
        census.remove(share(u64::MAX / 2));
        assert_eq!(census, before);
    }

    #[test]
    fn reads_as_it_was_written() {
        let census = Census {
            commit: 1 << 40,
            keys: 2,
            share: Share { sum: 3, bytes: 4 },
        };
        assert_eq!(Census::decode(&census.encode()), Ok(census));
        assert_eq!(Census::decode(&[0; 31]), Err(Damage::Short { len: 31 }));
    }
}
