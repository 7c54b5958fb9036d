//! What files take on the disk, and what the disk has left.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use crate::names;

/// What is written in a file system and what is free in it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What is written in it.
    pub used: u64,
    /// What a program that is not the system's own may still write.
    pub free: u64,
}

impl Space {
    /// The file system that holds `path`.
    ///
    /// # Errors
    /// When `path` is not there, or the system does not say.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            used: found
                .f_blocks
                .saturating_sub(found.f_bfree)
                .saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// How much is written of what may be, from 0 to 1. What is kept for the system, or for others by
    /// a quota, counts for neither, as in `df`.
    #[must_use]
    pub fn fill(&self) -> f64 {
        let all = self.all();
        if all == 0 {
            return 1.0;
        }
        self.used as f64 / all as f64
    }

    /// What is written and what may be, together.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.used.saturating_add(self.free)
    }
}

/// What a file takes, which is less than its length where it has holes.
#[cfg(unix)]
pub(crate) fn taken(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

/// What a file takes, as far as this system says.
#[cfg(not(unix))]
pub(crate) fn taken(metadata: &Metadata) -> u64 {
    metadata.len()
}

/// What all files in a directory, and in those below it, take. A file that goes meanwhile takes
/// nothing.
pub(crate) fn taken_below(dir: &Path) -> u64 {
    let paths = names::within(dir).unwrap_or_default();
    let taken = |path: std::path::PathBuf| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => taken_below(&path),
        Ok(metadata) => taken(&metadata),
        Err(_) => 0,
    };
    paths.into_iter().map(taken).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_half_left_is_half_full() {
        let space = |used, free| Space { used, free };
        assert_eq!(space(4, 4).fill(), 0.5);
        assert_eq!(space(0, 8).fill(), 0.0);
        assert_eq!(space(0, 0).fill(), 1.0);
    }

    #[test]
    fn there_is_a_disk_here() {
        let space = Space::of(Path::new(".")).unwrap();
        assert!((0.0..=1.0).contains(&space.fill()) && space.used > 0);
        assert!(Space::of(Path::new("no such file")).is_err());
    }

    #[test]
    fn files_below_count() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        for file in ["here", "below/there"] {
            std::fs::write(dir.path().join(file), vec![1; 100_000]).unwrap();
        }
        assert!(taken_below(dir.path()) >= 200_000);
    }
}
