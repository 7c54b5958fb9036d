//! Ways in which a store comes to be not as it was left.

use std::{
    fmt, fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use rand::{Rng, RngCore, rngs::SmallRng, seq::IndexedRandom};

use super::store;

/// What disks and file systems lose at a time.
const PAGE: u64 = 4096;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wound {
    Flip(u32),
    Zero(u32),
    Garbage(usize),
    Truncate,
    Remove,
    RemoveFolder,
    Stale,
}

impl fmt::Display for Wound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip(bits) => write!(f, "{bits} bits flipped in"),
            Self::Zero(pages) => write!(f, "{pages} pages zeroed in"),
            Self::Garbage(bytes) => write!(f, "{bytes} bytes of garbage in"),
            Self::Truncate => f.write_str("truncated:"),
            Self::Remove => f.write_str("removed:"),
            Self::RemoveFolder => f.write_str("removed the folder of"),
            Self::Stale => f.write_str("put back an older"),
        }
    }
}

impl Wound {
    pub(super) fn some(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..100) {
            0..30 => Self::Flip(1 << rng.random_range(0..4)),
            30..45 => Self::Zero(rng.random_range(1..4)),
            45..60 => Self::Garbage(rng.random_range(1..8192)),
            60..75 => Self::Truncate,
            75..83 => Self::Remove,
            83..86 => Self::RemoveFolder,
            _ => Self::Stale,
        }
    }

    /// Does it to a store. What was done, in words.
    pub(super) fn inflict(
        self,
        rng: &mut SmallRng,
        store: &Path,
        older: &Path,
    ) -> io::Result<String> {
        let files = files(store)?;
        let file = match self {
            Self::Stale => Self::put_back(rng, store, older, &files)?,
            _ => self.hurt_one(rng, &files)?,
        };
        let file = file.strip_prefix(store).unwrap_or(&file).display();
        Ok(format!("{self} {file}"))
    }

    fn put_back(
        rng: &mut SmallRng,
        store: &Path,
        older: &Path,
        files: &[PathBuf],
    ) -> io::Result<PathBuf> {
        let other = |file: &&PathBuf| {
            let name = file.strip_prefix(store).unwrap_or(file);
            fs::read(older.join(name)).is_ok_and(|was| fs::read(file).is_ok_and(|is| is != was))
        };
        let changed: Vec<_> = files.iter().filter(other).collect();
        let file = changed.choose(rng).expect("a file that has changed");
        let name = file.strip_prefix(store).unwrap_or(file);
        store::copy_file(&older.join(name), file)?;
        Ok((*file).clone())
    }

    fn hurt_one(self, rng: &mut SmallRng, files: &[PathBuf]) -> io::Result<PathBuf> {
        let path = match self {
            // Never the data folder itself: without it, a relay is a new one.
            Self::RemoveFolder => largest(files),
            _ => choose(rng, files),
        };
        let len = fs::metadata(&path)?.len();
        match self {
            Self::Remove => fs::remove_file(&path)?,
            Self::RemoveFolder => fs::remove_dir_all(path.parent().unwrap_or(&path))?,
            Self::Truncate => {
                let file = fs::File::options().write(true).open(&path)?;
                file.set_len(rng.random_range(0..=len))?;
            }
            _ if len == 0 => {}
            Self::Flip(bits) => {
                for _ in 0..bits {
                    let at = used(rng, &path, len)?;
                    let mut byte = [0];
                    read(&path, at, &mut byte)?;
                    write(&path, at, &[byte[0] ^ 1 << rng.random_range(0..8)])?;
                }
            }
            Self::Zero(pages) => {
                let start = used(rng, &path, len)? / PAGE * PAGE;
                let end = (start + u64::from(pages) * PAGE).min(len);
                write(&path, start, &vec![0; (end - start) as usize])?;
            }
            Self::Garbage(bytes) => {
                let start = used(rng, &path, len)?;
                let end = (start + bytes as u64).min(len);
                let mut garbage = vec![0; (end - start) as usize];
                rng.fill_bytes(&mut garbage);
                write(&path, start, &garbage)?;
            }
            Self::Stale => {}
        }
        Ok(path)
    }
}

/// Mostly the largest file, which is the log; any other now and then.
fn choose(rng: &mut SmallRng, files: &[PathBuf]) -> PathBuf {
    match rng.random_ratio(2, 3) {
        true => largest(files),
        false => files.choose(rng).expect("a file").clone(),
    }
}

fn largest(files: &[PathBuf]) -> PathBuf {
    let size = |path: &&PathBuf| fs::metadata(path).map_or(0, |of| of.len());
    files.iter().max_by_key(size).expect("a file").clone()
}

/// A place in a part of the file that is not empty, if there is one.
fn used(rng: &mut SmallRng, path: &Path, len: u64) -> io::Result<u64> {
    let content = fs::read(path)?;
    let pages = content.chunks(PAGE as usize).enumerate();
    let used = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let used: Vec<u64> = used.map(|(at, _)| at as u64 * PAGE).collect();
    let page = used.choose(rng).copied().unwrap_or_default();
    Ok(page + rng.random_range(0..PAGE.min(len - page)))
}

fn read(path: &Path, at: u64, into: &mut [u8]) -> io::Result<()> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(into)
}

fn write(path: &Path, at: u64, what: &[u8]) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(path)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(what)
}

/// Every file in a folder and below, in order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}
