//! How soon the first message comes after dialling, for a device that the relay does not know and
//! for one that it does. The message is one that waits: the app has not acknowledged it, so each
//! session brings it again.

use std::time::{Duration, Instant};

use holdfast::{SendOptions, State};
use holdfast_tests::net::within;

use crate::{
    Effort,
    figure::{Figure, Goal, percentile},
    site::{self, Mobile, Place, RELAY},
};

const ROUND_TRIP: Duration = Duration::from_millis(80);

/// What a round trip may take longer than the link makes it, for the machine's own work.
const MARGIN: f64 = 1.25;

pub(crate) async fn measure(effort: Effort) -> Vec<Figure> {
    let net = site::relay().await;
    let sender = site::at_home(&net, "alice/pc").await;
    let (mut full, mut resumed) = (Vec::new(), Vec::new());
    for seed in 0..effort.pick(3, 10) {
        let name = format!("alice/phone{seed}");
        // The mailbox is made by the first session.
        site::at_home(&net, &name).await.close().await;
        let sent = sender.send(&name, "waiting", SendOptions::default()).await;
        within("the message to be stored", sent.expect("queued").stored())
            .await
            .expect("stored");
        let dialled = Instant::now();
        let place = Place::away(ROUND_TRIP, seed);
        let phone = Mobile::start(&net.pki, &name, net.relay_address(RELAY), &place).await;
        full.push(first_message(&phone, dialled).await);
        let dialled = redial(&phone).await;
        resumed.push(first_message(&phone, dialled).await);
        phone.stop().await;
    }
    sender.close().await;
    net.stop().await;
    let (full, resumed) = (percentile(&full, 0.5), percentile(&resumed, 0.5));
    let goal = Goal::AtMost(MARGIN);
    vec![
        Figure::new("resume.full_rtts", full, "rtt", Goal::None),
        Figure::new("resume.first_reply_rtts", resumed, "rtt", goal),
    ]
}

/// Has the client exchange its session for another one. When it dials: it leaves the former one in
/// good order first, which takes a round trip of its own.
async fn redial(phone: &Mobile) -> Instant {
    let mut states = phone.client.states();
    states.current();
    phone.client.reconnect();
    let dialling =
        async { while !matches!(states.changed().await, Some(State::Connecting { .. })) {} };
    within("the client to dial", dialling).await;
    Instant::now()
}

/// In round trips since a moment. The app is not done with the message.
async fn first_message(phone: &Mobile, since: Instant) -> f64 {
    let received = within("the message", phone.client.next()).await;
    received.expect("the client is open");
    since.elapsed().div_duration_f64(ROUND_TRIP)
}
