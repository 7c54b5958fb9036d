//! The command `holdfast-certs`.

mod command;
mod show;

use std::process::ExitCode;

use clap::Parser;
use time::OffsetDateTime;

/// Runs one command: exit code 0 when it is done, 1 when it was refused or failed, 2 when it was called
/// wrongly.
fn main() -> ExitCode {
    let command = command::Command::parse();
    let outcome = command.run(OffsetDateTime::now_utc());
    command::report(outcome)
}
