//! Runs the simulator: whole fleets, hour after hour, and what they did wrong.
//!
//! ```text
//! sim --seed 1 --hours 100        a line an hour; exit code 0 only if no promise was broken
//! sim --seed 1 --hour 42          that hour alone
//! sim --planted all               plants bugs one at a time, and shows that each is found
//! ```

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use holdfast_tests::sim::{Breach, Hour, Planted, Report};

/// How many hours a planted bug may stay hidden.
const HIDDEN: u64 = 10;

/// Simulates whole fleets from one seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// What everything is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many hours to simulate.
    #[arg(long, default_value_t = 10)]
    hours: u64,
    /// Simulates one hour of the run only.
    #[arg(long)]
    hour: Option<u64>,
    /// Plants a bug, or `all` one after the other, and looks for it.
    #[arg(long)]
    planted: Option<String>,
    /// Tells the story of what was found.
    #[arg(long)]
    story: bool,
}

fn main() -> ExitCode {
    // What goes wrong is told in the programs' own words only if somebody asks for it.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let done = match &arguments.planted {
        Some(which) => plant(&arguments, which, &mut out),
        None => simulate(&arguments, &mut out),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Whoever reads this is gone.
            let _ = writeln!(io::stderr(), "sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Simulates, and says whether every promise was kept.
fn simulate(arguments: &Arguments, out: &mut impl Write) -> io::Result<bool> {
    let (begin, mut total) = (Instant::now(), Total::default());
    let hours = match arguments.hour {
        Some(hour) => hour..hour + 1,
        None => 0..arguments.hours,
    };
    for hour in hours {
        let hour = Hour {
            seed: arguments.seed,
            hour,
            planted: None,
        };
        let started = Instant::now();
        let report = hour.run();
        writeln!(out, "{}", line(hour.hour, &report, started.elapsed()))?;
        for breach in report.breaches.iter().skip(1) {
            writeln!(out, "VIOLATION{}", seen(breach))?;
        }
        if let Some(breach) = report.breaches.first() {
            tell(hour, breach, out)?;
        }
        total.add(&report);
    }
    let faster = total.lasted.as_secs_f64() / begin.elapsed().as_secs_f64();
    writeln!(out, "{faster:.0} times faster than real time")?;
    writeln!(
        out,
        "hours {} messages {} faults {} violations {}",
        total.hours, total.messages, total.faults, total.violations
    )?;
    Ok(total.violations == 0)
}

#[derive(Default)]
struct Total {
    hours: u64,
    messages: u64,
    faults: u64,
    violations: usize,
    lasted: Duration,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.hours += 1;
        self.messages += report.messages;
        self.faults += report.fault_count();
        self.violations += report.breaches.len();
        self.lasted += report.lasted;
    }
}

fn line(hour: u64, report: &Report, took: Duration) -> String {
    let mut line = format!(
        "hour {hour}: {} messages ({} accepted, {} refused, {} expired, {} replaced), {} shown, {} starts, {} faults",
        report.messages,
        report.accepted,
        report.refused,
        report.expired,
        report.replaced,
        report.shown,
        report.starts,
        report.fault_count(),
    );
    let kinds: Vec<String> = report
        .faults
        .iter()
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    if !kinds.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(line, " ({})", kinds.join(", "));
    }
    let factor = report.lasted.as_secs_f64() / took.as_secs_f64().max(1e-9);
    let _ = write!(line, ", {factor:.0} x");
    line
}

/// Tells what was found, what led to it, and how to see it again.
fn tell(hour: Hour, breach: &Breach, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "VIOLATION{}", seen(breach))?;
    write!(out, "{}", hour.tell(breach))?;
    writeln!(
        out,
        "to see it again: sim --seed {} --hour {}",
        hour.seed, hour.hour
    )
}

fn seen(breach: &Breach) -> String {
    let at = breach.at.as_secs_f64();
    let about = breach
        .about
        .as_ref()
        .map(|message| format!(", message {message}"));
    format!(
        " at {at:.3} s{}: {}",
        about.unwrap_or_default(),
        breach.what
    )
}

/// Plants bugs, and says whether all of them were found.
fn plant(arguments: &Arguments, which: &str, out: &mut impl Write) -> io::Result<bool> {
    let bugs: Vec<Planted> = match which {
        "all" => Planted::ALL.to_vec(),
        one => match one.parse() {
            Ok(bug) => vec![bug],
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        },
    };
    let mut found = 0;
    for bug in &bugs {
        let Some((hour, breach)) = look_for(*bug, arguments.seed) else {
            writeln!(out, "planted {bug} not found in {HIDDEN} hours")?;
            continue;
        };
        found += 1;
        let after = hour.hour as f64 + breach.at.as_secs_f64() / 3600.0;
        writeln!(
            out,
            "planted {bug} found after {after:.2} hours: {}",
            breach.what
        )?;
        if arguments.story {
            tell(hour, &breach, out)?;
        }
    }
    writeln!(out, "planted {} found {found}", bugs.len())?;
    Ok(found == bugs.len())
}

fn look_for(bug: Planted, seed: u64) -> Option<(Hour, Breach)> {
    (0..HIDDEN).find_map(|hour| {
        let hour = Hour {
            seed,
            hour,
            planted: Some(bug),
        };
        let breach = hour.run().breaches.into_iter().next()?;
        Some((hour, breach))
    })
}
