//! The command `holdfast`: everything on one machine, for whoever wants to see it work.
//!
//! From below:
//!
//! - `failure`: what goes wrong, and the exit code it has; `output`: the only place that prints;
//!   `stop`: Ctrl-C;
//! - `layout`: what lies where in the folder; `plan`: which daemons there are, and where they
//!   listen; `pki`: everybody's certificates;
//! - `fleet`: the daemons in this process; `device`: a client for one of the identities;
//! - `up`, `send`, `listen`, `allow`, `demo`, `bench`: a file for each command. The last is there on
//!   Linux only, where its harness runs.

mod allow;
#[cfg(target_os = "linux")]
mod bench;
mod command;
mod demo;
mod device;
mod failure;
mod fleet;
mod layout;
mod listen;
mod output;
mod pki;
mod plan;
mod send;
mod stop;
mod up;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// For many small and short-lived pieces it takes less work, and less memory, than the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = holdfast_bench::play() {
        return code;
    }
    obey()
}

#[tokio::main]
async fn obey() -> ExitCode {
    let cli = command::Cli::parse();
    output::log(cli.verbose);
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failed(&failure);
            failure.exit_code()
        }
    }
}
