//! The folders that hold the store's rows, one after the other.
//!
//! sled's log does not shrink, so what is live is copied into a new folder from time to time, the
//! next generation. Which one is the store, the watermark says. Any other is half a copy, or what
//! was copied from, and goes at the next open; but only once the store has been checked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::names;

/// What the names of the folders begin with.
const NAME: &str = "generation-";

/// One folder, which sled has to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    number: u64,
    dir: PathBuf,
}

impl Generation {
    /// The generation of this number in the store's directory, whether or not it is there.
    pub(crate) fn new(store: &Path, number: u64) -> Self {
        let dir = store.join(format!("{NAME}{number:06}"));
        Self { number, dir }
    }

    /// All that lie in the store's directory, oldest first.
    pub(crate) fn all(store: &Path) -> Result<Vec<Self>, OpenError> {
        let mut all: Vec<_> = names::within(store)?
            .into_iter()
            .filter_map(Self::of)
            .collect();
        all.sort_by_key(|generation| generation.number);
        Ok(all)
    }

    fn of(dir: PathBuf) -> Option<Self> {
        let number = dir.file_name()?.to_str()?.strip_prefix(NAME)?.parse();
        number.ok().map(|number| Self { number, dir })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store's directory, which holds this one.
    pub(crate) fn store(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// sled's log, which holds everything.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("db")
    }

    /// sled's settings, which it leaves to the kernel to write.
    pub(crate) fn settings(&self) -> PathBuf {
        self.dir.join("conf")
    }

    /// Where sled puts pages that are too large for its log.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// sled's notes on where in the log each page lies, oldest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<PathBuf>, OpenError> {
        let snapshot = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("snap."))
        };
        let mut paths = names::within(&self.dir)?;
        paths.retain(snapshot);
        paths.sort();
        Ok(paths)
    }

    /// Refuses a generation without its log, where sled would begin a new one.
    pub(crate) fn refuse_missing(&self) -> Result<(), OpenError> {
        for path in [self.dir.clone(), self.log()] {
            if !path.exists() {
                return Err(OpenError::Missing { path });
            }
        }
        Ok(())
    }

    /// Removes the folder with everything in it.
    pub(crate) fn remove(&self) -> Result<(), OpenError> {
        fs::remove_dir_all(&self.dir).map_err(OpenError::io("remove", &self.dir))
    }
}
