//! The rows of the one tree, and how a value is put together from them.
//!
//! The first byte of a row's key says which space it is in: the store's own census, the heads
//! (one per key of the user, in the user's order), the chunks, or the ranges that are gone
//! ([`Gone`](crate::gone::Gone)), which hold the last key under the first. A scan walks the heads
//! alone.
//!
//! A value over [`CHUNK_BYTES`] lies in chunk rows; its head names the set. sled moves a page of
//! 2 MiB or more (a quarter of a segment) to a file of its own that no sync covers. A leaf holds
//! at most 16 rows and 11 changes to them, so 20 KiB a row keep it at 0.6 MiB. What a leaf weighs
//! also decides what sled holds in memory beyond its cache: it never lets go of the last leaf of
//! each of its 256 shards, and takes notice of what was used in one only 64 uses at a time.

use bytes::{Bytes, BytesMut};
use sled::{IVec, Tree};

use crate::census::{Census, Share};
use crate::error::{Damage, ReadError};
use crate::gone::{Gone, Range};
use crate::value::{self, Framed};

/// The most of a value that one row holds, in bytes.
pub(crate) const CHUNK_BYTES: usize = 20 * 1024;

/// Where the census lies.
pub(crate) const CENSUS: &[u8] = &[Space::Own as u8, b'c'];

#[derive(Clone, Copy)]
#[repr(u8)]
enum Space {
    Own = 0,
    Heads = 1,
    Chunks = 2,
    Ranges = 3,
}

/// The row key of the user's `key`.
pub(crate) fn head(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(Space::Heads as u8);
    row.extend_from_slice(key);
    row
}

/// The user's key of a head.
pub(crate) fn user_key(head: &[u8]) -> &[u8] {
    head.get(1..).unwrap_or_default()
}

/// The key before all rows that say what is gone.
pub(crate) fn ranges_begin() -> IVec {
    IVec::from(&[Space::Ranges as u8])
}

/// The row that says that a range of heads is gone, with its key.
pub(crate) fn range_row(first: &[u8], last: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = [&[Space::Ranges as u8], user_key(first)].concat();
    let row = Framed::Whole(user_key(last)).encode(&key);
    (key, row)
}

/// The range that a row says is gone, if the row is one of those.
pub(crate) fn range(key: &[u8], row: &[u8]) -> Result<Option<Range>, Damage> {
    if !is_range(key) {
        return Ok(None);
    }
    let last = whole(key, row)?;
    Ok(Some((head(user_key(key)), head(last))))
}

/// All ranges that are gone.
pub(crate) fn ranges(tree: &Tree) -> impl Iterator<Item = Result<Range, ReadError>> + use<> {
    let rows = tree.scan_prefix([Space::Ranges as u8]);
    rows.filter_map(|row| match row {
        Ok((key, row)) => range(&key, &row)
            .map_err(|damage| corrupt(&key, damage))
            .transpose(),
        Err(error) => Some(Err(engine(error))),
    })
}

/// The chunks of one value. A set's name is never given twice, so that a reader whose head is out
/// of date misses its chunks instead of reading another value's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkSet {
    /// The commit that wrote it.
    pub(crate) commit: u64,
    /// Its turn in that commit.
    pub(crate) ordinal: u32,
    /// The value's length in bytes.
    pub(crate) len: u64,
    /// What its chunks contribute to the census, so that they can be removed without being read.
    pub(crate) share: Share,
}

impl ChunkSet {
    /// The row keys of the set's chunks, in order.
    pub(crate) fn rows(self) -> impl Iterator<Item = Vec<u8>> {
        (0u32..)
            .map(move |index| self.row(index))
            .take(self.count())
    }

    /// The payload of the head.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut payload = self.commit.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.ordinal.to_be_bytes());
        for field in [self.len, self.share.sum, self.share.bytes] {
            payload.extend_from_slice(&field.to_be_bytes());
        }
        payload
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (commit, rest) = payload.split_first_chunk()?;
        let (ordinal, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        Some(Self {
            commit: u64::from_be_bytes(*commit),
            ordinal: u32::from_be_bytes(*ordinal),
            len: u64::from_be_bytes(*len),
            share: Share {
                sum: u64::from_be_bytes(*sum),
                bytes: u64::from_be_bytes(rest.try_into().ok()?),
            },
        })
    }

