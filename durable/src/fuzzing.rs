//! For the fuzzer: the decoders of what lies on the disk. Each decodes, and encodes what came out.

use std::{io, path::Path};

use crate::{
    census::Census,
    error::Damage,
    rows::{self, CHUNK_BYTES},
    salvage::Salvage,
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

/// The row of a value under a row key.
pub fn framed(key: &[u8], value: &[u8]) -> Vec<u8> {
    Framed::Whole(value).encode(key)
}

/// What a damaged log at `path` still holds: row keys and rows.
///
/// # Errors
/// When the file cannot be read.
pub fn salvage(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut salvage = Salvage::of(path)?;
    salvage.census()?;
    let keys: Vec<_> = salvage.keys().cloned().collect();
    let rows = keys.into_iter().map(|key| {
        let row = salvage.row(&key)?.unwrap_or_default();
        Ok((key, row))
    });
    rows.collect()
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
