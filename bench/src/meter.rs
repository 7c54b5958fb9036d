//! How many handshakes a relay begins, as its metrics tell, ten times a second.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use holdfast_relay::HandshakeLimits;
use holdfast_tests::scrape::metric;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::figure::Goal;

/// Between two looks.
const PACE: Duration = Duration::from_millis(100);

/// As many may begin in a second, by a relay's own configuration.
pub(crate) fn capped() -> Goal {
    let limits = HandshakeLimits::default();
    Goal::AtMost((limits.rate + limits.burst) as f64)
}

/// Looks at a relay until it is stopped.
pub(crate) struct Meter {
    end: oneshot::Sender<()>,
    looking: JoinHandle<Vec<(f64, f64)>>,
}

/// How many handshakes a relay had begun, when.
pub(crate) struct Course {
    /// In seconds after the first look.
    pub(crate) looks: Vec<(f64, f64)>,
}

impl Meter {
    /// Begins to look.
    pub(crate) fn start(admin: SocketAddr) -> Self {
        let (end, mut ended) = oneshot::channel();
        let since = Instant::now();
        let looking = tokio::spawn(async move {
            let (mut pace, mut looks) = (tokio::time::interval(PACE), Vec::new());
            loop {
                tokio::select! {
                    _ = pace.tick() => {}
                    _ = &mut ended => return looks,
                }
                let begun = metric(admin, "handshakes_admitted_total").await;
                looks.push((since.elapsed().as_secs_f64(), begun));
            }
        });
        Self { end, looking }
    }

    /// What it has seen.
    pub(crate) async fn stop(self) -> Course {
        // Fails only if it has ended already, which its result tells.
        let _ = self.end.send(());
        let looks = self.looking.await.expect("it looked");
        Course { looks }
    }
}

impl Course {
    /// The most that began within any second.
    pub(crate) fn most_in_a_second(&self) -> f64 {
        let begun_in = |(index, (at, begun)): (usize, &(f64, f64))| {
            let within = self.looks[index..]
                .iter()
                .take_while(|(later, _)| later - at <= 1.0);
            within.last().map_or(0.0, |(_, later)| later - begun)
        };
        self.looks
            .iter()
            .enumerate()
            .map(begun_in)
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_second_is_found_wherever_it_begins() {
        let looks = [
            (0.0, 5.0),
            (0.5, 6.0),
            (1.1, 20.0),
            (1.5, 30.0),
            (2.2, 31.0),
        ];
        let course = Course {
            looks: looks.to_vec(),
        };
        assert_eq!(course.most_in_a_second(), 24.0);
    }
}
