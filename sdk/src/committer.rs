//! The one place that touches the storage. One on a disk has a thread, which may wait for it: whatever
//! was asked for while it was writing goes into one commit, so that many messages sent at once wait for
//! one sync. One in memory waits for nothing, and whoever asks does the work.
//!
//! The queue to the thread has no bound of its own: appended bodies are bounded by permits the senders
//! hold, marks by what is in the app's hands, and the rest by the windows of the session.

mod worker;

use std::{io, sync::Arc, thread};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Recipient},
    message::Options,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use self::worker::Worker;
use crate::{
    core::{Entry, Job, Logbook},
    counter::Notice,
    error::SendError,
    receipt::Fate,
    storage::Storage,
};

/// How many bytes of bodies may wait for the disk. A sender past it waits.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// How many jobs go into one commit.
const BATCH: usize = 1024;

/// A message to be put into the outbox.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) lane: Lane,
    pub(crate) to: Recipient,
    pub(crate) options: Options,
    pub(crate) body: Bytes,
}

/// A message that is in the outbox, on its way to the driver.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) lane: Lane,
    pub(crate) entry: Entry,
    pub(crate) fate: watch::Sender<Fate>,
    /// Bounds the bodies on their way, too.
    _permit: OwnedSemaphorePermit,
}

/// The number of a message that is in the outbox, and where its fate is told.
type Taken = (u64, watch::Receiver<Fate>);

#[derive(Debug)]
enum Task {
    /// The app's.
    Append {
        draft: Draft,
        permit: OwnedSemaphorePermit,
        taken: oneshot::Sender<Result<Taken, SendError>>,
    },
    /// The engine's.
    Do(Job),
}

/// How the rest of the client has the storage changed and read.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    way: Way,
    permits: Arc<Semaphore>,
}

/// Who does the work.
#[derive(Clone, Debug)]
enum Way {
    /// A thread; `None` ends it.
    Thread(mpsc::UnboundedSender<Option<Task>>),
    /// Whoever asks, until it is ended or fails.
    Here(Arc<Mutex<Option<Worker>>>),
}

impl Committer {
    /// Takes charge of a storage; reports to the driver through `notices`. It ends when told to, or when
    /// the last handle is gone; [`Notice::Ended`] is the last it says, when the storage is closed.
    pub(crate) fn start(
        storage: Storage,
        logbook: &Logbook,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> io::Result<Self> {
        let is_on_disk = storage.is_on_disk();
        let worker = Worker::new(storage, logbook, notices);
        let way = if is_on_disk {
            let (jobs, queue) = mpsc::unbounded_channel();
            let thread = thread::Builder::new().name("holdfast-storage".to_owned());
            thread.spawn(move || Writer { worker, queue }.run())?;
            Way::Thread(jobs)
        } else {
            Way::Here(Arc::new(Mutex::new(Some(worker))))
        };
        let permits = Arc::new(Semaphore::new(WAITING_BYTES));
        Ok(Self { way, permits })
    }

    /// Puts a message into the outbox; returns when it is on the disk.
    pub(crate) async fn append(&self, draft: Draft) -> Result<Taken, SendError> {
        let bytes = draft.body.len().min(WAITING_BYTES) as u32;
        let permits = self.permits.clone();
        let permit = permits.acquire_many_owned(bytes).await;
        let permit = permit.map_err(|_| SendError::Closed)?;
        let (taken, answer) = oneshot::channel();
        self.ask(Task::Append {
            draft,
            permit,
            taken,
        });
        answer.await.map_err(|_| SendError::Closed)?
    }

    /// Does a job of the engine's; [`Notice::Marked`] and [`Notice::Loaded`] tell.
    pub(crate) fn store(&self, job: Job) {
        self.ask(Task::Do(job));
    }

    /// Ends the work when what was asked before is done.
    pub(crate) fn stop(&self) {
        self.permits.close();
        match &self.way {
            // Fails only if the thread has ended already.
            Way::Thread(jobs) => drop(jobs.send(None)),
            Way::Here(worker) => *worker.lock() = None,
        }
    }

    /// If the work has ended, dropping the task tells whoever waits for it.
    fn ask(&self, task: Task) {
        match &self.way {
            Way::Thread(jobs) => drop(jobs.send(Some(task))),
            Way::Here(worker) => {
                let mut worker = worker.lock();
                worker.take_if(|worker| worker.work(vec![task]).is_err());
            }
        }
    }
}

/// The thread: a worker, and what waits for it.
struct Writer {
    worker: Worker,
    queue: mpsc::UnboundedReceiver<Option<Task>>,
}

impl Writer {
    fn run(mut self) {
        while let Some(Some(first)) = self.queue.blocking_recv() {
            let (batch, last) = self.gather(first);
            if self.worker.work(batch).is_err() {
                return;
            }
            if last {
                break;
            }
        }
        self.worker.sync();
    }

    /// What waits in the queue, and whether the end was among it.
    fn gather(&mut self, first: Task) -> (Vec<Task>, bool) {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match self.queue.try_recv() {
                Ok(Some(job)) => batch.push(job),
                Ok(None) => return (batch, true),
                Err(_) => break,
            }
        }
        (batch, false)
    }
}

#[cfg(test)]
mod tests;
