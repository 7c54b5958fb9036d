//! `holdfast bench mobility`: what it costs to move, to sleep and to come back.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use holdfast_bench::{Effort, Figure, Part};

use super::table::Table;
use crate::{failure::Failure, output};

/// Devices that change networks, sleep behind address translations, and lose their relay
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast bench mobility            a table: each figure, its goal, and whether it holds
  holdfast bench mobility --json     a line of JSON for each figure
  holdfast bench mobility --only storm")]
pub(super) struct Arguments {
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

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut table = Table::new(arguments.json);
    let mut tell = |figure: Figure| table.row(&figure);
    let effort = match arguments.quick {
        true => Effort::Quick,
        false => Effort::Full,
    };
    let parts = match &arguments.only[..] {
        [] => Part::value_variants(),
        named => named,
    };
    let pictures = holdfast_bench::mobility(parts, effort, &arguments.out, &mut tell).await;
    for picture in pictures.map_err(Failure::file(&arguments.out))? {
        output::note(&picture.display().to_string());
    }
    table.end()
}
