//! All devices that mail waits for come at once, each with a full handshake, and fetch it. What is counted
//! goes from the first handshake to the last message; of the relay's work, until nothing waits any more.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast::{Client, Config};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    Audience, Problem,
    arrival::{AT_A_TIME, allow_files, attach, close_all},
    audience::Progress,
    disk::{self, Disk},
    latency::Latencies,
    server::Spent,
    store::{DEVICE, MARK, Store, account},
    target::Site,
    turn::{Goals, Names, Turn, names, tell_own},
};
use crate::Goal;

const NAMES: Names = names!("drain.");

const GOALS: Goals = Goals {
    per_second: Goal::AtLeast(80_000.0),
    cpu: Goal::AtMost(13.0),
};

/// How much of the disk is still taken afterwards, for each byte that was stored.
const ON_DISK: Goal = Goal::AtMost(0.5);

/// The longest that a store takes to come to rest, in seconds, for the progress bar.
const RESTING: f64 = 10.0;

/// Fetches what was stored, and tells.
pub(super) async fn measure(
    stored: &Store,
    site: &Site,
    mark: [u8; MARK],
    before: Option<Disk>,
    audience: &mut dyn Audience,
) -> Result<(), Problem> {
    let guests = guests(stored, site, mark)?;
    let mut progress = Progress::new(audience, "draining", stored.messages as f64);
    let (clients, turn) = fetch_all(guests, site, before, &mut progress).await?;
    let figures = NAMES.figures(&turn, GOALS, &site.server)?;
    close_all(clients).await;
    audience.figures(figures);
    tell_own("fetching a message", &turn, audience);
    let mut progress = Progress::new(audience, "resting", RESTING);
    let rest = Disk::at_rest(&site.server, &mut progress).await;
    let payload = stored.messages * stored.size;
    let ratio = disk::share("drain.disk_ratio", (before, rest), payload, ON_DISK);
    ratio.into_iter().for_each(|figure| audience.figure(figure));
    Ok(())
}

/// A device, and what waits for it.
struct Guest {
    config: Config,
    mark: [u8; MARK],
    messages: u64,
}

/// All of them, with their certificates.
fn guests(stored: &Store, site: &Site, mark: [u8; MARK]) -> Result<Vec<Guest>, Problem> {
    let Store {
        devices, messages, ..
    } = *stored;
    let guest = |number| {
        Ok(Guest {
            config: site.device(&account(number), DEVICE)?,
            mark,
            messages: share(messages, devices, number),
        })
    };
    (0..devices.min(messages)).map(guest).collect()
}

/// How many of the messages are for the device of this number, when each gets one in turn.
fn share(messages: u64, devices: u64, number: u64) -> u64 {
    messages / devices + u64::from(number < messages % devices)
}

async fn fetch_all(
    guests: Vec<Guest>,
    site: &Site,
    before: Option<Disk>,
    progress: &mut Progress<'_>,
) -> Result<(Vec<Client>, Turn), Problem> {
    allow_files(guests.len())?;
    let (fetched, turns) = (
        Arc::<AtomicU64>::default(),
        Arc::new(Semaphore::new(AT_A_TIME)),
    );
    let mut coming = JoinSet::new();
    let since = site.server.mark()?;
    for guest in guests {
        let (fetched, turns) = (fetched.clone(), turns.clone());
        coming.spawn(async move {
            let turn = turns.acquire().await;
            let begun = Instant::now();
            let client = attach(guest.config.clone()).await?;
            drop(turn);
            guest.fetch(&client, &fetched).await?;
            Ok::<_, Problem>((client, begun.elapsed()))
        });
    }
    let mut latencies = Latencies::new();
    let fetching = async {
        let mut clients = Vec::new();
        while let Some(come) = coming.join_next().await {
            let (client, took) = come??;
            latencies.note(took);
            clients.push(client);
        }
        Ok::<_, Problem>(clients)
    };
    let count = || fetched.load(Ordering::Relaxed);
    let clients = progress
        .follow(fetching, "a stored message", count)
        .await??;
    let span = site.server.mark()?.since(since).span;
    Disk::until_as_empty_as(&site.server, before).await;
    let spent = site.server.mark()?.since(since);
    let turn = Turn {
        messages: count(),
        spent: Spent { span, ..spent },
        latencies,
    };
    Ok((clients, turn))
}

impl Guest {
    /// Takes all that waits, and returns when the last of it is acknowledged.
    async fn fetch(&self, client: &Client, fetched: &AtomicU64) -> Result<(), Problem> {
        let mut left = self.messages;
        while let Some(received) = client.next().await {
            let wanted = u64::from(received.body().starts_with(&self.mark));
            left -= wanted;
            fetched.fetch_add(wanted, Ordering::Relaxed);
            if left == 0 {
                // The client remembers in order: when it remembers this one, it does all before.
                let _ = received.done().await;
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = received.done() => {}
                () = ready(()) => {}
            }
        }
        Err(Problem::Silent {
            what: "a stored message",
            after: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_somebodys() {
        for (messages, devices) in [(100, 10), (103, 10), (3, 10), (1, 1)] {
            let shares = (0..devices).map(|number| share(messages, devices, number));
            assert_eq!(shares.sum::<u64>(), messages);
        }
        assert_eq!(share(103, 10, 2), 11);
        assert_eq!(share(103, 10, 3), 10);
    }
}
