//! What rows a damaged log still holds, found without sled and without writing anything.
//!
//! The log's messages are gone through in their order. A page that is written whole replaces all
//! that was known of its range of keys; a change adds or removes one row. So a log without damage
//! gives exactly the rows of the store. Of a damaged message each row counts that its own checksum
//! proves right, under the key it says; what that message removed stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Bound;
use std::path::Path;

use crate::census::Census;
use crate::log::{self, Kind, Message, varint};
use crate::rows;
use crate::value::Framed;

/// The rows of a log, each by where it lies.
pub(crate) struct Salvage {
    file: File,
    rows: BTreeMap<Vec<u8>, Place>,
    /// Rows that are there, but are not what was written, by their keys.
    damaged: BTreeSet<Vec<u8>>,
    /// What the keys of each page begin with, where its rows leave it out.
    prefixes: HashMap<u64, Vec<u8>>,
    /// Pages that were found whole.
    whole: HashSet<u64>,
    /// Changes of pages that were not known by then.
    unplaced: Vec<Message>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    len: usize,
}

/// A page, or as much of it as can be read.
struct Page<'b> {
    low: &'b [u8],
    high: &'b [u8],
    prefix: &'b [u8],
    is_leaf: bool,
    keys: Vec<&'b [u8]>,
    values: Vec<&'b [u8]>,
}

impl Salvage {
    /// Goes through the log at `path`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let messages = log::messages(path)?;
        let mut salvage = Self {
            file: File::open(path)?,
            rows: BTreeMap::new(),
            damaged: BTreeSet::new(),
            prefixes: HashMap::new(),
            whole: HashSet::new(),
            unplaced: Vec::new(),
        };
        for message in &messages {
            salvage.apply(message)?;
        }
        salvage.place_the_rest()?;
        Ok(salvage)
    }

    /// The keys of all rows, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.rows.keys()
    }

    /// The keys under which there is something that was not written, and nothing else.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = &Vec<u8>> {
        let found = |key: &&Vec<u8>| !self.rows.contains_key(*key);
        self.damaged.iter().filter(found)
    }

    /// The row of a key.
    pub(crate) fn row(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let place = self.rows.get(key).copied();
        place.map(|place| self.read(place)).transpose()
    }

    /// What the newest commit in the log says must be there.
    pub(crate) fn census(&mut self) -> io::Result<Option<Census>> {
        let row = self.row(rows::CENSUS)?;
        Ok(row.and_then(|row| rows::decode_census(&row).ok()))
    }

    fn apply(&mut self, message: &Message) -> io::Result<()> {
        if !matches!(message.kind, Kind::Node | Kind::Link) {
            return Ok(());
        }
        let body = self.read(Place {
            at: message.body,
            len: message.len,
        })?;
        match message.kind {
            Kind::Node => self.apply_page(message, &body),
            _ => self.apply_change(message, &body),
        }
        Ok(())
    }

    fn apply_page(&mut self, message: &Message, body: &[u8]) {
        let Some(page) = page(body) else {
            return;
        };
        if !page.is_leaf {
            return;
        }
        self.prefixes.insert(message.page, page.prefix.to_vec());
        if message.sound {
            self.whole.insert(message.page);
            self.forget(page.low, page.high);
        }
        for (suffix, row) in page.keys.iter().zip(&page.values) {
            let key = [page.prefix, suffix].concat();
            self.found(key, row, message.body + offset(body, row));
        }
    }

    fn apply_change(&mut self, message: &Message, body: &[u8]) {
        let Some(prefix) = self.prefixes.get(&message.page) else {
            return self.unplaced.push(*message);
        };
        match change(body) {
            Some((suffix, Some(row))) => {
                let key = [prefix, suffix].concat();
                self.found(key, row, message.body + offset(body, row));
            }
            Some((suffix, None)) if message.sound => {
                let key = [prefix, suffix].concat();
                self.rows.remove(&key);
            }
            _ => {}
        }
    }

    /// Changes of pages that never come whole, because what they change is damaged. The checksum
    /// tells which of all prefixes is the right one.
    fn place_the_rest(&mut self) -> io::Result<()> {
        let unplaced = std::mem::take(&mut self.unplaced);
        let known: BTreeSet<_> = self.prefixes.values().cloned().collect();
        for message in unplaced {
            if self.whole.contains(&message.page) {
                continue;
            }
            let body = self.read(Place {
                at: message.body,
                len: message.len,
            })?;
            let Some((suffix, Some(row))) = change(&body) else {
                continue;
            };
            let keys = known.iter().map(|prefix| [prefix, suffix].concat());
            let right = |key: &Vec<u8>| Framed::decode(key, row).is_ok();
            let key = keys.into_iter().find(right);
            if let Some(key) = key.filter(|key| !self.rows.contains_key(key)) {
                self.found(key, row, message.body + offset(&body, row));
            }
        }
        Ok(())
    }

    fn found(&mut self, key: Vec<u8>, row: &[u8], at: u64) {
        let len = row.len();
        match Framed::decode(&key, row) {
            Ok(_) => drop(self.rows.insert(key, Place { at, len })),
            Err(_) if rows::is_head(&key) => drop(self.damaged.insert(key)),
            Err(_) => {}
        }
    }

    /// Forgets the keys from `low` to before `high`, or to the end when that is empty.
    fn forget(&mut self, low: &[u8], high: &[u8]) {
        let end = match high.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(high),
        };
        if !high.is_empty() && high <= low {
            return;
        }
        let range = self.rows.range::<[u8], _>((Bound::Included(low), end));
        let keys: Vec<_> = range.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.rows.remove(&key);
        }
    }

    /// What lies at a place; past the end of a log that was cut off, zeros, as
    /// [`log::read_segment`] has it.
    fn read(&mut self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(place.len);
        self.file.seek(SeekFrom::Start(place.at))?;
        let file = self.file.by_ref();
        file.take(place.len as u64).read_to_end(&mut bytes)?;
        bytes.resize(place.len, 0);
        Ok(bytes)
    }
}

