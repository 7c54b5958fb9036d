//! The one place that touches the storage. Whatever was asked for while it was writing goes into one
//! commit, so that many messages sent at once wait for one sync. It is a thread, which may wait for a
//! disk; of a storage in memory, for which nobody waits, a task.
//!
//! The queue to it has no bound of its own: appended bodies are bounded by permits the senders hold,
//! marks by what is in the app's hands, and the rest by the windows of the session.

use std::{io, sync::Arc, thread};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Recipient},
    message::Options,
};
use redb::Durability;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::yield_now,
};

use crate::{
    core::{Entry, Job, Load, Logbook, Mark},
    counter::Notice,
    error::SendError,
    receipt::Fate,
    storage::{Changes, Storage, StorageError},
};

/// How many bytes of bodies may wait for the disk. A sender past it waits.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

/// How many jobs go into one commit.
const BATCH: usize = 1024;

/// Of the commits to a storage in memory, one in so many is made as if for a disk: it alone gives back
/// the room of what was taken out.
const TIDIED: u64 = 8;

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

/// How the rest of the client reaches the worker.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    jobs: mpsc::UnboundedSender<Option<Task>>,
    permits: Arc<Semaphore>,
}

impl Committer {
    /// Starts the worker; it reports to the driver through `notices`. It ends when told to, or when the
    /// last handle is gone; [`Notice::Ended`] is the last it says, when the storage is closed.
    pub(crate) fn start(
        storage: Storage,
        logbook: &Logbook,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let is_on_disk = storage.is_on_disk();
        let worker = Worker {
            storage,
            queue,
            notices,
            unsynced: false,
            commits: 0,
            pages: Pages::new(logbook),
        };
        let work = async {
            let _farewell = Farewell(worker.notices.clone());
            worker.run().await;
        };
        let runtime = Handle::current();
        if is_on_disk {
            let thread = thread::Builder::new().name("holdfast-storage".to_owned());
            thread.spawn(move || runtime.block_on(work))?;
        } else {
            runtime.spawn(work);
        }
        let permits = Arc::new(Semaphore::new(WAITING_BYTES));
        Ok(Self { jobs, permits })
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

    /// Ends the worker when it has done what was asked before.
    pub(crate) fn stop(&self) {
        self.permits.close();
        // Fails only if the worker has ended already.
        let _ = self.jobs.send(None);
    }

    fn ask(&self, task: Task) {
        // Fails only if the worker has ended; dropping the task tells whoever waits for it.
        let _ = self.jobs.send(Some(task));
    }
}

/// Tells the driver that the worker has ended, however it did.
struct Farewell(mpsc::UnboundedSender<Notice>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Fails only if the driver is gone; then nobody wants to know.
        let _ = self.0.send(Notice::Ended);
    }
}

/// Who does the work.
struct Worker {
    storage: Storage,
    queue: mpsc::UnboundedReceiver<Option<Task>>,
    notices: mpsc::UnboundedSender<Notice>,
    /// Whether something was committed that the disk does not have yet.
    unsynced: bool,
    commits: u64,
    pages: Pages,
}

/// Which page a message belongs to that is put into the outbox now.
#[derive(Clone, Copy, Debug)]
struct Pages {
    last: u64,
    attached: bool,
}

impl Pages {
    fn new(logbook: &Logbook) -> Self {
        Self {
            last: logbook.page(),
            attached: false,
        }
    }

    fn begin(&mut self, logbook: &Logbook) {
        self.last = logbook.page();
        self.attached = true;
    }

    /// The first page under which it may be submitted.
    fn next(self) -> u64 {
        self.last.saturating_add(u64::from(!self.attached))
    }
}

