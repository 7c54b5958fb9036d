//! Ten seconds without any network, under load in both directions, and then another network: how
//! long until the next message, in the direction and for the device that waits longest.

use std::time::Duration;

use crate::{
    Effort,
    couple::Couple,
    figure::{Figure, Goal},
    site::{self, Place, ms},
    traffic::{Fates, Load},
};

const ROUND_TRIP: Duration = Duration::from_millis(100);

const OUTAGE: Duration = Duration::from_secs(10);

/// Enough to fill every window during the outage.
const LOAD: Load = Load {
    every: Duration::from_millis(10),
    bytes: 2048,
};

pub(crate) async fn measure(effort: Effort) -> Vec<Figure> {
    let net = site::relay().await;
    let mut couples = Vec::new();
    for number in 0..effort.pick(1, 3) {
        let (account, place) = (format!("victim{number}"), Place::away(ROUND_TRIP, number));
        couples.push(Couple::start(&net, &account, &place, LOAD).await);
    }
    let outages: Vec<_> = couples.into_iter().map(suffer).map(tokio::spawn).collect();
    let (mut worst, mut fates) = (0.0_f64, Fates::default());
    for outage in outages {
        let (recovered, its) = outage.await.expect("an outage");
        worst = worst.max(recovered);
        fates = fates + its;
    }
    net.stop().await;
    let none = Goal::AtMost(0.0);
    vec![
        Figure::new("outage10.recovered_ms", worst, "ms", Goal::AtMost(1000.0)),
        Figure::new("outage10.lost", fates.lost as f64, "count", none),
        Figure::new("outage10.twice", fates.twice as f64, "count", none),
    ]
}

async fn suffer(couple: Couple) -> (f64, Fates) {
    couple.flow().await;
    let gaps = couple.lose_network(OUTAGE).await;
    (ms(gaps.down.max(gaps.up)), couple.stop().await)
}
