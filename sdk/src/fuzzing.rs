//! For the fuzzer: the decoders of what lies on a device's disk. Each decodes, and encodes what
//! came out.

use holdfast_protocol::message::RelayAddress;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    core::{Logbook, Source},
    storage::{Origin, file},
};

/// A message of the outbox: its record, and the body behind it.
pub fn outbox(value: &[u8]) -> Option<Vec<u8>> {
    let entry = file::entry(1, value).ok()?;
    let again = file::record(&entry).ok()?;
    Some(file::as_it_was(value, again))
}

/// The account of time.
pub fn logbook(value: &[u8]) -> Option<Vec<u8>> {
    again::<Logbook>(value)
}

/// The key of a mark.
pub fn source(key: &[u8]) -> Option<Vec<u8>> {
    again::<Source>(key)
}

/// Whose the storage is.
pub fn origin(value: &[u8]) -> Option<Vec<u8>> {
    again::<Origin>(value)
}

/// The relays of the last allocation.
pub fn relays(value: &[u8]) -> Option<Vec<u8>> {
    again::<Vec<RelayAddress>>(value)
}

fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: T = file::decode(bytes).ok()?;
    file::encode(&value).ok()
}
