//! What waits for the committer: batches, each with the one who waits for it, in order.
//!
//! The queue itself has no bound: whoever commits knows how much it has in flight, and what to do
//! about it. What one group takes is bounded here, in batches and in bytes.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::batch::Batch;
use crate::error::Closed;

/// A group stops growing when it holds this many bytes of keys and values. Half a segment: enough
/// that a sync is cheap beside the writing, little enough that readers, who wait while a group is
/// applied, wait milliseconds.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Called when a batch is durable.
pub(crate) type Done = Box<dyn FnOnce() + Send>;

/// A batch, and who waits for it, if anybody does.
pub(crate) struct Entry {
    pub(crate) batch: Batch,
    pub(crate) done: Option<Done>,
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
    closed: bool,
}

impl Queue {
    /// Adds an entry behind all others, unless the queue is closed.
    pub(crate) fn push(&self, entry: Entry) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        state.entries.push_back(entry);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets nothing more in; what is in is still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next group, as soon as there is one; none when the queue is closed and empty.
    pub(crate) fn take(&self, limits: Limits) -> Option<Vec<Entry>> {
        let mut state = self.state.lock();
        while state.entries.is_empty() {
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
        if !limits.max_wait.is_zero() {
            self.await_company(&mut state, limits);
        }
        Some(state.next_group(limits.max_group))
    }

    fn await_company(&self, state: &mut parking_lot::MutexGuard<'_, State>, limits: Limits) {
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
            return mem::take(&mut self.entries).into();
        }
        self.entries.drain(..count).collect()
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
