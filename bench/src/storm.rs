//! Very many devices that come back at once: how long that takes at the rate at which the relay shakes
//! hands, and what those notice who are connected: half of them at the distance of a mobile network, for what
//! its users notice; half beside the relay, of whose messages all the time is the relay's and the machine's.
//!
//! It happens twice. First a relay is restarted while none of the devices has a network, and then all
//! have one again: each finds out that its session is gone, and comes back at a moment of its own. Then
//! all of them want another session in the same moment, which no relay asked for: most are refused, and
//! come back when the last welcome said.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use holdfast_tests::{net::Net, scrape::metric, way::Way};

use crate::{
    Effort,
    crowd::{Families, Times},
    figure::{Figure, Goal, percentile},
    meter::{self, Course, Meter},
    site::{self, Post, RELAY, ms},
    throng::{Order, Throng},
    traffic::{Fates, Load},
};

/// How long it is looked for dials without a network, and measured what is usual.
const CALM: Duration = Duration::from_secs(10);

/// What each of those who are connected sends to the other of its account.
const LOAD: Load = Load {
    every: Duration::from_millis(250),
    bytes: 200,
};

/// In so short a time all are to be back.
const IN_TIME: Goal = Goal::AtMost(30.0);

/// How many of them there are at either place: accounts with two devices.
const ACCOUNTS: usize = 25;

/// From those that are distant to the relay and back.
const ROUND_TRIP: Duration = Duration::from_millis(80);

/// How a storm came back.
pub(crate) struct Storm {
    /// How many were back, when.
    pub(crate) back: Vec<(f64, f64)>,
    /// How many handshakes the relay had begun, when.
    pub(crate) begun: Vec<(f64, f64)>,
}

pub(crate) async fn measure(effort: Effort) -> (Vec<Figure>, Storm) {
    let mut scene = Scene::set(effort.pick(1_000, 10_000)).await;
    let mut figures = scene.restart_without_network().await;
    let (storm_figures, storm) = scene.reconnect_all().await;
    figures.extend(storm_figures);
    scene.clear().await;
    (figures, storm)
}

/// A relay, and very many devices that are attached to it.
struct Scene {
    net: Net,
    relay: Post,
    throng: Throng,
}

impl Scene {
    async fn set(devices: usize) -> Self {
        let mut net = Net::start(0).await;
        net.give_allocator_a_thread().await;
        let relay = Post::start(&net, RELAY, site::limits()).await;
        Self {
            throng: Throng::gather(&net, devices).await,
            net,
            relay,
        }
    }

    /// The relay is restarted while the throng has no network; then it has one again.
    async fn restart_without_network(&mut self) -> Vec<Figure> {
        self.throng.order(Order::GoOffline).await;
        self.relay.kill().await;
        self.relay.start_again(&self.net).await;
        let before = self.counted("admitted").await;
        tokio::time::sleep(CALM).await;
        let dials = self.counted("admitted").await - before;
        let back = self.throng.order(Order::GoOnline).await;
        vec![
            Figure::new("storm.offline_dials", dials, "count", Goal::AtMost(0.0)),
            Figure::new("storm.restart_back_s", last(&back), "s", IN_TIME),
        ]
    }

    /// All of the throng want another session, while others write to each other.
    async fn reconnect_all(&mut self) -> (Vec<Figure>, Storm) {
        let residents = Residents::gather(&self.net, self.relay.address()).await;
        tokio::time::sleep(CALM).await;
        let (since, meter) = (Instant::now(), Meter::start(self.relay.admin()));
        let before = self.counted("refused").await;
        let back = self.throng.order(Order::Reconnect).await;
        let until = Instant::now();
        let refused = self.counted("refused").await - before;
        let course = meter.stop().await;
        let (fates, times) = residents.finish().await;
        let p99s = times
            .map(|times| [(since - CALM, since), (since, until)].map(|part| p99(&times, part)));
        let mut figures = figures(last(&back), (course.most_in_a_second(), refused), p99s);
        figures.extend(fates.figures(["storm.lost", "storm.twice"]));
        (figures, Storm::new(back, course))
    }

    async fn counted(&self, what: &str) -> f64 {
        metric(self.relay.admin(), &format!("handshakes_{what}_total")).await
    }

    async fn clear(mut self) {
        drop(self.throng);
        self.relay.kill().await;
        self.net.stop().await;
    }
}

/// Those who are connected, and write to each other.
struct Residents {
    distant: Families,
    way: Way,
    beside: Families,
}

impl Residents {
    async fn gather(net: &Net, relay: SocketAddr) -> Self {
        let way = Way::open(&net.pki, (RELAY, relay), (ROUND_TRIP, 0)).await;
        let mut distant = Families::gather_by(net, ("distant", ACCOUNTS), way.allocator()).await;
        let mut beside = Families::gather(net, ACCOUNTS).await;
        distant.write(ACCOUNTS, LOAD);
        beside.write(ACCOUNTS, LOAD);
        Self {
            distant,
            way,
            beside,
        }
    }

    /// What came of all they wrote, and the times of those that are distant, and of the others.
    async fn finish(self) -> (Fates, [Vec<Times>; 2]) {
        let ((far, far_times), (near, near_times)) =
            tokio::join!(self.distant.finish(), self.beside.finish());
        self.way.close().await;
        (far + near, [far_times, near_times])
    }
}

/// How long the slowest message in a hundred took of those that were sent in a part of the time, in
/// milliseconds.
fn p99(times: &[Times], (from, to): (Instant, Instant)) -> f64 {
    let within = times
        .iter()
        .flatten()
        .filter(|(at, _)| (from..to).contains(at));
    let took: Vec<f64> = within.map(|(_, took)| ms(*took)).collect();
    percentile(&took, 0.99)
}

fn figures(
    back: f64,
    (most, refused): (f64, f64),
    [[quiet, stormy], [beside_quiet, beside_stormy]]: [[f64; 2]; 2],
) -> Vec<Figure> {
    let beside_ratio = beside_stormy / beside_quiet;
    vec![
        Figure::new("storm.all_back_s", back, "s", IN_TIME),
        Figure::new("storm.connects_per_s", most, "count", meter::capped()),
        Figure::new("storm.refused", refused, "count", Goal::None),
        Figure::new("storm.quiet_p99_ms", quiet, "ms", Goal::None),
        Figure::new("storm.p99_ms", stormy, "ms", Goal::None),
        Figure::new(
            "storm.p99_ratio",
            stormy / quiet,
            "ratio",
            Goal::AtMost(2.0),
        ),
        Figure::new("storm.beside_quiet_p99_ms", beside_quiet, "ms", Goal::None),
        Figure::new("storm.beside_p99_ms", beside_stormy, "ms", Goal::None),
        Figure::new("storm.beside_p99_ratio", beside_ratio, "ratio", Goal::None),
    ]
}

fn last(seconds: &[f64]) -> f64 {
    percentile(seconds, 1.0)
}

impl Storm {
    fn new(mut back: Vec<f64>, course: Course) -> Self {
        back.sort_by(f64::total_cmp);
        let first = course.looks.first().map_or(0.0, |(_, begun)| *begun);
        Self {
            back: back.into_iter().zip((1..).map(f64::from)).collect(),
            begun: course
                .looks
                .into_iter()
                .map(|(at, begun)| (at, begun - first))
                .collect(),
        }
    }
}
