//! Attacks a relay in every way it is armed against, and measures what the others notice.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use holdfast_tests::rig::{
    abuse::{self, Attack, Options},
    role,
};

/// Attacks a relay in every way it is armed against, and measures what the others notice.
///
/// A relay of its own for each attack, as a process. Two devices that do nothing wrong write to each
/// other, turn by turn without and with the attack; attackers, relay and devices share this machine's
/// processors. A line for each attack; the last one is `attacks N over M`, where M counts those by which
/// the slowest of a hundred messages got more than twice as slow, or memory grew by more than 256 MiB.
///
/// Exit codes: 0 when M is 0, 1 otherwise.
#[derive(Parser)]
struct Arguments {
    /// Which attacks; all, if none is named.
    #[arg(long, value_enum)]
    attack: Vec<Attack>,
    /// Turns without and with each attack.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages in each turn.
    #[arg(long, default_value_t = 400)]
    messages: usize,
}

fn main() -> ExitCode {
    match role::play() {
        Some(ended) => ended,
        None => run(Arguments::parse()),
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> ExitCode {
    let options = Options {
        rounds: arguments.rounds,
        messages: arguments.messages,
    };
    let attacks = match &arguments.attack[..] {
        [] => Attack::value_variants(),
        named => named,
    };
    let mut over = 0;
    for attack in attacks {
        let outcome = abuse::run(*attack, &options).await;
        println!("{outcome}");
        over += usize::from(!outcome.is_borne());
    }
    println!("attacks {} over {over}", attacks.len());
    ExitCode::from(u8::from(over > 0))
}