    /// How many chunks there are.
    pub(crate) fn count(self) -> usize {
        usize::try_from(self.len.div_ceil(CHUNK_BYTES as u64)).unwrap_or(usize::MAX)
    }

    /// What the row keys of its chunks begin with.
    pub(crate) fn prefix(self) -> Vec<u8> {
        let mut prefix = vec![Space::Chunks as u8];
        prefix.extend_from_slice(&self.commit.to_be_bytes());
        prefix.extend_from_slice(&self.ordinal.to_be_bytes());
        prefix
    }

    fn row(self, index: u32) -> Vec<u8> {
        let mut row = self.prefix();
        row.extend_from_slice(&index.to_be_bytes());
        row
    }
}

/// Which set a chunk belongs to, by the [prefix](ChunkSet::prefix); none when the key is no chunk's.
pub(crate) fn prefix_of_set(key: &[u8]) -> Option<&[u8]> {
    let is_chunk = key.first() == Some(&(Space::Chunks as u8));
    key.split_last_chunk::<{ size_of::<u32>() }>()
        .filter(|_| is_chunk)
        .map(|(prefix, _)| prefix)
}

/// The chunks a head names; none when the value is whole.
pub(crate) fn chunks_of(head: &[u8], row: &[u8]) -> Result<Option<ChunkSet>, Damage> {
    match Framed::decode(head, row)? {
        Framed::Whole(_) => Ok(None),
        Framed::Chunked(payload) => {
            let set = ChunkSet::decode(payload);
            set.map(Some).ok_or(Damage::Short { len: payload.len() })
        }
    }
}

/// The value under `head`, unless that is gone.
pub(crate) fn get(tree: &Tree, gone: &Gone, head: &[u8]) -> Result<Option<Bytes>, ReadError> {
    match gone.holds(head) {
        true => Ok(None),
        false => read(tree, head),
    }
}

/// The value under `head`, which may be out of date by the time its chunks are looked for: then
/// the newer head is followed.
pub(crate) fn read(tree: &Tree, head: &[u8]) -> Result<Option<Bytes>, ReadError> {
    let mut row = tree.get(head).map_err(engine)?;
    while let Some(current) = row {
        let missing = match assemble(tree, head, &current)? {
            Assembled::Value(value) => return Ok(Some(value)),
            Assembled::Missing(index) => index,
        };
        row = tree.get(head).map_err(engine)?;
        if row.as_ref() == Some(&current) {
            return Err(corrupt(head, Damage::MissingChunk(missing)));
        }
    }
    Ok(None)
}

/// The value that `row`, found under `head`, stands for; follows a newer head like [`read`].
pub(crate) fn follow(tree: &Tree, head: &[u8], row: &IVec) -> Result<Option<Bytes>, ReadError> {
    match assemble(tree, head, row)? {
        Assembled::Value(value) => Ok(Some(value)),
        Assembled::Missing(_) => read(tree, head),
    }
}

enum Assembled {
    Value(Bytes),
    Missing(u32),
}

fn assemble(tree: &Tree, head: &[u8], row: &[u8]) -> Result<Assembled, ReadError> {
    let damaged = |damage| corrupt(head, damage);
    let Some(set) = chunks_of(head, row).map_err(damaged)? else {
        let whole = whole(head, row).map_err(damaged)?;
        return Ok(Assembled::Value(Bytes::copy_from_slice(whole)));
    };
    let mut value = BytesMut::new();
    for (index, chunk) in (0..).zip(set.rows()) {
        let Some(row) = tree.get(&chunk).map_err(engine)? else {
            return Ok(Assembled::Missing(index));
        };
        value.extend_from_slice(whole(&chunk, &row).map_err(damaged)?);
    }
    let found = value.len() as u64;
    if found != set.len {
        return Err(damaged(Damage::Length {
            announced: set.len,
            found,
        }));
    }
    Ok(Assembled::Value(value.freeze()))
}

