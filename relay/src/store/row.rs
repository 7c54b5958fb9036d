//! How mail stands in the store: keys in the order in which they are read, values in postcard.
//!
//! ```text
//! account ␀ 'd' device                                → DeviceRecord
//! account ␀ 'm' device ␀ lane(1) position(8, BE)      → Header ‖ body
//! account ␀ 'h' device? ␀ source                      → (seq, day, lapsed?) of its Mark: how far it has
//!                                                       come, unless mail that waits tells; no device: in
//!                                                       what is retained
//! account ␀ 'r' key                                   → (position, lane, Header) ‖ body
//! account ␀ 'a' sender                                → (empty)
//! account ␀ 'x' source                                → Refusals
//! ␀ "boot"                                            → number of the last boot
//! ␀ "clock"                                           → Reading
//! ```
//!
//! The mail that a device has acknowledged is deleted as a range, which the store below knows how to do;
//! it is one per lane, from position 0.
//!
//! Everything of an account stands together, so one scan loads it; a mailbox's messages come in
//! the order of their positions. Names hold no zero byte, so none is a prefix of another's keys.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_protocol::id::{Device, Key, Lane, Name};
use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;
use crate::mail::{
    account::{Rows, StoredRow},
    desk::{Day, Write},
    ledger::Mark,
    message::{Header, Place},
};

/// The key of the number of the last boot. No account has an empty name.
pub(super) const BOOT: &[u8] = b"\0boot";

/// The key of the last reading of the clock of mail.
pub(super) const CLOCK: &[u8] = b"\0clock";

const DEVICE: u8 = b'd';
const MESSAGE: u8 = b'm';
const MARK: u8 = b'h';
const RETAINED: u8 = b'r';
const ALLOWED: u8 = b'a';
const REFUSALS: u8 = b'x';

/// What becomes of one row, or of some that stand together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    Put(Vec<u8>, Bytes),
    Delete(Vec<u8>),
    /// From the first key to the last, which take so many bytes.
    DeleteRange(Vec<u8>, Vec<u8>, u64),
}

impl Row {
    fn new(key: Vec<u8>, value: Option<Bytes>) -> Self {
        match value {
            Some(value) => Self::Put(key, value),
            None => Self::Delete(key),
        }
    }

    /// The row that is put, if one is.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn put(self) -> Option<(Vec<u8>, Bytes)> {
        match self {
            Self::Put(key, value) => Some((key, value)),
            Self::Delete(_) | Self::DeleteRange(..) => None,
        }
    }
}

/// The rows that a change comes down to.
pub(super) fn of(write: Write) -> Row {
    match write {
        Write::PutMessage {
            place,
            position,
            lane,
            header,
            body,
        } => {
            let value = match &place {
                Place::Mailbox { .. } => with_body(&header, &body),
                Place::Retained { .. } => with_body(&(position, lane, &header), &body),
            };
            Row::new(place_key(&place), Some(value))
        }
        Write::DeleteMessage(place) => Row::Delete(place_key(&place)),
        Write::DeleteThrough {
            device,
            lane,
            position,
            bytes,
        } => {
            let key = |position| mailbox_key(&device, lane, position);
            Row::DeleteRange(key(0), key(position), bytes)
        }
        Write::PutDevice { device, record } => {
            let key = key(
                &device.account,
                DEVICE,
                &[device.device.as_str().as_bytes()],
            );
            Row::new(key, record.as_ref().map(encode))
        }
        Write::PutMark {
            account,
            device,
            source,
            mark,
        } => {
            let device = device.as_ref().map_or("", Name::as_str);
            let parts = [device.as_bytes(), b"\0", &encode(&source)];
            let value = mark.as_ref().map(encode_mark);
            Row::new(key(&account, MARK, &parts), value)
        }
        Write::PutRefusals {
            account,
            source,
            refusals,
        } => {
            let key = key(&account, REFUSALS, &[&encode(&source)]);
            Row::new(key, refusals.as_ref().map(encode))
        }
        Write::PutReading(reading) => Row::new(CLOCK.to_vec(), Some(encode(&reading))),
        Write::PutAllowed {
            account,
            sender,
            allowed,
        } => {
            let key = key(&account, ALLOWED, &[sender.as_str().as_bytes()]);
            Row::new(key, allowed.then(Bytes::new))
        }
    }
}

