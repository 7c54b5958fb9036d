//! Devices that send as much as they can.

use bytes::Bytes;
use holdfast_protocol::{
    close::CloseCode,
    frame::{self, FrameType},
    message::{Options, Outcome, Ping, Pong, Receipt, Submit},
};
use holdfast_relay::Manners;
use holdfast_tests::{
    net::{Net, within},
    raw::Raw,
    scrape::metric,
};

use crate::support::{numbered, receive, receive_texts, send};

async fn greeted(net: &Net, name: &str) -> Raw {
    let files = net.pki.sender(name);
    let mut raw = Raw::dial(&files, net.relay_address("r1")).await.unwrap();
    raw.greet().await;
    raw
}

async fn receipt(raw: &mut Raw) -> Receipt {
    let frame = raw.frame().await;
    assert_eq!(frame.kind, FrameType::Receipt);
    frame.header().unwrap()
}

fn ping(seq: u32) -> Bytes {
    frame::encode(&Ping {
        seq,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background: false,
    })
}

/// Sends datagrams until the relay has had enough; returns how many, and how it said so.
async fn flood(net: &Net, mut datagram: impl FnMut(u32) -> Bytes) -> CloseCode {
    let mallory = greeted(net, "mallory/pc").await;
    let (mut number, before) = (0, mallory.connection().stats());
    let flooding = async {
        while mallory.try_datagram(datagram(number)) {
            number += 1;
            tokio::task::yield_now().await;
        }
        mallory.closed_unread().await
    };
    let code = within("the end of patience", flooding).await;
    let (sent, received) = (mallory.connection().stats(), before);
    let came_back = sent.frame_rx.datagram - received.frame_rx.datagram;
    // 200 at once and 20 a second; a minute's worth at most.
    assert!(came_back <= 200 + 20 * 60, "{came_back} pongs");
    assert!(sent.udp_rx.bytes <= sent.udp_tx.bytes, "{sent:?}");
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_without_end_are_dropped_and_then_end_the_session() {
    let net = Net::start(1).await;
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    assert_eq!(flood(&net, ping).await, CloseCode::TooManyDatagrams);
    let garbage = |_| Bytes::from_static(&[0x7f, 3, 1, 2, 3]);
    assert_eq!(flood(&net, garbage).await, CloseCode::TooManyDatagrams);
    let dropped = metric(net.admin_address("r1"), "datagrams_dropped_total").await;
    assert!(dropped >= 2.0 * 2_000.0, "{dropped}");
    send(&pc, "alice/phone", "as before").await.unwrap();
    assert_eq!(receive(&phone).await.1, "as before");
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_over_its_rate_is_slowed_and_neither_refused_nor_deaf() {
    const COUNT: u64 = 200;
    let net = Net::start_as(1, |config| {
        config.sessions = Manners {
            messages_per_second: 50,
            messages_burst: 50,
            ..Manners::default()
        };
    })
    .await;
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    let mut greedy = greeted(&net, "alice/tablet").await;
    for seq in 1..=COUNT {
        let submit = Submit {
            seq,
            to: "alice/laptop".parse().unwrap(),
            options: Options::default(),
            again: false,
        };
        greedy.bytes(frame::encode_with_body(&submit, "more".into()).concat());
    }
    greedy.datagram(ping(1));
    // Others do not wait behind it, and it hears what is said to it.
    send(&pc, "alice/phone", "at once").await.unwrap();
    assert_eq!(receive(&phone).await.1, "at once");
    pc.send(
        "alice/tablet",
        "hear this",
        holdfast::SendOptions::default(),
    )
    .await
    .unwrap();
    let (mut answered, mut ponged_at, mut heard_at) = (0, None, None);
    while answered < COUNT {
        let frame = greedy.frame().await;
        match frame.kind {
            FrameType::Receipt => {
                let receipt: Receipt = frame.header().unwrap();
                answered += 1;
                assert_eq!((receipt.seq, receipt.outcome), (answered, Outcome::Stored));
            }
            FrameType::Pong => {
                assert_eq!(frame.header::<Pong>().unwrap().seq, 1);
                ponged_at = Some(answered);
            }
            FrameType::Deliver => heard_at = Some(answered),
            other => panic!("{other}"),
        }
    }
    assert!(ponged_at.is_some_and(|at| at < COUNT), "{ponged_at:?}");
    assert!(heard_at.is_some_and(|at| at < COUNT), "{heard_at:?}");
    let throttled = metric(net.admin_address("r1"), "throttled_total").await;
    assert!(throttled >= 100.0, "{throttled}");
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_comes_back_may_send_no_more_for_it() {
    let net = Net::start_as(1, |config| {
        config.sessions = Manners {
            messages_per_second: 1,
            messages_burst: 50,
            ..Manners::default()
        };
    })
    .await;
    let submit = |seq| {
        let submit = Submit {
            seq,
            to: "alice/laptop".parse().unwrap(),
            options: Options::default(),
            again: false,
        };
        frame::encode_with_body(&submit, "more".into()).concat()
    };
    let mut greedy = greeted(&net, "alice/tablet").await;
    (1..=50).for_each(|seq| greedy.bytes(submit(seq)));
    for seq in 1..=50 {
        assert_eq!(receipt(&mut greedy).await.seq, seq);
    }
    let throttled = || metric(net.admin_address("r1"), "throttled_total");
    assert_eq!(throttled().await, 0.0);
    let mut back = greeted(&net, "alice/tablet").await;
    (51..=54).for_each(|seq| back.bytes(submit(seq)));
    assert_eq!(receipt(&mut back).await.seq, 51);
    assert!(throttled().await >= 3.0);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_not_slowed_unless_that_is_wanted() {
    let net = Net::start_as(1, |config| {
        config.sessions = Manners {
            messages_per_second: 1,
            messages_burst: 1,
            ..Manners::default()
        };
    })
    .await;
    let push = net.client("service/push").await;
    let texts = numbered("push", 50);
    for text in &texts {
        send(&push, "alice/phone", text).await.unwrap();
    }
    let phone = net.client("alice/phone").await;
    assert_eq!(receive_texts(&phone, 50).await, texts);
    assert_eq!(
        metric(net.admin_address("r1"), "throttled_total").await,
        0.0
    );
    push.close().await;
    phone.close().await;
    net.stop().await;
}
