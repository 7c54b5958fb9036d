//! The disk of a relay or of the allocator: what was synced, what was only written, and what a crash
//! leaves of the latter.
//!
//! A change goes through three steps, and a crash may come before, between and after them:
//!
//! ```text
//!   handed in ── applied ── synced ── told
//! ```

use std::{collections::BTreeMap, fmt, ops::Bound, sync::Arc};

use bytes::Bytes;
use holdfast_durable::{Batch, Change, Done, ReadError, RowsInOrder, Store};
use parking_lot::Mutex;

use super::{dice::Dice, planted::Planted};

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// What a crash does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process dies: what was applied stays.
    Kill,
    /// The power fails: some beginning of what was handed in stays.
    PowerCut,
}

/// Which step a disk is to take next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Apply,
    Sync,
    Tell,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    #[default]
    Sound,
    /// Nothing can be read.
    Unreadable,
    /// The next sync fails, and every one after it.
    Unsyncable,
}

struct Queued {
    changes: Vec<Change>,
    done: Option<Done>,
}

struct Platter {
    /// What is durable.
    synced: Rows,
    /// What is read.
    seen: Rows,
    /// Handed in and not told, oldest first; the first `applied` of them are seen.
    queue: Vec<Queued>,
    applied: usize,
    /// How many of them the step under way is about.
    batch: usize,
    next: Step,
    health: Health,
    planted: Option<Planted>,
    dice: Dice,
}

/// A disk. It outlives the programs that use it.
pub(crate) struct Disk(Mutex<Platter>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    pub(crate) fn new(dice: Dice, planted: Option<Planted>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Platter {
            synced: Rows::new(),
            seen: Rows::new(),
            queue: Vec::new(),
            applied: 0,
            batch: 0,
            next: Step::Apply,
            health: Health::Sound,
            planted,
            dice,
        })))
    }

    /// The step that is due, if there is something to do.
    pub(crate) fn due(&self) -> Option<Step> {
        let platter = self.0.lock();
        (platter.next > Step::Apply || !platter.queue.is_empty()).then_some(platter.next)
    }

    /// Takes the step that is due.
    ///
    /// # Errors
    /// When a sync fails.
    pub(crate) fn step(&self) -> Result<(), SyncFailed> {
        let mut platter = self.0.lock();
        match platter.next {
            Step::Apply => platter.apply(),
            Step::Sync => return platter.sync(),
            Step::Tell => {
                let told = platter.told();
                drop(platter);
                told.into_iter().for_each(|done| done());
            }
        }
        Ok(())
    }

    /// What a store that lies says at once.
    pub(crate) fn lie(&self) {
        let mut platter = self.0.lock();
        if platter.planted == Some(Planted::AcknowledgeBeforeFlush) {
            let told: Vec<Done> = platter
                .queue
                .iter_mut()
                .filter_map(|c| c.done.take())
                .collect();
            drop(platter);
            told.into_iter().for_each(|done| done());
        }
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.0.lock().health = health;
    }

    pub(crate) fn health(&self) -> Health {
        self.0.lock().health
    }

    /// The program that used it has crashed. Says how many changes were lost.
    pub(crate) fn crash(&self, crash: Crash) -> usize {
        self.0.lock().crash(crash)
    }

    /// How many rows there are of which the key fits.
    pub(crate) fn count(&self, fits: impl Fn(&[u8]) -> bool) -> usize {
        self.0.lock().seen.keys().filter(|key| fits(key)).count()
    }
}

/// The disk does not take what it is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncFailed;

impl Platter {
    fn hand_in(&mut self, batch: &Batch, done: Option<Done>) {
        let changes = batch.changes().to_vec();
        self.queue.push(Queued { changes, done });
        // Now and then a change is seen at once, as the trait allows.
        if self.applied == self.queue.len() - 1 && self.dice.chance(0.3) {
            self.apply_next();
        }
    }

    fn apply_next(&mut self) {
        let queued = &self.queue[self.applied];
        write(&mut self.seen, &queued.changes);
        self.applied += 1;
    }

    fn apply(&mut self) {
        self.batch = self.queue.len();
        while self.applied < self.batch {
            self.apply_next();
        }
        self.next = Step::Sync;
    }

