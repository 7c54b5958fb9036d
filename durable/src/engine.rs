//! sled itself: how it is opened, what is looked at before, and its panics, caught.

use std::any::Any;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::disk;
use crate::error::OpenError;
use crate::fault;
use crate::generation::Generation;
use crate::names;

/// How much of the log sled fills before it goes on elsewhere, in bytes. The largest it can be at
/// little cost in memory: a page over a quarter of it would go to a file that no sync covers.
pub(crate) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// How often sled writes what nobody waits for, and collects garbage, in milliseconds.
const FLUSH_EVERY_MS: u64 = 500;

/// How long sled's own lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A generation that sled has open.
pub(crate) struct Engine {
    generation: Generation,
    rows: sled::Db,
    /// sled's log through a handle of our own. Linux reports a failed write of a page once to each
    /// open file, and sled's periodic flusher, which syncs through sled's, only logs what it hears.
    log: File,
}

impl Engine {
    /// Opens sled on a generation, or lets it begin there. What an interrupted open left behind, or
    /// what sled can do without, is not in the way.
    pub(crate) fn open(generation: Generation, cache_bytes: u64) -> Result<Self, OpenError> {
        remove_broken_settings(&generation.settings())?;
        remove_broken_snapshots(&generation)?;
        refuse_blobs(&generation.blobs())?;
        let rows = start(&generation, cache_bytes)?;
        let path = generation.log();
        let log = File::options().write(true).open(&path);
        Ok(Self {
            log: log.map_err(OpenError::io("open", &path))?,
            generation,
            rows,
        })
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }

    pub(crate) fn rows(&self) -> &sled::Db {
        &self.rows
    }

    /// Makes everything applied so far durable.
    pub(crate) fn flush(&self) -> sled::Result<()> {
        self.rows.flush()?;
        if let Err(error) = self.log.sync_data() {
            fault::stop("a write of the log failed", &error);
        }
        Ok(())
    }

    /// What the log takes on the disk, in bytes.
    pub(crate) fn log_bytes(&self) -> io::Result<u64> {
        self.log.metadata().map(|metadata| disk::taken(&metadata))
    }

    /// Makes the names of new files durable, and sled's settings, which it leaves to the kernel.
    pub(crate) fn sync_names(&self) -> Result<(), OpenError> {
        names::sync(&self.generation.settings())?;
        names::sync(self.generation.dir())?;
        names::sync(self.generation.store())
    }
}

fn start(generation: &Generation, cache_bytes: u64) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new()
        .path(generation.dir())
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(cache_bytes)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::LowSpace);
    match caught(|| await_lock(&config)) {
        Ok(opened) => opened.map_err(|error| refusal(generation, error)),
        Err(what) => Err(OpenError::damaged(generation.dir(), what)),
    }
}

/// Runs what may make sled panic, as much of what damage there can be does; or its words.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| said(panic.as_ref()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("sled panicked: {}", text.unwrap_or("without a word"))
}

/// sled's settings hold nothing that this program does not know. sled writes them without a sync,
/// so a power cut may leave half of them, and it would refuse those for ever.
fn remove_broken_settings(path: &Path) -> Result<(), OpenError> {
    remove_unless(path, |content| checked(content).is_some())
}

/// A snapshot only saves sled from reading its whole log. One that is half written, damaged, or
/// another's under a newer name it would take for the newest, and fail.
fn remove_broken_snapshots(generation: &Generation) -> Result<(), OpenError> {
    for path in generation.snapshots()? {
        let number = path.extension().and_then(|number| number.to_str());
        let number = number.and_then(|number| i64::from_str_radix(number, 16).ok());
        remove_unless(&path, |content| {
            number.is_some() && snapshot_number(content) == number
        })?;
    }
    Ok(())
}

/// How far in the log a snapshot has read, by its content: the offset plus one, the pages, the
/// length of both, their checksum.
fn snapshot_number(content: &[u8]) -> Option<i64> {
    let (content, checksum) = content.split_last_chunk()?;
    let (content, _len) = content.split_last_chunk::<{ size_of::<u64>() }>()?;
    let number = i64::from_le_bytes(*content.first_chunk()?);
    (crc32fast::hash(content) == u32::from_le_bytes(*checksum)).then_some(number - 1)
}

/// What the checksum at the end of the settings is that of.
fn checked(content: &[u8]) -> Option<&[u8]> {
    let (settings, checksum) = content.split_last_chunk()?;
    (crc32fast::hash(settings) == u32::from_le_bytes(*checksum)).then_some(settings)
}

fn remove_unless(path: &Path, whole: impl FnOnce(&[u8]) -> bool) -> Result<(), OpenError> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        content => content.map_err(OpenError::io("read", path))?,
    };
    if whole(&content) {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), "a file that sled can do without is not whole: removed");
    fs::remove_file(path).map_err(OpenError::io("remove", path))
}

fn refuse_blobs(blobs: &Path) -> Result<(), OpenError> {
    match names::within(blobs)?.len() {
        0 => Ok(()),
        count => Err(OpenError::Blobs {
            dir: blobs.to_owned(),
            count,
        }),
    }
}

