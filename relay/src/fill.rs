//! How full the disk is, and when no more mail may be put on it.
//!
//! A store that runs out of disk stops the whole relay. So new mail is refused while there is still
//! room for what must be written all the same: what devices acknowledge, and the copy by which the
//! store gives its space back.

use std::{path::PathBuf, sync::Arc, time::Duration};

use holdfast_durable::Space;

use crate::{core::router::Router, metrics::Metrics};

/// How often the disk is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Mail is taken again when so much of the disk has become free below the limit.
const MARGIN: f64 = 0.02;

/// Whether new mail is refused, and from which fill of the disk on.
#[derive(Debug)]
struct Fill {
    max: f64,
    refusing: bool,
}

impl Fill {
    /// Takes note of a fill, from 0 to 1. Tells whether mail is refused now, if that has changed.
    fn note(&mut self, fill: f64) -> Option<bool> {
        let limit = match self.refusing {
            true => self.max - MARGIN.min(self.max / 2.0),
            false => self.max,
        };
        let refuse = fill > limit;
        let changed = refuse != self.refusing;
        self.refusing = refuse;
        changed.then_some(refuse)
    }
}

/// Has the router refuse mail while the disk that holds `data` is filled above `max`, until it is
/// dropped.
pub(crate) async fn watch(router: Router, metrics: Arc<Metrics>, data: PathBuf, max: f64) {
    let mut fill = Fill {
        max,
        refusing: false,
    };
    let mut timer = tokio::time::interval(EVERY);
    loop {
        timer.tick().await;
        let now = match Space::of(&data) {
            Ok(space) => space.fill(),
            Err(error) => {
                tracing::warn!(%error, data = %data.display(), "cannot tell how full the disk is");
                continue;
            }
        };
        metrics.disk_fill.set(now);
        let Some(refuse) = fill.note(now) else {
            continue;
        };
        router.refuse_mail(refuse);
        match refuse {
            true => tracing::error!(fill = now, max, "the disk is full: new mail is refused"),
            false => tracing::info!(
                fill = now,
                max,
                "the disk has room: new mail is taken again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_refused_above_the_limit_and_taken_again_well_below_it() {
        let mut fill = Fill {
            max: 0.85,
            refusing: false,
        };
        let heard = [0.5, 0.85, 0.86, 0.9, 0.84, 0.82, 0.84].map(|now| fill.note(now));
        let (refuse, take) = (Some(true), Some(false));
        assert_eq!(heard, [None, None, refuse, None, None, take, None]);
    }

    #[test]
    fn a_limit_near_zero_can_be_left_again() {
        let mut fill = Fill {
            max: 0.01,
            refusing: false,
        };
        assert_eq!(
            [0.5, 0.0].map(|now| fill.note(now)),
            [Some(true), Some(false)]
        );
    }
}
