//! Devices that change their network again and again, under traffic in both directions. The gap is
//! measured from the change until the message arrives that was the newest when it happened: it was
//! on its way, and the change has lost it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::Client;
use rand::{Rng, SeedableRng, rngs::StdRng};

use holdfast_tests::net::Net;

use crate::{
    Effort,
    figure::{Figure, Goal, percentile},
    site::{self, Mobile, Place, RELAY, ms},
    traffic::{Fates, Flow, Load},
};

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Less than half a round trip between two messages, so that one is always on its way.
const LOAD: Load = Load {
    every: Duration::from_millis(40),
    bytes: 200,
};

/// A phone on the move and a computer at home, that write to each other.
struct Couple {
    phone: Mobile,
    computer: Client,
    down: Flow,
    up: Flow,
}

/// The figures, and all gaps in milliseconds.
pub(crate) async fn measure(effort: Effort) -> (Vec<Figure>, Vec<f64>) {
    let (devices, changes) = effort.pick((10, 10), (20, 50));
    let net = Arc::new(site::relay().await);
    let admin = net.admin_address(RELAY);
    let mut couples = Vec::new();
    for number in 0..devices {
        couples.push(Couple::start(&net, number).await);
    }
    let before = site::handshakes(admin).await;
    let travels: Vec<_> = couples
        .into_iter()
        .zip(0..)
        .map(|(couple, seed)| tokio::spawn(couple.travel(changes, StdRng::seed_from_u64(seed))))
        .collect();
    let (mut couples, mut gaps) = (Vec::new(), Vec::new());
    for travel in travels {
        let (couple, measured) = travel.await.expect("a travel");
        couples.push(couple);
        gaps.extend(measured);
    }
    let handshakes = site::handshakes(admin).await - before;
    let mut fates = Fates::default();
    for couple in couples {
        fates = fates + couple.stop().await;
    }
    if let Ok(net) = Arc::try_unwrap(net) {
        net.stop().await;
    }
    (figures(&gaps, fates, handshakes), gaps)
}

fn figures(gaps: &[f64], fates: Fates, handshakes: f64) -> Vec<Figure> {
    let (p50, p99) = (percentile(gaps, 0.5), percentile(gaps, 0.99));
    let most = 2.0 * ms(ROUND_TRIP) + 50.0;
    let none = Goal::AtMost(0.0);
    vec![
        Figure::new("migration.p50_ms", p50, "ms", Goal::AtMost(most)),
        Figure::new("migration.p99_ms", p99, "ms", Goal::AtMost(500.0)),
        Figure::new("migration.max_ms", percentile(gaps, 1.0), "ms", Goal::None),
        Figure::new("migration.lost", fates.lost as f64, "count", none),
        Figure::new("migration.twice", fates.twice as f64, "count", none),
        Figure::new("migration.handshakes", handshakes, "count", none),
    ]
}

impl Couple {
    async fn start(net: &Net, number: u64) -> Self {
        let names = ["phone", "pc"].map(|device| format!("traveller{number}/{device}"));
        let place = Place::away(ROUND_TRIP, number);
        let relay = net.relay_address(RELAY);
        let phone = Mobile::start(&net.pki, &names[0], relay, &place).await;
        let computer = site::at_home(net, &names[1]).await;
        Self {
            down: Flow::start(&computer, &names[0], &phone.client, LOAD),
            up: Flow::start(&phone.client, &names[1], &computer, LOAD),
            phone,
            computer,
        }
    }

    async fn travel(self, changes: usize, mut rng: StdRng) -> (Self, Vec<f64>) {
        let mut gaps = Vec::new();
        for _ in 0..changes {
            let stay = Duration::from_millis(rng.random_range(300..700));
            tokio::time::sleep(stay).await;
            gaps.extend(self.change().await);
        }
        (self, gaps)
    }

    /// Of both directions.
    async fn change(&self) -> [f64; 2] {
        let (down, up) = (self.down.newest(), self.up.newest());
        let since = Instant::now();
        self.phone.change_network();
        let gaps = tokio::join!(self.down.gap(down, since), self.up.gap(up, since));
        [ms(gaps.0), ms(gaps.1)]
    }

    async fn stop(self) -> Fates {
        let fates = self.down.finish().await + self.up.finish().await;
        self.phone.stop().await;
        self.computer.close().await;
        fates
    }
}
