//! Attacks a relay in every way it is armed against, and measures what the others notice.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use holdfast_tests::rig::{
    abuse::{self, Attack, Options, Outcome},
    role,
};

/// Attacks a relay in every way it is armed against, and measures what the others notice.
///
/// A relay of its own for each attack, as a process. Devices that do nothing wrong write to each
/// other, turn by turn without and with the attack: two `distant` ones, with a network of 40 ms there and
/// back between them and the relay, and two `beside` it. The attackers are a process, too, at the lowest
/// priority: the figures are to show what the relay does about them, and not how this machine divides
/// its processors between the attackers and those who are measured.
///
/// A line for each attack: how long messages took without and with it, the relay's memory, how often the
/// attackers struck, and what the relay counted meanwhile. The last line is `attacks A within 2x W worst
/// R`: W are those by which the slowest of a hundred messages between distant devices got at most twice
/// as slow, and memory grew by at most 256 MiB. `none` is no attack, and not among them. An attack that was not borne is tried
/// once more if the two halves of its turns without attack differ more than that by themselves.
///
/// Exit codes: 0 when all are within, 1 otherwise.
#[derive(Parser)]
struct Arguments {
    /// Which attacks; all, if none is named.
    #[arg(long, value_enum)]
    attack: Vec<Attack>,
    /// Turns without and with each attack.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Messages in each turn.
    #[arg(long, default_value_t = 300)]
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
    let mut outcomes = Vec::new();
    for attack in attacks {
        let outcome = abuse::run(*attack, &options).await;
        println!("{outcome}");
        outcomes.extend((*attack != Attack::None).then_some(outcome));
    }
    let within = outcomes.iter().filter(|outcome| outcome.is_borne()).count();
    let worst = outcomes.iter().map(Outcome::ratio).fold(0.0, f64::max);
    println!(
        "attacks {} within 2x {within} worst {worst:.2}",
        outcomes.len()
    );
    ExitCode::from(u8::from(within < outcomes.len()))
}
