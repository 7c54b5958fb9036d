//! The relay as a process: its arguments, its log, its signals.

use std::{io, path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{Config, Relay};

/// Holds devices' connections, and their mail while they are away.
///
/// Reads its certificates and the list of revoked ones again when their files change, and on SIGHUP.
/// Stops cleanly on SIGTERM and SIGINT: devices are told where to go, and all mail is on the disk.
#[derive(Parser)]
#[command(
    name = "holdfast-relay",
    version,
    after_help = "Example:\n  holdfast-relay --config /etc/holdfast/relay.toml\n\n\
                  RUST_LOG sets what is logged, to standard error; \"info\" unless set."
)]
struct Arguments {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the daemon until it is told to stop.
#[tokio::main]
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let relay = Relay::bind(Config::load(&arguments.config)?).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => relay.reload(),
        }
    }
    relay.shutdown().await?;
    Ok(())
}
