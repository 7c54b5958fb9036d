//! What waits for the committer: batches, each with the one who waits for it, in order.
//!
//! The queue itself has no bound: whoever commits knows how much it has in flight, and what to do
//! about it. What one group takes is bounded here, in batches and in bytes.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::batch::Batch;
use crate::error::Closed;

/// A group stops growing when it holds this many bytes of keys and values. Half a segment: enough
/// that a sync is cheap beside the writing, little enough that readers, who wait while a group is
/// applied, wait milliseconds.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// How long batches that nobody waits for are gathered: the more of them become one change, the less
/// of it is written, and a device that fetches its mail has it deleted a few messages at a time.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// Called when a batch is durable.
pub(crate) type Done = Box<dyn FnOnce() + Send>;

/// A batch, and who waits for it, if anybody does.
pub(crate) struct Entry {
    pub(crate) batch: Batch,
    pub(crate) done: Option<Done>,
}

impl Entry {
    /// Whether it is to be written as soon as it can be.
    fn is_urgent(&self) -> bool {
        self.done.is_some() && !self.batch.is_patient()
    }
}

/// What the queue has for the committer.
pub(crate) enum Taken {
    Group(Vec<Entry>),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

/// The limits of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_group: usize,
    pub(crate) max_wait: Duration,
}

/// The entries that wait, and the committer waiting for them.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// How many of them somebody waits for who is in a hurry.
    urgent: usize,
    closed: bool,
    /// With so many entries the committer is to be woken, whoever waits for them.
    enough: usize,
}

impl Queue {
    /// Adds an entry behind all others, unless the queue is closed.
    pub(crate) fn push(&self, entry: Entry) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        let is_urgent = entry.is_urgent();
        state.urgent += usize::from(is_urgent);
        state.entries.push_back(entry);
        let is_due = is_urgent || state.entries.len() >= state.enough;
        drop(state);
        if is_due {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Lets nothing more in; what is in is still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next group, as soon as there is one, if that is within `patience`; without, it waits for
    /// ever.
    pub(crate) fn take(&self, limits: Limits, patience: Option<Duration>) -> Taken {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state.lock();
        state.enough = 1;
        while state.entries.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            if !self.wait(&mut state, deadline) {
                return Taken::Nothing;
            }
        }
        state.enough = limits.max_group;
        let gathered = Instant::now() + GATHERED_FOR;
        self.gather(
            &mut state,
            deadline.map_or(gathered, |most| most.min(gathered)),
        );
        if !limits.max_wait.is_zero() {
            self.await_company(&mut state, limits);
        }
        Taken::Group(state.next_group(limits.max_group))
    }

    /// Waits for a change; false when the deadline came first.
    fn wait(&self, state: &mut MutexGuard<'_, State>, deadline: Option<Instant>) -> bool {
        match deadline {
            Some(deadline) => !self.changed.wait_until(state, deadline).timed_out(),
            None => {
                self.changed.wait(state);
                true
            }
        }
    }

    /// Waits until there is something that somebody waits for, or enough of what nobody does.
    fn gather(&self, state: &mut MutexGuard<'_, State>, deadline: Instant) {
        while state.urgent == 0 && !state.closed && state.entries.len() < state.enough {
            if !self.wait(state, Some(deadline)) {
                return;
            }
        }
    }

    fn await_company(&self, state: &mut MutexGuard<'_, State>, limits: Limits) {
        let deadline = Instant::now() + limits.max_wait;
        while !state.closed && state.entries.len() < limits.max_group {
            if self.changed.wait_until(state, deadline).timed_out() {
                return;
            }
        }
    }
}

impl State {
    fn next_group(&mut self, max_group: usize) -> Vec<Entry> {
        let count = self.group_len(max_group);
        if count == self.entries.len() {
            self.urgent = 0;
            return mem::take(&mut self.entries).into();
        }
        let group: Vec<Entry> = self.entries.drain(..count).collect();
        self.urgent -= group.iter().filter(|entry| entry.is_urgent()).count();
        group
    }

