//! What the store must hold: the newest commit's number, how many keys, and a sum over their rows.
//!
//! sled's recovery skips the rest of a segment when it meets a damaged message in the middle of
//! the log, and goes on with the next: a flipped bit takes many rows with it, or brings their old
//! values back, without a word. So every commit writes the census in the same atomic change, and
//! every open counts. The sum is that of the rows' checksums, which cover key and value; that
//! another set of rows has as many keys and the same sum is a matter of one in four thousand
//! millions.

use crate::error::Damage;

/// The census as of one commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// The commit's number; 0 before the first.
    pub(crate) commit: u64,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// The sum of the checksums of their rows, modulo 2^64.
    pub(crate) sum: u64,
}

impl Census {
    const BYTES: usize = 24;

    /// A key was added, whose row has this checksum.
    pub(crate) fn add(&mut self, checksum: u32) {
        self.keys = self.keys.wrapping_add(1);
        self.sum = self.sum.wrapping_add(checksum.into());
    }

    /// A key was removed, whose row had this checksum.
    pub(crate) fn remove(&mut self, checksum: u32) {
        self.keys = self.keys.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(checksum.into());
    }

    /// Whether both hold the same rows, whatever the commit.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        (self.keys, self.sum) == (other.keys, other.sum)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.commit, self.keys, self.sum]
            .map(u64::to_be_bytes)
            .concat()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Damage> {
        let short = Damage::Short { len: payload.len() };
        let payload: &[u8; Self::BYTES] = payload.try_into().map_err(|_| short)?;
        let (fields, _) = payload.as_chunks();
        let [commit, keys, sum] = [0, 1, 2].map(|field| u64::from_be_bytes(fields[field]));
        Ok(Self { commit, keys, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_and_removed_leaves_no_trace() {
        let mut census = Census {
            commit: 1,
            keys: 3,
            sum: u64::MAX,
        };
        let before = census;
        census.add(7);
        assert!(!census.agrees_with(&before));
        census.add(9);
        census.remove(7);
        census.remove(9);
        assert_eq!(census, before);
    }

    #[test]
    fn reads_as_it_was_written() {
        let census = Census {
            commit: 1 << 40,
            keys: 2,
            sum: 3,
        };
        assert_eq!(Census::decode(&census.encode()), Ok(census));
        assert_eq!(Census::decode(&[0; 23]), Err(Damage::Short { len: 23 }));
    }
}
