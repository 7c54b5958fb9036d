//! What can go wrong, each with its culprit and the way out.
//!
//! All of them compare by equality, so that a test asserts the one it means.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store could not be opened. Nothing was changed in it beyond what sled's own recovery does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle in this one, has the store open.
    #[error("the store {} is in use; stop the other process, or close the other handle, first", dir.display())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
    },
    /// sled could not make sense of its files, or a row in them is not what was written.
    #[error("the store {} is damaged: {what}; {WAY_OUT}", dir.display())]
    Damaged {
        /// The store's directory, or the folder in it.
        dir: PathBuf,
        /// What sled said, or which row it is.
        what: String,
    },
    /// A file without which the store is not complete is gone.
    #[error("{} is missing, and the store is not complete without it; {WAY_OUT}", path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
    },
    /// The store lacks commits that it is known to have had: its files were truncated, or replaced
    /// by older ones.
    #[error(
        "the store {} lost commits: it ends at commit {found}, but commit {promised} was on the disk; {WAY_OUT}",
        dir.display()
    )]
    Behind {
        /// The store's directory.
        dir: PathBuf,
        /// The commit number that was on the disk once.
        promised: u64,
        /// The commit number the store holds now; 0 is an empty store.
        found: u64,
    },
    /// The store has the newest commit, but not the rows that the commits up to it left: a part in
    /// the middle of sled's log is damaged, and was skipped.
    #[error(
        "the store {} lost rows: it should have {expected} keys and has {found}, or has older values for some; {WAY_OUT}",
        dir.display()
    )]
    Incomplete {
        /// The store's directory.
        dir: PathBuf,
        /// How many keys there should be.
        expected: u64,
        /// How many there are; the same number when values went back to older ones.
        found: u64,
    },
    /// The file that holds the promised commit number cannot be understood.
    #[error(
        "{} is damaged, so that nobody can tell whether the store is complete; {WAY_OUT}",
        path.display()
    )]
    Watermark {
        /// The file.
        path: PathBuf,
    },
    /// sled keeps pages in files of their own, which no sync covers. This crate never lets it, so
    /// something else wrote here.
    #[error("{} holds {count} files, which no sync covers; {WAY_OUT}", dir.display())]
    Blobs {
        /// The directory that should be empty.
        dir: PathBuf,
        /// How many files it holds.
        count: usize,
    },
    /// sled's syncs do not reach this crate, so no commit would survive a power cut.
    #[error(
        "sled's sync_file_range is not ours in this program, so commits would not survive a power cut; \
         link holdfast-durable before any library that defines that symbol"
    )]
    NotSynced,
    /// The operating system refused.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kind of refusal.
        kind: io::ErrorKind,
        /// In the system's words.
        reason: String,
    },
}

/// What to do about a store that is damaged. [`recover`](crate::recover) never touches it.
const WAY_OUT: &str = "restore it from a backup, or recover what is left into a new store";

impl OpenError {
    /// Whether the store itself is at fault, so that [`recover`](crate::recover) is a way out.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::NotSynced | Self::Io { .. } => false,
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::Behind { .. }
            | Self::Incomplete { .. }
            | Self::Watermark { .. }
            | Self::Blobs { .. } => true,
        }
    }

    /// The store in `dir`, or the folder `dir` in it, is damaged.
    pub(crate) fn damaged(dir: &Path, what: String) -> Self {
        let dir = dir.to_owned();
        Self::Damaged { dir, what }
    }

    /// For `map_err`: names the action and the file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io {
            action,
            path,
            kind: error.kind(),
            reason: error.to_string(),
        }
    }
}

/// Why a value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What is stored is not what was written.
    #[error(
        "the value of key {key} is damaged: {damage}; restore the store from a backup, or delete the key"
    )]
    Corrupt {
        /// The key, in hex.
        key: String,
        /// What is wrong with it.
        damage: Damage,
    },
    /// sled failed to read its own files.
    #[error(
        "the store cannot be read: {what}; check the disk, then restore the store from a backup"
    )]
    Engine {
        /// What sled said.
        what: String,
    },
    /// The store was closed before this read.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl ReadError {
    /// What is wrong, without the advice.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Corrupt { key, damage } => format!("the row {key}: {damage}"),
            Self::Engine { what } => what.clone(),
            Self::Closed(closed) => closed.to_string(),
        }
    }
}

/// What is wrong with a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The row is shorter than any that is ever written.
    Short {
        /// Its length in bytes.
        len: usize,
    },
    /// The row's version is unknown: a bit flipped, or a newer release wrote it.
    Version(u8),
    /// The checksum differs.
    Checksum {
        /// As stored.
        stored: u32,
        /// As computed from what is stored.
        computed: u32,
    },
    /// A part of a large value is not there.
    MissingChunk(u32),
    /// The parts of a large value don't add up to its length.
    Length {
        /// As announced, in bytes.
        announced: u64,
        /// As found, in bytes.
        found: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { len } => write!(f, "{len} bytes are too few for a row"),
            Self::Version(version) => write!(f, "unknown row version {version}"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum {computed:08x}, expected {stored:08x}")
            }
            Self::MissingChunk(index) => write!(f, "chunk {index} is missing"),
            Self::Length { announced, found } => {
                write!(f, "{found} bytes, expected {announced}")
            }
        }
    }
}

/// The store was closed; the handle that is left can do nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is closed; open it again")]
pub struct Closed;

/// Why closing did not end as it should. Every queued commit is durable all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// `close` was called in a commit's `done`, on the thread it would wait for.
    #[error("close was called from a commit's own callback; call it from another thread")]
    FromCallback,
    /// The promised commit number could not be made durable; the next open checks less.
    #[error("cannot write {}: {reason}; check the disk", path.display())]
    Watermark {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_that_is_itself_at_fault_is_damaged() {
        let dir = PathBuf::from("store");
        assert!(OpenError::damaged(&dir, "a row".to_owned()).is_damage());
        assert!(OpenError::Missing { path: dir.clone() }.is_damage());
        let refused = OpenError::io("open", &dir)(io::Error::other("not now"));
        for other in [refused, OpenError::InUse { dir }, OpenError::NotSynced] {
            assert!(!other.is_damage(), "{other}");
        }
    }
}
