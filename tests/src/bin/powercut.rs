//! Cuts a relay's power, again and again, and holds it to what it promised.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use holdfast_tests::rig::{
    disk::{self, DiskError},
    powercut::{self, Options, Outcome},
    role::{self, Program},
};

/// Cuts a relay's power, again and again, and holds it to what it promised.
///
/// Runs a real relay on an ext4 file system in a file, under load from real clients; shuts the file
/// system down without flushing its log, kills the relay, mounts the disk again, starts the relay
/// again, and looks whether every message comes that was answered before the cut, as it was sent and
/// once. The last lines are `compactions cut off C`, those that a cut met half done, and
/// `cuts N answered A lost L twice T unopened U`. Needs to be root, on Linux.
///
/// Exit codes: 0 when nothing was lost (with --without-barrier: when something was), 1 otherwise, 2
/// when loop mounts are not permitted.
#[derive(Parser)]
struct Arguments {
    /// How many times.
    #[arg(long, default_value_t = 30)]
    cuts: u32,
    /// Decides what is sent, to whom, and when it is cut.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The negative control: a relay whose syncs are what sled's are without Holdfast's barrier. Stops
    /// at the first loss; it fails if there is none.
    #[arg(long)]
    without_barrier: bool,
    /// Another program than this build's relay.
    #[arg(long, value_name = "PATH")]
    relay: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(ended) = role::play() {
        return ended;
    }
    let arguments = Arguments::parse();
    let run = disk::seclude().and_then(|()| run(&arguments));
    match run {
        Ok(outcome) => {
            println!("{outcome}");
            let right = match arguments.without_barrier {
                true => outcome.has_losses(),
                false => outcome.is_clean(),
            };
            ExitCode::from(u8::from(!right))
        }
        Err(error) => {
            println!("skipped: {error}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn run(arguments: &Arguments) -> Result<Outcome, DiskError> {
    let relay = match &arguments.relay {
        Some(path) => Program::At(path.clone()),
        None if arguments.without_barrier => Program::built("relay-without-barrier"),
        None => Program::Own,
    };
    let options = Options {
        cuts: arguments.cuts,
        seed: arguments.seed,
        relay,
        without_barrier: arguments.without_barrier,
    };
    let mut say = |line| println!("{line}");
    tokio::select! {
        outcome = powercut::run(&options, &mut say) => outcome,
        _ = tokio::signal::ctrl_c() => Err(DiskError::Interrupted),
    }
}