/// What a row is about, by its key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About<'k> {
    /// A message that waits in a mailbox.
    Message { mailbox: Mailbox<'k>, position: u64 },
    /// A message that an account retains.
    Retained { account: &'k str },
    /// What an account has besides: devices, marks, permissions, refusals.
    Account { account: &'k str },
    /// What the relay keeps for itself.
    Relay,
}

/// A mailbox, by its account and its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mailbox<'k>(pub(super) &'k str, pub(super) &'k str);

/// What a row is about; none when its key is no key of ours.
pub(super) fn about(key: &[u8]) -> Option<About<'_>> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let (account, rest) = split_at_zero(key).ok()?;
    let account = text(account)?;
    if account.is_empty() {
        return Some(About::Relay);
    }
    match rest.split_first()? {
        (&MESSAGE, rest) => {
            let (device, place) = split_at_zero(rest).ok()?;
            let position = u64::from_be_bytes(*place.get(1..)?.first_chunk()?);
            let mailbox = Mailbox(account, text(device)?);
            Some(About::Message { mailbox, position })
        }
        (&RETAINED, _) => Some(About::Retained { account }),
        _ => Some(About::Account { account }),
    }
}

/// Where a retained message stands in its account's order; none when its row makes no sense.
pub(super) fn retained_position(value: &Bytes) -> Option<u64> {
    let row = split::<(u64, Lane, Header)>("retained mail", value);
    row.ok().map(|((position, ..), _)| position)
}

/// What all keys of an account start with.
pub(super) fn prefix(account: &Name) -> Vec<u8> {
    let mut prefix = account.as_str().as_bytes().to_vec();
    prefix.push(0);
    prefix
}

/// Where a message's row stands.
pub(super) fn place_key(place: &Place) -> Vec<u8> {
    match place {
        Place::Mailbox {
            device,
            lane,
            position,
        } => mailbox_key(device, *lane, *position),
        Place::Retained { account, key: name } => {
            key(account, RETAINED, &[name.as_str().as_bytes()])
        }
    }
}

/// Where a message's row stands in a mailbox.
fn mailbox_key(device: &Device, lane: Lane, position: u64) -> Vec<u8> {
    let device_name = device.device.as_str().as_bytes();
    let parts = [device_name, b"\0", &[lane as u8], &position.to_be_bytes()];
    key(&device.account, MESSAGE, &parts)
}

/// The body in a message's row.
pub(super) fn body(place: &Place, value: &Bytes) -> Result<Bytes, StoreError> {
    match place {
        Place::Mailbox { .. } => Ok(split::<Header>("mail", value)?.1),
        Place::Retained { .. } => Ok(split::<(u64, Lane, Header)>("retained mail", value)?.1),
    }
}

/// Adds one row of an account's, in the order of keys, to what is known of it.
pub(super) fn collect(rows: &mut Rows, key: &[u8], value: &Bytes) -> Result<(), StoreError> {
    let Some((&kind, rest)) = key.split_first() else {
        return Err(undecodable("a row", "its key is empty"));
    };
    match kind {
        DEVICE => rows.devices.push((name(rest)?, decode("a device", value)?)),
        MESSAGE => rows.messages.push(message(rest, value)?),
        MARK => {
            let (device, source) = split_at_zero(rest)?;
            let device = (!device.is_empty()).then(|| name(device)).transpose()?;
            rows.marks
                .push((device, decode("a source", source)?, decode_mark(value)?));
        }
        RETAINED => {
            let ((position, lane, header), body) =
                split::<(u64, Lane, Header)>("retained mail", value)?;
            check_lane("retained mail", lane, &header)?;
            rows.retained
                .push((text::<Key>(rest)?, position, header, body.len()));
        }
        ALLOWED => rows.allowed.push(name(rest)?),
        REFUSALS => {
            rows.refusals
                .push((decode("a source", rest)?, decode("refusals", value)?));
        }
        other => return Err(undecodable("a row", format!("its kind is {other:#04x}"))),
    }
    Ok(())
}

fn message(rest: &[u8], value: &Bytes) -> Result<StoredRow, StoreError> {
    let (device, place) = split_at_zero(rest)?;
    let (lane, position) = match place {
        [lane, position @ ..] => (*lane, position),
        [] => return Err(undecodable("mail", "its key is cut off")),
    };
    let lane = Lane::ALL.into_iter().find(|known| *known as u8 == lane);
    let position = position.try_into().map(u64::from_be_bytes);
    let (Some(lane), Ok(position)) = (lane, position) else {
        return Err(undecodable("mail", "its key is no place"));
    };
    let (header, body) = split::<Header>("mail", value)?;
    check_lane("mail", lane, &header)?;
    Ok(StoredRow {
        device: name(device)?,
        position,
        header,
        bytes: body.len(),
    })
}

fn check_lane(kind: &'static str, lane: Lane, header: &Header) -> Result<(), StoreError> {
    if header.id.lane != lane {
        return Err(undecodable(kind, "it stands in the other lane"));
    }
    Ok(())
}

fn split_at_zero(rest: &[u8]) -> Result<(&[u8], &[u8]), StoreError> {
    let end = rest.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| undecodable("a row", "its key names no device"))?;
    Ok((&rest[..end], &rest[end + 1..]))
}

