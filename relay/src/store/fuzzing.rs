//! For the fuzzer: the decoder of rows, as an account is loaded from them.

use bytes::Bytes;
use holdfast_protocol::id::Name;

use super::{StoreError, row};
use crate::mail::{account::Rows, desk::Write, message::Place};

/// Decodes one row of an account's, and encodes what came out: key and value. The key is without
/// the account's name.
///
/// # Errors
/// [`StoreError::Row`], when it is no row of ours.
pub fn row(account: &Name, key: &[u8], value: &Bytes) -> Result<(Vec<u8>, Bytes), StoreError> {
    let mut rows = Rows::default();
    row::collect(&mut rows, key, value)?;
    let again = row::of(write(account, rows, value)?);
    let (key, value) = again.put().unwrap_or_default();
    let key = key[row::prefix(account).len()..].to_vec();
    Ok((key, value))
}

/// What was written when the only one of `rows` was.
fn write(account: &Name, mut rows: Rows, value: &Bytes) -> Result<Write, StoreError> {
    let account = account.clone();
    if let Some(message) = rows.messages.pop() {
        let lane = message.header.id.lane;
        let device = holdfast_protocol::id::Device {
            account,
            device: message.device,
        };
        let place = Place::Mailbox {
            device,
            lane,
            position: message.position,
        };
        return put_message(place, message.position, lane, message.header, value);
    }
    if let Some((key, position, header, _)) = rows.retained.pop() {
        let (place, lane) = (Place::Retained { account, key }, header.id.lane);
        return put_message(place, position, lane, header, value);
    }
    Ok(if let Some((device, record)) = rows.devices.pop() {
        let device = holdfast_protocol::id::Device { account, device };
        Write::PutDevice {
            device,
            record: Some(record),
        }
    } else if let Some((device, source, mark)) = rows.marks.pop() {
        Write::PutMark {
            account,
            device,
            source,
            mark: Some(mark),
        }
    } else if let Some((source, refusals)) = rows.refusals.pop() {
        Write::PutRefusals {
            account,
            source,
            refusals: Some(refusals),
        }
    } else {
        Write::PutAllowed {
            account,
            sender: rows.allowed.remove(0),
            allowed: true,
        }
    })
}

fn put_message(
    place: Place,
    position: u64,
    lane: holdfast_protocol::id::Lane,
    header: crate::mail::message::Header,
    value: &Bytes,
) -> Result<Write, StoreError> {
    let body = row::body(&place, value)?;
    Ok(Write::PutMessage {
        place,
        position,
        lane,
        header,
        body,
    })
}
