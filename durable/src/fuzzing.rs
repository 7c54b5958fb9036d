//! For the fuzzer: the decoders of what lies on the disk. Each decodes, and encodes what came out.

use crate::{
    census::Census,
    error::Damage,
    rows::{self, CHUNK_BYTES},
    value::Framed,
    watermark,
};

/// A row as it was stored under a row key.
///
/// # Errors
/// [`Damage`], when it is none.
pub fn row(key: &[u8], row: &[u8]) -> Result<Vec<u8>, Damage> {
    Framed::decode(key, row).map(|framed| framed.encode(key))
}

/// A head that names chunks: the payload that names them, and how many there are.
///
/// # Errors
/// [`Damage`], when it is no head.
pub fn chunks(head: &[u8], row: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Damage> {
    let set = rows::chunks_of(head, row)?;
    Ok(set.map(|set| (set.encode(), set.len.div_ceil(CHUNK_BYTES as u64))))
}

/// A census.
///
/// # Errors
/// [`Damage`], when it is none.
pub fn census(payload: &[u8]) -> Result<Vec<u8>, Damage> {
    Census::decode(payload).map(|census| census.encode())
}

/// One slot of the watermark's file.
pub fn slot(slot: &[u8]) -> Option<Vec<u8>> {
    watermark::decode(slot).map(|promise| watermark::encode(promise).to_vec())
}
