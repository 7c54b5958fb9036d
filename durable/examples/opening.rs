//! How long a store takes to open, after a clean stop and after a kill.
//!
//! `cargo run --release -p holdfast-durable --example opening -- [rows] [directory]`

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_durable::{Batch, Db, Options};

const ROW_BYTES: usize = 1024;
/// Rows in one commit.
const AT_ONCE: u64 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rows: u64 = arguments.next().map_or(Ok(100_000), |rows| rows.parse())?;
    let parent = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let parent = tempfile::tempdir_in(parent)?;
    let (dir, killed) = (parent.path().join("store"), parent.path().join("killed"));
    let db = Db::open(&dir, Options::default())?;
    for first in (0..rows).step_by(AT_ONCE as usize) {
        let mut batch = Batch::new();
        for number in first..rows.min(first + AT_ONCE) {
            let key = [(number % 1000).to_be_bytes(), number.to_be_bytes()].concat();
            batch.put(key, vec![number as u8; ROW_BYTES]);
        }
        db.commit_blocking(batch)?;
    }
    copy(&dir, &killed)?;
    db.close()?;
    let mut out = std::io::stdout();
    let disk = fs::metadata(dir.join("generation-000001").join("db"))?.len();
    writeln!(out, "{rows} rows, a log of {} MiB", disk >> 20)?;
    writeln!(out, "after a kill           {:.2?}", opening(&killed)?)?;
    writeln!(out, "after a clean stop     {:.2?}", opening(&dir)?)?;
    writeln!(out, "and after another one  {:.2?}", opening(&dir)?)?;
    Ok(())
}

fn opening(dir: &Path) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    let db = Db::open(dir, Options::default())?;
    let took = started.elapsed();
    db.close()?;
    Ok(took)
}

/// What a kill at this moment would leave: nothing is being written.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name()))?,
            false => drop(fs::copy(entry.path(), to.join(entry.file_name()))?),
        }
    }
    Ok(())
}
