//! What one commit changes: puts and deletes that apply together or not at all.

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

/// One key and what becomes of it: a new value, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Bytes>,
    /// Whether the key is known to be absent.
    pub(crate) is_new: bool,
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
        self.push(key.as_ref(), Some(value.into()), false);
    }

    /// Like [`put`](Self::put), for a key that is not there when the batch is applied, which saves
    /// looking for what it replaces. If it is there after all, the store miscounts its rows, and the
    /// next open takes it for damaged.
    ///
    /// # Panics
    /// When `key` is longer than [`MAX_KEY_BYTES`], which is a bug of the caller.
    pub fn put_new(&mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        self.push(key.as_ref(), Some(value.into()), true);
    }

    /// Removes `key`; one that is not there is no error.
    ///
    /// # Panics
    /// When `key` is longer than [`MAX_KEY_BYTES`], which is a bug of the caller.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.push(key.as_ref(), None, false);
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

    /// What becomes of each key, in the order they were added: a new value, or none.
    pub fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&Bytes>)> {
        let changes = self.changes.iter();
        changes.map(|change| (change.key.as_slice(), change.value.as_ref()))
    }

    /// Keys and values together, in bytes: what a group's size is counted in.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    fn push(&mut self, key: &[u8], value: Option<Bytes>, is_new: bool) {
        assert!(
            key.len() <= MAX_KEY_BYTES,
            "a key of {} bytes; at most {MAX_KEY_BYTES} are allowed",
            key.len()
        );
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        let key = key.to_vec();
        self.changes.push(Change { key, value, is_new });
    }
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
        let value = Bytes::from("cde");
        let changes: Vec<_> = batch.changes().collect();
        assert_eq!(changes, [(&b"ab"[..], Some(&value)), (b"fg", None)]);
    }

    #[test]
    #[should_panic(expected = "a key of 1025 bytes; at most 1024 are allowed")]
    fn a_key_over_the_limit_is_a_callers_bug() {
        Batch::new().delete([0; MAX_KEY_BYTES + 1]);
    }
}
