//! Who changes and reads the storage, and tells what came of it.

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{Appended, Draft, Taken, Task};
use crate::{
    core::{Entry, Job, Load, Logbook, Mark},
    counter::Notice,
    error::SendError,
    storage::{Changes, Storage, StorageError},
};

/// Who does the work. Dropped, it closes the storage and then says that it has ended: in the order of the
/// fields.
#[derive(Debug)]
pub(super) struct Worker {
    storage: Storage,
    pages: Pages,
    notices: Notices,
}

/// The storage has failed, and the driver knows.
#[derive(Debug)]
pub(super) struct Failed;

/// The way to the driver, who hears when it is given up, however it comes to that.
#[derive(Debug)]
struct Notices(mpsc::UnboundedSender<Notice>);

impl Notices {
    fn tell(&self, notice: Notice) {
        // Fails only if the driver is gone; then nobody wants to know.
        let _ = self.0.send(notice);
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.tell(Notice::Ended);
    }
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
    pub(super) fn new(
        storage: Storage,
        logbook: &Logbook,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        Self {
            storage,
            pages: Pages::new(logbook),
            notices: Notices(notices),
        }
    }

    /// Makes all changes together, tells of them, and then reads.
    pub(super) fn work(&mut self, batch: Vec<Task>) -> Result<(), Failed> {
        let (mut changes, mut loads) = (Vec::new(), Vec::new());
        for task in batch {
            match task {
                Task::Do(Job::Load(load)) => loads.push(load),
                task => changes.push(task),
            }
        }
        let done = self.change(changes).and_then(|()| self.read(loads));
        done.map_err(|error| {
            tracing::error!(%error, "the storage failed");
            self.notices.tell(Notice::Failed(error.to_string()));
            Failed
        })
    }

    /// Brings to the disk what nobody waited for.
    pub(super) fn sync(&mut self) {
        if let Err(error) = self.storage.sync() {
            tracing::warn!(%error, "what was answered last is sent again next time");
        }
    }

    fn change(&mut self, tasks: Vec<Task>) -> Result<(), StorageError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let (urgent, mut news) = (tasks.iter().any(Task::is_urgent), Vec::new());
        let pages = &mut self.pages;
        let changed = self.storage.change(urgent, |changes| {
            for task in tasks {
                news.extend(task.apply(changes, pages)?);
            }
            Ok(())
        });
        if let Err(error) = changed {
            news.into_iter().for_each(|news| news.fail(&error));
            return Err(error);
        }
        for notice in news.into_iter().map(News::tell) {
            self.notices.tell(notice);
        }
        Ok(())
    }

    fn read(&self, loads: Vec<Load>) -> Result<(), StorageError> {
        for load in loads {
            let loaded = self.storage.load(load)?;
            self.notices.tell(Notice::Loaded(loaded));
        }
        Ok(())
    }
}

impl Task {
    fn is_urgent(&self) -> bool {
        match self {
            Self::Append { .. } => true,
            Self::Do(job) => job.is_urgent(),
        }
    }

    fn apply(
        self,
        changes: &mut dyn Changes,
        pages: &mut Pages,
    ) -> Result<Option<News>, StorageError> {
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

/// What is to be told when a change is on the disk.
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
    fn tell(self) -> Notice {
        match self {
            Self::Appended { appended, taken } => {
                let fates = appended.fate.subscribe();
                // Fails if the app no longer waits; the message is sent all the same.
                let _ = taken.send(Ok((appended.entry.seq, fates)));
                Notice::Appended(appended)
            }
            Self::Marked(mark) => Notice::Marked(mark),
            Self::Begun { page } => Notice::Begun { page },
        }
    }

    fn fail(self, error: &StorageError) {
        if let Self::Appended { taken, .. } = self {
            let _ = taken.send(Err(SendError::Storage(error.to_string())));
        }
    }
}

fn append(
    changes: &mut dyn Changes,
    draft: Draft,
    page: u64,
    permit: OwnedSemaphorePermit,
    taken: oneshot::Sender<Result<Taken, SendError>>,
) -> Result<News, StorageError> {
    let lane = draft.lane;
    let entry = match put(changes, draft, page) {
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

/// Numbers a message, and puts it into the outbox.
fn put(changes: &mut dyn Changes, draft: Draft, page: u64) -> Result<Entry, StorageError> {
    let Draft {
        lane,
        to,
        options,
        body,
    } = draft;
    let entry = Entry {
        seq: changes.draw(lane)?,
        page,
        to,
        options,
        body,
    };
    changes.put(lane, &entry)?;
    Ok(entry)
}
