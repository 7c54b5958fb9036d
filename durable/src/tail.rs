//! The end of the log, looked at before sled does.
//!
//! Where the last segments of the log stop making sense sled ends them, and overwrites all that is
//! behind with zeros, as the part of a write that was cut off. If it was damage instead, that would
//! destroy what could be salvaged. A commit that was promised lies before any cut, so a log whose
//! end comes sooner is refused while it is as it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::engine::SEGMENT_BYTES;
use crate::log::{self, Kind, Message};
use crate::rows;
use crate::salvage;

/// A segment's header: `checksum(4) order(8) how far the log is on the disk(8)`.
const HEADER_BYTES: usize = 20;
/// What sled mixes into each number, so that zeros are no header.
const MASK: u64 = i64::MAX as u64;

/// The newest commit that sled will find before it ends the log; 0 when there is none.
pub(crate) fn newest_commit(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (segments, stable) = segments(&mut file)?;
    let first = stable - stable % SEGMENT_BYTES as u64;
    let mut walk = Walk::default();
    for (&order, &at) in segments.range(first..) {
        if !walk.go_through(&segment(&mut file, at)?, order) {
            break;
        }
    }
    let mut newest = walk.newest_whole();
    for (&order, &at) in segments.range(..first).rev() {
        if newest.is_some() {
            break;
        }
        let mut walk = Walk::default();
        walk.go_through(&segment(&mut file, at)?, order);
        newest = walk.newest();
    }
    Ok(newest.unwrap_or(0))
}

/// Where each segment lies, by its place in the order, and how far all say that the log is on the
/// disk.
fn segments(file: &mut File) -> io::Result<(BTreeMap<u64, u64>, u64)> {
    let len = file.metadata()?.len();
    let (mut segments, mut stable) = (BTreeMap::new(), 0);
    for at in (0..len).step_by(SEGMENT_BYTES) {
        let mut header = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.by_ref()
            .take(HEADER_BYTES as u64)
            .read_to_end(&mut header)?;
        if let Some((order, stable_then)) = header_of(&header) {
            segments.insert(order, at);
            stable = stable.max(stable_then);
        }
    }
    Ok((segments, stable))
}

fn header_of(header: &[u8]) -> Option<(u64, u64)> {
    let (checksum, numbers) = header.split_first_chunk()?;
    let (order, stable) = numbers.split_first_chunk()?;
    let right = crc32fast::hash(numbers) ^ u32::MAX == u32::from_le_bytes(*checksum);
    let number = |bytes: [u8; 8]| u64::from_le_bytes(bytes) ^ MASK;
    let stable = number(stable.try_into().ok()?);
    // Nothing was on the disk yet when the first was written.
    let stable = if stable > MASK { 0 } else { stable };
    right.then_some((number(*order), stable))
}

fn segment(file: &mut File, at: u64) -> io::Result<Vec<u8>> {
    let mut segment = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    log::read_segment(file, &mut segment)?;
    Ok(segment)
}

/// A walk from message to message, to where there is no next one.
#[derive(Default)]
struct Walk {
    /// The commits met, each with where the last message of its batch ends.
    commits: Vec<(u64, u64)>,
    batch_end: u64,
    end: u64,
}

impl Walk {
    /// Goes through a segment; false when it ends too soon for another to follow.
    fn go_through(&mut self, segment: &[u8], order: u64) -> bool {
        let mut at = HEADER_BYTES;
        while at + log::RED_ZONE_BYTES <= segment.len() {
            let here = order + at as u64;
            let next = log::message_at(segment, at, 0);
            let Some((message, end)) = next.filter(|(message, _)| is_next(message, here)) else {
                self.end = here;
                return false;
            };
            if message.kind == Kind::Cap {
                break;
            }
            self.meet(&message, &segment[end - message.len..end]);
            at = end;
        }
        self.end = order + segment.len() as u64;
        true
    }

    fn meet(&mut self, message: &Message, body: &[u8]) {
        if message.kind == Kind::Batch {
            self.batch_end = batch_end(body);
        }
        if let Some(commit) = commit_of(message, body) {
            self.commits.push((self.batch_end, commit));
        }
    }

    fn newest(&self) -> Option<u64> {
        self.commits.iter().map(|(_, commit)| *commit).max()
    }

    /// The newest commit of which every message was met.
    fn newest_whole(&self) -> Option<u64> {
        let whole = self.commits.iter().filter(|(end, _)| *end < self.end);
        whole.map(|(_, commit)| *commit).max()
    }
}

fn is_next(message: &Message, here: u64) -> bool {
    message.sound && message.order == here
}

/// Where the last message of a batch ends.
fn batch_end(body: &[u8]) -> u64 {
    body.first_chunk().map_or(0, |end| u64::from_le_bytes(*end))
}