/// We hold our own lock by now, so whoever holds sled's is on the way out: its threads may keep the
/// log a moment longer than the handle that was closed.
fn await_lock(config: &sled::Config) -> sled::Result<sled::Db> {
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_sleds_lock(&error) && Instant::now() < patience => {
                thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

fn refusal(generation: &Generation, error: sled::Error) -> OpenError {
    let dir = generation.dir();
    match error {
        sled::Error::Io(error) if is_sleds_lock(&error) => OpenError::InUse {
            dir: generation.store().to_owned(),
        },
        sled::Error::Io(error) if !is_sleds_verdict(&error) => OpenError::io("open", dir)(error),
        error => OpenError::damaged(dir, error.to_string()),
    }
}

/// sled locks its log too, and lets go when the last scan of a closed store is dropped. It has
/// only words for that.
fn is_sleds_lock(error: &io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

/// Whether the error is about what sled read, not the system's refusal to let it read.
fn is_sleds_verdict(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Db, Options};

    /// A store that was closed, with what sled left in its folder. It makes a snapshot when it opens
    /// one that has rows.
    fn closed(dir: &Path) -> Generation {
        let db = Db::open(dir, Options::default()).unwrap();
        let mut batch = Batch::new();
        batch.put("key", "value");
        db.commit_blocking(batch).unwrap();
        db.close().unwrap();
        Db::open(dir, Options::default()).unwrap().close().unwrap();
        Generation::new(dir, 1)
    }

    fn flipped(mut content: Vec<u8>, at: usize) -> Vec<u8> {
        content[at] ^= 1;
        content
    }

    #[test]
    fn a_snapshot_stays_that_is_whole_and_under_its_own_number() {
        let dir = tempfile::tempdir().unwrap();
        let generation = closed(dir.path());
        let snapshots = generation.snapshots().unwrap();
        let [own] = &snapshots[..] else {
            panic!("{snapshots:?}");
        };
        let whole = fs::read(own).unwrap();
        let name = |name: &str| generation.dir().join(name);
        for (path, content) in [
            (name("snap.0000000000000000"), whole.clone()),
            (name("snap.0000000000000001"), whole[..9].to_vec()),
            (name("snap.7FFFFFFFFFFFFFFF"), whole.clone()),
            (name("snap.7FFFFFFFFFFFFFFF"), flipped(whole.clone(), 0)),
            (
                name("snap.0000000000000001.generating"),
                whole[..9].to_vec(),
            ),
            (name("snap.none"), Vec::new()),
        ] {
            fs::write(&path, content).unwrap();
            remove_broken_snapshots(&generation).unwrap();
            let left = generation.snapshots().unwrap();
            assert_eq!(left, snapshots, "{} was left", path.display());
        }
        for at in [0, whole.len() / 2, whole.len() - 1] {
            fs::write(own, flipped(whole.clone(), at)).unwrap();
            remove_broken_snapshots(&generation).unwrap();
            assert!(!own.exists(), "byte {at} is not as it was");
        }
    }

    #[test]
    fn settings_stay_that_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let settings = closed(dir.path()).settings();
        let whole = fs::read(&settings).unwrap();
        assert_eq!(remove_broken_settings(&settings), Ok(()));
        assert_eq!(fs::read(&settings).unwrap(), whole);
        for broken in [Vec::new(), whole[1..].to_vec(), flipped(whole, 0)] {
            fs::write(&settings, broken).unwrap();
            assert_eq!(remove_broken_settings(&settings), Ok(()));
            assert!(!settings.exists());
        }
        assert_eq!(
            remove_broken_settings(&settings),
            Ok(()),
            "nothing is there"
        );
        fs::create_dir(&settings).unwrap();
        let refused = remove_broken_settings(&settings);
        assert!(matches!(refused, Err(OpenError::Io { action: "read", .. })));
    }

    #[test]
    fn a_page_in_a_file_of_its_own_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = closed(dir.path()).blobs();
        fs::write(blobs.join("4096"), "a page").unwrap();
        let refused = Db::open(dir.path(), Options::default()).err();
        let expected = OpenError::Blobs {
            dir: blobs,
            count: 1,
        };
        assert_eq!(refused, Some(expected));
    }

    /// Whoever closed the store just now lets go of sled's lock within that time.
    #[test]
    fn sleds_lock_is_waited_for_and_then_the_store_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let generation = closed(dir.path());
        let held = File::open(generation.log()).unwrap();
        held.lock().unwrap();
        let begun = Instant::now();
        let refused = Engine::open(generation.clone(), 1 << 20).err();
        assert!(begun.elapsed() >= LOCK_PATIENCE);
        let dir = dir.path().to_owned();
        assert_eq!(refused, Some(OpenError::InUse { dir }));
        drop(held);
        assert!(Engine::open(generation, 1 << 20).is_ok());
    }

    #[test]
    fn what_sled_says_is_told_apart() {
        let store = Path::new("store");
        let generation = Generation::new(store, 1);
        let refusal = |error| refusal(&generation, sled::Error::Io(error));
        assert_eq!(
            refusal(io::Error::other("could not acquire lock on \"db\"")),
            OpenError::InUse {
                dir: store.to_owned()
            }
        );
        let full = rustix::io::Errno::NOSPC;
        assert_eq!(
            refusal(full.into()),
            OpenError::io("open", generation.dir())(full.into())
        );
        let verdict = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(refusal(verdict).is_damage());
    }

    #[test]
    fn a_panic_is_told_in_its_words() {
        assert_eq!(caught(|| 1), Ok(1));
        let said = |words: &str| Err::<(), _>(format!("sled panicked: {words}"));
        let panic = |words: String| caught(move || std::panic::panic_any(words));
        assert_eq!(panic("at 7".to_owned()), said("at 7"));
        assert_eq!(caught(|| panic!("at the end")), said("at the end"));
        assert_eq!(caught(|| std::panic::panic_any(7)), said("without a word"));
    }
}
