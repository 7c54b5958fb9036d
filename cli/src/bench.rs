//! `holdfast bench`: what Holdfast does and what it costs, measured on this machine.
//!
//! - `mobility`: devices that move, sleep and come back; `speed`: what a relay costs, and how fast it is;
//! - `table`: the figures, as they come.

mod mobility;
mod speed;
mod table;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// Measure, and hold the figures against their goals
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast bench route --baseline    what a message between two devices costs the relay
  holdfast bench pace --baseline     how long one takes
  holdfast bench mobility            devices that move, sleep and come back

Each prints a table: a figure, its goal, and whether it holds; with --json a line of JSON for each.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    Mobility(mobility::Arguments),
    #[command(flatten)]
    Speed(speed::Subject),
}

/// Measures, and prints each figure as soon as it is there.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.subject {
        Subject::Mobility(arguments) => mobility::run(arguments).await,
        Subject::Speed(subject) => speed::run(subject).await,
    }
}
