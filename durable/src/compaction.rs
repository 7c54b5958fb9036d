//! When the store moves into a new generation, and the move itself, between commits.
//!
//! sled's log reuses what is deleted, but never shrinks. The move takes a step before each group
//! of commits, and goes on while there are none. It ends with the new generation on the disk, then
//! the watermark that names it, then readers reading there. Cut off anywhere, one of the two is the
//! store, whole, and the next open removes the other.

use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::committer::Committer;
use crate::copy::{self, Copy, CopyError};
use crate::disk::Space;
use crate::group::Commit;
use crate::readers::Rows;
use crate::watermark::{Promise, Watermark};

/// After a move that failed, how long the next one waits.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A move begins only where the disk has more free than so many times what is live: the copy and what
/// sled adds to it, with room to spare.
pub(crate) const COPY_ROOM: u64 = 4;

/// Over how long it is watched whether what is live goes away.
const WATCHED_FOR: Duration = Duration::from_secs(1);

/// When the rows that are live are copied out of a log that has grown too large for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// The log may always take this much, in bytes.
    pub spare_bytes: u64,
    /// The same when nothing was committed for [`idle_after`](Self::idle_after), in bytes.
    pub idle_spare_bytes: u64,
    /// What counts as idle.
    pub idle_after: Duration,
    /// The log may always take so many times what is live in it.
    pub factor: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            spare_bytes: 64 * 1024 * 1024,
            idle_spare_bytes: 24 * 1024 * 1024,
            idle_after: Duration::from_secs(2),
            factor: 4,
        }
    }
}

/// How large a log is, and how much of it is live, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    log: u64,
    live: u64,
}

impl Size {
    /// What a copy is compared with later, if so much was live when it began: what was deleted after
    /// it was copied is in the new log, too, and may be worth another copy.
    fn copied_from(self, live_at_begin: u64) -> Self {
        let live = self.live.max(live_at_begin);
        Self { live, ..self }
    }

    /// Whether a copy, with what sled adds to it, fits beside the store with room to spare.
    fn has_room_in(self, space: Space) -> bool {
        space.free / COPY_ROOM > self.live
    }
}

impl Compaction {
    /// Whether a copy would be smaller by enough. One that has changed little since it was itself a
    /// copy would not.
    fn is_worthwhile(&self, now: Size, at_birth: Size, idle: bool) -> bool {
        let spare = match idle {
            true => self.idle_spare_bytes,
            false => self.spare_bytes,
        };
        let changed = now.log >= at_birth.log.saturating_mul(2) || now.live <= at_birth.live / 2;
        changed && now.log > spare.max(now.live.saturating_mul(self.factor))
    }
}

/// Where the committer stands with it.
#[derive(Default)]
pub(crate) struct Moving {
    copy: Option<Copy>,
    /// How much was live when the copy began, in bytes.
    live_at_begin: u64,
    /// How much was gone by then, in bytes: no copy is made of that.
    gone_at_begin: u64,
    at_birth: Size,
    /// Since when what is live is watched, and how much it was then, in bytes.
    watched: Option<(Instant, u64)>,
    /// How much it was when it began to be watched the time before.
    was_live: u64,
    /// Not before this, since a move has failed.
    not_before: Option<Instant>,
    /// Lets go of the old generation, which takes longer than a commit may wait.
    retiring: Option<JoinHandle<()>>,
}

impl Moving {
    /// How long to wait for a commit before going on here; none is for ever.
    pub(crate) fn patience(&self, options: &Compaction, rested: bool) -> Option<Duration> {
        match (&self.copy, rested) {
            (Some(_), _) => Some(Duration::ZERO),
            (None, false) => Some(options.idle_after),
            (None, true) => None,
        }
    }

    /// Whether what is live goes away so fast that a copy would be of what is deleted next: devices
    /// fetch the mail of hours within seconds. An eighth of it a second is not for long.
    fn ebbs(&mut self, live: u64, now: Instant) -> bool {
        let (since, then) = *self.watched.get_or_insert((now, live));
        if now >= since + WATCHED_FOR {
            self.was_live = then;
            self.watched = Some((now, live));
        }
        live < self.was_live - self.was_live / 8
    }

    fn await_retired(&mut self) {
        if let Some(retiring) = self.retiring.take() {
            // It catches what may panic, so there is nothing to hear.
            let _ended = retiring.join();
        }
    }
}

