//! A device's disk: its outbox, its marks, and where it was told to connect. What was asked for while
//! it was writing goes into one commit; one that is not urgent reaches the disk with a later one.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast::core::{
    Entry, Job, KnownNetwork, Load, Loaded, Logbook, Mark, READY_BYTES, Restored, Source,
};
use holdfast_protocol::{
    id::{Lane, Recipient},
    message::{Options, RelayAddress},
};

use super::{dice::Dice, disk::Crash, planted::Planted};

/// How many messages are read at once.
const LOAD_MESSAGES: usize = 256;

/// What an app sends.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) to: Recipient,
    pub(crate) options: Options,
    pub(crate) body: Bytes,
}

#[derive(Clone, Debug, Default)]
struct Pages {
    outbox: [BTreeMap<u64, Entry>; 2],
    tails: [u64; 2],
    marks: BTreeMap<Source, Mark>,
    logbook: Logbook,
    relays: Vec<RelayAddress>,
    networks: Vec<KnownNetwork>,
}

#[derive(Clone, Debug)]
enum Change {
    Append(Lane, Entry),
    Forget(Lane, u64),
    Mark(Mark),
    Unmark(Source),
    Begin(Logbook),
    Remember(Vec<RelayAddress>),
    Learn(Vec<KnownNetwork>),
}

impl Pages {
    fn make(&mut self, change: &Change) {
        match change {
            Change::Append(lane, entry) => {
                self.tails[*lane as usize] = entry.seq;
                self.outbox[*lane as usize].insert(entry.seq, entry.clone());
            }
            Change::Forget(lane, seq) => drop(self.outbox[*lane as usize].remove(seq)),
            Change::Mark(mark) => drop(self.marks.insert(mark.source.clone(), mark.clone())),
            Change::Unmark(source) => drop(self.marks.remove(source)),
            Change::Begin(logbook) => self.logbook.clone_from(logbook),
            Change::Remember(relays) => self.relays.clone_from(relays),
            Change::Learn(networks) => self.networks.clone_from(networks),
        }
    }
}

#[derive(Debug)]
enum Task {
    Append(Draft),
    Do(Job),
}

/// What the disk has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// A message has its number, and is not durable yet.
    Numbered(Lane, Entry),
    /// A message is durable.
    Appended(Lane, Entry),
    /// A mark is durable.
    Marked(Mark),
    /// A page of the logbook is durable.
    Begun(u64),
    Loaded(Loaded),
}

/// Which step comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write,
    Sync,
}

/// A device's disk.
#[derive(Debug)]
pub(crate) struct Notebook {
    pub(crate) outbox: u64,
    pub(crate) inbox: u64,
    synced: Pages,
    seen: Pages,
    /// Commits that are not synced.
    unsynced: Vec<Vec<Change>>,
    tasks: Vec<Task>,
    /// What is told after the sync under way.
    news: Vec<News>,
    loads: Vec<Load>,
    next: Step,
    /// The last page of the logbook, and whether its session lasts.
    page: u64,
    attached: bool,
    planted: Option<Planted>,
}

impl Notebook {
    /// An empty one.
    pub(crate) fn new(outbox: u64, inbox: u64, planted: Option<Planted>) -> Self {
        Self {
            outbox,
            inbox,
            synced: Pages::default(),
            seen: Pages::default(),
            unsynced: Vec::new(),
            tasks: Vec::new(),
            news: Vec::new(),
            loads: Vec::new(),
            next: Step::Write,
            page: 0,
            attached: false,
            planted,
        }
    }

    /// What a program that starts finds.
    pub(crate) fn restore(&mut self) -> Restored {
        (self.page, self.attached) = (self.synced.logbook.page(), false);
        Restored {
            tails: self.synced.tails,
            marks: self.synced.marks.values().cloned().collect(),
            logbook: self.synced.logbook.clone(),
            relays: self.synced.relays.clone(),
            networks: self.synced.networks.clone(),
        }
    }

    pub(crate) fn append(&mut self, draft: Draft) {
        self.tasks.push(Task::Append(draft));
    }

    pub(crate) fn store(&mut self, job: Job) {
        self.tasks.push(Task::Do(job));
    }

    /// Whether something is to be done.
    pub(crate) fn is_busy(&self) -> bool {
        self.next == Step::Sync || !self.tasks.is_empty()
    }

    /// Takes the next step.
    pub(crate) fn step(&mut self) -> Vec<News> {
        match self.next {
            Step::Write => self.write(),
            Step::Sync => self.sync(),
        }
    }

    /// How far the app has come with a source, durably.
    pub(crate) fn mark(&self, source: &Source) -> u64 {
        self.synced.marks.get(source).map_or(0, |mark| mark.seq)
    }

