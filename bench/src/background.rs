//! Messages of low priority for a device in the background: how often they wake it. All times are a
//! thirtieth of what they stand for.

use std::time::{Duration, Instant};

use holdfast::{Client, Priority, SendOptions};
use holdfast_tests::net::within;

use crate::{
    Effort,
    figure::{Figure, Goal},
    site::{self, Mobile, Place, RELAY},
};

/// How much faster time passes.
const SCALE: u32 = 30;

const ROUND_TRIP: Duration = Duration::from_millis(80);

/// How many messages are spread over [`SPAN`].
const MESSAGES: u32 = 100;

/// Five minutes.
const SPAN: Duration = Duration::from_secs(300);

/// How long the silence of a device behind a patient network may be, once it has learned that.
const SILENCE: Duration = Duration::from_secs(400);

pub(crate) async fn measure(_: Effort) -> Vec<Figure> {
    let net = site::relay().await;
    let place = Place {
        change: |config| {
            config.pings.interval = SILENCE / SCALE;
            config.pings.longest = SILENCE / SCALE;
            config.pings.longest += Duration::from_millis(1);
        },
        ..Place::away(ROUND_TRIP, 1)
    };
    let relay = net.relay_address(RELAY);
    let phone = Mobile::start(&net.pki, "alice/phone", relay, &place).await;
    let sender = site::at_home(&net, "alice/pc").await;
    let wakes = wakes(&phone, &sender).await;
    phone.stop().await;
    sender.close().await;
    net.stop().await;
    let goal = Goal::AtMost(1.0);
    vec![Figure::new("background.wakes", wakes as f64, "count", goal)]
}

/// How many times the radio woke for the messages.
async fn wakes(phone: &Mobile, sender: &Client) -> usize {
    fall_asleep(phone).await;
    let (arrivals, ()) = tokio::join!(arrivals(&phone.client), trickle(sender));
    let apart = SPAN / SCALE / MESSAGES / 2;
    let woken = arrivals.windows(2).filter(|w| w[1] - w[0] > apart);
    1 + woken.count()
}

/// The app goes to the background, and the relay knows: the ping that says so has been answered.
async fn fall_asleep(phone: &Mobile) {
    let before = phone.way.link.counts();
    phone.client.background();
    let passed = |side: holdfast_tests::link::Passage| side.delivered;
    let answered = phone
        .way
        .link
        .until(|now| passed(now.down) > passed(before.down));
    within("the relay's answer", answered).await;
}

async fn trickle(sender: &Client) {
    let mut pace = tokio::time::interval(SPAN / SCALE / MESSAGES);
    for _ in 0..MESSAGES {
        pace.tick().await;
        let options = SendOptions {
            priority: Priority::Low,
            ..SendOptions::default()
        };
        let sent = sender.send("alice/phone", "it can wait", options).await;
        sent.expect("room in the outbox");
    }
}

async fn arrivals(phone: &Client) -> Vec<Instant> {
    let mut arrivals = Vec::new();
    for _ in 0..MESSAGES {
        let received = within("a message", phone.next()).await;
        arrivals.push(Instant::now());
        let received = received.expect("the client is open");
        received.done().await.expect("the client is open");
    }
    arrivals
}