/// The row of a key in a message about the first page, whose rows have their whole keys.
pub(crate) fn row_of_first_page<'b>(kind: Kind, body: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    match kind {
        Kind::Node => {
            let page = page(body).filter(|page| page.is_leaf && page.low.is_empty())?;
            let mut rows = page.keys.iter().zip(page.values);
            rows.find_map(|(found, row)| (*found == key).then_some(row))
        }
        Kind::Link => change(body).and_then(|(found, row)| row.filter(|_| found == key)),
        _ => None,
    }
}

/// Reads `next, merging child, merging, prefix length, low, high, kind, count, keys, values`. Where
/// that makes no sense any more, it ends.
fn page(mut body: &[u8]) -> Option<Page<'_>> {
    let body = &mut body;
    let (_next, _merging_child) = (varint(body)?, varint(body)?);
    let [_merging, prefix_len] = *body.split_off(..2)? else {
        return None;
    };
    let (low, high) = (bytes(body)?, bytes(body)?);
    let is_leaf = *body.split_off_first()? == 0;
    let count = usize::try_from(varint(body)?).ok()?;
    let keys = take(body, count);
    let values = take(body, keys.len());
    Some(Page {
        low,
        high,
        prefix: low.get(..usize::from(prefix_len))?,
        is_leaf,
        keys,
        values,
    })
}

/// The key and the new row of a change; no row where it is removed.
fn change(mut body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let body = &mut body;
    match body.split_off_first()? {
        0 => Some((bytes(body)?, Some(bytes(body)?))),
        1 => Some((bytes(body)?, None)),
        _ => None,
    }
}

fn take<'b>(body: &mut &'b [u8], count: usize) -> Vec<&'b [u8]> {
    std::iter::from_fn(|| bytes(body)).take(count).collect()
}

fn bytes<'b>(body: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = usize::try_from(varint(body)?).ok()?;
    body.split_off(..len)
}

