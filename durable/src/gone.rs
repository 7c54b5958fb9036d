//! Ranges of keys that were deleted at once.
//!
//! To delete a row costs as much as to write it. Of a range only its ends are written down; its rows
//! stay in the tree, where no reader comes upon them, until the store moves into a new generation,
//! which takes none of them along. When a key in a range is written again, all of the range's rows
//! are removed first.
//!
//! The ranges are apart from each other, and are known by their first keys. Keys here are row keys of
//! heads.

use std::collections::BTreeMap;
use std::ops::Bound;

use sled::Tree;

use crate::census::Share;
use crate::error::ReadError;
use crate::rows;

/// More are not kept, as they are in memory: what is deleted then is deleted row by row.
pub(crate) const MAX_RANGES: usize = 100_000;

/// Ranges of keys that are not there any more.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    ranges: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the rows in them take, as far as is known.
    bytes: u64,
}

/// What a commit changes of them.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The last key of each range that is new or another one, by its first; none of one that ends.
    ranges: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What the rows in new ranges take.
    buried: u64,
    /// What the rows that were removed after all took.
    unearthed: u64,
}

/// The first and the last key of a range.
pub(crate) type Range = (Vec<u8>, Vec<u8>);

impl Gone {
    /// The ranges that are written down in the tree.
    pub(crate) fn read(tree: &Tree) -> Result<Self, ReadError> {
        let mut gone = Self::default();
        for found in rows::ranges(tree) {
            let (first, last) = found?;
            gone.ranges.insert(first, last);
        }
        Ok(gone)
    }

    /// Ranges that were found elsewhere.
    pub(crate) fn of(ranges: impl Iterator<Item = Range>) -> Self {
        Self {
            ranges: ranges.collect(),
            bytes: 0,
        }
    }

    /// The same, where what the rows in them take is known from elsewhere.
    pub(crate) fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// What the rows in them take, in bytes, as far as is known.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A row was found in one of them.
    pub(crate) fn count(&mut self, share: Share) {
        self.bytes += share.bytes;
    }

    /// The range that holds a key.
    pub(crate) fn around(&self, head: &[u8]) -> Option<(&[u8], &[u8])> {
        let (first, last) = self.ranges.range::<[u8], _>(up_to(head)).next_back()?;
        (head <= last.as_slice()).then_some((first, last))
    }

    /// Whether a key is in one of them.
    pub(crate) fn holds(&self, head: &[u8]) -> bool {
        self.around(head).is_some()
    }

    /// All of them, by their first keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.ranges.iter()
    }

    /// Makes a commit's changes, once the tree has them.
    pub(crate) fn apply(&mut self, changes: Changes) {
        for (first, last) in changes.ranges {
            match last {
                Some(last) => self.ranges.insert(first, last),
                None => self.ranges.remove(&first),
            };
        }
        self.bytes = (self.bytes + changes.buried).saturating_sub(changes.unearthed);
    }
}

impl Changes {
    /// Whether rows were removed that had been passed over.
    pub(crate) fn unearthed(&self) -> bool {
        self.unearthed > 0
    }

    /// The range that holds a key, on top of what was there before.
    pub(crate) fn around(&self, gone: &Gone, head: &[u8]) -> Option<Range> {
        let mut before = self.ranges.range::<[u8], _>(up_to(head)).rev();
        let nearest = before.find_map(|(first, last)| last.as_ref().map(|last| (first, last)));
        if let Some((first, last)) = nearest.filter(|(_, last)| head <= last.as_slice()) {
            return Some((first.clone(), last.clone()));
        }
        let (first, last) = gone.around(head)?;
        (!self.ranges.contains_key(first)).then(|| (first.to_owned(), last.to_owned()))
    }

