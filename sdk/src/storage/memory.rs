//! The storage of a client without a folder. Only the outbox is read again while the client lives; of
//! all else it is enough that the engine knows it.

use std::collections::BTreeMap;

use holdfast_protocol::{id::Lane, message::RelayAddress};

use super::{Changes, Helping, StorageError};
use crate::core::{Entry, KnownNetwork, Load, Loaded, Logbook, Mark, Source};

/// The outbox, by lane.
#[derive(Debug, Default)]
pub(crate) struct Memory([Queue; 2]);

#[derive(Debug, Default)]
struct Queue {
    /// The number of the last message that was ever put into it.
    tail: u64,
    entries: BTreeMap<u64, Entry>,
}

impl Memory {
    /// Reads messages of the outbox.
    pub(super) fn load(&self, load: Load) -> Loaded {
        let queue = &self.0[load.lane as usize];
        let mut helping = Helping::default();
        for (seq, entry) in queue.entries.range(load.after + 1..) {
            let bytes = entry.body.len();
            if !helping.has_room(bytes) {
                return helping.loaded(load, seq - 1);
            }
            helping.add(entry.clone(), bytes);
        }
        helping.loaded(load, queue.tail)
    }
}

impl Changes for Memory {
    fn draw(&mut self, lane: Lane) -> Result<u64, StorageError> {
        let queue = &mut self.0[lane as usize];
        queue.tail += 1;
        Ok(queue.tail)
    }

    fn put(&mut self, lane: Lane, entry: &Entry) -> Result<(), StorageError> {
        let queue = &mut self.0[lane as usize];
        queue.entries.insert(entry.seq, entry.clone());
        Ok(())
    }

    fn forget(&mut self, lane: Lane, seq: u64) -> Result<(), StorageError> {
        self.0[lane as usize].entries.remove(&seq);
        Ok(())
    }

    fn mark(&mut self, _: &Mark) -> Result<(), StorageError> {
        Ok(())
    }

    fn unmark(&mut self, _: &Source) -> Result<(), StorageError> {
        Ok(())
    }

    fn log(&mut self, _: &Logbook) -> Result<(), StorageError> {
        Ok(())
    }

    fn learn(&mut self, _: &[KnownNetwork]) -> Result<(), StorageError> {
        Ok(())
    }

    fn remember(&mut self, _: &[RelayAddress]) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::READY_BYTES, storage::tests::append};

    fn append_bulk(memory: &mut Memory, size: usize) -> u64 {
        append(memory, Lane::Bulk, size).unwrap()
    }

    fn load(memory: &Memory, lane: Lane, after: u64) -> (Vec<u64>, u64) {
        let loaded = memory.load(Load {
            lane,
            after,
            session: 1,
        });
        let seqs = loaded.entries.iter().map(|entry| entry.seq).collect();
        (seqs, loaded.through)
    }

    #[test]
    fn a_lane_gives_back_what_was_put_into_it_and_not_forgotten() {
        let mut memory = Memory::default();
        assert_eq!([1; 3].map(|size| append_bulk(&mut memory, size)), [1, 2, 3]);
        memory.forget(Lane::Bulk, 2).unwrap();
        memory.forget(Lane::Message, 3).unwrap();
        assert_eq!(load(&memory, Lane::Bulk, 0), (vec![1, 3], 3));
        assert_eq!(load(&memory, Lane::Bulk, 1), (vec![3], 3));
        assert_eq!(load(&memory, Lane::Message, 0), (vec![], 0));
        memory.forget(Lane::Bulk, 3).unwrap();
        assert_eq!(
            append_bulk(&mut memory, 1),
            4,
            "a number is never drawn twice"
        );
    }

    #[test]
    fn reading_stops_at_a_megabyte_and_at_a_window_and_goes_on_where_it_stopped() {
        let mut memory = Memory::default();
        for size in [2 * READY_BYTES, READY_BYTES - 10, 10, 1] {
            append_bulk(&mut memory, size);
        }
        assert_eq!(load(&memory, Lane::Bulk, 0), (vec![1], 1));
        assert_eq!(load(&memory, Lane::Bulk, 1), (vec![2, 3], 3));
        assert_eq!(load(&memory, Lane::Bulk, 3), (vec![4], 4));
        let more = (0..256).map(|_| append_bulk(&mut memory, 0));
        assert_eq!(more.last(), Some(260));
        let (seqs, through) = load(&memory, Lane::Bulk, 3);
        assert_eq!((seqs.len(), through), (256, 259));
        assert_eq!(load(&memory, Lane::Bulk, 259), (vec![260], 260));
    }
}
