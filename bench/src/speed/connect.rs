//! What it costs the relay when devices connect: with a full handshake, in which both sides prove who they
//! are, and with a resumed one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use holdfast::{Client, State};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{
    Audience, Problem, Target,
    arrival::{AT_A_TIME, all, attach_all, close_all},
    audience::Progress,
    latency::{Latencies, Noted},
    server::Spent,
    stack::Room,
    target::Site,
};
use crate::{Figure, Goal};

/// How long a client may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the figures are called.
struct Names {
    clients: &'static str,
    per_second: &'static str,
    cpu: &'static str,
    within: [&'static str; 3],
}

const FULL: Names = Names {
    clients: "connect.clients",
    per_second: "connect.per_s",
    cpu: "connect.cpu_ms",
    within: ["connect.p50_us", "connect.p99_us", "connect.p999_us"],
};

const RESUMED: Names = Names {
    clients: "connect.resumed",
    per_second: "connect.resumed_per_s",
    cpu: "connect.resumed_cpu_ms",
    within: [
        "connect.resumed_p50_us",
        "connect.resumed_p99_us",
        "connect.resumed_p999_us",
    ],
};

const GOAL: Goal = Goal::AtMost(0.45);

/// Who is to connect.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Have each connect a second time, and resume its first session
    #[arg(long)]
    pub resume: bool,
    /// What is measured.
    #[command(flatten)]
    pub target: Target,
}

impl Connect {
    /// Measures, and tells.
    ///
    /// # Errors
    /// [`Problem`], when it cannot be measured.
    pub async fn measure(&self, audience: &mut dyn Audience) -> Result<(), Problem> {
        let site = self.target.reach(Room::default(), audience).await?;
        let accounts = (0..self.clients).map(|number| format!("bench-{number}"));
        let configs = accounts.map(|account| site.device(&account, "phone"));
        let configs = configs.collect::<Result<Vec<_>, _>>()?;
        let since = site.server.mark()?;
        let mut coming = Progress::new(audience, "connecting", f64::from(self.clients));
        let (clients, latencies) = attach_all(configs, &mut coming).await?;
        let spent = site.server.mark()?.since(since);
        FULL.tell(clients.len() as f64, &latencies, spent, GOAL, audience);
        if self.resume {
            resume(&site, &clients, audience).await?;
        }
        if let Some(bytes) = site.server.resident()? {
            let mib = bytes as f64 / f64::from(1 << 20);
            audience.figure(Figure::new("connect.rss_mib", mib, "MiB", Goal::None));
        }
        close_all(clients).await;
        site.leave().await;
        Ok(())
    }
}

/// Has all of them connect again, and counts those that the relay says have resumed, if it says so.
async fn resume(
    site: &Site,
    clients: &[Client],
    audience: &mut dyn Audience,
) -> Result<(), Problem> {
    let metric = "handshakes_resumed_total";
    let before = site.server.metric(metric).await;
    let (turns, noted) = (Arc::new(Semaphore::new(AT_A_TIME)), Noted::default());
    let mut coming = JoinSet::new();
    let since = site.server.mark()?;
    for client in clients {
        let (client, turns, noted) = (client.clone(), turns.clone(), noted.clone());
        coming.spawn(async move {
            let _turn = turns.acquire().await;
            let begun = Instant::now();
            come_again(&client).await?;
            noted.note(begun.elapsed());
            Ok(())
        });
    }
    let mut progress = Progress::new(audience, "resuming", clients.len() as f64);
    let come = progress.follow(all(coming), "a client", || noted.count());
    come.await??;
    let spent = site.server.mark()?.since(since);
    let now = site.server.metric(metric).await;
    let resumed = now.zip(before).map(|(now, before)| now - before);
    let resumed = resumed.unwrap_or(clients.len() as f64);
    RESUMED.tell(resumed, &noted.take(), spent, Goal::None, audience);
    Ok(())
}

/// Exchanges a client's session for another.
async fn come_again(client: &Client) -> Result<(), Problem> {
    let mut states = client.states();
    states.current();
    client.reconnect();
    let back = async {
        while let Some(state) = states.changed().await {
            if matches!(state, State::Attached { .. }) {
                return;
            }
        }
    };
    let back = timeout(PATIENCE, back).await;
    back.map_err(|_| Problem::NotAttached {
        name: client.identity().to_string(),
        after: PATIENCE,
        state: format!("{:?}", client.state()),
    })
}

impl Names {
    fn tell(
        &self,
        clients: f64,
        latencies: &Latencies,
        spent: Spent,
        goal: Goal,
        audience: &mut dyn Audience,
    ) {
        let connects = latencies.count() as f64;
        let rate = connects / spent.span.as_secs_f64();
        audience.figure(Figure::new(self.clients, clients, "count", Goal::None));
        audience.figure(Figure::new(self.per_second, rate, "count/s", Goal::None));
        if let Some(cpu) = spent.server {
            let each = cpu.as_secs_f64() * 1e3 / connects;
            audience.figure(Figure::new(self.cpu, each, "ms", goal));
        }
        audience.figures(latencies.figures(self.within).to_vec());
        let own = spent.own.as_secs_f64() * 1e3 / connects;
        audience.note(&format!(
            "a client takes the load generator {own:.2} ms of processor time"
        ));
    }
}