/// The payload of a row that must hold its value itself.
pub(crate) fn whole<'a>(key: &[u8], row: &'a [u8]) -> Result<&'a [u8], Damage> {
    match Framed::decode(key, row)? {
        Framed::Whole(payload) => Ok(payload),
        Framed::Chunked(payload) => Err(Damage::Short { len: payload.len() }),
    }
}

/// The census of the newest commit; none in a store that has never had one.
pub(crate) fn census(tree: &Tree) -> Result<Option<Census>, ReadError> {
    let Some(row) = tree.get(CENSUS).map_err(engine)? else {
        return Ok(None);
    };
    let census = decode_census(&row);
    census.map(Some).map_err(|damage| corrupt(CENSUS, damage))
}

/// Reads the row that holds the census.
pub(crate) fn decode_census(row: &[u8]) -> Result<Census, Damage> {
    whole(CENSUS, row).and_then(Census::decode)
}

/// The row that holds the census, with its key.
pub(crate) fn census_row(census: &Census) -> (Vec<u8>, Vec<u8>) {
    let row = Framed::Whole(&census.encode()).encode(CENSUS);
    (CENSUS.to_vec(), row)
}

/// Counts what is there, and what of it is gone: reads and checks every row.
pub(crate) fn count(tree: &Tree) -> Result<(Census, Gone), ReadError> {
    let (mut census, mut gone) = (Census::default(), Gone::read(tree)?);
    for row in tree.range(head(b"")..) {
        let (key, row) = row.map_err(engine)?;
        let share = checked_share(&key, &row)?;
        census.enter(&key, share);
        if is_head(&key) && gone.holds(&key) {
            let chunks = chunks_of(&key, &row).map_err(|damage| corrupt(&key, damage))?;
            gone.count(chunks.map_or(share, |set| share.and(set.share)));
        }
    }
    Ok((census, gone))
}

/// Whether the row is the head of a key of the user's.
pub(crate) fn is_head(key: &[u8]) -> bool {
    key.first() == Some(&(Space::Heads as u8))
}

/// Whether the row says that a range is gone.
pub(crate) fn is_range(key: &[u8]) -> bool {
    key.first() == Some(&(Space::Ranges as u8))
}

/// Whether the row is the store's own, and in no census.
pub(crate) fn is_own(key: &[u8]) -> bool {
    key.first() == Some(&(Space::Own as u8))
}

/// What a row contributes to the census, if it is what was written.
pub(crate) fn checked_share(key: &[u8], row: &[u8]) -> Result<Share, ReadError> {
    Framed::decode(key, row).map_err(|damage| corrupt(key, damage))?;
    Ok(value::share(key, row))
}

pub(crate) fn engine(error: sled::Error) -> ReadError {
    ReadError::Engine {
        what: error.to_string(),
    }
}

