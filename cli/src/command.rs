//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[cfg(target_os = "linux")]
use crate::bench;
use crate::{allow, demo, failure::Failure, layout::Layout, listen, send, up};

/// Messages between a person's devices, held while a device is away
///
/// A whole Holdfast on one machine: `up` runs it, `send` and `listen` are its devices, `demo` shows
/// all of it at once.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    after_help = "Begin with one of:
  holdfast demo                                          the whole story, in half a minute
  holdfast up                                            keeps running; then, in other terminals:
  holdfast listen --as alice/phone
  holdfast send --as alice/pc --to alice/phone \"hello\"

Exit codes: 0 as asked, 1 refused or failed, 2 asked wrongly, 3 no answer in time, 130 interrupted."
)]
pub(crate) struct Cli {
    /// Log to standard error; twice for more. RUST_LOG chooses more finely
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Arguments),
    Send(send::Arguments),
    Listen(listen::Arguments),
    Allow(allow::Arguments),
    Demo(demo::Arguments),
    #[cfg(target_os = "linux")]
    Bench(bench::Arguments),
}

impl Cli {
    /// Does what was typed.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Up(arguments) => up::run(arguments).await,
            Command::Send(arguments) => send::run(arguments).await,
            Command::Listen(arguments) => listen::run(arguments).await,
            Command::Allow(arguments) => allow::run(arguments).await,
            Command::Demo(arguments) => demo::run(arguments).await,
            #[cfg(target_os = "linux")]
            Command::Bench(arguments) => Box::pin(bench::run(arguments)).await,
        }
    }
}

/// Where `up` keeps everything.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The folder that `up` keeps everything in
    #[arg(long, default_value = Layout::DEFAULT)]
    dir: PathBuf,
}

impl Folder {
    /// The folder, as one that is laid out.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_text_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let example = command.get_after_help().map(ToString::to_string);
            let invocation = format!("holdfast {}", command.get_name());
            assert!(
                example.is_some_and(|text| text.contains(&invocation)),
                "{invocation}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_measurement_has_a_help_text_with_an_example() {
        let bench = Cli::command();
        let bench = bench.find_subcommand("bench").unwrap();
        for command in bench.get_subcommands() {
            let example = command.get_after_help().map(ToString::to_string);
            let invocation = format!("holdfast bench {}", command.get_name());
            assert!(
                example.is_some_and(|text| text.contains(&invocation)),
                "{invocation}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "holdfast send --as alice/pc --to alice/phone",
            "holdfast send --as alice/pc --to alice/phone text --file photo.jpg",
            "holdfast send --as alice --to alice/phone text",
            "holdfast send --as alice/pc --to a/b/c text",
            "holdfast send --as alice/pc --to alice --retain text",
            "holdfast send --as alice/pc --to alice --ttl soon text",
            "holdfast listen",
            "holdfast listen --as alice/phone --count 0",
            "holdfast up --relays 0",
            "holdfast up --relays 17",
            "holdfast allow --as bob/phone alice/pc",
            "holdfast bench",
            "holdfast bench route --pairs 0",
            "holdfast bench route --window 257",
            "holdfast bench pace --rate 0",
            "holdfast bench pace --for soon",
            "holdfast bench route --for 0s",
            "holdfast bench store --size 7",
            "holdfast bench pace --allocator 127.0.0.1:1",
            "holdfast bench route --credentials pki",
            "holdfast bench route --pid 1",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn what_makes_sense_is_taken() {
        for line in [
            "holdfast up",
            "holdfast up --dir elsewhere --relays 3 -vv",
            "holdfast send --as alice/pc --to alice/phone -",
            "holdfast send --as alice/pc --to alice --key k --retain --ttl 1h --wait delivered x",
            "holdfast send --as alice/pc --to alice/phone --file photo.jpg --timeout 3s --json",
            "holdfast listen --as alice/phone --count 2 --for 10s --json",
            "holdfast allow --as bob/phone alice --not",
            "holdfast demo",
            "holdfast bench mobility --json --quick --out elsewhere",
            "holdfast bench route --pairs 64 --window 64 --size 256 --for 10s --baseline --json",
            "holdfast bench pace --pairs 64 --rate 2000 --size 256 --for 15s --baseline",
            "holdfast bench route --allocator 127.0.0.1:1 --credentials pki --pid 1",
            "holdfast bench store --devices 1000 --messages 100000 --size 1024 --senders 16 --window 64",
            "holdfast bench idle --connections 5000",
            "holdfast bench connect --clients 2000 --resume",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
