//! Devices that send or read as slowly as they can, and hold what they can meanwhile.

use std::time::Duration;

use holdfast::SendOptions;
use holdfast_protocol::close::CloseCode;
use holdfast_relay::Manners;
use holdfast_tests::{
    net::{Net, eventually, within},
    raw::Raw,
    scrape::metric,
};

use crate::support::{next, receive, send};

/// A relay that loses patience soon.
async fn impatient() -> Net {
    Net::start_as(1, |config| {
        config.sessions = Manners {
            stall: Duration::from_secs(1),
            slowest: 10_000,
            ..Manners::default()
        };
    })
    .await
}

async fn greeted(net: &Net, name: &str) -> Raw {
    let files = net.pki.sender(name);
    let mut raw = Raw::dial(&files, net.relay_address("r1")).await.unwrap();
    raw.greet().await;
    raw
}

async fn ended(net: &Net, code: CloseCode) {
    let admin = net.admin_address("r1");
    let ended = format!("sessions_ended_total{{reason=\"{code:?}\"}}");
    eventually("the count of it", async || {
        metric(admin, &ended).await == 1.0
    })
    .await;
}

/// Those who do nothing wrong notice nothing.
async fn others_go_on(net: &Net) {
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    send(&pc, "alice/phone", "as before").await.unwrap();
    assert_eq!(receive(&phone).await.1, "as before");
    let body = vec![7; 1024 * 1024];
    let sent = pc.send("alice/phone", body.clone(), SendOptions::default());
    let sent = sent.await.unwrap();
    let received = next(&phone).await;
    assert_eq!(received.body().len(), body.len());
    received.done().await.unwrap();
    within("a receipt", sent.stored()).await.unwrap();
    pc.close().await;
    phone.close().await;
}

/// What can be had at once.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(100), future)
        .await
        .ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_opened_and_never_finished_are_few_and_end_the_session() {
    let net = impatient().await;
    let mallory = greeted(&net, "mallory/pc").await;
    let connection = mallory.connection();
    let mut streams = Vec::new();
    while let Some(stream) = at_once(connection.open_uni()).await {
        let mut stream = stream.unwrap();
        stream
            .write_all(b"the beginning of something large")
            .await
            .unwrap();
        streams.push(stream);
    }
    assert_eq!(streams.len(), 4);
    assert!(
        at_once(connection.open_bi()).await.is_none(),
        "there is one control stream"
    );
    others_go_on(&net).await;
    assert_eq!(mallory.closed_unread().await, CloseCode::SlowSender);
    ended(&net, CloseCode::SlowSender).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_byte_by_byte_is_not_waited_for() {
    let net = impatient().await;
    let mallory = greeted(&net, "mallory/pc").await;
    let mut stream = mallory.connection().open_uni().await.unwrap();
    let trickle = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while stream.write_all(&[3]).await.is_ok() {
            pace.tick().await;
        }
    });
    others_go_on(&net).await;
    assert_eq!(mallory.closed_unread().await, CloseCode::SlowSender);
    ended(&net, CloseCode::SlowSender).await;
    within("the end of the trickle", trickle).await.unwrap();
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_stops_reading_is_let_go_and_its_mail_stays() {
    const COUNT: usize = 6;
    let net = impatient().await;
    let friend = net.client("mallory/pc").await;
    let mut sent = Vec::new();
    for number in 0..COUNT {
        let body = vec![number as u8; 1024 * 1024];
        let options = SendOptions::default();
        sent.push(friend.send("mallory/phone", body, options).await.unwrap());
    }
    for sent in sent {
        within("a receipt", sent.stored()).await.unwrap();
    }
    let deaf = greeted(&net, "mallory/phone").await;
    others_go_on(&net).await;
    assert_eq!(deaf.closed_unread().await, CloseCode::SlowReader);
    ended(&net, CloseCode::SlowReader).await;
    drop(deaf);
    let phone = net.client("mallory/phone").await;
    for number in 0..COUNT {
        let received = next(&phone).await;
        assert!(
            received
                .body()
                .iter()
                .all(|byte| usize::from(*byte) == number)
        );
        received.done().await.unwrap();
    }
    phone.close().await;
    friend.close().await;
    net.stop().await;
}
