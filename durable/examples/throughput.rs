//! How many durable commits a second this machine's disk allows, by the number in flight.
//!
//! `cargo run --release -p holdfast-durable --example throughput -- [directory] [wait in ms]`
//!
//! So many commits of one 1 KiB row each are kept in flight; each that is answered is replaced.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use holdfast_durable::{Batch, Db, Options};

const ROW_BYTES: usize = 1024;
const RUN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let wait = arguments.next().map_or(Ok(0), |wait| wait.parse())?;
    let mut out = std::io::stdout();
    writeln!(out, "in flight  commits/s  flushes/s  mean flush")?;
    for in_flight in [1, 8, 64, 512] {
        let dir = tempfile::tempdir_in(&dir)?;
        let (commits, flushes, flush) =
            measure(dir.path(), in_flight, Duration::from_millis(wait))?;
        writeln!(
            out,
            "{in_flight:9}  {commits:9.0}  {flushes:9.0}  {flush:?}"
        )?;
    }
    Ok(())
}

fn measure(
    dir: &Path,
    in_flight: u64,
    max_wait: Duration,
) -> Result<(f64, f64, Duration), Box<dyn Error>> {
    let db = Db::open(
        dir,
        Options {
            max_wait,
            ..Options::default()
        },
    )?;
    let (answered, answers) = mpsc::channel();
    let send = |number: u64| {
        let mut batch = Batch::new();
        batch.put(number.to_be_bytes(), vec![number as u8; ROW_BYTES]);
        let answered = answered.clone();
        db.commit(batch, move || {
            let _stopped = answered.send(());
        });
    };
    (0..in_flight).for_each(send);
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < RUN {
        answers.recv()?;
        send(in_flight + count);
        count += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let stats = db.stats();
    db.close()?;
    let mean = stats.flush_time / u32::try_from(stats.groups.max(1))?;
    Ok((count as f64 / seconds, stats.groups as f64 / seconds, mean))
}
