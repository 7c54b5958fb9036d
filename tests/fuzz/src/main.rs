//! `fuzz`: runs the targets for as long as one likes, repeats a failure, makes the corpus anew.
#![allow(
    clippy::print_stdout,
    reason = "this is where the command speaks to its user"
)]

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use holdfast_fuzz::{
    corpus,
    runner::{self, Budget},
    target::Target,
};

/// Fuzzes Holdfast's decoders and both halves of a session.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tries inputs, and ends with how many.
    Run {
        /// Which targets; all of them if none is named.
        targets: Vec<String>,
        /// What the inputs are made from; drawn anew if it is not given.
        #[arg(long)]
        seed: Option<u64>,
        /// How many inputs, over all targets.
        #[arg(long, conflicts_with = "seconds")]
        inputs: Option<u64>,
        /// How long each target runs, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Tries the one input that a file holds.
    Try {
        /// The target.
        target: String,
        /// The file.
        file: PathBuf,
    },
    /// Makes the seeds of the corpus anew from the frames of PROTOCOL.md, and drops what is twice there.
    Corpus,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run {
            targets,
            seed,
            inputs,
            seconds,
        } => {
            let budget = match inputs {
                Some(inputs) => Budget::Inputs(inputs),
                None => Budget::Time(Duration::from_secs(seconds)),
            };
            run(&targets, seed.unwrap_or_else(rand::random), budget)
        }
        Command::Try { target, file } => attempt(&target, &file),
        Command::Corpus => make_corpus(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(names: &[String], seed: u64, budget: Budget) -> io::Result<bool> {
    let targets = named(names)?;
    let (mut inputs, mut failures) = (0, 0);
    println!("seed {seed}");
    runner::run(&targets, seed, budget, |outcome| {
        inputs += outcome.inputs;
        failures += usize::from(outcome.failure.is_some());
        println!("{outcome}");
    })?;
    println!(
        "targets {} inputs {inputs} failures {failures}",
        targets.len()
    );
    Ok(failures == 0)
}

fn attempt(name: &str, file: &PathBuf) -> io::Result<bool> {
    let input = fs::read(file)?;
    let tried = runner::attempt(find(name)?, &input);
    match &tried {
        Ok((true, memory)) => println!("it means something, and took {memory} bytes"),
        Ok((false, memory)) => println!("it means nothing, and took {memory} bytes"),
        Err(what) => println!("{what}"),
    }
    Ok(tried.is_ok())
}

fn make_corpus() -> io::Result<bool> {
    for target in Target::ALL {
        let seeds = corpus::write_seeds(target)?;
        let (files, bytes) = corpus::prune(target)?;
        println!(
            "{:<17} {seeds:>4} seeds, {files:>4} files, {bytes:>7} bytes",
            target.name
        );
    }
    Ok(true)
}

fn named(names: &[String]) -> io::Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(Target::ALL.iter().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> io::Result<&'static Target> {
    Target::named(name).ok_or_else(|| {
        let known: Vec<_> = Target::ALL.iter().map(|target| target.name).collect();
        let what = format!("no target {name:?}; there are {}", known.join(" "));
        io::Error::new(io::ErrorKind::NotFound, what)
    })
}