impl Committer {
    /// The next step of a move that has begun, or a look at whether one should.
    pub(crate) fn compact(&mut self, idle: bool) {
        let Some(mut copy) = self.moving.copy.take() else {
            return self.begin_to_move(idle);
        };
        let stepped = copy.step(self.engine.rows(), &self.gone.read());
        match stepped {
            Err(error) => self.stay(Some(copy), &error),
            Ok(()) if copy.is_complete() => self.move_into(copy),
            Ok(()) => self.moving.copy = Some(copy),
        }
    }

    /// Keeps a copy that has begun up with a commit.
    pub(crate) fn mirror(&mut self, commit: &Commit) {
        let Some(mut copy) = self.moving.copy.take() else {
            return;
        };
        match copy.mirror(commit) {
            Err(error) => self.stay(Some(copy), &error),
            Ok(()) => self.moving.copy = Some(copy),
        }
    }

    /// Drops a copy that is not whole, and waits until everything is let go.
    pub(crate) fn end_move(&mut self) {
        if let Some(copy) = self.moving.copy.take() {
            copy.abandon();
        }
        self.moving.await_retired();
    }

    fn size(&self) -> Size {
        Size {
            log: self.engine.log_bytes().unwrap_or(0),
            live: self.live_bytes(),
        }
    }

    /// What is stored and not gone, in bytes.
    pub(crate) fn live_bytes(&self) -> u64 {
        let stored = self.census.share.bytes;
        stored.saturating_sub(self.gone.read().bytes())
    }

    fn begin_to_move(&mut self, idle: bool) {
        let too_early = |then: Instant| Instant::now() < then;
        if self.moving.not_before.is_some_and(too_early) {
            return;
        }
        let size = self.size();
        let ebbs = self.moving.ebbs(size.live, Instant::now());
        let at_birth = self.moving.at_birth;
        if !self.compaction.is_worthwhile(size, at_birth, idle) || !self.has_room(size) {
            return;
        }
        if ebbs && !idle {
            return;
        }
        self.moving.await_retired();
        let number = self.engine.generation().number() + 1;
        self.moving.live_at_begin = size.live;
        self.moving.gone_at_begin = self.gone.read().bytes();
        match Copy::begin(self.engine.generation().store(), number, self.cache_bytes) {
            Ok(copy) => self.moving.copy = Some(copy),
            Err(error) => self.stay(None, &error),
        }
    }

    fn has_room(&self, size: Size) -> bool {
        let space = Space::of(self.engine.generation().store());
        space.is_ok_and(|space| size.has_room_in(space))
    }

    fn stay(&mut self, copy: Option<Copy>, error: &CopyError) {
        tracing::warn!(%error, "the log could not be compacted; the store goes on as it is");
        self.moving.not_before = Some(Instant::now() + RETRY_AFTER);
        if let Some(copy) = copy {
            copy.abandon();
        }
    }

    fn move_into(&mut self, copy: Copy) {
        let finished = copy.finish(self.census, &self.gone.read());
        let (engine, census, gone) = match finished {
            Ok(finished) => finished,
            Err(error) => return self.stay(None, &error),
        };
        let promise = Promise {
            generation: engine.generation().number(),
            commit: self.census.commit,
        };
        match Watermark::create(engine.generation().store(), promise) {
            Ok(watermark) => self.watermark = watermark,
            Err(error) => crate::fault::stop("a new generation could not be named", &error),
        }
        let gone_since = self
            .gone
            .read()
            .bytes()
            .saturating_sub(self.moving.gone_at_begin);
        self.gone = Arc::new(RwLock::new(gone.with_bytes(gone_since)));
        self.census = census;
        self.readers.show(Rows {
            tree: engine.rows().clone(),
            gone: Arc::clone(&self.gone),
        });
        let old = mem::replace(&mut self.engine, engine);
        self.settle_in(old);
    }

