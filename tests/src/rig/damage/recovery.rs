//! What becomes of a store that a relay has refused, by `holdfast-relay recover`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::rig::role::Program;

/// What `recover` exits with when something is lost.
const LOSSES: i32 = 3;

/// What it exits with when it has done nothing.
const NOTHING_DONE: i32 = 1;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Nothing: there was nothing to salvage anything from, and it said so.
    Nothing,
    /// There is a store in the damaged one's place.
    Salvaged {
        /// Whether it said that nothing is lost.
        complete: bool,
    },
}

/// Has the store in `data` recovered, whose relay's configuration lies beside it, and looks whether the
/// damaged one is kept as it was and losses are spoken of. What is wrong, if not.
pub(super) async fn recover(data: &Path) -> Result<Recovery, String> {
    let before = contents(data).expect("a store");
    let mut command = Program::Own.command();
    command.arg("recover").arg("--config");
    let done = command.arg(data.with_extension("toml")).output().await;
    let done = done.expect("a process");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let code = done.status.code();
    let (recovery, kept) = match code {
        Some(0 | LOSSES) => {
            let complete = code == Some(0);
            let aside = PathBuf::from(format!("{}.damaged-1", data.display()));
            (Recovery::Salvaged { complete }, aside)
        }
        Some(NOTHING_DONE) => (Recovery::Nothing, data.to_owned()),
        _ => return Err(format!("recover ended with {}: {said}", done.status)),
    };
    if contents(&kept).ok().as_ref() != Some(&before) {
        return Err(format!("recover did not leave the store as it was: {said}"));
    }
    match speaks_of(recovery, &said, data) {
        true => Ok(recovery),
        false => Err(format!("recover does not say what is lost: {said}")),
    }
}

fn speaks_of(recovery: Recovery, said: &str, data: &Path) -> bool {
    let lost = said.lines().find_map(|line| line.strip_prefix("lost "));
    let nothing = lost.map(|lost| lost.trim() == "nothing");
    match recovery {
        Recovery::Salvaged { complete } => nothing == Some(complete),
        Recovery::Nothing => said.contains(&data.display().to_string()),
    }
}

/// All files below a folder, but the lock, which says nothing.
fn contents(folder: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            let name = path.strip_prefix(folder).unwrap_or(&path).to_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if name == Path::new("lock") => {}
                false => drop(found.insert(name, fs::read(&path)?)),
            }
        }
    }
    Ok(found)
}
