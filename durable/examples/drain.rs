//! What is left on the disk after a store was filled and drained, and how long a commit waited.
//!
//! `cargo run --release -p holdfast-durable --example drain -- [rows] [directory]`

use std::error::Error;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use holdfast_durable::{Batch, Db, Options, Stats};

const ROW_BYTES: usize = 1024;
/// How many commits are kept in flight.
const IN_FLIGHT: u64 = 512;
/// Longer than the store waits before it counts as idle.
const REST: Duration = Duration::from_secs(4);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rows = arguments.next().map_or(Ok(100_000), |rows| rows.parse())?;
    let parent = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let dir = tempfile::tempdir_in(parent)?;
    let db = Db::open(dir.path(), Options::default())?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "            disk      live  compactions  longest commit  commits/s"
    )?;
    let filled = run(&db, rows, |batch, number| {
        batch.put(key(number), vec![number as u8; ROW_BYTES]);
    })?;
    report(&mut out, "filled", &db.stats(), filled, rows)?;
    let drained = run(&db, rows, |batch, number| batch.delete(key(number)))?;
    report(&mut out, "drained", &db.stats(), drained, rows)?;
    std::thread::sleep(REST);
    let rested = run(&db, 1, |_, _| {})?;
    let stats = db.stats();
    report(&mut out, "rested", &stats, rested, 1)?;
    let payload = rows * ROW_BYTES as u64;
    let part = stats.disk_bytes as f64 / payload as f64;
    writeln!(out, "disk after the drain: {part:.3} of the payload")?;
    db.close()?;
    Ok(())
}

/// Keys of a thousand mailboxes in turn.
fn key(number: u64) -> Vec<u8> {
    [(number % 1000).to_be_bytes(), number.to_be_bytes()].concat()
}

/// How long all commits took, and the one that took longest.
fn run(
    db: &Db,
    rows: u64,
    change: impl Fn(&mut Batch, u64),
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let (answered, answers) = mpsc::channel();
    let send = |number: u64| {
        let mut batch = Batch::new();
        change(&mut batch, number);
        let (answered, sent) = (answered.clone(), Instant::now());
        db.commit(batch, move || {
            let _stopped = answered.send(sent.elapsed());
        });
    };
    let started = Instant::now();
    let at_once = rows.min(IN_FLIGHT);
    (0..at_once).for_each(&send);
    let mut longest = Duration::ZERO;
    for next in at_once..at_once + rows {
        longest = longest.max(answers.recv()?);
        if next < rows {
            send(next);
        }
    }
    Ok((started.elapsed(), longest))
}

fn report(
    out: &mut impl Write,
    what: &str,
    stats: &Stats,
    (took, longest): (Duration, Duration),
    rows: u64,
) -> std::io::Result<()> {
    const MIB: u64 = 1024 * 1024;
    let rate = rows as f64 / took.as_secs_f64();
    writeln!(
        out,
        "{what:8} {:5} MiB {:5} MiB  {:11}  {:>14.1?}  {rate:9.0}",
        stats.disk_bytes / MIB,
        stats.live_bytes / MIB,
        stats.compactions,
        longest,
    )
}
