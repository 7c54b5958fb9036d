//! `holdfast send`: one message, and what became of it.

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use holdfast::{Client, Device, Outcome, Priority, Recipient, SendOptions, Sent, State, Unsent};
use tokio::time::{Instant, timeout};

use crate::{command::Folder, device, failure::Failure, layout::Layout, output, stop::Stop};

/// Send a message, and print what became of it
///
/// `stored`: it is on the disk of the recipient's home relay, and reaches the device when that is
/// back. `delivered`: the recipient has it. What gets no answer in time stays in the device's
/// outbox, and leaves with the next command of the same device; what is there already leaves first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast send --as alice/pc --to alice/phone \"hello\"
  holdfast send --as alice/pc --to alice/phone --file photo.jpg --wait delivered --timeout 1m
  date | holdfast send --as alice/pc --to alice/phone -
  holdfast send --as alice/pc --to alice --key bookmarks --retain --file bookmarks.json
      to every other device of alice's, and to those that join later
  holdfast send --as alice/pc --to alice/phone --ttl 1h --key position \"52.52,13.40\"
      of those that wait, the newest; none after an hour

Exit codes: 0 stored or delivered, as asked; 1 refused, expired or replaced; 2 asked wrongly;
3 no answer in time.")]
pub(crate) struct Arguments {
    /// The device that sends
    #[arg(long = "as", value_name = "ACCOUNT/DEVICE")]
    sender: Device,
    /// Who gets it; ACCOUNT stands for every device of the account but the sender
    #[arg(long, value_name = "ACCOUNT[/DEVICE]")]
    to: Recipient,
    /// What to send; - reads standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// Send what is in a file
    #[arg(long)]
    file: Option<PathBuf>,
    /// How long it may wait for its recipient, for example 30s, 1h or 7days [default: the relay's]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// Of the messages that wait under a key, the newest replaces the others
    #[arg(long)]
    key: Option<String>,
    /// Keep the newest of the key for devices that join the account later
    #[arg(long, requires = "key")]
    retain: bool,
    /// How much it matters: low is refused first when the recipient's mailbox fills up
    #[arg(long, value_enum, default_value_t = Urgency::Normal)]
    priority: Urgency,
    /// What to wait for
    #[arg(long, value_enum, default_value_t = Wait::Stored)]
    wait: Wait,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    folder: Folder,
    /// Print the receipt as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Until it is safe: on a relay's disk, or with the recipient
    Stored,
    /// Until the recipient has it
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Urgency {
    Low,
    Normal,
    High,
}

impl From<Urgency> for Priority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Low => Self::Low,
            Urgency::Normal => Self::Normal,
            Urgency::High => Self::High,
        }
    }
}

/// What is printed of a message that was sent.
struct Receipt<'a> {
    sent: &'a Sent,
    to: &'a Recipient,
    outcome: Outcome,
    via: Option<String>,
    took: Duration,
}

/// Sends, waits, prints.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let body = body(&arguments)?;
    let layout = arguments.folder.layout();
    let client = device::open(&layout, &arguments.sender).await?;
    let outcome = tokio::select! {
        outcome = send(&client, &arguments, &layout, body) => outcome,
        () = stop.asked() => Err(Failure::Interrupted),
    };
    client.close().await;
    outcome
}

async fn send(
    client: &Client,
    arguments: &Arguments,
    layout: &Layout,
    body: Vec<u8>,
) -> Result<(), Failure> {
    let options = SendOptions {
        ttl: arguments.ttl,
        key: arguments.key.clone(),
        retain: arguments.retain,
        notify: arguments.wait == Wait::Delivered,
        priority: arguments.priority.into(),
    };
    let begun = Instant::now();
    let to = arguments.to.to_string();
    let sent = client
        .send(&to, body, options)
        .await
        .map_err(Failure::Send)?;
    let outcome = tokio::select! {
        outcome = wait(&sent, arguments) => outcome,
        never = tell_trouble(client) => never,
    };
    let outcome = match outcome {
        Some(answer) => answer.map_err(refused)?,
        None => return Err(unanswered(client, arguments, layout, &sent).await),
    };
    if matches!(outcome, Outcome::Expired | Outcome::Replaced) {
        return Err(Failure::Lost(outcome));
    }
    let receipt = Receipt {
        sent: &sent,
        to: &arguments.to,
        outcome,
        via: relay(client),
        took: begun.elapsed(),
    };
    output::result(&if arguments.json {
        receipt.json()
    } else {
        receipt.text()
    })
}

/// Waits as long as asked; `None` when the time is over.
async fn wait(sent: &Sent, arguments: &Arguments) -> Option<Result<Outcome, Unsent>> {
    let answer = async {
        match arguments.wait {
            Wait::Stored => sent.stored().await,
            Wait::Delivered => sent.delivered().await,
        }
    };
    timeout(arguments.timeout, answer).await.ok()
}

/// Tells once why it takes long, if it does. Never returns.
async fn tell_trouble(client: &Client) -> Option<Result<Outcome, Unsent>> {
    let mut states = client.states();
    while let Some(state) = states.changed().await {
        if matches!(state, State::Waiting { .. } | State::Refused { .. }) {
            output::note(&output::standing(&state));
            break;
        }
    }
    std::future::pending().await
}

async fn unanswered(
    client: &Client,
    arguments: &Arguments,
    layout: &Layout,
    sent: &Sent,
) -> Failure {
    let after = arguments.timeout;
    // Whether it is safe at least is known already, or not at all.
    let stored = timeout(Duration::ZERO, sent.stored()).await;
    if matches!(stored, Ok(Ok(_))) {
        let to = arguments.to.to_string();
        return Failure::Undelivered { after, to };
    }
    Failure::Unanswered {
        after,
        why: device::silence(layout, client),
        device: arguments.sender.clone(),
    }
}

fn refused(unsent: Unsent) -> Failure {
    match unsent {
        Unsent::Refused(refusal) => Failure::Refused(refusal),
        Unsent::TooOld | Unsent::Closed => Failure::Detached(unsent.to_string()),
    }
}

fn relay(client: &Client) -> Option<String> {
    match client.state() {
        State::Attached { relay } => Some(relay.to_string()),
        _ => None,
    }
}

fn body(arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    match (&arguments.file, arguments.text.as_deref()) {
        (Some(path), _) => fs::read(path).map_err(Failure::file(path)),
        (None, Some("-")) => {
            let mut body = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut body);
            read.map_err(Failure::file("standard input"))?;
            Ok(body)
        }
        (None, text) => Ok(text.unwrap_or_default().into()),
    }
}

impl Receipt<'_> {
    fn text(&self) -> String {
        let what = match self.outcome {
            Outcome::Delivered => format!("delivered to {}", self.to),
            _ => format!(
                "stored on the home relay of {}, waiting for {}",
                self.to.account(),
                self.to
            ),
        };
        let via = self.via.as_ref().map(|relay| format!("via {relay}, "));
        let milliseconds = self.took.as_secs_f64() * 1000.0;
        format!("{what} ({}{milliseconds:.1} ms)", via.unwrap_or_default())
    }

    fn json(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Delivered => "delivered",
            _ => "stored",
        };
        serde_json::json!({
            "id": self.sent.id().to_string(),
            "to": self.to.to_string(),
            "outcome": outcome,
            "via": self.via,
            "milliseconds": self.took.as_secs_f64() * 1000.0,
        })
        .to_string()
    }
}
