//! What comes while the app is in the background, and when.

use holdfast::{Client, Outcome, Priority, SendOptions};
use holdfast_protocol::{
    frame::{self, FrameType},
    message::{Deliver, Ping, Pong},
};
use holdfast_tests::{
    net::{Net, eventually, within},
    raw::Raw,
    scrape::metric,
};

use crate::support::numbered;

/// So that a hundred of them stand out among acknowledgements.
const FILLER: usize = 200;

fn with_priority(priority: Priority) -> SendOptions {
    SendOptions {
        priority,
        ..SendOptions::default()
    }
}

/// Sends a text with something behind it, and waits until the relay has it on its disk.
async fn stored(client: &Client, texts: &[String], priority: Priority) {
    let mut sent = Vec::new();
    for text in texts {
        let body = format!("{text} {}", ".".repeat(FILLER));
        let options = with_priority(priority);
        sent.push(client.send("alice/phone", body, options).await.unwrap());
    }
    for sent in sent {
        assert_eq!(
            within("a receipt", sent.stored()).await,
            Ok(Outcome::Stored)
        );
    }
}

/// How many bytes it was.
fn ping(raw: &Raw, seq: u32, background: bool) -> usize {
    let ping = frame::encode(&Ping {
        seq,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background,
    });
    raw.datagram(ping.clone());
    ping.len()
}

/// The relay knows where the app is when this returns. Nothing may wait for it. How many bytes the ping
/// and its answer were.
async fn pinged(raw: &mut Raw, seq: u32, background: bool) -> (usize, usize) {
    let ping = ping(raw, seq, background);
    loop {
        let pong: Pong = raw.frame().await.header().unwrap();
        if pong.seq == seq {
            return (ping, frame::encode(&pong).len());
        }
    }
}

/// The next messages, whatever pongs come between them.
async fn delivered(raw: &mut Raw, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let frame = raw.frame().await;
        if frame.kind == FrameType::Pong {
            continue;
        }
        let (_, body) = frame.decode::<Deliver>().unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        texts.push(body.split(' ').next().unwrap().to_owned());
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_what_is_not_urgent_waits_for_what_is() {
    let net = Net::start(1).await;
    let mut phone = Raw::dial(&net.pki.sender("alice/phone"), net.relay_address("r1"))
        .await
        .unwrap();
    phone.greet().await;
    let pc = net.client("alice/pc").await;
    pinged(&mut phone, 1, true).await;
    let before = phone.connection().stats().udp_rx.bytes;
    let mut texts = numbered("low", 100);
    stored(&pc, &texts, Priority::Low).await;
    let came = phone.connection().stats().udp_rx.bytes - before;
    assert!(came < (100 * FILLER / 10) as u64, "{came} bytes woke it");
    let urgent = vec!["urgent".to_owned()];
    stored(&pc, &urgent, Priority::High).await;
    texts.extend(urgent);
    assert_eq!(delivered(&mut phone, 101).await, texts);
    // The next ping wakes the radio anyway.
    let later = numbered("later", 3);
    stored(&pc, &later, Priority::Low).await;
    ping(&phone, 2, true);
    assert_eq!(delivered(&mut phone, 3).await, later);
    pinged(&mut phone, 3, false).await;
    let at_once = numbered("at-once", 3);
    stored(&pc, &at_once, Priority::Low).await;
    assert_eq!(delivered(&mut phone, 3).await, at_once);
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_devices_radios_are_used_for_is_in_the_metrics() {
    let net = Net::start(1).await;
    let admin = net.admin_address("r1");
    let bytes = async |state: &str, direction: &str| {
        let labels = format!("{{state=\"{state}\",direction=\"{direction}\"}}");
        metric(admin, &format!("device_radio_bytes_total{labels}")).await as usize
    };
    let of = async |figure: &str, state: &str| {
        metric(admin, &format!("{figure}_total{{state=\"{state}\"}}")).await
    };
    assert_eq!(of("device_seconds", "foreground").await, 0.0);
    let mut phone = Raw::dial(&net.pki.sender("alice/phone"), net.relay_address("r1"))
        .await
        .unwrap();
    phone.greet().await;
    assert_eq!(of("device_radio_wakes", "foreground").await, 1.0);
    assert!(bytes("foreground", "up").await > 0 && bytes("foreground", "down").await > 0);
    assert!(of("device_seconds", "foreground").await > 0.0);
    let (ping, pong) = pinged(&mut phone, 1, true).await;
    let spent = of("device_seconds", "foreground").await;
    assert_eq!(bytes("background", "up").await, ping);
    assert_eq!(bytes("background", "down").await, pong);
    assert!(of("device_seconds", "background").await > 0.0);
    drop(phone);
    eventually("the phone to be gone", async || {
        metric(admin, "sessions").await == 0.0
    })
    .await;
    let gone = of("device_seconds", "background").await;
    assert_eq!(of("device_seconds", "background").await, gone);
    assert_eq!(of("device_seconds", "foreground").await, spent);
    net.stop().await;
}
