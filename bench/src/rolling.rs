//! Two relays that are stopped and started again one after the other, while very many devices write to
//! each other: what becomes of the messages, how long each device was out of reach, and how many
//! came to the other relay at once.

use std::time::{Duration, Instant};

use holdfast_relay::Limits;
use holdfast_tests::net::Net;

use crate::{
    Effort,
    crowd::{Families, Times},
    figure::{Figure, Goal, percentile},
    meter::{self, Meter},
    site::{self, Post, ms},
    traffic::{Fates, Load},
};

/// How long devices have to go elsewhere: what two relays of this size would be given.
const DRAIN: Duration = Duration::from_secs(15);

/// How long traffic flows before the first relay is stopped, and after each is back.
const CALM: Duration = Duration::from_secs(3);

/// What each device that is written to is sent by the other of its account. In a gap that is as long as
/// this, there is a message for sure.
const LOAD: Load = Load {
    every: Duration::from_secs(1),
    bytes: 200,
};

/// The figures, and for each device that is written to how long the message took that took longest, in
/// milliseconds.
pub(crate) async fn measure(effort: Effort) -> (Vec<Figure>, Vec<f64>) {
    let mut net = Net::start(0).await;
    net.give_allocator_a_thread().await;
    let limits = Limits {
        drain: DRAIN,
        ..site::limits()
    };
    let mut relays = [
        Post::start(&net, "r1", limits.clone()).await,
        Post::start(&net, "r2", limits).await,
    ];
    let (accounts, writing) = effort.pick((150, 50), (2_500, 500));
    let mut families = Families::gather(&net, accounts).await;
    families.write(writing, LOAD);
    tokio::time::sleep(CALM).await;
    let (since, mut most) = (Instant::now(), 0.0_f64);
    for leaving in 0..relays.len() {
        let meter = Meter::start(relays[1 - leaving].admin());
        relays[leaving].terminate().await;
        relays[leaving].start_again(&net).await;
        tokio::time::sleep(CALM).await;
        most = most.max(meter.stop().await.most_in_a_second());
    }
    let (fates, times) = families.finish().await;
    drop(relays);
    net.stop().await;
    let gaps: Vec<f64> = times.iter().map(|times| slowest(times, since)).collect();
    (figures(&gaps, fates, most), gaps)
}

fn figures(gaps: &[f64], fates: Fates, most: f64) -> Vec<Figure> {
    let (p99, soon) = (percentile(gaps, 0.99), Goal::AtMost(2000.0));
    let mut figures = fates.figures(["rolling.lost", "rolling.twice"]).to_vec();
    figures.extend([
        Figure::new("rolling.p50_ms", percentile(gaps, 0.5), "ms", Goal::None),
        Figure::new("rolling.p99_ms", p99, "ms", soon),
        Figure::new("rolling.max_ms", percentile(gaps, 1.0), "ms", Goal::None),
        Figure::new("rolling.connects_per_s", most, "count", meter::capped()),
    ]);
    figures
}

/// How long the slowest message took that was sent after a moment, in milliseconds.
fn slowest(times: &Times, since: Instant) -> f64 {
    let late = times.iter().filter(|(at, _)| *at >= since);
    late.map(|(_, took)| ms(*took)).fold(0.0, f64::max)
}
