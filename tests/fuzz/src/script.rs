//! Bytes read as the steps of a conversation.
//!
//! A script is its steps in postcard, one after the other, so it can be written from a real
//! conversation as easily as it is read. Where no step can be read a byte is skipped: every string of
//! bytes is a script, and a mutation in one step leaves those after it what they were.

use serde::{Deserialize, Serialize};

/// Read no more steps than this of one script.
const MAX_STEPS: usize = 512;

/// The steps that `bytes` spell.
pub fn steps<'a, S: Deserialize<'a>>(mut bytes: &'a [u8]) -> impl Iterator<Item = S> {
    let next = move || {
        while !bytes.is_empty() {
            match postcard::take_from_bytes(bytes) {
                Ok((step, rest)) => {
                    bytes = rest;
                    return Some(step);
                }
                Err(_) => bytes = &bytes[1..],
            }
        }
        None
    };
    std::iter::from_fn(next).take(MAX_STEPS)
}

/// The bytes that spell `steps`.
pub fn write<S: Serialize>(steps: &[S]) -> Vec<u8> {
    let written = steps.iter().map(postcard::to_allocvec);
    written.flat_map(|step| step.expect("plain data")).collect()
}
