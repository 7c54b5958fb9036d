//! How full the disk is, and when no more mail may be put on it.
//!
//! A store that runs out of disk stops the whole relay. So new mail is refused while there is still
//! room for what must be written all the same: what devices acknowledge, and the copy by which the
//! store gives its space back.

use std::{path::PathBuf, sync::Arc, time::Duration};

use holdfast_durable::Space;

use crate::{core::router::Router, metrics::Metrics, store::MailboxStore};

/// How often the disk is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// How much has to be free of a disk: a share of it, or, where the disk is so large that this would be
/// much more than anybody needs, what the store needs for its copy, and an amount for what is written
/// beside that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserve {
    /// The share that may be filled, from 0 to 1.
    pub(crate) max_fill: f64,
    /// The amount, in bytes.
    pub(crate) bytes: u64,
}

impl Reserve {
    /// In bytes.
    fn of(&self, space: Space, copy_room: u64) -> u64 {
        let share = (1.0 - self.max_fill) * space.all() as f64;
        (share as u64).min(self.bytes.saturating_add(copy_room))
    }
}

/// Mail that was refused is taken again when so much more has become free.
fn margin(space: Space, kept_free: u64) -> u64 {
    // A share that leaves next to nothing can be left again, too.
    (kept_free / 8).min(space.all().saturating_sub(kept_free) / 2)
}

/// Whether new mail is refused.
#[derive(Debug, Default)]
struct Watch {
    refusing: bool,
}

impl Watch {
    /// Takes note of how the disk is, and how much of it has to be free. Tells whether mail is refused
    /// now, if that has changed.
    fn note(&mut self, space: Space, kept_free: u64) -> Option<bool> {
        let needed = match self.refusing {
            true => kept_free.saturating_add(margin(space, kept_free)),
            false => kept_free,
        };
        let refuse = space.free < needed;
        let changed = refuse != self.refusing;
        self.refusing = refuse;
        changed.then_some(refuse)
    }
}

/// The disk, and what is kept on it.
pub(crate) struct Disk {
    /// Where.
    pub(crate) data: PathBuf,
    /// What.
    pub(crate) store: Arc<dyn MailboxStore>,
}

/// Has the router refuse mail while less is free than the reserve asks for, until it is dropped.
pub(crate) async fn watch(router: Router, metrics: Arc<Metrics>, disk: Disk, reserve: Reserve) {
    let mut watch = Watch::default();
    let mut timer = tokio::time::interval(EVERY);
    loop {
        timer.tick().await;
        let space = match Space::of(&disk.data) {
            Ok(space) => space,
            Err(error) => {
                let data = disk.data.display();
                tracing::warn!(%error, %data, "cannot tell how full the disk is");
                continue;
            }
        };
        let kept_free = reserve.of(space, disk.store.stats().copy_room);
        if let Some(refuse) = watch.note(space, kept_free) {
            router.refuse_mail(refuse);
            say(space.free, kept_free, refuse);
        }
        metrics.disk(space, kept_free);
    }
}

fn say(free: u64, kept_free: u64, refuse: bool) {
    match refuse {
        true => tracing::error!(free, kept_free, "the disk is full: new mail is refused"),
        false => tracing::info!(
            free,
            kept_free,
            "the disk has room: new mail is taken again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    fn space(all: u64, free: u64) -> Space {
        Space {
            used: all - free,
            free,
        }
    }

    fn usual() -> Reserve {
        Reserve {
            max_fill: 0.85,
            bytes: 4 * GIB,
        }
    }

    /// What is told as the free part of a disk of 100 bytes changes.
    fn heard<const N: usize>(max_fill: f64, free: [u64; N]) -> [Option<bool>; N] {
        let (mut watch, reserve) = (
            Watch::default(),
            Reserve {
                max_fill,
                ..usual()
            },
        );
        free.map(|free| {
            let space = space(100_000, free);
            watch.note(space, reserve.of(space, 0))
        })
    }

    #[test]
    fn mail_is_refused_below_the_reserve_and_taken_again_well_above_it() {
        let free = [50_000, 15_001, 14_000, 10_000, 16_000, 18_000, 16_000];
        let (refuse, take) = (Some(true), Some(false));
        assert_eq!(
            heard(0.85, free),
            [None, None, refuse, None, None, take, None]
        );
    }

    #[test]
    fn a_share_near_zero_can_be_left_again_and_one_is_no_limit() {
        assert_eq!(heard(0.01, [50_000, 100_000]), [Some(true), Some(false)]);
        assert_eq!(heard(1.0, [50_000, 0]), [None, None]);
    }

    #[test]
    fn a_small_disk_keeps_a_share_free_and_a_large_one_what_the_store_needs() {
        let reserve = usual();
        let kept = |all, copy_room| reserve.of(space(all, 0), copy_room);
        assert_eq!(kept(20 * GIB, 0), 3 * GIB);
        assert_eq!(kept(1000 * GIB, 0), 4 * GIB);
        assert_eq!(kept(1000 * GIB, 40 * GIB), 44 * GIB);
        let share = kept(1000 * GIB, 500 * GIB);
        assert!((149 * GIB..=150 * GIB).contains(&share), "{share}");
    }

    #[test]
    fn a_large_disk_that_is_nearly_full_takes_mail_while_there_is_room_for_it() {
        let (mut watch, reserve) = (Watch::default(), usual());
        let mut note = |free| {
            let space = space(4000 * GIB, free);
            watch.note(space, reserve.of(space, 8 * GIB))
        };
        assert_eq!(note(40 * GIB), None, "99 % full");
        assert_eq!(note(11 * GIB), Some(true), "no room for a copy");
        assert_eq!(note(13 * GIB), None);
        assert_eq!(note(14 * GIB), Some(false));
    }
}