    /// The messages that have no last answer.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (Lane, &Entry)> {
        Lane::ALL.into_iter().flat_map(|lane| {
            let entries = self.seen.outbox[lane as usize].values();
            entries.map(move |entry| (lane, entry))
        })
    }

    /// Forgets a message as soon as it is sent; a bug.
    pub(crate) fn lose(&mut self, lane: Lane, seq: u64) {
        for pages in [&mut self.synced, &mut self.seen] {
            pages.outbox[lane as usize].remove(&seq);
        }
    }

    /// The program has crashed: of the commits that were not synced, some beginning stays.
    pub(crate) fn crash(&mut self, crash: Crash, dice: &mut Dice) {
        let kept = match crash {
            Crash::Kill => self.unsynced.len(),
            Crash::PowerCut => dice.below(self.unsynced.len() + 1),
        };
        for change in self.unsynced.drain(..).take(kept).flatten() {
            self.synced.make(&change);
        }
        if self.planted == Some(Planted::DedupForgotten) {
            self.synced.marks.clear();
        }
        if self.planted == Some(Planted::NumbersReset) {
            self.synced.tails = [0, 0];
            self.synced.outbox = Default::default();
        }
        self.tasks.clear();
        self.news.clear();
        self.loads.clear();
        self.next = Step::Write;
        self.seen = self.synced.clone();
    }

    fn write(&mut self) -> Vec<News> {
        let (mut changes, mut early, mut urgent) = (Vec::new(), Vec::new(), false);
        let mut tails = self.seen.tails;
        for task in std::mem::take(&mut self.tasks) {
            urgent |= match &task {
                Task::Append(_) => true,
                Task::Do(job) => job.is_urgent(),
            };
            changes.extend(self.change(task, &mut tails, &mut early));
        }
        changes.iter().for_each(|change| self.seen.make(change));
        if !changes.is_empty() {
            self.unsynced.push(changes);
        }
        let hasty = match self.planted {
            Some(Planted::AckBeforeMark) => |news: &News| matches!(news, News::Marked(_)),
            Some(Planted::SendBeforeSync) => |news: &News| matches!(news, News::Appended(..)),
            _ => |_: &News| false,
        };
        early.extend(self.news.extract_if(.., |news| hasty(news)));
        if urgent {
            self.next = Step::Sync;
        } else {
            early.extend(self.read());
        }
        early
    }

    fn sync(&mut self) -> Vec<News> {
        for change in self.unsynced.drain(..).flatten() {
            self.synced.make(&change);
        }
        self.next = Step::Write;
        let mut news = std::mem::take(&mut self.news);
        news.extend(self.read());
        news
    }

    fn change(
        &mut self,
        task: Task,
        tails: &mut [u64; 2],
        early: &mut Vec<News>,
    ) -> Option<Change> {
        match task {
            Task::Append(draft) => {
                let lane = Lane::for_body(draft.body.len());
                tails[lane as usize] += 1;
                let entry = Entry {
                    seq: tails[lane as usize],
                    page: self.page + u64::from(!self.attached),
                    to: draft.to,
                    options: draft.options,
                    body: draft.body,
                };
                early.push(News::Numbered(lane, entry.clone()));
                self.news.push(News::Appended(lane, entry.clone()));
                Some(Change::Append(lane, entry))
            }
            Task::Do(Job::Forget { lane, seq }) => Some(Change::Forget(lane, seq)),
            Task::Do(Job::Mark(mark)) => {
                self.news.push(News::Marked(mark.clone()));
                Some(Change::Mark(mark))
            }
            Task::Do(Job::Unmark(source)) => Some(Change::Unmark(source)),
            Task::Do(Job::Begin(logbook)) => {
                (self.page, self.attached) = (logbook.page(), true);
                self.news.push(News::Begun(self.page));
                Some(Change::Begin(logbook))
            }
            Task::Do(Job::Pause) => {
                self.attached = false;
                None
            }
            Task::Do(Job::Remember(relays)) => Some(Change::Remember(relays)),
            Task::Do(Job::Learn(networks)) => Some(Change::Learn(networks)),
            Task::Do(Job::Load(load)) => {
                self.loads.push(load);
                None
            }
        }
    }

    fn read(&mut self) -> Vec<News> {
        let loads = std::mem::take(&mut self.loads).into_iter();
        loads.map(|load| News::Loaded(self.load(load))).collect()
    }

    fn read_entry(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        if self.planted == Some(Planted::RetriesForEver) {
            entry.page = u64::MAX;
        }
        entry
    }

    fn load(&self, load: Load) -> Loaded {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let lane = load.lane as usize;
        for (seq, entry) in self.seen.outbox[lane].range(load.after + 1..) {
            let size = entry.body.len();
            let full = entries.len() == LOAD_MESSAGES || bytes + size > READY_BYTES;
            if full && !entries.is_empty() {
                let through = seq - 1;
                return Loaded {
                    load,
                    entries,
                    through,
                };
            }
            bytes += size;
            entries.push(self.read_entry(entry));
        }
        Loaded {
            load,
            entries,
            through: self.seen.tails[lane],
        }
    }
}
