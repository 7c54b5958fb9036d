//! The one thread that writes: takes what waits, applies it, flushes once, answers everybody.
//!
//! A sync costs the same for one commit as for hundreds. While one runs, the next group gathers in
//! the queue, so that the load itself sets the group's size. Nobody is answered before the flush
//! has returned; when it fails, nobody is answered at all, and the process stops ([`fault::stop`]).

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::census::Census;
use crate::compaction::{COPY_ROOM, Compaction, Moving};
use crate::engine::{self, Engine};
use crate::error::CloseError;
use crate::fault;
use crate::gone::Gone;
use crate::group::Group;
use crate::queue::{Done, Entry, Limits, Queue, Taken};
use crate::readers::Readers;
use crate::watermark::Watermark;

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Groups that were flushed.
    pub groups: u64,
    /// Batches that were applied, waited for or not.
    pub batches: u64,
    /// The time all flushes took together.
    pub flush_time: Duration,
    /// The time the last flush took.
    pub last_flush_time: Duration,
    /// What all of the store's files take on the disk, in bytes.
    pub disk_bytes: u64,
    /// What is live in them: keys and values with what is stored beside them, in bytes.
    pub live_bytes: u64,
    /// The number of the folder the rows lie in.
    pub generation: u64,
    /// How often the live rows were copied into a new one since the store was opened.
    pub compactions: u64,
}

impl Stats {
    /// How much of the disk has to be free for the store to give back what its log has outgrown, in bytes.
    #[must_use]
    pub fn copy_room(&self) -> u64 {
        self.live_bytes.saturating_mul(COPY_ROOM)
    }
}

/// What the thread owns.
pub(crate) struct Committer {
    pub(crate) engine: Engine,
    pub(crate) queue: Arc<Queue>,
    pub(crate) limits: Limits,
    pub(crate) compaction: Compaction,
    pub(crate) moving: Moving,
    pub(crate) cache_bytes: u64,
    pub(crate) watermark: Watermark,
    pub(crate) census: Census,
    pub(crate) gone: Arc<RwLock<Gone>>,
    pub(crate) stats: Arc<Mutex<Stats>>,
    pub(crate) readers: Arc<Readers>,
    /// Held as long as anything is written; let go last.
    pub(crate) _lock: Arc<File>,
}

impl Committer {
    /// Works until the queue is closed and empty. A panic, sled's or a callback's, would leave
    /// everyone else waiting for ever, and stops the process instead.
    pub(crate) fn run(self) -> Result<(), CloseError> {
        match engine::caught(|| self.work()) {
            Ok(closed) => closed,
            Err(panic) => fault::stop("the committer failed", &panic),
        }
    }

    fn work(mut self) -> Result<(), CloseError> {
        let mut rested = false;
        loop {
            let patience = self.moving.patience(&self.compaction, rested);
            match self.queue.take(self.limits, patience) {
                Taken::Closed => break,
                Taken::Nothing => rested = true,
                Taken::Group(entries) => {
                    rested = false;
                    self.settle(entries);
                }
            }
            self.compact(rested);
        }
        self.end_move();
        self.flush();
        self.watermark
            .sync()
            .map_err(|error| CloseError::Watermark {
                path: self.watermark.path().to_owned(),
                reason: error.to_string(),
            })
    }

    /// Makes one group durable, and says so. Without anybody who waits, the next flush will do.
    fn settle(&mut self, entries: Vec<Entry>) {
        let waiting = self.apply(entries);
        if waiting.is_empty() {
            return;
        }
        self.flush();
        waiting.into_iter().for_each(|done| done());
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Vec<Done> {
        self.stats.lock().batches += entries.len() as u64;
        let gone = self.gone.read();
        let mut group = Group::new(self.engine.rows(), &gone, self.census);
        let mut waiting = Vec::with_capacity(entries.len());
        for Entry { batch, done } in entries {
            must("a batch could not be prepared", group.add(batch));
            waiting.extend(done);
        }
        let commit = group.finish();
        drop(gone);
        must(
            "a group could not be applied",
            commit.apply(self.engine.rows()),
        );
        self.mirror(&commit);
        self.census = commit.census();
        self.gone.write().apply(commit.into_ranges());
        waiting
    }

    fn flush(&mut self) {
        let started = Instant::now();
        must("a group could not be flushed", self.engine.flush());
        self.count_flush(started.elapsed());
        if let Err(error) = self.watermark.raise(self.census.commit) {
            let path = self.watermark.path().display();
            tracing::error!(%error, %path, "the promised commit number could not be written; the next open checks less");
        }
    }

    fn count_flush(&self, took: Duration) {
        let mut stats = self.stats.lock();
        stats.groups += 1;
        stats.flush_time += took;
        stats.last_flush_time = took;
        stats.live_bytes = self.live_bytes();
    }
}

fn must<T>(what: &str, outcome: sled::Result<T>) -> T {
    outcome.unwrap_or_else(|error| fault::stop(what, &error))
}
