//! Files that are either whole or absent: certificates, keys and lists on disk.
//!
//! A file is written under a temporary name in its folder, synced, and only then takes its name; a crash
//! at any moment leaves the former content or the new one. Keys are created readable by their owner
//! alone; there is no moment at which they are not.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// What becomes of a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It is kept and the write is refused.
    Never,
    /// It is replaced.
    Replace,
}

impl Overwrite {
    /// What a `--force` flag says.
    pub fn from_force(force: bool) -> Self {
        if force { Self::Replace } else { Self::Never }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Everybody: mode 0644, less what the process' mask forbids.
    Public,
    /// The owner alone: mode 0600.
    Private,
}

/// Reads a whole text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}

/// Reads a text file that may be absent.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create the folder", path))
}

/// Writes a whole file and makes it durable, creating its folder when needed.
///
/// # Errors
/// [`Error::Exists`] when it is there and may not be replaced, [`Error::Io`] otherwise.
pub(crate) fn write(
    path: &Path,
    content: &str,
    secrecy: Secrecy,
    overwrite: Overwrite,
) -> Result<()> {
    let folder = folder_of(path);
    create_folder(&folder)?;
    let file = write_temporary(&folder, content, secrecy).map_err(Error::io("write", path))?;
    let persisted = match overwrite {
        Overwrite::Never => file.persist_noclobber(path),
        Overwrite::Replace => file.persist(path),
    };
    match persisted {
        Ok(_) => sync_folder(&folder),
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::Exists(path.to_owned()))
        }
        Err(failed) => Err(Error::io("write", path)(failed.error)),
    }
}

/// Refuses when one of these files is there and may not be replaced.
pub(crate) fn ensure_free(paths: &[&Path], overwrite: Overwrite) -> Result<()> {
    if overwrite == Overwrite::Replace {
        return Ok(());
    }
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(taken) => Err(Error::Exists((*taken).to_owned())),
        None => Ok(()),
    }
}

/// Waits until no other process holds `path` as its lock, and holds it until the answer is dropped.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn write_temporary(
    folder: &Path,
    content: &str,
    secrecy: Secrecy,
) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".holdfast-");
    let permissions = permissions(secrecy);
    if let Some(permissions) = permissions {
        builder.permissions(permissions);
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(unix)]
fn permissions(secrecy: Secrecy) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match secrecy {
        Secrecy::Public => 0o644,
        Secrecy::Private => 0o600,
    };
    Some(Permissions::from_mode(mode))
}

/// Elsewhere a file inherits who may read it from its folder.
#[cfg(not(unix))]
fn permissions(_: Secrecy) -> Option<Permissions> {
    None
}

/// Makes a new name durable; only Unix lets a folder be opened for that.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("sync the folder", folder))?;
    }
    Ok(())
}
