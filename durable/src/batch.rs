//! What one commit changes: puts and deletes that apply together or not at all.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The longest key a [`Batch`] takes, in bytes.
///
/// sled keeps up to 256 keys in one index page, and a page of 2 MiB would leave the log for a file
/// of its own, which no sync covers. 1 KiB keeps the largest index page at an eighth of that.
pub const MAX_KEY_BYTES: usize = 1024;

/// Puts and deletes that are applied atomically, in the order they were added: the last one wins
/// where a key is named twice.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    is_patient: bool,
}

/// One thing that a [`Batch`] changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key has a value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value from now on.
        value: Bytes,
        /// Whether the key is known to be absent before.
        is_new: bool,
    },
    /// A key is not there any more.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// No key of a range is there any more.
    DeleteRange {
        /// The first key of the range.
        first: Vec<u8>,
        /// The last one.
        last: Vec<u8>,
        /// What the keys in it take with their values, about, in bytes.
        bytes: u64,
    },
}

impl Change {
    /// Makes the change in a map, which is what a store amounts to.
    pub fn apply(&self, rows: &mut BTreeMap<Vec<u8>, Bytes>) {
        match self {
            Self::Put { key, value, .. } => drop(rows.insert(key.clone(), value.clone())),
            Self::Delete { key } => drop(rows.remove(key)),
            Self::DeleteRange { first, last, .. } => {
                let from = rows.range(first.clone()..).map(|(key, _)| key);
                let within: Vec<_> = from.take_while(|key| *key <= last).cloned().collect();
                within.iter().for_each(|key| drop(rows.remove(key)));
            }
        }
    }

    /// Keys and values together, in bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::DeleteRange { first, last, .. } => first.len() + last.len(),
        }
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`. A value may have any size; over 20 KiB it is stored in chunks.
    ///
    /// # Panics
    /// When `key` is longer than [`MAX_KEY_BYTES`], which is a bug of the caller.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        self.push(Change::Put {
            key: checked(key.as_ref()),
            value: value.into(),
            is_new: false,
        });
    }

    /// Like [`put`](Self::put), for a key that is not there when the batch is applied, which saves
    /// looking for what it replaces. If it is there after all, the store miscounts its rows, and the
    /// next open takes it for damaged.
    ///
    /// # Panics
    /// When `key` is longer than [`MAX_KEY_BYTES`], which is a bug of the caller.
    pub fn put_new(&mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        self.push(Change::Put {
            key: checked(key.as_ref()),
            value: value.into(),
            is_new: true,
        });
    }

    /// Removes `key`; one that is not there is no error.
    ///
    /// # Panics
    /// When `key` is longer than [`MAX_KEY_BYTES`], which is a bug of the caller.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        let key = checked(key.as_ref());
        self.push(Change::Delete { key });
    }

    /// Removes every key from `first` to `last`, both included, at the cost of one change, however
    /// many there are. What they take is given back to the disk when the log is compacted; that it is
    /// worth it is judged by `bytes`, what they take with their values as far as the caller knows.
    ///
    /// To put a key of such a range costs as much as to delete each key that was in it.
    ///
    /// # Panics
    /// When a key is longer than [`MAX_KEY_BYTES`], which is a bug of the caller.
    pub fn delete_range(&mut self, first: impl AsRef<[u8]>, last: impl AsRef<[u8]>, bytes: u64) {
        let (first, last) = (checked(first.as_ref()), checked(last.as_ref()));
        self.push(Change::DeleteRange { first, last, bytes });
    }

    /// Whoever waits for the batch is in no hurry: it is gathered with others for some hundredths of a
    /// second, as those that nobody waits for, unless one comes that is awaited sooner.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            is_patient: true,
            ..self
        }
    }

    /// Whether it may be gathered with others.
    pub(crate) fn is_patient(&self) -> bool {
        self.is_patient
    }

    /// Whether the batch changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many changes the batch holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// What it changes, in the order in which that was added.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Keys and values together, in bytes: what a group's size is counted in.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
    }
}

fn checked(key: &[u8]) -> Vec<u8> {
    assert!(
        key.len() <= MAX_KEY_BYTES,
        "a key of {} bytes; at most {MAX_KEY_BYTES} are allowed",
        key.len()
    );
    key.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_changes_and_bytes() {
        let mut batch = Batch::new();
        assert!(batch.is_empty());
        batch.put("ab", "cde");
        batch.delete(b"fg");
        assert!(!batch.is_empty());
        assert_eq!((batch.len(), batch.bytes()), (2, 7));
    }

    #[test]
    fn tells_its_changes_in_order() {
        let mut batch = Batch::new();
        batch.put("ab", "cde");
        batch.delete(b"fg");
        batch.delete_range("h", "k", 9);
        let [put, delete, range] = batch.changes() else {
            panic!("{batch:?}");
        };
        assert!(matches!(put, Change::Put { key, .. } if key == b"ab"));
        assert!(matches!(delete, Change::Delete { key } if key == b"fg"));
        assert!(
            matches!(range, Change::DeleteRange { first, last, bytes: 9 }
            if (&first[..], &last[..]) == (b"h", b"k"))
        );
    }

    #[test]
    fn a_map_changes_as_a_store_does() {
        let mut batch = Batch::new();
        for key in ["a", "b", "c", "d"] {
            batch.put(key, key);
        }
        batch.delete_range("b", "c", 4);
        batch.delete("d");
        batch.put("c", "again");
        let mut rows = BTreeMap::new();
        batch
            .changes()
            .iter()
            .for_each(|change| change.apply(&mut rows));
        let expected = [("a", "a"), ("c", "again")];
        let expected = expected.map(|(key, value)| (key.into(), value.into()));
        assert_eq!(rows, expected.into());
    }

    #[test]
    #[should_panic(expected = "a key of 1025 bytes; at most 1024 are allowed")]
    fn a_key_over_the_limit_is_a_callers_bug() {
        Batch::new().delete([0; MAX_KEY_BYTES + 1]);
    }
}