impl Worker {
    async fn run(mut self) {
        while let Some(Some(first)) = self.queue.recv().await {
            if !self.storage.is_on_disk() {
                // There is no disk to wait for, during which more comes: whoever is about to ask for
                // something is let go first.
                yield_now().await;
            }
            let (batch, last) = self.batch(first);
            if let Err(error) = self.work(batch) {
                tracing::error!(%error, "the storage failed");
                self.report(Notice::Failed(error.to_string()));
                return;
            }
            if last {
                break;
            }
        }
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "what was answered last is sent again next time");
        }
    }

    /// What waits in the queue, and whether the end was among it.
    fn batch(&mut self, first: Task) -> (Vec<Task>, bool) {
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

    fn work(&mut self, batch: Vec<Task>) -> Result<(), StorageError> {
        let (mut news, mut loads) = (Vec::new(), Vec::new());
        if let Err(error) = self.commit(batch, &mut news, &mut loads) {
            news.into_iter().for_each(|news: News| news.fail(&error));
            return Err(error);
        }
        for news in news {
            if let Some(notice) = news.tell() {
                self.report(notice);
            }
        }
        for load in loads {
            let loaded = self.storage.load(load)?;
            self.report(Notice::Loaded(loaded));
        }
        Ok(())
    }

    fn commit(
        &mut self,
        batch: Vec<Task>,
        news: &mut Vec<News>,
        loads: &mut Vec<Load>,
    ) -> Result<(), StorageError> {
        let only_reads = batch
            .iter()
            .all(|task| matches!(task, Task::Do(Job::Load(_))));
        let urgent = batch.iter().any(Task::is_urgent);
        let changes = (!only_reads).then(|| self.storage.begin()).transpose()?;
        for task in batch {
            match (task, &changes) {
                (Task::Do(Job::Load(load)), _) => loads.push(load),
                (task, Some(changes)) => news.extend(task.apply(changes, &mut self.pages)?),
                (_, None) => {}
            }
        }
        let Some(changes) = changes else {
            return Ok(());
        };
        self.commits += 1;
        let durable = self.is_durable(urgent);
        self.unsynced = !durable;
        changes.commit(if durable {
            Durability::Immediate
        } else {
            Durability::None
        })
    }

    fn is_durable(&self, urgent: bool) -> bool {
        match self.storage.is_on_disk() {
            true => urgent,
            false => self.commits.is_multiple_of(TIDIED),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        if !self.unsynced {
            return Ok(());
        }
        self.storage.begin()?.commit(Durability::Immediate)
    }

    fn report(&self, notice: Notice) {
        // Fails only if the driver is gone; then nobody wants to know.
        let _ = self.notices.send(notice);
    }
}

impl Task {
    fn is_urgent(&self) -> bool {
        match self {
            Self::Append { .. } => true,
            Self::Do(job) => job.is_urgent(),
        }
    }

    fn apply(self, changes: &Changes, pages: &mut Pages) -> Result<Option<News>, StorageError> {
        match self {
            Self::Append {
                draft,
                permit,
                taken,
            } => append(changes, draft, pages.next(), permit, taken).map(Some),
            Self::Do(Job::Forget { lane, seq }) => changes.forget(lane, seq).map(|()| None),
            Self::Do(Job::Mark(mark)) => changes.mark(&mark).map(|()| Some(News::Marked(mark))),
            Self::Do(Job::Unmark(source)) => changes.unmark(&source).map(|()| None),
            Self::Do(Job::Begin(logbook)) => {
                pages.begin(&logbook);
                let page = logbook.page();
                changes.log(&logbook).map(|()| Some(News::Begun { page }))
            }
            Self::Do(Job::Pause) => {
                pages.attached = false;
                Ok(None)
            }
            Self::Do(Job::Learn(networks)) => changes.learn(&networks).map(|()| None),
            Self::Do(Job::Remember(relays)) => changes.remember(&relays).map(|()| None),
            Self::Do(Job::Load(_)) => Ok(None),
        }
    }
}

/// What is to be told when the commit is on the disk.
enum News {
    Appended {
        appended: Appended,
        taken: oneshot::Sender<Result<Taken, SendError>>,
    },
    Marked(Mark),
    Begun {
        page: u64,
    },
}

impl News {
    fn tell(self) -> Option<Notice> {
        match self {
            Self::Appended { appended, taken } => {
                let fates = appended.fate.subscribe();
                // Fails if the app no longer waits; the message is sent all the same.
                let _ = taken.send(Ok((appended.entry.seq, fates)));
                Some(Notice::Appended(appended))
            }
            Self::Marked(mark) => Some(Notice::Marked(mark)),
            Self::Begun { page } => Some(Notice::Begun { page }),
        }
    }

    fn fail(self, error: &StorageError) {
        if let Self::Appended { taken, .. } = self {
            let _ = taken.send(Err(SendError::Storage(error.to_string())));
        }
    }
}

fn append(
    changes: &Changes,
    draft: Draft,
    page: u64,
    permit: OwnedSemaphorePermit,
    taken: oneshot::Sender<Result<Taken, SendError>>,
) -> Result<News, StorageError> {
    let Draft {
        lane,
        to,
        options,
        body,
    } = draft;
    let entry = match changes.append(lane, page, to, options, body) {
        Ok(entry) => entry,
        Err(error) => {
            let _ = taken.send(Err(SendError::Storage(error.to_string())));
            return Err(error);
        }
    };
    let appended = Appended {
        lane,
        entry,
        fate: watch::Sender::default(),
        _permit: permit,
    };
    Ok(News::Appended { appended, taken })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use holdfast_protocol::time::Time;
    use redb::{StorageBackend, backends::InMemoryBackend};

    use super::*;

    /// A disk that counts its syncs, and fails when it is told to.
    #[derive(Debug, Default)]
    struct Disk {
        memory: InMemoryBackend,
        meter: Arc<Meter>,
    }

    #[derive(Debug, Default)]
    struct Meter {
        syncs: AtomicUsize,
        full: AtomicBool,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, io::Error> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            self.meter.syncs.fetch_add(1, Ordering::SeqCst);
            self.memory.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            if self.meter.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.memory.write(offset, data)
        }
    }

    fn committer() -> (
        Committer,
        Worker,
        mpsc::UnboundedReceiver<Notice>,
        Arc<Meter>,
    ) {
        let disk = Disk::default();
        let meter = disk.meter.clone();
        let (jobs, queue) = mpsc::unbounded_channel();
        let (notices, said) = mpsc::unbounded_channel();
        let worker = Worker {
            storage: Storage::on(disk),
            queue,
            notices,
            unsynced: false,
            commits: 0,
            pages: Pages::new(&Logbook::default()),
        };
        let permits = Arc::new(Semaphore::new(WAITING_BYTES));
        (Committer { jobs, permits }, worker, said, meter)
    }

    fn draft(body: &'static str) -> Draft {
        Draft {
            lane: Lane::Message,
            to: "alice/pc".parse().unwrap(),
            options: Options::default(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    /// Waits until so many jobs wait for the worker.
    async fn queued(worker: &Worker, jobs: usize) {
        while worker.queue.len() < jobs {
            tokio::task::yield_now().await;
        }
    }

    fn send(committer: &Committer) -> tokio::task::JoinHandle<Result<Taken, SendError>> {
        let committer = committer.clone();
        tokio::spawn(async move { committer.append(draft("body")).await })
    }

    #[tokio::test]
    async fn what_is_sent_at_once_shares_a_sync() {
        let (committer, worker, mut said, meter) = committer();
        let before = meter.syncs.load(Ordering::SeqCst);
        let many: Vec<_> = (0..500).map(|_| send(&committer)).collect();
        queued(&worker, 500).await;
        committer.stop();
        worker.run().await;
        let mut seqs = Vec::new();
        for one in many {
            seqs.push(one.await.unwrap().unwrap().0);
        }
        assert_eq!(seqs, (1..=500).collect::<Vec<_>>());
        // One commit; redb syncs once or twice for it, and again when the file is shut.
        let syncs = meter.syncs.load(Ordering::SeqCst) - before;
        assert!(syncs < 10, "{syncs} syncs");
        for seq in 1..=500 {
            let Some(Notice::Appended(appended)) = said.recv().await else {
                panic!("the driver was not told of {seq}");
            };
            assert_eq!(appended.entry.seq, seq);
        }
    }

    #[tokio::test]
    async fn a_read_sees_what_was_written_before_it_and_nothing_untold() {
        let (committer, worker, mut said, _) = committer();
        let load = Load {
            lane: Lane::Message,
            after: 0,
            session: 1,
        };
        let first = send(&committer);
        queued(&worker, 1).await;
        committer.store(Job::Load(load));
        let second = send(&committer);
        queued(&worker, 3).await;
        committer.stop();
        worker.run().await;
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        let mut told = 0;
        loop {
            match said.recv().await.unwrap() {
                Notice::Appended(_) => told += 1,
                Notice::Loaded(loaded) => {
                    assert_eq!(loaded.through, told);
                    assert_eq!(loaded.entries.len() as u64, told);
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_message_belongs_to_the_page_under_which_it_can_be_submitted_first() {
        let (committer, worker, mut said, _) = committer();
        let mut logbook = Logbook::default();
        let mut queue = 0;
        let mut sending = Vec::new();
        // Before any session; in one; after a day of it; after its end.
        for step in 0..4 {
            match step {
                1 | 2 => {
                    logbook.welcomed(Time::ZERO, 1000);
                    committer.store(Job::Begin(logbook.clone()));
                }
                3 => committer.store(Job::Pause),
                _ => {}
            }
            sending.push(send(&committer));
            queue += 1 + usize::from(step > 0);
            queued(&worker, queue).await;
        }
        committer.stop();
        worker.run().await;
        let mut told = Vec::new();
        while let Some(notice) = said.recv().await {
            match notice {
                Notice::Appended(appended) => told.push(("sent", appended.entry.page)),
                Notice::Begun { page } => told.push(("begun", page)),
                other => panic!("{other:?}"),
            }
        }
        let expected = [
            ("sent", 1),
            ("begun", 1),
            ("sent", 1),
            ("begun", 2),
            ("sent", 2),
            ("sent", 3),
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_to_the_sender_and_to_the_driver() {
        let (committer, worker, mut said, meter) = committer();
        meter.full.store(true, Ordering::SeqCst);
        let sending = send(&committer);
        queued(&worker, 1).await;
        worker.run().await;
        let answer = sending.await.unwrap();
        assert!(matches!(answer, Err(SendError::Storage(_))), "{answer:?}");
        assert!(matches!(said.recv().await, Some(Notice::Failed(_))));
        let late = committer.append(draft("late")).await;
        assert_eq!(late.err(), Some(SendError::Closed));
    }
}
