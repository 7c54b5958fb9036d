//! The network changes, is black at first, or is lost: what a session does.

use holdfast::{Client, Config, PingSchedule, SendOptions, State};
use holdfast_tests::{
    guide::Guide,
    link::Link,
    net::{Net, PATIENCE, attached, eventually, within},
    scrape::metric,
};

use crate::support::{numbered, over_link, reaches, receive, receive_texts};

async fn observed(client: &Client) {
    eventually("a pong", async || client.observed_address().is_some()).await;
}

async fn send_all(client: &Client, to: &str, texts: &[String]) {
    for text in texts {
        client
            .send(to, text.clone(), SendOptions::default())
            .await
            .unwrap();
    }
}

/// All of them, in order, and then nothing but the end: none came twice.
async fn receives_exactly(from: &Client, to: &Client, name: &str, texts: &[String]) {
    from.send(name, "the end", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive_texts(to, texts.len()).await, texts);
    assert_eq!(receive(to).await.1, "the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_to_another_network_without_a_handshake() {
    let net = Net::start(1).await;
    let admin = net.admin_address("r1");
    let (phone, pc) = (
        net.client("alice/phone").await,
        net.client("alice/pc").await,
    );
    observed(&phone).await;
    let (down, up) = (numbered("down", 60), numbered("up", 60));
    for round in 0..3 {
        let before = phone.observed_address();
        let part = 20 * round..20 * (round + 1);
        send_all(&pc, "alice/phone", &down[part.clone()]).await;
        phone.network_changed(Some(&format!("network-{round}")));
        send_all(&phone, "alice/pc", &up[part]).await;
        eventually("a pong with another address", async || {
            phone.observed_address() != before
        })
        .await;
    }
    receives_exactly(&pc, &phone, "alice/phone", &down).await;
    receives_exactly(&phone, &pc, "alice/pc", &up).await;
    assert_eq!(metric(admin, "superseded_total").await, 0.0);
    assert_eq!(
        metric(admin, "handshakes_resumed_total").await,
        0.0,
        "it is the same session"
    );
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

/// Pings that leave the rival time: it is not they who give the session up.
fn patient() -> PingSchedule {
    PingSchedule {
        timeout: PATIENCE,
        ..PingSchedule::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rival_takes_over_where_the_path_is_black_and_nothing_is_lost_or_doubled() {
    let net = Net::start(1).await;
    let admin = net.admin_address("r1");
    let link = Link::start(3, net.relay_address("r1")).await.unwrap();
    let guide = Guide::start(&net.pki, &[("r1", link.addr())]).await;
    let phone = attached(Config {
        allocators: vec![guide.address()],
        pings: patient(),
        dial_timeout: PATIENCE,
        ..net.config("alice/phone")
    })
    .await;
    let pc = net.client("alice/pc").await;
    observed(&phone).await;
    let (down, up) = (numbered("down", 60), numbered("up", 60));
    send_all(&pc, "alice/phone", &down[..30]).await;
    send_all(&phone, "alice/pc", &up[..30]).await;
    link.black_hole(true);
    phone.network_changed(Some("the train"));
    send_all(&pc, "alice/phone", &down[30..]).await;
    send_all(&phone, "alice/pc", &up[30..]).await;
    let lost = link.counts().up.dropped;
    within(
        "a ping that is lost",
        link.until(|now| now.up.dropped > lost),
    )
    .await;
    // The relay hears the device, but no answer comes to the session that there is.
    link.black_hole_up(false);
    eventually("the rival's hello", async || {
        metric(admin, "superseded_total").await >= 1.0
    })
    .await;
    link.black_hole(false);
    receives_exactly(&pc, &phone, "alice/phone", &down).await;
    receives_exactly(&phone, &pc, "alice/pc", &up).await;
    assert!(
        metric(admin, "handshakes_resumed_total").await >= 1.0,
        "the rival's hello came with its first packet"
    );
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_nothing_is_dialled_until_there_is_one_again() {
    let mut net = Net::start(1).await;
    let link = Link::start(5, net.relay_address("r1")).await.unwrap();
    let (phone, _guide) = over_link(&net, "alice/phone", &link).await;
    observed(&phone).await;
    phone.network_lost();
    reaches(&phone, |state| *state == State::Offline).await;
    let admin = net.admin_address("r1");
    eventually("the end of the silent session", async || {
        metric(admin, "sessions_ended_total{reason=\"PingTimeout\"}").await == 1.0
    })
    .await;
    // This takes longer than a device with a network would wait before it dials.
    net.stop_relay("r1").await;
    net.start_relay("r1").await;
    let admin = net.admin_address("r1");
    assert_eq!(metric(admin, "sessions").await, 0.0, "nothing is dialled");
    assert_eq!(phone.state(), State::Offline);
    phone.network_changed(None);
    within("a session", phone.attached()).await.unwrap();
    let pc = net.client("alice/pc").await;
    send_all(&pc, "alice/phone", &["back".to_owned()]).await;
    assert_eq!(receive(&phone).await.1, "back");
    pc.close().await;
    phone.close().await;
    net.stop().await;
}
