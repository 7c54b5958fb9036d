//! `holdfast bench route` and its kin: what a relay costs its server, and how fast it is.

use clap::{Args, Subcommand};
use holdfast_bench::{
    Figure,
    speed::{
        Audience, Problem, connect::Connect, idle::Idle, pace::Pace, route::Route, store::Store,
    },
};
use indicatif::{ProgressBar, ProgressStyle};

use super::table::Table;
use crate::{failure::Failure, output, stop::Stop};

/// How many steps the progress bar has.
const STEPS: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Subject {
    /// How much a relay passes on between devices that are online
    ///
    /// Each writer keeps a window of messages on their way. A message counts when the reader's app has
    /// acknowledged it and the writer has heard so, and takes as long as that takes.
    #[command(after_help = "Examples:
  holdfast bench route --pairs 64 --window 64 --size 256 --for 10s --baseline
  holdfast bench route --allocator 127.0.0.1:4400 --credentials holdfast-dev/pki --pid 4711 --json")]
    Route(Measurement<Route>),
    /// How long messages take at a fixed rate, and what each costs then
    ///
    /// Each message is sent when it is due, whatever became of those before, and takes as long as it
    /// takes from then until its writer has heard that the reader's app has it.
    #[command(after_help = "Example:
  holdfast bench pace --pairs 64 --rate 2000 --size 256 --for 15s --baseline")]
    Pace(Measurement<Pace>),
    /// What it costs to keep mail for devices that are away, and to hand it over when they come
    ///
    /// Services send to devices that are away, and a message counts when it is on the relay's disk. Then
    /// all devices come at once and fetch what waits, each with a full handshake, and take as long as
    /// that takes, from the first packet to the last message.
    #[command(after_help = "Examples:
  holdfast bench store --devices 1000 --messages 100000 --size 1024 --senders 16 --window 64
  holdfast bench store --devices 1000000 --messages 1000000 --no-drain

The mail lies in the system's folder for temporary files, which TMPDIR names: a disk, or nothing is \
measured.")]
    Store(Measurement<Store>),
    /// How much of the relay's memory a connection takes on which nothing happens
    #[command(after_help = "Example:
  holdfast bench idle --connections 5000")]
    Idle(Measurement<Idle>),
    /// What it costs the relay when devices connect
    ///
    /// Each asks the allocator first, as devices do; that takes time, but is not the relay's cost.
    #[command(after_help = "Example:
  holdfast bench connect --clients 2000 --resume")]
    Connect(Measurement<Connect>),
}

/// What is measured, and how it is printed.
#[derive(Args, Debug)]
pub(super) struct Measurement<M: Args> {
    #[command(flatten)]
    what: M,
    /// Print a line of JSON for each figure
    #[arg(long)]
    json: bool,
}

/// Measures until it is done, or interrupted; what was started ends either way.
pub(super) async fn run(subject: Subject) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let mut reader = Reader::new(subject.json());
    let measured = tokio::select! {
        measured = subject.measure(&mut reader) => measured.map_err(Failure::from),
        () = stop.asked() => Err(Failure::Interrupted),
    };
    reader.bar.finish_and_clear();
    measured?;
    reader.table.end()
}

impl Subject {
    fn json(&self) -> bool {
        match self {
            Self::Route(measurement) => measurement.json,
            Self::Pace(measurement) => measurement.json,
            Self::Store(measurement) => measurement.json,
            Self::Idle(measurement) => measurement.json,
            Self::Connect(measurement) => measurement.json,
        }
    }

    async fn measure(&self, audience: &mut dyn Audience) -> Result<(), Problem> {
        match self {
            Self::Route(measurement) => measurement.what.measure(audience).await,
            Self::Pace(measurement) => measurement.what.measure(audience).await,
            Self::Store(measurement) => measurement.what.measure(audience).await,
            Self::Idle(measurement) => measurement.what.measure(audience).await,
            Self::Connect(measurement) => measurement.what.measure(audience).await,
        }
    }
}

/// Whoever sits at the terminal.
struct Reader {
    table: Table,
    bar: ProgressBar,
}

impl Reader {
    fn new(json: bool) -> Self {
        let bar = ProgressBar::new(STEPS);
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30.cyan/dim} {percent:>3} %")
        {
            bar.set_style(style);
        }
        Self {
            table: Table::new(json),
            bar,
        }
    }
}

impl Audience for Reader {
    fn figure(&mut self, figure: Figure) {
        self.bar.suspend(|| self.table.row(&figure));
    }

    fn note(&mut self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    fn progress(&mut self, what: &str, share: f64) {
        if self.bar.message() != what {
            self.bar.set_message(what.to_owned());
        }
        self.bar.set_position((share * STEPS as f64) as u64);
    }
}
