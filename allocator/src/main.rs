//! The command `holdfast-allocator`.

use std::{
    error::Error,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use holdfast_allocator::{Allocator, Config};
use tracing_subscriber::EnvFilter;

/// Tells devices and services which relay to connect to.
///
/// Runs until it gets SIGTERM or SIGINT. What it logs, on standard error, is chosen with RUST_LOG
/// (error, warn, info, debug; info unless set).
#[derive(Parser)]
#[command(name = "holdfast-allocator", version)]
struct Args {
    /// The configuration (TOML); relative paths in it are taken from its folder.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read the configuration and the credentials it names, say whether they can be used, and stop.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let config = Config::load(&args.config)?;
    if args.check {
        return Ok(Allocator::check(&config)?);
    }
    let mut allocator = Allocator::bind(config).await?;
    let outcome = tokio::select! {
        stopped = stop_signal() => stopped.map_err(Into::into),
        () = allocator.failed() => Err("the socket failed; see the log".into()),
    };
    allocator.shutdown().await;
    outcome
}

/// Waits for SIGTERM or SIGINT.
#[cfg(unix)]
async fn stop_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
async fn stop_signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[allow(
    clippy::print_stderr,
    reason = "the last word to the operator must not depend on the log's filter"
)]
fn report(error: &dyn Error) {
    eprintln!("holdfast-allocator: {error}");
}