/// The number of the commit that a message writes the census of.
fn commit_of(message: &Message, body: &[u8]) -> Option<u64> {
    let row = salvage::row_of_first_page(message.kind, body, rows::CENSUS)?;
    rows::decode_census(row).ok().map(|census| census.commit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::Census;
    use crate::log::tests::{batch_in, cap_in, link_in};
    use crate::{Batch, Db, OpenError, Options};

    const SEGMENT: u64 = SEGMENT_BYTES as u64;

    /// A segment's header: its place in the order, and how far the log was on the disk then.
    fn header(order: u64, stable: u64) -> Vec<u8> {
        let numbers = [order, stable].map(|number| (number ^ MASK).to_le_bytes());
        let numbers = numbers.concat();
        let checksum = crc32fast::hash(&numbers) ^ u32::MAX;
        [&checksum.to_le_bytes()[..], &numbers].concat()
    }

    /// The change that a commit makes in a segment of this number.
    fn commit_in(number: u8, commit: u64) -> Vec<u8> {
        let (key, row) = rows::census_row(&Census {
            commit,
            ..Census::default()
        });
        let part = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
        link_in(number, 3, &[vec![0], part(&key), part(&row)].concat())
    }

    /// A log of these segments, in this order on the disk, each with its number; all of it was on
    /// the disk when the last in the order was begun, but for what is in that.
    fn log(segments: &[(u8, Vec<Vec<u8>>)]) -> tempfile::NamedTempFile {
        let mut log = Vec::new();
        let stable = segments.iter().map(|(number, _)| *number).max();
        let stable = u64::from(stable.unwrap()) * SEGMENT + 5;
        for (number, messages) in segments {
            let mut segment = header(u64::from(*number) * SEGMENT, stable);
            segment.extend(messages.concat());
            segment.resize(SEGMENT_BYTES, 0);
            log.extend(segment);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        file
    }

    fn newest(segments: &[(u8, Vec<Vec<u8>>)]) -> u64 {
        newest_commit(log(segments).path()).unwrap()
    }

    #[test]
    fn a_header_says_where_its_segment_belongs_and_what_was_on_the_disk() {
        let nothing = -1i64 as u64;
        for (stable, expected) in [
            (0, 0),
            (5 * SEGMENT, 5 * SEGMENT),
            (nothing, 0),
            (MASK, MASK),
        ] {
            let header = header(3 * SEGMENT, stable);
            assert_eq!(header_of(&header), Some((3 * SEGMENT, expected)));
            for at in 0..header.len() {
                let mut damaged = header.clone();
                damaged[at] ^= 1;
                assert_eq!(header_of(&damaged), None, "byte {at}");
            }
        }
    }

    #[test]
    fn the_newest_commit_is_in_the_last_segment_that_has_one() {
        let one = || (0, vec![commit_in(0, 1), commit_in(0, 2), cap_in(0)]);
        let two = || (1, vec![commit_in(1, 3), cap_in(1)]);
        assert_eq!(newest(&[(0, vec![])]), 0);
        assert_eq!(newest(&[one()]), 2);
        assert_eq!(newest(&[one(), two()]), 3);
        assert_eq!(newest(&[two(), one()]), 3);
        assert_eq!(newest(&[one(), two(), (2, vec![cap_in(2)])]), 3);
        assert_eq!(newest(&[(2, vec![]), one(), two()]), 3);
        let unfinished = (1, vec![commit_in(1, 3)]);
        assert_eq!(newest(&[one(), unfinished, (2, vec![])]), 3);
    }

    /// sled's batch counts when its last message is there.
    #[test]
    fn a_commit_of_which_a_message_is_missing_does_not_count() {
        let batch = |last| {
            let commits = vec![commit_in(0, 1), batch_in(0, last), commit_in(0, 2)];
            newest(&[(0, commits)])
        };
        let messages = [commit_in(0, 1), batch_in(0, 0), commit_in(0, 2)];
        let end = (HEADER_BYTES + messages.concat().len()) as u64;
        let last = end - messages[2].len() as u64;
        assert_eq!(batch(last), 2);
        assert_eq!(batch(end), 1, "one more should follow");
        assert_eq!(batch(end + 30), 1);
    }

    #[test]
    fn the_log_ends_at_a_message_that_is_damaged_or_of_an_earlier_use() {
        let mut damaged = commit_in(1, 4);
        *damaged.last_mut().unwrap() ^= 1;
        for ending in [damaged, commit_in(0, 4)] {
            let commits = vec![commit_in(1, 3), ending, commit_in(1, 5)];
            assert_eq!(newest(&[(1, commits)]), 3);
        }
    }

    fn log_of(dir: &Path) -> std::path::PathBuf {
        dir.join("generation-000001").join("db")
    }

    /// A store of ten commits, each of a row in chunks, a large and some small ones.
    fn store(dir: &Path) {
        let db = Db::open(dir, Options::default()).unwrap();
        for number in 0..9u8 {
            let mut batch = Batch::new();
            for (row, len) in [70_000, 30_000, 10, 20, 30].into_iter().enumerate() {
                batch.put([number, row as u8], vec![number; len]);
            }
            db.commit_blocking(batch).unwrap();
        }
        db.close().unwrap();
    }

    #[test]
    fn the_newest_commit_is_found_however_the_rows_of_one_come() {
        for _ in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            store(dir.path());
            assert_eq!(newest_commit(&log_of(dir.path())).unwrap(), 10);
        }
    }

    /// Wherever a bit flips, what could be salvaged before a refusal can be after it.
    #[test]
    fn a_refusal_leaves_what_can_be_salvaged() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let path = log_of(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let salvaged = || {
            let mut rows = Vec::new();
            let report = crate::examine(dir.path(), |key, _| {
                rows.push(key.to_vec());
                Ok(())
            });
            (report.unwrap(), rows)
        };
        let mut refusals = 0;
        for at in (100..whole.len()).step_by(whole.len() / 12) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            let before = salvaged();
            let Err(refusal) = Db::open(dir.path(), Options::default()) else {
                continue;
            };
            assert!(matches!(refusal, OpenError::Behind { promised: 10, .. }));
            assert_eq!(salvaged(), before);
            refusals += 1;
        }
        assert!(refusals > 4, "{refusals} refusals");
    }
}
