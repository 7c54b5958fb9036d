//! Kills relays, devices and allocators, and holds them to what they promised.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::process::ExitCode;

use clap::Parser;
use holdfast_tests::rig::{
    kill::{self, Options, Target},
    role,
};

/// Kills processes in the middle of their work, and holds them to what they promised.
///
/// Runs the target as a process of its own, under load from real clients, kills it (SIGKILL) at any
/// moment, starts it again, and looks whether every message comes that was answered, as it was sent,
/// once, and in order; and with the allocator, whether every account is still at home where it was. The
/// last lines are `compactions cut off C`, those that a relay's kill met half done, and
/// `kills N answered A lost L twice T disordered D`.
///
/// Exit codes: 0 when the last three are 0, 1 otherwise.
#[derive(Parser)]
struct Arguments {
    /// What is killed.
    #[arg(long, value_enum, default_value = "relay")]
    target: Target,
    /// How many times.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Decides what is sent, to whom, and when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match role::play() {
        Some(ended) => ended,
        None => run(&Arguments::parse()),
    }
}

#[tokio::main]
async fn run(arguments: &Arguments) -> ExitCode {
    let options = Options {
        target: arguments.target,
        kills: arguments.kills,
        seed: arguments.seed,
    };
    let mut say = |line| println!("{line}");
    tokio::select! {
        outcome = kill::run(&options, &mut say) => {
            println!("{outcome}");
            ExitCode::from(u8::from(!outcome.verdict.is_clean()))
        }
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}
