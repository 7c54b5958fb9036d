//! The command `holdfast-allocator`.

use std::{
    error::Error,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use holdfast_allocator::{Allocator, Config};
use mimalloc::MiMalloc;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// For many small and short-lived pieces it takes less work, and less memory, than the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Tells devices and services which relay to connect to.
///
/// Reads its certificates and the list of revoked ones again when their files change, and on SIGHUP.
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
    let outcome = serve(&mut allocator).await;
    allocator.shutdown().await;
    outcome
}

/// Runs until it is told to stop.
async fn serve(allocator: &mut Allocator) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new()?;
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop => return Ok(()),
                Told::Reload => allocator.reload(),
            },
            () = allocator.failed() => return Err("the socket failed; see the log".into()),
        }
    }
}

/// What the operator asks a running allocator for.
enum Told {
    Stop,
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no such signal"))]
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP.
#[cfg(unix)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Told {
        // Without Ctrl-C there is no way to ask; then it runs until it is killed.
        match tokio::signal::ctrl_c().await {
            Ok(()) => Told::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the last word to the operator must not depend on the log's filter"
)]
fn report(error: &dyn Error) {
    eprintln!("holdfast-allocator: {error}");
}
