//! Devices that change their network again and again, under traffic in both directions. The gap is
//! measured from the change until the message arrives that was the newest when it happened: it was
//! on its way, and the change has lost it.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    Effort,
    couple::Couple,
    figure::{Figure, Goal, percentile},
    site::{self, Place, RELAY, ms},
    traffic::{Fates, Load},
};

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Less than half a round trip between two messages, so that one is always on its way.
const LOAD: Load = Load {
    every: Duration::from_millis(40),
    bytes: 200,
};

/// The figures, and all gaps in milliseconds.
pub(crate) async fn measure(effort: Effort) -> (Vec<Figure>, Vec<f64>) {
    let (devices, changes) = effort.pick((10, 10), (20, 50));
    let net = Arc::new(site::relay().await);
    let admin = net.admin_address(RELAY);
    let mut couples = Vec::new();
    for number in 0..devices {
        let (account, place) = (
            format!("traveller{number}"),
            Place::away(ROUND_TRIP, number),
        );
        couples.push(Couple::start(&net, &account, &place, LOAD).await);
    }
    let before = site::handshakes(admin).await;
    let travels: Vec<_> = couples
        .into_iter()
        .zip(0..)
        .map(|(couple, seed)| tokio::spawn(travel(couple, changes, seed)))
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

async fn travel(couple: Couple, changes: usize, seed: u64) -> (Couple, Vec<f64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut gaps = Vec::new();
    for _ in 0..changes {
        // The networks are changed at moments that have nothing to do with the messages'.
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..700))).await;
        let gap = couple.change_network().await;
        gaps.extend([ms(gap.down), ms(gap.up)]);
    }
    (couple, gaps)
}
