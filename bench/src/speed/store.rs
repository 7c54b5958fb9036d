//! What it costs to keep mail for devices that are away, and to hand it over when all of them come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use clap::Args;
use holdfast::{Client, Outcome, SendOptions};
use holdfast_protocol::limits::WINDOW;
use tokio::task::JoinSet;

use super::{
    Audience, Problem, Target,
    arrival::{all, attach_all, close_all},
    audience::Progress,
    disk::{self, Disk},
    drain,
    latency::Noted,
    server::Server,
    stack::Room,
    target::Site,
    turn::{Goals, Names, Turn, names, tell_own},
};
use crate::Goal;

const NAMES: Names = names!("store.");

const GOALS: Goals = Goals {
    per_second: Goal::AtLeast(50_000.0),
    cpu: Goal::AtMost(25.0),
};

/// How much of the disk a byte of a message takes while it waits.
const ON_DISK: Goal = Goal::AtMost(2.5);

/// What a body begins with: the run that it is of.
pub(super) const MARK: usize = 8;

/// What is to be stored.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// For how many devices, each of an account of its own
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub devices: u64,
    /// How many messages, to one device after the other
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub messages: u64,
    /// How large a message is, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(MARK as u64..=1_048_576))]
    pub size: u64,
    /// How many services send them
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub senders: u32,
    /// How many messages each of them keeps on their way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=WINDOW as i64))]
    pub window: u32,
    /// Leave the messages where they are: no device comes to fetch them
    #[arg(long)]
    pub no_drain: bool,
    /// What is measured.
    #[command(flatten)]
    pub target: Target,
}

/// Whom a message is for, by its number.
pub(super) fn account(number: u64) -> String {
    format!("bench-{number}")
}

/// The device that all of these accounts have.
pub(super) const DEVICE: &str = "phone";

impl Store {
    /// Measures, and tells.
    ///
    /// # Errors
    /// [`Problem`], when it cannot be measured.
    pub async fn measure(&self, audience: &mut dyn Audience) -> Result<(), Problem> {
        let room = Room {
            messages: self.messages.div_ceil(self.devices),
            size: self.size,
        };
        let site = self.target.reach(room, audience).await?;
        let (before, mark) = (Disk::look(&site.server).await, rand::random());
        self.fill(&site, mark, audience).await?;
        let stored = Disk::look(&site.server).await;
        let payload = self.messages * self.size;
        let ratio = disk::share("store.disk_ratio", (before, stored), payload, ON_DISK);
        ratio.into_iter().for_each(|figure| audience.figure(figure));
        if !self.no_drain {
            drain::measure(self, &site, mark, before, audience).await?;
        }
        site.leave().await;
        Ok(())
    }

    async fn fill(
        &self,
        site: &Site,
        mark: [u8; MARK],
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let configs = (0..self.senders).map(|number| site.service(&format!("bench-{number}")));
        let configs = configs.collect::<Result<Vec<_>, _>>()?;
        let mut coming = Progress::new(audience, "attaching", f64::from(self.senders));
        let (senders, _) = attach_all(configs, &mut coming).await?;
        let mut progress = Progress::new(audience, "storing", self.messages as f64);
        let turn = self
            .send(&senders, site.server, mark, &mut progress)
            .await?;
        close_all(senders).await;
        let figures = NAMES.figures(&turn, GOALS, &site.server)?;
        audience.figures(figures);
        tell_own("storing a message", &turn, audience);
        Ok(())
    }

    async fn send(
        &self,
        senders: &[Client],
        server: Server,
        mark: [u8; MARK],
        progress: &mut Progress<'_>,
    ) -> Result<Turn, Problem> {
        let (next, noted, mut slots) = (Arc::default(), Noted::default(), JoinSet::new());
        let body = body(mark, self.size as usize);
        let since = server.mark()?;
        for sender in senders {
            for _ in 0..self.window {
                let slot = Slot {
                    sender: sender.clone(),
                    next: Arc::clone(&next),
                    noted: noted.clone(),
                };
                slots.spawn(slot.fill(body.clone(), self.messages, self.devices));
            }
        }
        let sending = progress.follow(all(slots), "the answer to a message", || noted.count());
        sending.await??;
        Ok(Turn {
            messages: noted.count(),
            spent: server.mark()?.since(since),
            latencies: noted.take(),
        })
    }
}

/// One place in a sender's window.
struct Slot {
    sender: Client,
    /// The next message that nobody has sent yet.
    next: Arc<AtomicU64>,
    noted: Noted,
}

impl Slot {
    /// A message after the other, until all are sent.
    async fn fill(self, body: Bytes, messages: u64, devices: u64) -> Result<(), Problem> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= messages {
                return Ok(());
            }
            let (to, begun) = (recipient(number % devices), Instant::now());
            let sent = self.sender.send(&to, body.clone(), SendOptions::default());
            match sent.await?.stored().await? {
                Outcome::Stored => self.noted.note(begun.elapsed()),
                other => return Err(Problem::Outcome(other)),
            }
        }
    }
}

fn recipient(number: u64) -> String {
    format!("{}/{DEVICE}", account(number))
}

fn body(mark: [u8; MARK], size: usize) -> Bytes {
    let mut body = mark.to_vec();
    body.resize(size, 0);
    body.into()
}