    fn sync(&mut self) -> Result<(), SyncFailed> {
        if self.health == Health::Unsyncable {
            if self.planted != Some(Planted::AnswerAfterFailure) {
                return Err(SyncFailed);
            }
            self.next = Step::Tell;
            return Ok(());
        }
        for queued in &mut self.queue[..self.batch] {
            if self.planted == Some(Planted::MailboxOfAnother) {
                misplace(&mut queued.changes, &mut self.dice);
            }
            if self.planted == Some(Planted::DeletedResurrected) {
                queued.changes.retain(|change| !deletes_mail(change));
            }
            write(&mut self.synced, &queued.changes);
        }
        self.next = Step::Tell;
        Ok(())
    }

    fn told(&mut self) -> Vec<Done> {
        let told = self.queue.drain(..self.batch);
        let told = told.filter_map(|queued| queued.done).collect();
        self.applied -= self.batch;
        self.batch = 0;
        self.next = Step::Apply;
        told
    }

    fn crash(&mut self, crash: Crash) -> usize {
        let synced = if self.next == Step::Tell && self.health == Health::Sound {
            self.batch
        } else {
            0
        };
        let kept = match crash {
            Crash::Kill => self.applied.max(synced),
            Crash::PowerCut => synced + self.dice.below(self.queue.len() - synced + 1),
        };
        for queued in &self.queue[synced..kept] {
            write(&mut self.synced, &queued.changes);
        }
        if self.planted == Some(Planted::PartialCommit)
            && let Some(torn) = self.queue.get(kept)
        {
            write(&mut self.synced, &torn.changes[torn.changes.len() / 2..]);
        }
        let lost = self.queue.len() - kept;
        self.queue.clear();
        (self.applied, self.batch, self.next) = (0, 0, Step::Apply);
        self.health = Health::Sound;
        self.forget();
        self.seen = self.synced.clone();
        lost
    }

    /// What a bug loses of what was there.
    fn forget(&mut self) {
        match self.planted {
            Some(Planted::RefusalsForgotten) => {
                self.synced.retain(|key, _| kind(key) != Some(b'x'));
            }
            Some(Planted::PositionsRestart) => self.synced.retain(|key, _| key != b"\0boot"),
            Some(Planted::PinsForgotten) => self.synced.clear(),
            _ => {}
        }
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let platter = self.0.lock();
        platter.readable()?;
        Ok(platter.seen.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> RowsInOrder<'_> {
        let platter = self.0.lock();
        if let Err(error) = platter.readable() {
            return Box::new(std::iter::once(Err(error)));
        }
        let from = (Bound::Included(prefix.to_vec()), Bound::Unbounded);
        let rows = platter.seen.range::<Vec<u8>, _>(from);
        let rows: Vec<_> = rows
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| Ok((Bytes::copy_from_slice(key), value.clone())))
            .collect();
        Box::new(rows.into_iter())
    }

    fn commit(&self, batch: Batch, done: Done) {
        self.0.lock().hand_in(&batch, Some(done));
    }

    fn write(&self, batch: Batch) {
        self.0.lock().hand_in(&batch, None);
    }
}

impl Platter {
    fn readable(&self) -> Result<(), ReadError> {
        if self.health == Health::Unreadable {
            let what = "the disk does not answer".to_owned();
            return Err(ReadError::Engine { what });
        }
        Ok(())
    }
}

/// Makes changes.
fn write(rows: &mut Rows, changes: &[Change]) {
    changes.iter().for_each(|change| change.apply(rows));
}

fn deletes_mail(change: &Change) -> bool {
    match change {
        Change::Put { .. } => false,
        Change::Delete { key } | Change::DeleteRange { first: key, .. } => kind(key) == Some(b'm'),
    }
}

/// What kind of row an account's key is of.
pub(crate) fn kind(key: &[u8]) -> Option<u8> {
    let end = key.iter().position(|byte| *byte == 0)?;
    key.get(end + 1).copied().filter(|_| end > 0)
}

/// Now and then, mail of one account goes to another. Accounts have names of the same length here.
fn misplace(changes: &mut [Change], dice: &mut Dice) {
    for change in changes {
        if let Change::Put { key, .. } = change
            && kind(key) == Some(b'm')
            && dice.chance(0.02)
        {
            let end = key.iter().position(|byte| *byte == 0).unwrap_or(1);
            let last = &mut key[end - 1];
            *last = if *last == b'1' { b'2' } else { b'1' };
        }
    }
}
