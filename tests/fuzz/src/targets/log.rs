//! The log of a store whose files are damaged, as it is read to salvage what is left.

use std::{cell::LazyCell, fs};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::script;

thread_local! {
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a folder"));
}

/// What the log goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step<'a> {
    /// Whatever.
    Bytes { bytes: &'a [u8] },
    /// A message with a checksum that is right.
    Message {
        kind: u8,
        segment: u8,
        page: u8,
        body: &'a [u8],
    },
    /// A page, whose rows carry a checksum that is right.
    Page {
        segment: u8,
        page: u8,
        prefix: u8,
        low: &'a [u8],
        high: &'a [u8],
        rows: Vec<(&'a [u8], &'a [u8])>,
    },
    /// A row that is added to a page, or removed from it.
    Change {
        segment: u8,
        page: u8,
        key: &'a [u8],
        value: Option<&'a [u8]>,
    },
}

const PAGE: u8 = 8;
const CHANGE: u8 = 10;

/// Where the first message lies in a segment, in bytes.
const FIRST: usize = 20;

pub(crate) fn check(data: &[u8]) -> bool {
    let mut log = vec![0; FIRST];
    for step in script::steps::<Step<'_>>(data) {
        write(&mut log, step);
    }
    // No message is looked for in a segment's last bytes.
    log.extend([0; 32]);
    let path = FOLDER.with(|folder| folder.path().join("db"));
    fs::write(&path, &log).expect("written");
    let rows = holdfast_durable::fuzzing::salvage(&path).expect("the file can be read");
    for (key, row) in &rows {
        let again = holdfast_durable::fuzzing::row(key, row);
        assert_eq!(again.as_ref(), Ok(row), "it is not what was written");
    }
    !rows.is_empty()
}

fn write(log: &mut Vec<u8>, step: Step<'_>) {
    match step {
        Step::Bytes { bytes } => log.extend_from_slice(bytes),
        Step::Message {
            kind,
            segment,
            page,
            body,
        } => message(log, kind, (segment, page), body),
        Step::Page {
            segment,
            page,
            prefix,
            low,
            high,
            rows,
        } => {
            let body = page_of(prefix, low, high, &rows);
            message(log, PAGE, (segment, page), &body);
        }
        Step::Change {
            segment,
            page,
            key,
            value,
        } => {
            let mut body = vec![u8::from(value.is_none())];
            text(&mut body, key);
            if let Some(value) = value {
                text(&mut body, &holdfast_durable::fuzzing::framed(key, value));
            }
            message(log, CHANGE, (segment, page), &body);
        }
    }
}

/// `next, merging child, merging, prefix length, low, high, kind, count, keys, values`.
fn page_of(prefix: u8, low: &[u8], high: &[u8], rows: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, prefix];
    text(&mut body, low);
    text(&mut body, high);
    body.push(0);
    number(&mut body, rows.len());
    rows.iter().for_each(|(key, _)| text(&mut body, key));
    let prefix = low.get(..prefix.into()).unwrap_or_default();
    for (key, value) in rows {
        let framed = holdfast_durable::fuzzing::framed(&[prefix, key].concat(), value);
        text(&mut body, &framed);
    }
    body
}

/// `crc32(4, LE) kind(1) length segment page ‖ body`; the checksum covers the body first.
fn message(log: &mut Vec<u8>, kind: u8, (segment, page): (u8, u8), body: &[u8]) {
    let mut header = vec![kind];
    number(&mut header, body.len());
    number(&mut header, segment.into());
    number(&mut header, page.into());
    let sum = crc32fast::hash(&[body, &header].concat()) ^ u32::MAX;
    log.extend(sum.to_le_bytes());
    log.extend(header);
    log.extend_from_slice(body);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len());
    out.extend_from_slice(text);
}

/// A number in sled's encoding, as long as it takes no more than three bytes.
fn number(out: &mut Vec<u8>, number: usize) {
    match number {
        0..=240 => out.push(number as u8),
        241..=2287 => {
            let above = number - 240;
            out.extend([(above / 256 + 241) as u8, (above % 256) as u8]);
        }
        _ => {
            let above = number - 2288;
            out.extend([249, (above / 256) as u8, (above % 256) as u8]);
        }
    }
}
