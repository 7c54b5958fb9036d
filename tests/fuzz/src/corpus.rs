//! The inputs kept in the repository: a folder per target.
//!
//! `seed-*` are made from real frames and conversations, by [`write_seeds`]; the others were found:
//! by libFuzzer, for what they reach, or because they once broke something. They stay.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{seeds, target::Target};

/// What is made anew begins with this.
const SEED: &str = "seed-";

/// Where the corpus of a target lies.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name)
}

/// The corpus of a target, in the order of its files' names.
///
/// # Errors
/// When it cannot be read.
pub fn read(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = files(&folder(target))?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// Makes the seeds of a target anew, and tells how many there are.
///
/// # Errors
/// When they cannot be written.
pub fn write_seeds(target: &Target) -> io::Result<usize> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    for path in files(&folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(SEED) {
            fs::remove_file(path)?;
        }
    }
    let seeds = seeds::of(target.name);
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("{SEED}{index:02}")), seed)?;
    }
    Ok(seeds.len())
}

/// Drops what another file of a target's says, too; tells how many are left, and their bytes.
///
/// # Errors
/// When the folder cannot be read or written.
pub fn prune(target: &Target) -> io::Result<(usize, usize)> {
    let mut paths = files(&folder(target))?;
    // Seeds come last, so that what has a name of its own stays.
    paths.sort();
    let mut kept = BTreeSet::new();
    for path in paths {
        if !kept.insert(fs::read(&path)?) {
            fs::remove_file(path)?;
        }
    }
    Ok((kept.len(), kept.iter().map(Vec::len).sum()))
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}
