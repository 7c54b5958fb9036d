//! What a connection takes of the relay's memory on which nothing happens but pings.

use std::time::Duration;

use clap::Args;

use super::{
    Audience, Problem, Target,
    arrival::{attach_all, close_all},
    audience::Progress,
    stack::Room,
    target::Site,
};
use crate::{Figure, Goal};

const GOAL: Goal = Goal::AtMost(34.0);

/// How long nothing happens before the relay's memory is looked at: what handshakes needed is given back,
/// as far as it is.
const CALM: Duration = Duration::from_secs(5);

/// One for so many is there before the memory is looked at for the first time: what a relay needs for
/// itself as soon as it has any work is not theirs.
const EARLY: u32 = 20;

/// How many connections.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// How many devices attach, and then do nothing
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// What is measured.
    #[command(flatten)]
    pub target: Target,
}

impl Idle {
    /// Measures, and tells.
    ///
    /// # Errors
    /// [`Problem`], when it cannot be measured.
    pub async fn measure(&self, audience: &mut dyn Audience) -> Result<(), Problem> {
        let site = self.target.reach(Room::default(), audience).await?;
        let early = self.connections.div_ceil(EARLY);
        let all = early + self.connections;
        let configs = (0..all).map(|number| site.device(&format!("bench-{number}"), "phone"));
        let mut configs = configs.collect::<Result<Vec<_>, _>>()?;
        let later = configs.split_off(early as usize);
        let mut coming = Progress::new(audience, "attaching", f64::from(all));
        let (mut clients, _) = attach_all(configs, &mut coming).await?;
        let before = resident(&site, audience).await?;
        let mut coming = Progress::new(audience, "attaching", f64::from(self.connections));
        clients.extend(attach_all(later, &mut coming).await?.0);
        let after = resident(&site, audience).await?;
        let connections = f64::from(self.connections);
        audience.figure(Figure::new(
            "idle.connections",
            connections,
            "count",
            Goal::None,
        ));
        if let Some((before, after)) = before.zip(after) {
            let each = (after - before) / connections;
            audience.figure(Figure::new("idle.kib_per_connection", each, "KiB", GOAL));
            audience.figure(Figure::new(
                "idle.rss_mib",
                after / 1024.0,
                "MiB",
                Goal::None,
            ));
        }
        close_all(clients).await;
        site.leave().await;
        Ok(())
    }
}

/// What the relay holds in memory once nothing happens any more, in KiB.
async fn resident(site: &Site, audience: &mut dyn Audience) -> Result<Option<f64>, Problem> {
    let mut calm = Progress::new(audience, "idling", CALM.as_secs_f64());
    calm.pass(CALM).await;
    let bytes = site.server.resident()?;
    Ok(bytes.map(|bytes| bytes as f64 / 1024.0))
}