fn corrupt(head: &[u8], damage: Damage) -> ReadError {
    let key = user_key(head)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ReadError::Corrupt { key, damage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::group::Group;

    fn tree() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    fn apply(tree: &Tree, number: u64, batch: Batch) {
        let census = super::census(tree).unwrap().unwrap_or_default();
        let gone = Gone::read(tree).unwrap();
        let mut group = Group::new(
            tree,
            &gone,
            Census {
                commit: number - 1,
                ..census
            },
        );
        group.add(batch).unwrap();
        group.finish().apply(tree).unwrap();
    }

    fn put(len: usize) -> Batch {
        let mut batch = Batch::new();
        batch.put("key", vec![7; len]);
        batch
    }

    fn chunks(tree: &Tree) -> Vec<IVec> {
        tree.scan_prefix([Space::Chunks as u8])
            .map(|row| row.unwrap().0)
            .collect()
    }

    #[test]
    fn chunks_go_with_the_value_they_belong_to() {
        let tree = tree();
        apply(&tree, 1, put(3 * CHUNK_BYTES));
        assert_eq!(chunks(&tree).len(), 3);
        apply(&tree, 2, put(CHUNK_BYTES + 1));
        assert_eq!(chunks(&tree).len(), 2);
        apply(&tree, 3, put(CHUNK_BYTES));
        assert_eq!(chunks(&tree).len(), 0);
        apply(&tree, 4, put(3 * CHUNK_BYTES));
        let mut batch = put(2 * CHUNK_BYTES);
        batch.delete("key");
        apply(&tree, 5, batch);
        assert_eq!(chunks(&tree).len(), 0);
        assert_eq!(tree.len(), 1, "the census alone");
    }

    #[test]
    fn a_reader_with_an_old_head_follows_the_new_one() {
        let tree = tree();
        let head = head(b"key");
        apply(&tree, 1, put(3 * CHUNK_BYTES));
        let old = tree.get(&head).unwrap().unwrap();
        apply(&tree, 2, put(2 * CHUNK_BYTES));
        let len = follow(&tree, &head, &old).unwrap().map(|value| value.len());
        assert_eq!(len, Some(2 * CHUNK_BYTES));
        let mut batch = Batch::new();
        batch.delete("key");
        apply(&tree, 3, batch);
        assert_eq!(follow(&tree, &head, &old), Ok(None));
    }

    #[test]
    fn a_chunk_that_is_gone_is_an_error_that_names_the_key() {
        let tree = tree();
        apply(&tree, 1, put(3 * CHUNK_BYTES));
        tree.remove(&chunks(&tree)[1]).unwrap();
        let error = ReadError::Corrupt {
            key: "6b6579".to_owned(),
            damage: Damage::MissingChunk(1),
        };
        assert_eq!(read(&tree, &head(b"key")), Err(error));
    }

    #[test]
    fn chunks_that_trade_places_are_an_error() {
        let tree = tree();
        apply(&tree, 1, put(3 * CHUNK_BYTES));
        let chunks = chunks(&tree);
        let first = tree.get(&chunks[0]).unwrap().unwrap();
        tree.insert(&chunks[1], first).unwrap();
        let read = read(&tree, &head(b"key"));
        assert!(matches!(
            read,
            Err(ReadError::Corrupt {
                damage: Damage::Checksum { .. },
                ..
            })
        ));
    }

    #[test]
    fn a_damaged_value_can_be_replaced() {
        let tree = tree();
        let head = head(b"key");
        apply(&tree, 1, put(3));
        tree.insert(&head, "garbage").unwrap();
        assert!(read(&tree, &head).is_err());
        apply(&tree, 2, put(3));
        assert_eq!(read(&tree, &head), Ok(Some(Bytes::from(vec![7; 3]))));
    }

    #[test]
    fn the_census_counts_what_is_there() {
        let tree = tree();
        assert_eq!(census(&tree), Ok(None));
        apply(&tree, 1, put(1));
        apply(&tree, 2, put(3 * CHUNK_BYTES));
        let mut batch = put(2);
        batch.put("other", "value");
        batch.delete("key");
        batch.delete("absent");
        apply(&tree, 3, batch);
        let census = census(&tree).unwrap().unwrap();
        assert_eq!((census.commit, census.keys), (3, 1));
        assert!(census.agrees_with(&count(&tree).unwrap().0));
    }

    #[test]
    fn a_key_that_is_new_counts_as_one_that_is_put() {
        let tree = tree();
        apply(&tree, 1, put(3 * CHUNK_BYTES));
        let mut batch = Batch::new();
        batch.put_new("other", "value");
        batch.delete("key");
        batch.put_new("key", "again");
        apply(&tree, 2, batch);
        assert_eq!(read(&tree, &head(b"key")), Ok(Some("again".into())));
        let census = census(&tree).unwrap().unwrap();
        assert_eq!(census.keys, 2);
        assert!(census.agrees_with(&count(&tree).unwrap().0));
    }

    #[test]
    fn an_old_value_that_comes_back_is_counted_as_another() {
        let tree = tree();
        let head = head(b"key");
        apply(&tree, 1, put(1));
        let old = tree.get(&head).unwrap().unwrap();
        apply(&tree, 2, put(2));
        tree.insert(&head, old).unwrap();
        let census = census(&tree).unwrap().unwrap();
        assert!(!census.agrees_with(&count(&tree).unwrap().0));
    }
}