/// Where in `whole` its `part` begins.
fn offset(whole: &[u8], part: &[u8]) -> u64 {
    (part.as_ptr().addr() - whole.as_ptr().addr()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{link, node, segment};

    /// The kinds of pages.
    const LEAF: u8 = 0;
    const INDEX: u8 = 1;

    fn head(key: &str) -> Vec<u8> {
        rows::head(key.as_bytes())
    }

    fn row(key: &[u8], value: &str) -> Vec<u8> {
        Framed::Whole(value.as_bytes()).encode(key)
    }

    fn with_len(bytes: &[u8]) -> Vec<u8> {
        [&[bytes.len() as u8], bytes].concat()
    }

    /// The body of a leaf for the keys from `low` to before `high`, which leave out what `low` begins
    /// with up to `prefix`.
    fn leaf(low: &[u8], high: &[u8], prefix: usize, rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        page_of(LEAF, low, high, prefix, rows)
    }

    fn page_of(
        kind: u8,
        low: &[u8],
        high: &[u8],
        prefix: usize,
        rows: &[(Vec<u8>, Vec<u8>)],
    ) -> Vec<u8> {
        let keys = rows.iter().map(|(key, _)| with_len(&key[prefix..]));
        let values = rows.iter().map(|(_, row)| with_len(row));
        let mut body = vec![0, 0, 0, prefix as u8];
        body.extend(with_len(low));
        body.extend(with_len(high));
        body.extend([kind, rows.len() as u8]);
        body.extend(keys.chain(values).flatten());
        body
    }

    /// The body of a change.
    fn put(suffix: &[u8], row: &[u8]) -> Vec<u8> {
        [vec![0], with_len(suffix), with_len(row)].concat()
    }

    fn removed(suffix: &[u8]) -> Vec<u8> {
        [vec![1], with_len(suffix)].concat()
    }

    /// Heads, each with a row of the value.
    fn rows_of<const N: usize>(rows: [(&str, &str); N]) -> [(Vec<u8>, Vec<u8>); N] {
        rows.map(|(key, value)| (head(key), row(&head(key), value)))
    }

    /// The last byte of a message is not what was written.
    fn damaged(mut message: Vec<u8>) -> Vec<u8> {
        *message.last_mut().unwrap() ^= 1;
        message
    }

    fn salvage(messages: &[Vec<u8>]) -> Salvage {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), segment(&[&messages.concat()])).unwrap();
        Salvage::of(log.path()).unwrap()
    }

    /// Asserts what is found: these rows and no others, each as it was written.
    fn assert_found<const N: usize>(mut salvage: Salvage, rows: [(&str, &str); N]) {
        let keys: Vec<_> = salvage.keys().cloned().collect();
        let found = keys.into_iter().map(|key| {
            let row = salvage.row(&key).unwrap().unwrap();
            (key, row)
        });
        assert_eq!(found.collect::<Vec<_>>(), rows_of(rows));
    }

    #[test]
    fn a_page_and_its_changes_give_the_rows() {
        let page = leaf(b"", b"", 0, &rows_of([("a", "1"), ("b", "2"), ("c", "3")]));
        let salvage = salvage(&[
            node(7, &page),
            link(7, &put(&head("d"), &row(&head("d"), "4"))),
            link(7, &removed(&head("a"))),
            link(7, &put(&head("b"), &row(&head("b"), "two"))),
        ]);
        assert_eq!(salvage.damaged().count(), 0);
        assert_found(salvage, [("b", "two"), ("c", "3"), ("d", "4")]);
    }

    #[test]
    fn a_change_is_of_a_key_that_begins_as_its_page_says() {
        let rows = rows_of([("ax", "1"), ("ay", "2")]);
        let salvage = salvage(&[
            node(7, &leaf(&head("a"), b"", 2, &rows)),
            link(7, &put(b"z", &row(&head("az"), "3"))),
            link(7, &removed(b"x")),
        ]);
        assert_found(salvage, [("ay", "2"), ("az", "3")]);
    }

    /// sled splits a page by writing both halves.
    #[test]
    fn a_page_takes_the_place_of_its_range_and_of_nothing_beside_it() {
        let all = rows_of([("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        let first = node(7, &leaf(b"", b"", 0, &all));
        let middle = leaf(&head("b"), &head("d"), 0, &rows_of([("c", "three")]));
        let found = salvage(&[first.clone(), node(8, &middle)]);
        assert_found(found, [("a", "1"), ("c", "three"), ("d", "4")]);
        let last = leaf(&head("c"), b"", 0, &[]);
        let found = salvage(&[first.clone(), node(8, &last)]);
        assert_found(found, [("a", "1"), ("b", "2")]);
        for high in ["a", "b"] {
            let senseless = leaf(&head("b"), &head(high), 0, &[]);
            let found = salvage(&[first.clone(), node(8, &senseless)]);
            assert_eq!(found.keys().count(), 4);
        }
    }

    #[test]
    fn what_is_no_leaf_has_no_rows() {
        let leaf = leaf(b"", b"", 0, &rows_of([("a", "1")]));
        let index = page_of(INDEX, b"", b"", 0, &rows_of([("b", "2")]));
        assert_found(salvage(&[node(7, &leaf), node(8, &index)]), [("a", "1")]);
    }

    #[test]
    fn of_a_damaged_page_each_row_counts_that_is_right() {
        let whole = leaf(b"", b"", 0, &rows_of([("a", "1"), ("c", "3")]));
        let newer = leaf(b"", b"", 0, &rows_of([("b", "2"), ("c", "three")]));
        let found = salvage(&[node(7, &whole), damaged(node(7, &newer))]);
        assert_eq!(found.damaged().count(), 0, "there is an older row");
        assert_found(found, [("a", "1"), ("b", "2"), ("c", "3")]);
        let found = salvage(&[damaged(node(7, &newer))]);
        assert_eq!(found.damaged().collect::<Vec<_>>(), [&head("c")]);
        assert_found(found, [("b", "2")]);
    }

    #[test]
    fn a_row_that_was_not_written_is_told_of_when_its_key_is_the_users() {
        let (chunk, own) = (vec![2, b'a'], vec![0, b'a']);
        let garbage = |key: Vec<u8>| (key, b"garbage".to_vec());
        let rows = [garbage(own), garbage(head("a")), garbage(chunk)];
        let found = salvage(&[node(7, &leaf(b"", b"", 0, &rows))]);
        assert_eq!(found.damaged().collect::<Vec<_>>(), [&head("a")]);
        assert_found(found, []);
    }

    #[test]
    fn a_damaged_removal_removes_nothing() {
        let page = leaf(b"", b"", 0, &rows_of([("a", "1"), ("b", "2")]));
        let removal = link(7, &removed(&head("a")));
        let mut unsound = removal.clone();
        unsound[0] ^= 1;
        let page = node(7, &page);
        assert_found(salvage(&[page.clone(), unsound]), [("a", "1"), ("b", "2")]);
        assert_found(salvage(&[page, removal]), [("b", "2")]);
    }

    /// Pages 8 and 9 are lost but for their changes; what all keys of theirs begin with is known of
    /// another page.
    #[test]
    fn a_change_of_a_page_that_is_lost_finds_its_key_by_its_checksum() {
        let rows = rows_of([("ab", "1"), ("ac", "2")]);
        let found = salvage(&[
            link(8, &put(b"c", &row(&head("ac"), "older"))),
            link(9, &put(b"d", &row(&head("ad"), "4"))),
            link(9, &put(b"e", &row(&head("be"), "of another prefix"))),
            link(9, &removed(b"b")),
            node(7, &leaf(&head("a"), b"", 2, &rows)),
        ]);
        assert_eq!(found.damaged().count(), 0);
        assert_found(found, [("ab", "1"), ("ac", "2"), ("ad", "4")]);
    }

    #[test]
    fn a_change_from_before_its_page_came_whole_is_in_the_page() {
        let rows = rows_of([("ab", "1")]);
        let found = salvage(&[
            link(7, &put(b"c", &row(&head("ac"), "removed since"))),
            node(7, &leaf(&head("a"), b"", 2, &rows)),
        ]);
        assert_found(found, [("ab", "1")]);
    }

    #[test]
    fn the_first_page_is_looked_through_for_a_key() {
        let rows = rows_of([("a", "1"), ("b", "2")]);
        let (key, wanted) = &rows[1];
        let found =
            |kind, body: &[u8]| row_of_first_page(kind, body, key).is_some_and(|row| row == wanted);
        assert!(found(Kind::Node, &leaf(b"", b"", 0, &rows)));
        assert!(!found(Kind::Node, &leaf(&head(""), b"", 0, &rows)));
        assert!(found(Kind::Link, &put(key, wanted)));
        assert!(!found(Kind::Link, &put(&head("c"), wanted)));
        assert!(!found(Kind::Link, &removed(key)));
        assert!(!found(Kind::Other, &put(key, wanted)));
    }
}