    fn settle_in(&mut self, old: crate::engine::Engine) {
        let before = old.log_bytes().unwrap_or(0);
        let size = self.size();
        self.moving.at_birth = size.copied_from(self.moving.live_at_begin);
        tracing::info!(
            before,
            after = size.log,
            live = size.live,
            "compacted the log"
        );
        let retire = thread::Builder::new().name("retirement".to_owned());
        match retire.spawn(move || copy::retire(old)) {
            Ok(retiring) => self.moving.retiring = Some(retiring),
            Err(error) => tracing::warn!(%error, "an old generation is left for the next open"),
        }
        let mut stats = self.stats.lock();
        stats.compactions += 1;
        stats.generation = self.engine.generation().number();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::committer::Stats;
    use crate::generation::Generation;
    use crate::{Batch, Db, Options};

    const MIB: u64 = 1024 * 1024;

    fn worthwhile(log: u64, live: u64, born: Size, idle: bool) -> bool {
        let now = Size {
            log: log * MIB,
            live: live * MIB,
        };
        Compaction::default().is_worthwhile(now, born, idle)
    }

    #[test]
    fn a_store_moves_into_the_generation_after_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            compaction: Compaction {
                spare_bytes: 0,
                factor: 0,
                ..Compaction::default()
            },
            ..Options::default()
        };
        let db = Db::open(dir.path(), options).unwrap();
        while db.stats().compactions == 0 {
            let mut batch = Batch::new();
            batch.put("key", vec![7; 1000]);
            db.commit_blocking(batch).unwrap();
        }
        let stats = db.stats();
        assert_eq!(stats.generation, 1 + stats.compactions);
        assert!(Generation::new(dir.path(), stats.generation).dir().exists());
    }

    #[test]
    fn what_retires_is_waited_for() {
        let (retired, news) = mpsc::channel();
        let mut moving = Moving {
            retiring: Some(thread::spawn(move || retired.send(()).unwrap())),
            ..Moving::default()
        };
        moving.await_retired();
        assert_eq!(news.try_recv(), Ok(()));
        assert!(moving.retiring.is_none());
    }

    #[test]
    fn what_goes_away_fast_is_not_copied_meanwhile() {
        let (mut moving, begun) = (Moving::default(), Instant::now());
        let mut ebbs = |seconds, live| moving.ebbs(live, begun + seconds * WATCHED_FOR);
        assert!(!ebbs(0, 1000));
        assert!(!ebbs(0, 0), "it was not watched for long enough");
        assert!(!ebbs(1, 875), "an eighth has gone");
        assert!(ebbs(1, 874), "more than an eighth");
        assert!(ebbs(2, 765), "of what was there a second before");
        assert!(ebbs(3, 0), "all of it");
        assert!(!ebbs(4, 0));
        assert!(!ebbs(80, 9));
    }

    #[test]
    fn a_log_may_take_some_times_what_is_live() {
        let born = Size::default();
        assert!(!worthwhile(64, 0, born, false));
        assert!(worthwhile(65, 0, born, false));
        assert!(!worthwhile(400, 100, born, false));
        assert!(worthwhile(401, 100, born, false));
    }

    #[test]
    fn an_idle_store_gives_back_more() {
        let born = Size::default();
        assert!(!worthwhile(25, 0, born, false));
        assert!(worthwhile(25, 0, born, true));
        assert!(!worthwhile(24, 0, born, true));
    }

    #[test]
    fn a_copy_may_take_less_than_a_quarter_of_what_is_free() {
        let size = Size {
            log: 900,
            live: 100,
        };
        let room = |free| size.has_room_in(Space { used: 0, free });
        assert!(!room(400));
        assert!(room(404));
        let stats = Stats {
            live_bytes: size.live,
            ..Stats::default()
        };
        assert_eq!(stats.copy_room(), 400, "is told to whoever fills the disk");
    }

    #[test]
    fn a_copy_that_came_out_large_is_not_copied_again() {
        let born = Size {
            log: 500 * MIB,
            live: 100 * MIB,
        };
        assert!(!worthwhile(500, 100, born, true));
        assert!(!worthwhile(999, 100, born, true));
        assert!(worthwhile(1000, 100, born, true));
        assert!(worthwhile(500, 50, born, true));
    }

    #[test]
    fn a_copy_of_which_most_was_deleted_under_way_is_copied_again() {
        let born = Size {
            log: 46 * MIB,
            live: MIB,
        };
        assert!(worthwhile(46, 1, born.copied_from(40 * MIB), true));
        assert!(!worthwhile(46, 1, born.copied_from(MIB), true));
    }
}
