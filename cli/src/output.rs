//! What the user reads. The only place that prints: results to standard output, which stays clean
//! for scripts, and everything else to standard error.
#![allow(
    clippy::print_stderr,
    reason = "a command talks to its user; nothing else in this crate prints"
)]

use std::{
    env,
    io::{self, Write},
    path::Path,
};

use console::style;
use holdfast::State;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Prints a line of the result, and sees to it that it is out.
pub(crate) fn result(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(Failure::Output)
}

/// Tells what goes on.
pub(crate) fn note(line: &str) {
    eprintln!("{}", style(line).for_stderr().dim());
}

/// Tells what the user should know, and may want to do something about.
pub(crate) fn warning(line: &str) {
    eprintln!("{} {line}", style("warning:").for_stderr().yellow().bold());
}

/// The last word, when something failed.
pub(crate) fn failed(failure: &Failure) {
    if !failure.is_closed_pipe() {
        eprintln!("{} {failure}", style("holdfast:").for_stderr().red().bold());
    }
}

/// Where a client stands, in words.
pub(crate) fn standing(state: &State) -> String {
    match state {
        State::Attached { relay } => format!("attached to {relay}"),
        State::Connecting { .. } => "looking for a relay".to_owned(),
        State::Waiting { why, .. } => {
            format!("no relay yet ({why}): is `holdfast up` running?")
        }
        State::Refused { why, .. } => format!("refused: {why}"),
        State::Offline => "no network".to_owned(),
        State::Superseded => "another program is connected as the same device".to_owned(),
        State::Failed { why } => format!("failed: {why}"),
        State::Closed => "closed".to_owned(),
    }
}

/// Sends the log to standard error: with RUST_LOG as it says, with -v ours, without either nothing.
pub(crate) fn log(verbose: u8) {
    let filter = match (EnvFilter::try_from_default_env(), verbose) {
        (Ok(filter), 0) => filter,
        (_, 0) => return,
        (_, verbose) => EnvFilter::new(ours(if verbose == 1 { "info" } else { "debug" })),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}

fn ours(level: &str) -> String {
    let crates = ["", "_relay", "_allocator", "_transport", "_durable"];
    let directives = crates.map(|name| format!("holdfast{name}={level}"));
    directives.join(",")
}

/// How this program was called, so that what is printed can be typed: the path from here, if it was
/// called by its path.
pub(crate) fn program() -> String {
    let called = env::args().next().unwrap_or_default();
    let called = Path::new(&called);
    let here = env::current_dir().unwrap_or_default();
    let short = called.strip_prefix(&here).unwrap_or(called);
    if short.as_os_str().is_empty() {
        return "holdfast".to_owned();
    }
    short.display().to_string()
}
