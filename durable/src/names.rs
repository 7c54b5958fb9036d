//! Names in directories: what lies where, and making a new name durable.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// What lies in a directory; nothing when it is not there yet.
pub(crate) fn within(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(OpenError::io("read", dir))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths
        .collect::<Result<_, _>>()
        .map_err(OpenError::io("read", dir))
}

/// Makes a file, or the names in a directory, durable.
pub(crate) fn sync(path: &Path) -> Result<(), OpenError> {
    sync_all(path).map_err(OpenError::io("sync", path))
}

/// Makes the name of a directory itself durable.
pub(crate) fn sync_parent(dir: &Path) -> Result<(), OpenError> {
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync(parent),
        None => sync(Path::new(".")),
    }
}

#[cfg(unix)]
fn sync_all(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file, and names are durable with what they name.
#[cfg(not(unix))]
fn sync_all(_path: &Path) -> io::Result<()> {
    Ok(())
}
