//! A client for one of the identities in the folder.

use std::{fs, time::Duration};

use holdfast::{Client, Config, ConnectError, Device, PingSchedule, Retry, State};
use holdfast_certs::Identity;
use tokio::time::{Instant, sleep};

use crate::{
    failure::Failure,
    layout::{self, Layout},
    plan::Plan,
};

/// How long another process may take to let go of a device.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it is tried whether it has.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// On one machine a lost relay can be noticed within seconds: there is no battery and no NAT.
const PINGS: PingSchedule = PingSchedule {
    interval: Duration::from_secs(2),
    longest: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    attempts: 3,
};

/// On one machine an address answers soon, or not at all.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

const RETRY: Retry = Retry {
    base: Duration::from_millis(200),
    cap: Duration::from_secs(2),
    seed: None,
};

/// How a device connects that lives in the folder.
pub(crate) fn config(layout: &Layout, plan: &Plan, device: &Device) -> Result<Config, Failure> {
    let credentials = layout.credentials(&layout::identity(device)?);
    if !credentials.certificate.exists() {
        return Err(Failure::NoIdentity {
            device: device.clone(),
            pki: layout.pki(),
            there: those_there(layout),
        });
    }
    Ok(Config {
        directory: Some(layout.device(device)),
        agent: concat!("holdfast-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
        pings: PINGS,
        retry: RETRY,
        dial_timeout: DIAL_TIMEOUT,
        ..Config::new(credentials, vec![plan.allocator])
    })
}

/// Connects as the device, when no other process does (any more).
pub(crate) async fn open(layout: &Layout, device: &Device) -> Result<Client, Failure> {
    let config = config(layout, &Plan::load(layout)?, device)?;
    let give_up = Instant::now() + PATIENCE;
    loop {
        match Client::connect(config.clone()).await {
            Ok(client) => return Ok(client),
            Err(ConnectError::InUse { .. }) if Instant::now() < give_up => sleep(TRY_EVERY).await,
            Err(ConnectError::InUse { .. }) => {
                let device = device.clone();
                return Err(Failure::DeviceInUse { device });
            }
            Err(error) => return Err(Failure::Connect(error)),
        }
    }
}

/// Why the client has no answer, as far as it can tell.
pub(crate) fn silence(layout: &Layout, client: &Client) -> String {
    let allocator = Plan::load(layout).map(|plan| plan.allocator.to_string());
    let allocator = allocator.unwrap_or_else(|_| "the allocator's address".to_owned());
    match client.state() {
        State::Attached { relay } => {
            format!("{relay} is connected, and has not answered yet.")
        }
        State::Refused { why, .. } | State::Failed { why } => format!("{why}."),
        State::Offline => "there is no network.".to_owned(),
        State::Superseded => "another program is connected as the same device.".to_owned(),
        State::Connecting { .. } | State::Waiting { .. } | State::Closed => format!(
            "no allocator answers at {allocator}: is `holdfast up` running in {}?",
            layout.dir().display()
        ),
    }
}

/// Names the devices that have certificates.
fn those_there(layout: &Layout) -> String {
    let mut names = Vec::new();
    let devices = layout.pki().join("device");
    for account in entries(&devices) {
        for file in entries(&devices.join(&account)) {
            if let Some(device) = file.strip_suffix(".pem")
                && Identity::device(&account, device).is_ok()
            {
                names.push(format!("{account}/{device}"));
            }
        }
    }
    names.sort();
    match names.as_slice() {
        [] => "there are none at all".to_owned(),
        _ => format!("there are those of {}", names.join(", ")),
    }
}

fn entries(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.collect()
}
