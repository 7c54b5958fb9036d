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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_directory_is_told_and_of_what_is_none_that_it_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert_eq!(within(&file), Ok(Vec::new()), "not there yet");
        fs::write(&file, "").unwrap();
        assert_eq!(within(dir.path()), Ok(vec![file.clone()]));
        let refused = within(&file).unwrap_err();
        assert!(
            matches!(&refused, OpenError::Io { action: "read", path, .. } if *path == file),
            "{refused}"
        );
    }

    #[test]
    fn what_is_not_there_cannot_be_made_durable() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        assert_eq!(sync(dir.path()), Ok(()));
        assert_eq!(sync_parent(&nowhere), Ok(()));
        assert_eq!(sync_parent(Path::new("relative")), Ok(()));
        assert!(matches!(
            sync(&nowhere),
            Err(OpenError::Io { action: "sync", .. })
        ));
        assert!(sync_parent(&nowhere.join("below")).is_err());
    }
}
