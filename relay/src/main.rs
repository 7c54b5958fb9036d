//! `holdfast-relay --config FILE`

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use holdfast_relay::{Config, Relay};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Holds devices' connections, and their mail while they are away.
///
/// Stops cleanly on SIGTERM and SIGINT: devices are told where to go, and all mail is on the disk.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  holdfast-relay --config /etc/holdfast/relay.toml"
)]
struct Arguments {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
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
    let relay = Relay::bind(Config::load(&arguments.config)?).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    relay.shutdown().await?;
    Ok(())
}
