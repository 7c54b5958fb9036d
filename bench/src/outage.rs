//! Ten seconds without any network, under load in both directions, and then another network: how
//! long until the next message, in the direction and for the device that waits longest.

use std::time::{Duration, Instant};

use holdfast::Client;
use holdfast_tests::net::Net;

use crate::{
    Effort,
    figure::{Figure, Goal},
    site::{self, Mobile, Place, RELAY, ms},
    traffic::{Fates, Flow, Load},
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
    let mut outages = Vec::new();
    for number in 0..effort.pick(1, 3) {
        outages.push(Victim::start(&net, number).await);
    }
    let suffering: Vec<_> = outages
        .into_iter()
        .map(|v| tokio::spawn(v.suffer()))
        .collect();
    let (mut worst, mut fates) = (0.0_f64, Fates::default());
    for victim in suffering {
        let (recovered, its) = victim.await.expect("an outage");
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

struct Victim {
    phone: Mobile,
    computer: Client,
    down: Flow,
    up: Flow,
}

impl Victim {
    async fn start(net: &Net, number: u64) -> Self {
        let names = ["phone", "pc"].map(|device| format!("victim{number}/{device}"));
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

    async fn suffer(self) -> (f64, Fates) {
        let flowing = Instant::now();
        tokio::join!(self.down.gap(0, flowing), self.up.gap(0, flowing));
        self.phone.link.black_hole(true);
        tokio::time::sleep(OUTAGE).await;
        let since = Instant::now();
        self.phone.link.black_hole(false);
        self.phone.change_network();
        let (down, up) = tokio::join!(self.down.gap(0, since), self.up.gap(0, since));
        let fates = self.down.finish().await + self.up.finish().await;
        self.phone.stop().await;
        self.computer.close().await;
        (ms(down.max(up)), fates)
    }
}
