//! Walking the keys in order.

use std::ops::Bound;

use bytes::Bytes;

use crate::engine;
use crate::error::{Closed, ReadError};
use crate::readers::Rows;
use crate::rows;

/// The rows of a prefix in ascending order of keys, each as it is when it is reached: rows that
/// are committed, replaced or deleted meanwhile may be seen or not, but never in part.
///
/// Ends after the first error of the store itself; a damaged value is one item, and the next
/// follows. Holds the store's directory until it is dropped, even when the store is closed before;
/// when the store has moved into a new generation, it holds the old one.
#[must_use = "a scan reads nothing until it is iterated"]
pub struct Scan {
    state: State,
}

enum State {
    Rows {
        rows: Rows,
        found: Box<sled::Iter>,
        /// Behind the last key.
        end: Vec<u8>,
    },
    Refused(Closed),
    Ended,
}

impl Scan {
    /// The keys that start with `prefix`, and come after `after` where one is given.
    pub(crate) fn new(rows: Rows, prefix: &[u8], after: Option<&[u8]>) -> Self {
        let start = rows::head(prefix);
        let end = end_of(&start);
        let low = match after.map(rows::head) {
            Some(after) if after >= end => {
                return Self {
                    state: State::Ended,
                };
            }
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let found = Box::new(rows.tree.range((low, Bound::Excluded(end.clone()))));
        Self {
            state: State::Rows { rows, found, end },
        }
    }

    /// A scan of a store that is closed.
    pub(crate) fn refused(closed: Closed) -> Self {
        Self {
            state: State::Refused(closed),
        }
    }

    fn end_with(&mut self, error: ReadError) -> Option<Result<(Bytes, Bytes), ReadError>> {
        self.state = State::Ended;
        Some(Err(error))
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (rows, found, end) = match &mut self.state {
            State::Rows { rows, found, end } => (rows, found, end),
            State::Refused(closed) => {
                let error = ReadError::from(*closed);
                return self.end_with(error);
            }
            State::Ended => return None,
        };
        let item = contained(|| next_row(rows, found, end).transpose()).transpose();
        match item {
            Some(Err(error @ ReadError::Engine { .. })) => self.end_with(error),
            item => item,
        }
    }
}

/// The next row that is still there. Nothing that is gone comes back while it is looked at.
fn next_row(rows: &Rows, found: &mut sled::Iter, end: &[u8]) -> Option<<Scan as Iterator>::Item> {
    let gone = rows.gone.read();
    while let Some(row) = found.next() {
        let (head, row) = match row {
            Ok(row) => row,
            Err(error) => return Some(Err(rows::engine(error))),
        };
        if let Some((_, last)) = gone.around(&head) {
            if last >= end {
                return None;
            }
            let rest = (Bound::Excluded(last), Bound::Excluded(end));
            *found = rows.tree.range::<&[u8], _>(rest);
            continue;
        }
        let value = match rows::follow(&rows.tree, &head, &row) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(error) => return Some(Err(error)),
        };
        return Some(Ok((Bytes::copy_from_slice(rows::user_key(&head)), value)));
    }
    None
}

/// Runs a read whose damage may make sled panic.
pub(crate) fn contained<T>(read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    engine::caught(read).unwrap_or_else(|what| Err(ReadError::Engine { what }))
}

/// The smallest row key after all that start with `start`. There is one: the heads' own byte, with
/// which it begins, is not the last.
fn end_of(start: &[u8]) -> Vec<u8> {
    let mut end = start.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
