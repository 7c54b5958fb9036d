//! The daemons and the devices of the demo, in a folder that goes away with them.

use std::{future::Future, time::Duration};

use holdfast::{Client, Config, Device, PingSchedule, Received, Retry};
use holdfast_certs::Identity;
use holdfast_relay::Limits;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::time::{interval, timeout};

use crate::{
    demo::{cable::Cable, figures},
    device,
    failure::Failure,
    fleet::{self, Fleet},
    layout::Layout,
    pki,
    plan::Plan,
};

/// The devices that get a certificate.
const DEVICES: [&str; 3] = ["pc", "phone", "tablet"];

/// How long anything may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it is looked whether something has happened that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Pings often, so that silence is noticed while somebody watches.
pub(crate) const PINGS: PingSchedule = PingSchedule {
    interval: Duration::from_millis(500),
    longest: Duration::from_millis(500),
    timeout: Duration::from_millis(300),
    attempts: 3,
};

/// What a relay adds before it drops a silent device: time for two repeated pings.
const PING_GRACE: Duration = Duration::from_millis(750);

/// How long a silent device stays on the list.
pub(crate) fn deadline() -> Duration {
    let announced = PINGS.interval;
    announced + announced / 2 + PING_GRACE
}

/// Everything that plays.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) layout: Layout,
    pub(crate) fleet: Fleet,
    /// The relay that alice's account is at home at, and the other one.
    pub(crate) home: String,
    pub(crate) other: String,
    /// Leads to the home relay, once it is laid.
    pub(crate) cable: Option<Cable>,
    pub(crate) pc: Option<Client>,
    pub(crate) phone: Option<Client>,
}

impl Stage {
    /// Makes the certificates, and starts the daemons.
    pub(crate) async fn raise() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("holdfast-demo-").tempdir();
        let folder = folder.map_err(Failure::file("the folder for temporary files"))?;
        let layout = Layout::new(folder.path());
        let plan = Plan::new(2);
        let mut identities = fleet::identities(&plan)?;
        for device in DEVICES {
            identities.push(Identity::device("alice", device)?);
        }
        pki::prepare(&layout, &identities, OffsetDateTime::now_utc())?;
        let limits = Limits {
            ping_grace: PING_GRACE,
            drain: Duration::from_millis(200),
            ..Limits::default()
        };
        let fleet = Fleet::start(&layout, &plan, limits).await?;
        fleet.ready().await?;
        let [home, other] = ["r1", "r2"].map(str::to_owned);
        Ok(Self {
            folder,
            layout,
            fleet,
            home,
            other,
            cable: None,
            pc: None,
            phone: None,
        })
    }

    /// How one of alice's devices connects.
    pub(crate) fn config(&self, device: &str) -> Result<Config, Failure> {
        let config = device::config(&self.layout, &self.fleet.plan(), &alice(device)?)?;
        Ok(Config {
            pings: PINGS,
            dial_timeout: Duration::from_millis(500),
            retry: Retry {
                base: Duration::from_millis(100),
                cap: Duration::from_millis(500),
                seed: None,
            },
            ..config
        })
    }

    /// One of alice's devices.
    pub(crate) async fn open(&self, device: &str) -> Result<Client, Failure> {
        let connecting = Client::connect(self.config(device)?);
        connecting.await.map_err(Failure::Connect)
    }

    /// Waits until the client has a session, and says with which relay.
    pub(crate) async fn attached(client: &Client) -> Result<String, Failure> {
        let attached = within("a relay is found", client.attached()).await?;
        let relay = attached.map_err(|why| Failure::Demo(why.to_string()))?;
        Ok(relay.to_string())
    }

    /// A figure of the home relay.
    pub(crate) async fn home_figure(&self, name: &str) -> Result<u64, Failure> {
        let Some(post) = self.fleet.post(&self.home) else {
            return Err(Failure::Demo(format!("there is no relay {}", self.home)));
        };
        figures::figure(post.admin, name).await
    }

    /// Stops everything. The folder goes, too.
    pub(crate) async fn strike(self) {
        for client in [self.pc, self.phone].into_iter().flatten() {
            client.close().await;
        }
        self.fleet.shutdown().await;
        if let Err(error) = self.folder.close() {
            crate::output::warning(&format!("the demo's folder stays: {error}"));
        }
    }
}

fn alice(device: &str) -> Result<Device, Failure> {
    let device = format!("alice/{device}").parse();
    device.map_err(|error: holdfast::InvalidId| Failure::Demo(error.to_string()))
}

/// Waits for what is expected, but not for ever.
pub(crate) async fn within<T>(
    what: &str,
    happening: impl Future<Output = T>,
) -> Result<T, Failure> {
    let late = |_| Failure::Demo(format!("not within {} s: {what}", PATIENCE.as_secs()));
    timeout(PATIENCE, happening).await.map_err(late)
}

/// Looks until there is something to see.
pub(crate) async fn seen<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let looking = async {
        let mut again = interval(LOOK_EVERY);
        loop {
            again.tick().await;
            if let Some(seen) = look() {
                return seen;
            }
        }
    };
    within(what, looking).await
}

/// The next message.
pub(crate) async fn next(client: &Client) -> Result<Received, Failure> {
    let message = within("a message comes", client.next()).await?;
    message.ok_or_else(|| Failure::Demo("a client was closed".to_owned()))
}

/// The app is done with a message.
pub(crate) async fn done(message: Received) -> Result<(), Failure> {
    let done = message.done().await;
    done.map_err(|closed| Failure::Demo(closed.to_string()))
}
