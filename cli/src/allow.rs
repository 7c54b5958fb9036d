//! `holdfast allow`: who may write across accounts.

use std::time::Duration;

use clap::Args;
use holdfast::{Client, Device, Name};
use tokio::time::timeout;

use crate::{command::Folder, device, failure::Failure, output, stop::Stop};

/// Let another account write to this one's devices
///
/// Devices of one account may always write to each other. Across accounts the recipient decides:
/// any of its devices may say so, for all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast allow --as bob/phone alice          alice may write to bob's devices
  holdfast allow --as bob/phone alice --not    and no longer")]
pub(crate) struct Arguments {
    /// A device of the account that decides
    #[arg(long = "as", value_name = "ACCOUNT/DEVICE")]
    device: Device,
    /// The account that may write
    account: Name,
    /// It may not, any longer
    #[arg(long)]
    not: bool,
    /// How long to wait for the relay to confirm
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    folder: Folder,
}

/// Asks the relay, and prints what holds from now on.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let client = device::open(&arguments.folder.layout(), &arguments.device).await?;
    let outcome = tokio::select! {
        outcome = ask(&client, &arguments) => outcome,
        () = stop.asked() => Err(Failure::Interrupted),
    };
    client.close().await;
    outcome
}

async fn ask(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let asked = client.allow(&arguments.account, !arguments.not);
    let after = arguments.timeout;
    let answered = timeout(after, asked).await.map_err(|_| {
        let why = device::silence(&arguments.folder.layout(), client);
        Failure::Unconfirmed { after, why }
    })?;
    answered.map_err(|closed| Failure::Detached(closed.to_string()))?;
    let may = if arguments.not {
        "may no longer"
    } else {
        "may"
    };
    let (sender, account) = (&arguments.account, &arguments.device.account);
    output::result(&format!("{sender} {may} write to {account}'s devices"))
}
