//! What a relay's mail takes of its disk, as its metrics tell.

use std::time::{Duration, Instant};

use super::{audience::Progress, server::Server};
use crate::{Figure, Goal};

/// Between two looks.
const PACE: Duration = Duration::from_millis(50);

/// A store moves what is left into a new log when nothing was written for 2 s; when nothing has changed
/// for longer than that, nothing will.
const REST: Duration = Duration::from_secs(4);

/// How long it may take until a store rests: others may write to it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the store takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Disk {
    /// Of the disk, in bytes.
    used: f64,
    /// What waits for devices, in bytes.
    waits: f64,
}

impl Disk {
    /// What it takes now, if the relay says.
    pub(crate) async fn look(server: &Server) -> Option<Self> {
        Some(Self {
            used: server.metric("disk_bytes").await?,
            waits: server.metric("mailbox_bytes").await?,
        })
    }

    /// Waits until no more waits for devices than then.
    pub(crate) async fn until_as_empty_as(server: &Server, then: Option<Self>) {
        let (since, Some(then)) = (Instant::now(), then) else {
            return;
        };
        while let Some(now) = Self::look(server).await {
            if now.waits <= then.waits || since.elapsed() > PATIENCE {
                return;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// What it takes when it does not change any more.
    pub(crate) async fn at_rest(server: &Server, progress: &mut Progress<'_>) -> Option<Self> {
        let (mut last, begun, mut since) =
            (Self::look(server).await?, Instant::now(), Instant::now());
        while since.elapsed() < REST && begun.elapsed() < PATIENCE {
            progress.pass(PACE).await;
            let now = Self::look(server).await?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Some(last)
    }
}

/// How many bytes of the disk more than before, for each of so many bytes.
pub(crate) fn share(
    name: &'static str,
    (before, now): (Option<Disk>, Option<Disk>),
    payload: u64,
    goal: Goal,
) -> Option<Figure> {
    let more = now?.used - before?.used;
    Some(Figure::new(name, more / payload as f64, "ratio", goal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_what_came_in_addition() {
        let disk = |used| Some(Disk { used, waits: 0.0 });
        let figure = share(
            "store.disk_ratio",
            (disk(50.0), disk(300.0)),
            100,
            Goal::None,
        );
        assert_eq!(figure.map(|figure| figure.value), Some(2.5));
        assert_eq!(
            share("store.disk_ratio", (None, disk(1.0)), 1, Goal::None),
            None
        );
    }
}
