//! What lies on a disk: a relay's rows, the store's own, and a device's.

use bytes::Bytes;

/// A row of an account's: the first byte says how long its key is.
pub(crate) fn mail(data: &[u8]) -> bool {
    let (key, value) = keyed(data);
    let account = "alice".parse().expect("a name");
    let value = Bytes::copy_from_slice(value);
    let Ok((new_key, new_value)) = holdfast_relay::fuzzing::row(&account, key, &value) else {
        return false;
    };
    same_again(key, &new_key);
    // Refusals are a map, which is read in any order and written in its own.
    if key.first() != Some(&b'x') {
        same_again(&value, &new_value);
    }
    let again = holdfast_relay::fuzzing::row(&account, &new_key, &new_value);
    assert_eq!(again.ok(), Some((new_key, new_value)));
    true
}

/// What the store keeps: the first byte says what, the next how long the row's key is, and the one
/// after its version; the checksum is made right, as hardly any input would have it so.
pub(crate) fn durable(data: &[u8]) -> bool {
    use holdfast_durable::fuzzing;
    let Some((what, data)) = data.split_first() else {
        return false;
    };
    let (key, rest) = keyed(data);
    match what % 5 {
        0 => unchanged(rest, fuzzing::row(key, rest).ok()),
        1 => unchanged(
            &summed(key, rest),
            fuzzing::row(key, &summed(key, rest)).ok(),
        ),
        2 => unchanged(rest, fuzzing::census(rest).ok()),
        3 => slot(rest),
        _ => match fuzzing::chunks(key, &summed(key, rest)) {
            Ok(Some((payload, chunks))) => {
                assert!(chunks <= u64::MAX / (20 * 1024) + 1);
                unchanged(&rest[1..], Some(payload))
            }
            Ok(None) | Err(_) => false,
        },
    }
}

/// What a device keeps: the first byte says what.
pub(crate) fn device(data: &[u8]) -> bool {
    use holdfast::fuzzing;
    let Some((what, rest)) = data.split_first() else {
        return false;
    };
    let read = match what % 5 {
        0 => fuzzing::outbox,
        1 => fuzzing::source,
        2 => fuzzing::origin,
        3 => fuzzing::relays,
        _ => fuzzing::logbook,
    };
    let Some(again) = read(rest) else {
        return false;
    };
    same_again(rest, &again);
    assert_eq!(read(&again).as_ref(), Some(&again));
    true
}

/// One slot of the watermark's file; only its first bytes mean something.
fn slot(rest: &[u8]) -> bool {
    let Some((promise, _)) = rest.split_first_chunk::<16>() else {
        return false;
    };
    let mut slot = [b"holdfast", &promise[..]].concat();
    slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
    let again = holdfast_durable::fuzzing::slot(&slot).expect("its sum is right");
    assert_eq!(again[..slot.len()], slot);
    if let Some(given) = holdfast_durable::fuzzing::slot(rest) {
        assert_eq!(given[..28], rest[..28]);
    }
    true
}

/// Splits off a key, whose length the first byte says.
fn keyed(data: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = data.split_first().unwrap_or((&0, &[]));
    rest.split_at(usize::from(*length).min(rest.len()))
}

/// A row of the store's: the first byte as the version, then the right checksum, then the rest.
fn summed(key: &[u8], versioned: &[u8]) -> Vec<u8> {
    let Some((version, payload)) = versioned.split_first() else {
        return Vec::new();
    };
    let sum = crc32fast::hash(&[key, &[*version], payload].concat());
    [&[*version], &sum.to_be_bytes()[..], payload].concat()
}

fn unchanged(given: &[u8], written: Option<Vec<u8>>) -> bool {
    written.is_some_and(|written| {
        assert_eq!(written, given);
        true
    })
}

/// What was accepted is written as it was, or shorter: a varint may be longer than it has to.
fn same_again(given: &[u8], written: &[u8]) {
    assert!(written.len() <= given.len(), "it grew");
    if written.len() == given.len() {
        assert_eq!(written, given, "it was changed");
    }
}
