//! `holdfast bench`: what it costs to move, to sleep and to come back, measured on this machine.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_bench::{Effort, Figure, Part};

use crate::{failure::Failure, output};

/// Measure, and hold the figures against their goals
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast bench mobility            a table: each figure, its goal, and whether it holds
  holdfast bench mobility --json     a line of JSON for each figure
  holdfast bench mobility --only storm")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Devices that change networks, sleep behind address translations, and lose their relay
    Mobility(Mobility),
}

#[derive(Debug, Args)]
struct Mobility {
    /// Print a line of JSON for each figure
    #[arg(long)]
    json: bool,
    /// Measure less, in a minute
    #[arg(long)]
    quick: bool,
    /// Measure this part only; may be given several times
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<Part>,
    /// Where the pictures go
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    out: PathBuf,
}

/// Measures, and prints each figure as soon as it is there.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Subject::Mobility(mobility) = arguments.subject;
    if !mobility.json {
        output::result(Figure::HEAD)?;
    }
    let mut printed = Ok(());
    let mut tell = |figure: Figure| {
        let line = match mobility.json {
            true => figure.json(),
            false => figure.to_string(),
        };
        if printed.is_ok() {
            printed = output::result(&line);
        }
    };
    let effort = match mobility.quick {
        true => Effort::Quick,
        false => Effort::Full,
    };
    let parts = match &mobility.only[..] {
        [] => Part::value_variants(),
        named => named,
    };
    let pictures = holdfast_bench::mobility(parts, effort, &mobility.out, &mut tell).await;
    for picture in pictures.map_err(Failure::file(&mobility.out))? {
        output::note(&picture.display().to_string());
    }
    printed
}
