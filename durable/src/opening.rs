//! Opening a store so that nothing that is wrong with it stays silent.
//!
//! In this order: a lock against a second process; what an interrupted open left behind; sled
//! itself, with its panics caught; the commit number compared with the promised one, and the rows
//! with the census; and a first commit of our own, which proves that sled's syncs are real in this
//! program. The number beside is raised last, so that an open cut off anywhere leaves a store that
//! opens.

use std::any::Any;
use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::barrier;
use crate::census::Census;
use crate::db::Options;
use crate::error::{OpenError, ReadError};
use crate::group::Group;
use crate::rows;
use crate::watermark::{self, Watermark};

/// How much of the log sled fills before it goes on elsewhere, in bytes. The largest it can be at
/// little cost in memory: a page over a quarter of it would go to a file that no sync covers.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// How often sled writes what nobody waits for, and collects garbage, in milliseconds.
const FLUSH_EVERY_MS: u64 = 500;

/// How long sled's own lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// An open store, checked. The lock comes last, so that it is let go last.
pub(crate) struct Opened {
    pub(crate) engine: sled::Db,
    pub(crate) log: File,
    pub(crate) watermark: Watermark,
    pub(crate) census: Census,
    pub(crate) lock: File,
}

/// Opens the store in `dir`, or makes a new one.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    fs::create_dir_all(dir).map_err(OpenError::io("create", dir))?;
    let lock = lock(dir)?;
    let engine_dir = dir.join("sled");
    remove_half_written_snapshots(&engine_dir)?;
    refuse_blobs(&engine_dir.join("blobs"))?;
    let promised = watermark::read(dir)?;
    let engine = start(dir, &engine_dir, options)?;
    let log = open_log(&engine_dir.join("db"))?;
    let found = check(dir, &engine, promised)?;
    let census = prove_synced(dir, &engine, found)?;
    let watermark = Watermark::create(dir, census.commit)?;
    sync_names(dir, &engine_dir)?;
    Ok(Opened {
        engine,
        log,
        watermark,
        census,
        lock,
    })
}

/// Our own lock, not sled's: it must be held before the first file is touched.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(OpenError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(OpenError::io("lock", &path)(error)),
    }
}

/// sled would take one for the newest snapshot, and fail.
fn remove_half_written_snapshots(engine_dir: &Path) -> Result<(), OpenError> {
    let half_written = |path: &PathBuf| path.extension().is_some_and(|end| end == "generating");
    for path in files_in(engine_dir)?.into_iter().filter(half_written) {
        fs::remove_file(&path).map_err(OpenError::io("remove", &path))?;
    }
    Ok(())
}

fn refuse_blobs(blobs: &Path) -> Result<(), OpenError> {
    match files_in(blobs)?.len() {
        0 => Ok(()),
        count => Err(OpenError::Blobs {
            dir: blobs.to_owned(),
            count,
        }),
    }
}

/// What lies in a directory; nothing when it is not there yet.
fn files_in(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).map_err(OpenError::io("read", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths
        .collect::<Result<_, _>>()
        .map_err(OpenError::io("read", dir))
}

/// sled's own recovery, which panics at much of what damage there can be.
fn start(dir: &Path, engine_dir: &Path, options: &Options) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new()
        .path(engine_dir)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::LowSpace);
    match catch_unwind(AssertUnwindSafe(|| open_engine(&config))) {
        Ok(Ok(engine)) => Ok(engine),
        Ok(Err(sled::Error::Io(error))) if is_sleds_lock(&error) => Err(OpenError::InUse {
            dir: dir.to_owned(),
        }),
        Ok(Err(sled::Error::Io(error))) => Err(OpenError::io("open", engine_dir)(error)),
        Ok(Err(error)) => Err(damaged(dir, error.to_string())),
        Err(panic) => Err(damaged(dir, said(panic.as_ref()))),
    }
}

/// We hold our own lock by now, so whoever holds sled's is on the way out: its threads may keep the
/// log a moment longer than the handle that was closed.
fn open_engine(config: &sled::Config) -> sled::Result<sled::Db> {
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

fn open_log(path: &Path) -> Result<File, OpenError> {
    let log = File::options().write(true).open(path);
    log.map_err(OpenError::io("open", path))
}

/// sled locks its log too, and lets go when the last scan of a closed store is dropped. It has
/// only words for that.
fn is_sleds_lock(error: &io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

/// Compares what is there with what must be there. Where the promised number was taken away, which
/// is the way out after a loss, the rows count as they are.
fn check(dir: &Path, engine: &sled::Db, promised: Option<u64>) -> Result<Census, OpenError> {
    let (expected, counted) = contained(dir, || Ok((rows::census(engine)?, rows::count(engine)?)))?;
    let expected = expected.unwrap_or_default();
    let (watermark, keys) = (watermark::path(dir), expected.keys);
    let dir = dir.to_owned();
    match promised {
        Some(promised) if promised > expected.commit => Err(OpenError::Behind {
            dir,
            watermark,
            promised,
            found: expected.commit,
        }),
        Some(_) if !expected.agrees_with(&counted) => Err(OpenError::Incomplete {
            dir,
            watermark,
            expected: keys,
            found: counted.keys,
        }),
        _ => Ok(Census {
            commit: expected.commit,
            ..counted
        }),
    }
}

/// Runs a look at the store whose damage may make sled panic.
fn contained<T>(dir: &Path, look: impl FnOnce() -> Result<T, ReadError>) -> Result<T, OpenError> {
    match catch_unwind(AssertUnwindSafe(look)) {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(error)) => Err(damaged(dir, error.to_string())),
        Err(panic) => Err(damaged(dir, said(panic.as_ref()))),
    }
}

/// Commits the open itself, and sees that it was synced.
fn prove_synced(dir: &Path, engine: &sled::Db, last: Census) -> Result<Census, OpenError> {
    let before = barrier::syncs();
    let commit = || {
        let census = Group::new(engine, last).apply()?;
        engine.flush().map(|_| census)
    };
    match catch_unwind(AssertUnwindSafe(commit)) {
        Ok(Ok(census)) if barrier::held_since(before) => Ok(census),
        Ok(Ok(_)) => Err(OpenError::NotSynced),
        Ok(Err(error)) => Err(OpenError::io("write to", dir)(error.into())),
        Err(panic) => Err(damaged(dir, said(panic.as_ref()))),
    }
}

/// Makes the names of new files durable, and sled's settings, which it leaves to the kernel.
fn sync_names(dir: &Path, engine_dir: &Path) -> Result<(), OpenError> {
    let settings = engine_dir.join("conf");
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    for path in [
        Some(settings.as_path()),
        Some(engine_dir),
        Some(dir),
        parent,
    ]
    .into_iter()
    .flatten()
    {
        sync(path).map_err(OpenError::io("sync", path))?;
    }
    Ok(())
}

#[cfg(unix)]
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file, and names are durable with what they name.
#[cfg(not(unix))]
fn sync(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn damaged(dir: &Path, what: String) -> OpenError {
    OpenError::Damaged {
        dir: dir.to_owned(),
        what,
    }
}

/// The words of a panic.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("sled panicked: {}", text.unwrap_or("without a word"))
}
