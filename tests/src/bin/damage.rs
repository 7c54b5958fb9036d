//! Damages a relay's store, again and again, and sees that nothing is lost without a word.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::process::ExitCode;

use clap::Parser;
use holdfast_tests::rig::{
    damage::{self, Options},
    role,
};

/// Damages a relay's store, again and again, and sees that nothing is lost without a word.
///
/// Makes stores by running a relay, stopped in order and killed; then, in each case, damages a copy:
/// flipped bits, zeroed pages, garbage, a truncated, a missing, an older file; and starts a relay on it.
/// Either every message is delivered as it was sent and nothing else is, or the relay does not start and
/// says what is damaged and what to do. Then `holdfast-relay recover` is run, which has to leave the
/// damaged store as it is; what it makes of it has to open, hold nothing but what was sent, and lack
/// nothing without a word. Anything else is silent. The last lines are `salvaged K of F` and
/// `cases N recovered R refused F silent S`.
///
/// Exit codes: 0 when nothing was silent, 1 otherwise.
#[derive(Parser)]
struct Arguments {
    /// How many times.
    #[arg(long, default_value_t = 200)]
    cases: u32,
    /// Decides what is damaged, and how.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs only this one of them, to look at it again.
    #[arg(long, value_name = "CASE")]
    only: Option<u32>,
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
        cases: arguments.cases,
        seed: arguments.seed,
        only: arguments.only,
    };
    let mut say = |line| println!("{line}");
    tokio::select! {
        outcome = damage::run(&options, &mut say) => {
            println!("{outcome}");
            ExitCode::from(u8::from(outcome.silent > 0))
        }
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}
