//! The relay as a process: its arguments, its log, its signals.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use crate::{Config, Relay, recover::Recover};

/// Holds devices' connections, and their mail while they are away.
///
/// Reads its certificates and the list of revoked ones again when their files change, and on SIGHUP.
/// Stops cleanly on SIGTERM and SIGINT: devices are told where to go, and all mail is on the disk.
#[derive(Parser)]
#[command(
    name = "holdfast-relay",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  holdfast-relay --config /etc/holdfast/relay.toml\n\n\
                  RUST_LOG sets what is logged, to standard error; \"info\" unless set."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    Recover(Recover),
}

/// Runs the daemon until it is told to stop.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    match arguments {
        Arguments {
            command: Some(Command::Recover(recover)),
            ..
        } => recover.run(),
        Arguments { config, .. } => {
            let path = config.unwrap_or_default();
            let config = Config::load(&path)?;
            runtime(&config)?.block_on(serve(&path, config))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime(config: &Config) -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .worker_threads(config.threads())
        .enable_all()
        .build()
}

async fn serve(path: &Path, config: Config) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let relay = match Relay::bind(config).await {
        Err(error) if error.is_damage() => {
            let way_out = format!("holdfast-relay recover --config {}", path.display());
            return Err(format!("{error}: run `{way_out}`").into());
        }
        bound => bound?,
    };
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