    /// Ranges that reach into this one, on top of what was there before.
    pub(crate) fn within(&self, gone: &Gone, (first, last): &Range) -> Vec<Range> {
        let begin_within = (
            Bound::Included(first.as_slice()),
            Bound::Included(last.as_slice()),
        );
        let changed = self.ranges.range::<[u8], _>(begin_within);
        let changed = changed.filter_map(|(first, last)| Some((first.clone(), last.clone()?)));
        let others = gone.ranges.range::<[u8], _>(begin_within);
        let others = others.filter(|(first, _)| !self.ranges.contains_key(*first));
        let others = others.map(|(first, last)| (first.clone(), last.clone()));
        self.around(gone, first)
            .filter(|(begin, _)| begin < first)
            .into_iter()
            .chain(changed)
            .chain(others)
            .collect()
    }

    /// A range is gone, whose rows take so much.
    pub(crate) fn bury(&mut self, (first, last): Range, bytes: u64) {
        self.ranges.insert(first, Some(last));
        self.buried += bytes;
    }

    /// A range ends.
    pub(crate) fn end(&mut self, first: Vec<u8>) {
        self.ranges.insert(first, None);
    }

    /// A row that was in a range is removed.
    pub(crate) fn unearth(&mut self, share: Share) {
        self.unearthed += share.bytes;
    }
}

fn up_to(head: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u8, last: u8) -> Range {
        (vec![first], vec![last])
    }

    fn gone(ranges: &[(u8, u8)]) -> Gone {
        Gone::of(ranges.iter().map(|(first, last)| range(*first, *last)))
    }

    #[test]
    fn a_range_holds_its_ends_and_what_is_between() {
        let gone = gone(&[(10, 20), (30, 30)]);
        for held in [10, 15, 20, 30] {
            assert!(gone.holds(&[held]), "{held}");
        }
        for apart in [9, 21, 29, 31] {
            assert!(!gone.holds(&[apart]), "{apart}");
        }
        assert!(gone.holds(&[15, 1]) && !gone.holds(&[20, 1]));
    }

    #[test]
    fn changes_are_seen_on_top_of_what_was_there() {
        let mut gone = gone(&[(10, 20), (30, 40)]);
        let mut changes = Changes::default();
        changes.end(vec![10]);
        changes.bury(range(5, 15), 100);
        let around = |key: u8| changes.around(&gone, &[key]);
        assert_eq!(around(12), Some(range(5, 15)));
        assert_eq!(around(18), None);
        assert_eq!(around(35), Some(range(30, 40)));
        assert_eq!(gone.around(&[18]), Some((&[10][..], &[20][..])));
        gone.apply(changes);
        assert_eq!((gone.len(), gone.bytes()), (2, 100));
        assert!(!gone.holds(&[18]) && gone.holds(&[5]));
    }

    #[test]
    fn what_reaches_into_a_range_is_found_wherever_it_begins() {
        let gone = gone(&[(10, 20), (30, 40), (50, 60), (80, 90)]);
        let mut changes = Changes::default();
        changes.end(vec![50]);
        changes.bury(range(70, 75), 1);
        let within = |first, last| changes.within(&gone, &range(first, last));
        assert_eq!(within(15, 30), [range(10, 20), range(30, 40)]);
        assert_eq!(within(10, 10), [range(10, 20)]);
        assert_eq!(within(41, 79), [range(70, 75)]);
        assert_eq!(within(21, 29), []);
    }

    #[test]
    fn what_rows_take_that_are_found_in_a_range_adds_up() {
        let mut gone = gone(&[(10, 20)]).with_bytes(50);
        gone.count(Share { sum: 1, bytes: 70 });
        assert_eq!((gone.len(), gone.bytes()), (1, 120));
    }

    #[test]
    fn what_is_unearthed_is_gone_no_more() {
        let mut gone = gone(&[(10, 20)]).with_bytes(50);
        let mut changes = Changes::default();
        assert!(!changes.unearthed());
        changes.unearth(Share { sum: 1, bytes: 70 });
        assert!(changes.unearthed());
        changes.end(vec![10]);
        gone.apply(changes);
        assert_eq!((gone.len(), gone.bytes()), (0, 0));
    }
}
