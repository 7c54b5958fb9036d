//! A relay that is killed with `kill -9` and started again on its port: how soon after its next ping
//! a device notices that its session is gone, and is back.

use std::time::{Duration, Instant};

use holdfast::{Client, State};
use holdfast_tests::net::{Net, within};

use crate::{
    Effort,
    figure::{Figure, Goal, percentile},
    site::{self, Mobile, Place, Post, RELAY, ms},
};

const ROUND_TRIP: Duration = Duration::from_millis(80);

/// For the machine's own work.
const MARGIN: Duration = Duration::from_millis(50);

/// A device waits for a random part of this before it dials again: [`holdfast::Retry`]'s first.
const BACKOFF: Duration = Duration::from_millis(500);

pub(crate) async fn measure(effort: Effort) -> Vec<Figure> {
    let net = Net::start(0).await;
    let mut relay = Post::start(&net, RELAY, site::limits()).await;
    let place = Place::away(ROUND_TRIP, 1);
    let phone = Mobile::start(&net.pki, "alice/phone", relay.address(), &place).await;
    let (mut noticed, mut back) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(1, 5) {
        relay.kill().await;
        relay.start_again(&net).await;
        // The ping of an app that comes to the foreground is the next one.
        let pinged = Instant::now();
        phone.client.foreground();
        until(&phone.client, false).await;
        noticed.push(ms(pinged.elapsed()));
        until(&phone.client, true).await;
        back.push(ms(pinged.elapsed()));
    }
    phone.stop().await;
    relay.kill().await;
    net.stop().await;
    let soon = Goal::AtMost(ms(ROUND_TRIP + MARGIN));
    let later = Goal::AtMost(ms(2 * (ROUND_TRIP + MARGIN) + BACKOFF));
    vec![
        Figure::new("killed.noticed_ms", percentile(&noticed, 1.0), "ms", soon),
        Figure::new("killed.back_ms", percentile(&back, 1.0), "ms", later),
    ]
}

async fn until(client: &Client, attached: bool) {
    let mut states = client.states();
    let reached = async {
        while matches!(states.current(), State::Attached { .. }) != attached {
            states.changed().await.expect("the client is open");
        }
    };
    within("another state", reached).await;
}