fn key(account: &Name, kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(account.as_str().len() + 2 + len);
    key.extend_from_slice(account.as_str().as_bytes());
    key.extend_from_slice(&[0, kind]);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// A value in postcard. Encoding plain data into growing memory cannot fail.
pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).unwrap_or_default().into()
}

/// What no source has but one whose mail has waited for too long is left out.
fn encode_mark(mark: &Mark) -> Bytes {
    match mark.lapsed {
        0 => encode(&(mark.seq, mark.day)),
        lapsed => encode(&(mark.seq, mark.day, lapsed)),
    }
}

fn decode_mark(value: &Bytes) -> Result<Mark, StoreError> {
    let ((seq, day), rest) = split::<(u64, Day)>("a mark", value)?;
    let lapsed = match rest.is_empty() {
        true => 0,
        false => decode("a mark", &rest)?,
    };
    Ok(Mark { seq, day, lapsed })
}

fn with_body<T: Serialize>(header: &T, body: &Bytes) -> Bytes {
    let header = encode(header);
    let mut value = BytesMut::with_capacity(header.len() + body.len());
    value.put_slice(&header);
    value.put_slice(body);
    value.freeze()
}

/// A value in postcard, whole.
pub(super) fn decode<T: DeserializeOwned>(
    kind: &'static str,
    value: &[u8],
) -> Result<T, StoreError> {
    match postcard::take_from_bytes(value) {
        Ok((decoded, [])) => Ok(decoded),
        Ok((_, rest)) => Err(undecodable(kind, format!("{} bytes left over", rest.len()))),
        Err(error) => Err(undecodable(kind, error)),
    }
}

fn split<T: DeserializeOwned>(kind: &'static str, value: &Bytes) -> Result<(T, Bytes), StoreError> {
    let (header, rest) =
        postcard::take_from_bytes(value).map_err(|error| undecodable(kind, error))?;
    Ok((header, value.slice(value.len() - rest.len()..)))
}

fn name(bytes: &[u8]) -> Result<Name, StoreError> {
    text(bytes)
}

fn text<T: std::str::FromStr<Err: ToString>>(bytes: &[u8]) -> Result<T, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|error| undecodable("a name", error))?;
    text.parse()
        .map_err(|error: T::Err| undecodable("a name", error.to_string()))
}

fn undecodable(kind: &'static str, why: impl ToString) -> StoreError {
    StoreError::Row {
        kind,
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    /// What is read of a message whose key says one lane and whose header another.
    fn read(place: Place) -> Result<Rows, StoreError> {
        let row = of(Write::PutMessage {
            place,
            position: 1,
            lane: Lane::Bulk,
            header: contract::header(Lane::Message, 1),
            body: Bytes::new(),
        });
        let (key, value) = row.put().unwrap();
        let (_, key) = split_at_zero(&key)?;
        let mut rows = Rows::default();
        collect(&mut rows, key, &value).map(|()| rows)
    }

    #[test]
    fn a_message_in_the_other_lane_is_an_error() {
        let waiting = read(Place::Mailbox {
            device: "alice/phone".parse().unwrap(),
            lane: Lane::Bulk,
            position: 1,
        });
        assert!(matches!(waiting, Err(StoreError::Row { kind: "mail", .. })));
        let retained = read(Place::Retained {
            account: "alice".parse().unwrap(),
            key: "bookmarks".parse().unwrap(),
        });
        let kind = "retained mail";
        assert!(matches!(retained, Err(StoreError::Row { kind: found, .. }) if found == kind));
    }
}