    /// At least one entry, and no more than the limits allow.
    fn group_len(&self, max_group: usize) -> usize {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.batch.bytes();
            bytes <= MAX_GROUP_BYTES
        };
        self.entries
            .iter()
            .take(max_group)
            .take_while(fits)
            .count()
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_group: 3,
        max_wait: Duration::ZERO,
    };

    fn entry(bytes: usize) -> Entry {
        let mut batch = Batch::new();
        batch.put("", vec![0; bytes]);
        Entry { batch, done: None }
    }

    fn queue(sizes: &[usize]) -> Queue {
        let queue = Queue::default();
        sizes
            .iter()
            .for_each(|bytes| queue.push(entry(*bytes)).unwrap());
        queue.close();
        queue
    }

    /// The sizes of the entries of each group.
    fn groups(queue: &Queue) -> Vec<Vec<usize>> {
        let sizes = |group: Vec<Entry>| group.iter().map(|entry| entry.batch.bytes()).collect();
        std::iter::from_fn(|| group(queue)).map(sizes).collect()
    }

    fn group(queue: &Queue) -> Option<Vec<Entry>> {
        match queue.take(LIMITS, None) {
            Taken::Group(group) => Some(group),
            Taken::Nothing | Taken::Closed => None,
        }
    }

    #[test]
    fn a_group_holds_no_more_batches_than_allowed() {
        assert_eq!(
            groups(&queue(&[1, 2, 3, 4, 5])),
            [vec![1, 2, 3], vec![4, 5]]
        );
    }

    #[test]
    fn a_group_holds_no_more_bytes_than_allowed_but_always_one_batch() {
        const MAX: usize = MAX_GROUP_BYTES;
        let queue = queue(&[MAX - 1, 1, 1, MAX + 1, 1]);
        assert_eq!(
            groups(&queue),
            [vec![MAX - 1, 1], vec![1], vec![MAX + 1], vec![1]]
        );
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_no_more() {
        let queue = queue(&[1]);
        assert_eq!(queue.push(entry(2)), Err(Closed));
        assert_eq!(groups(&queue), [[1]]);
        assert!(matches!(queue.take(LIMITS, None), Taken::Closed));
    }

    #[test]
    fn patience_ends() {
        let queue = Queue::default();
        let patience = Some(Duration::ZERO);
        assert!(matches!(queue.take(LIMITS, patience), Taken::Nothing));
        queue.push(entry(1)).unwrap();
        assert!(matches!(queue.take(LIMITS, patience), Taken::Group(_)));
    }

    #[test]
    fn what_nobody_waits_for_is_gathered_until_somebody_waits() {
        let queue = Queue::default();
        (0..2).for_each(|bytes| queue.push(entry(bytes)).unwrap());
        let begun = Instant::now();
        assert_eq!(group(&queue).unwrap().len(), 2);
        assert!(begun.elapsed() >= GATHERED_FOR);
        queue.push(entry(1)).unwrap();
        let awaited = Entry {
            done: Some(Box::new(|| {})),
            ..entry(2)
        };
        queue.push(awaited).unwrap();
        let mut state = queue.state.lock();
        queue.gather(&mut state, Instant::now() + Duration::MAX / 4);
        drop(state);
        assert_eq!(group(&queue).unwrap().len(), 2);
        assert_eq!(queue.state.lock().urgent, 0);
    }

    #[test]
    fn what_is_awaited_patiently_is_gathered_too() {
        let queue = Queue::default();
        let begun = Instant::now();
        for bytes in 0..2 {
            let Entry { batch, .. } = entry(bytes);
            let (batch, done) = (batch.patient(), Some(Box::new(|| {}) as Done));
            queue.push(Entry { batch, done }).unwrap();
        }
        assert_eq!(group(&queue).unwrap().len(), 2);
        assert!(begun.elapsed() >= GATHERED_FOR);
    }

    #[test]
    fn what_nobody_waits_for_is_gathered_until_there_is_enough() {
        let queue = Queue::default();
        (0..4).for_each(|bytes| queue.push(entry(bytes)).unwrap());
        let mut state = queue.state.lock();
        state.enough = 4;
        queue.gather(&mut state, Instant::now() + Duration::MAX / 4);
        drop(state);
        assert_eq!(group(&queue).unwrap().len(), LIMITS.max_group);
    }

    #[test]
    fn a_group_that_waits_is_complete_when_it_is_full() {
        let queue = Queue::default();
        (0..3).for_each(|bytes| queue.push(entry(bytes)).unwrap());
        let limits = Limits {
            max_wait: Duration::MAX / 4,
            ..LIMITS
        };
        let taken = queue.take(limits, None);
        assert!(matches!(taken, Taken::Group(group) if group.len() == 3));
    }

    #[test]
    fn a_group_that_is_not_full_waits_for_company_as_long_as_it_may() {
        let queue = Queue::default();
        queue.push(entry(1)).unwrap();
        let limits = Limits {
            max_wait: Duration::from_millis(20),
            ..LIMITS
        };
        let begun = Instant::now();
        let taken = queue.take(limits, None);
        assert!(matches!(taken, Taken::Group(group) if group.len() == 1));
        assert!(begun.elapsed() >= limits.max_wait);
    }
}
