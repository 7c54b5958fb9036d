//! How much memory a store takes while values of one size are written.
//!
//! `cargo run --release -p holdfast-durable --example memory -- [bytes] [MiB] [directory]`

use std::error::Error;
use std::fs;
use std::io::{self, Write};

use holdfast_durable::{Batch, Db, Options};

/// What one commit holds, in bytes.
const AT_ONCE: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bytes: u64 = arguments.next().map_or(Ok(256 << 10), |n| n.parse())?;
    let total: u64 = arguments.next().map_or(Ok(400), |n| n.parse())?;
    let parent = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let dir = tempfile::tempdir_in(parent)?;
    let db = Db::open(dir.path(), Options::default())?;
    let (before, mut most) = (resident_mib()?, 0);
    for first in (0..total << 20).step_by(AT_ONCE as usize) {
        let mut batch = Batch::new();
        for at in (first..first + AT_ONCE).step_by(bytes as usize) {
            batch.put(at.to_be_bytes(), vec![at as u8; bytes as usize]);
        }
        db.commit_blocking(batch)?;
        most = most.max(resident_mib()?);
    }
    db.close()?;
    let mut out = io::stdout();
    writeln!(
        out,
        "{total} MiB of {bytes} bytes each: {before} MiB at first, at most {most} MiB"
    )?;
    Ok(())
}

fn resident_mib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or_default() / 1024)
}
