//! The handle: open, read, commit, close.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::batch::Batch;
use crate::committer::{Committer, Stats};
use crate::compaction::{Compaction, Moving};
use crate::disk;
use crate::error::{CloseError, Closed, OpenError, ReadError};
use crate::opening::{self, Opened};
use crate::priority;
use crate::queue::{Entry, Limits, Queue};
use crate::readers::{Readers, Rows};
use crate::rows;
use crate::scan::{self, Scan};

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How much of the store sled keeps in memory, in bytes.
    pub cache_bytes: u64,
    /// The most batches that share one flush; at least 1.
    pub max_group: usize,
    /// How long a group waits for company before it is flushed. Zero, the default, is not without
    /// groups: whatever is queued during one flush is the next group.
    pub max_wait: Duration,
    /// When the log is compacted.
    pub compaction: Compaction,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            max_group: 512,
            max_wait: Duration::ZERO,
            compaction: Compaction::default(),
        }
    }
}

/// A store: ordered keys and values on the disk.
///
/// A clone is another handle on the same store. Reads see what has been applied, not what is still
/// queued: a batch is visible at the latest when its `done` is called, and may be a moment earlier,
/// before it is durable. The last handle that is dropped closes the store, without a word about
/// what went wrong; call [`close`](Self::close) to hear it.
///
/// # When the disk fails
/// A write or a sync that fails stops the process with [`std::process::abort`], after saying so in
/// the log and on standard error: no commit in flight is answered, all that were answered are
/// kept. A library that returned an error here could promise nothing afterwards.
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    queue: Arc<Queue>,
    stats: Arc<Mutex<Stats>>,
    committer: Mutex<Option<JoinHandle<Result<(), CloseError>>>>,
    readers: Arc<Readers>,
}

impl Db {
    /// Opens the store in the directory `dir`, or makes a new one there.
    ///
    /// # Errors
    /// When the store is in use, damaged or incomplete, or the system refuses; see [`OpenError`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        priority::aside(|| Self::start(dir, &options))
            .map_err(OpenError::io("start a thread to open", dir))?
    }

    /// Opens it, and starts its committer.
    fn start(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let Opened {
            engine,
            watermark,
            census,
            gone,
            lock,
        } = opening::open(dir, options)?;
        let lock = Arc::new(lock);
        let gone = Arc::new(RwLock::new(gone));
        let queue = Arc::new(Queue::default());
        let stats = Arc::new(Mutex::new(Stats {
            live_bytes: census.share.bytes.saturating_sub(gone.read().bytes()),
            generation: engine.generation().number(),
            ..Stats::default()
        }));
        let rows = Rows {
            tree: engine.rows().clone(),
            gone: Arc::clone(&gone),
        };
        let readers = Arc::new(Readers::new(rows, Arc::clone(&lock)));
        let committer = Committer {
            engine,
            queue: Arc::clone(&queue),
            limits: Limits {
                max_group: options.max_group.max(1),
                max_wait: options.max_wait,
            },
            compaction: options.compaction,
            moving: Moving::default(),
            cache_bytes: options.cache_bytes,
            watermark,
            census,
            gone,
            stats: Arc::clone(&stats),
            readers: Arc::clone(&readers),
            _lock: lock,
        };
        let thread = thread::Builder::new().name("committer".to_owned());
        let committer = thread
            .spawn(move || committer.run())
            .map_err(OpenError::io("start the committer of", dir))?;
        let shared = Shared {
            dir: dir.to_owned(),
            queue,
            stats,
            committer: Mutex::new(Some(committer)),
            readers,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When what is stored is not what was written, the disk fails, or the store is closed.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let head = rows::head(key);
        let read = |rows: &Rows| {
            let gone = rows.gone.read();
            scan::contained(|| rows::get(&rows.tree, &gone, &head))
        };
        self.shared.readers.read(read)?
    }

    /// The rows whose keys start with `prefix`, in ascending order of keys.
    pub fn scan(&self, prefix: &[u8]) -> Scan {
        self.scan_from(prefix, None)
    }

    /// Like [`scan`](Self::scan), but only the keys greater than `after`.
    pub fn scan_after(&self, prefix: &[u8], after: &[u8]) -> Scan {
        self.scan_from(prefix, Some(after))
    }

    /// Queues a batch. `done` is called once, on the committer's thread, when the batch is durable;
    /// it holds up every other commit, so it should only wake somebody. When it panics, the process
    /// stops.
    ///
    /// Batches are applied atomically and in the order they were queued, together with those of
    /// [`write`](Self::write). After a close the batch is lost, which is a bug of the caller: it is
    /// logged as an error, and `done` is dropped without being called.
    pub fn commit(&self, batch: Batch, done: impl FnOnce() + Send + 'static) {
        self.queue(Entry {
            batch,
            done: Some(Box::new(done)),
        });
    }

    /// Queues a batch nobody waits for: it becomes durable with the next commit, within about half
    /// a second, or at the close, whichever comes first. After a close as in
    /// [`commit`](Self::commit).
    pub fn write(&self, batch: Batch) {
        self.queue(Entry { batch, done: None });
    }

    /// Commits a batch and waits until it is durable. Not for asynchronous code.
    ///
    /// # Errors
    /// When the store is closed; nothing was written.
    pub fn commit_blocking(&self, batch: Batch) -> Result<(), Closed> {
        let (wake, woken) = mpsc::sync_channel(1);
        let done = move || {
            let _gone = wake.send(());
        };
        self.shared.queue.push(Entry {
            batch,
            done: Some(Box::new(done)),
        })?;
        woken.recv().map_err(|_| Closed)
    }

    /// What the store has done, and how large it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            disk_bytes: disk::taken_below(&self.shared.dir),
            ..*self.shared.stats.lock()
        }
    }

    /// Makes everything that is queued durable, answers it, and lets the directory go. Closing again
    /// does nothing.
    ///
    /// # Errors
    /// When it is called from a `done`, or the promised number cannot be written; see
    /// [`CloseError`].
    pub fn close(&self) -> Result<(), CloseError> {
        self.shared.close()
    }

    fn scan_from(&self, prefix: &[u8], after: Option<&[u8]>) -> Scan {
        let scan = |rows: &Rows| Scan::new(rows.clone(), prefix, after);
        self.shared.readers.read(scan).unwrap_or_else(Scan::refused)
    }

    fn queue(&self, entry: Entry) {
        let changes = entry.batch.len();
        if let Err(error) = self.shared.queue.push(entry) {
            tracing::error!(%error, changes, "a batch was committed after the close, and is lost");
        }
    }
}

impl Shared {
    fn close(&self) -> Result<(), CloseError> {
        self.queue.close();
        let mut committer = self.committer.lock();
        let own = |handle: &JoinHandle<_>| handle.thread().id() == thread::current().id();
        if committer.as_ref().is_some_and(own) {
            return Err(CloseError::FromCallback);
        }
        let closed = committer.take().map_or(Ok(Ok(())), JoinHandle::join);
        self.readers.close();
        // The committer stops the process rather than panic, so there is always an answer.
        closed.unwrap_or(Ok(()))
    }
}

/// A handle that is forgotten still closes its store. From a `done` it only lets the committer
/// finish, which then lets go of what it holds.
impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed cleanly");
        }
    }
}
