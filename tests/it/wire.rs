//! Devices that do not keep to the protocol: what a relay makes of their bytes.

use bytes::Bytes;
use holdfast_protocol::{
    close::CloseCode,
    frame::{self, FrameType},
    id::Lane,
    limits::{MAX_CONTROL_PAYLOAD, MAX_MESSAGE_BODY, WINDOW},
    message::{Ack, Options, Outcome, Ping, Pong, Receipt, Refusal, Submit, Welcome},
};
use holdfast_tests::{net::Net, raw::Raw};

async fn raw(net: &Net) -> Raw {
    let files = net.pki.sender("alice/pc");
    Raw::dial(&files, net.relay_address("r1")).await.unwrap()
}

fn submit(seq: u64, to: &str) -> Submit {
    Submit {
        seq,
        to: to.parse().unwrap(),
        options: Options::default(),
        again: false,
    }
}

/// What the relay makes of these bytes on the control stream of an open session.
async fn after(net: &Net, bytes: impl Into<Bytes>) -> CloseCode {
    let mut raw = raw(net).await;
    raw.greet().await;
    raw.bytes(bytes.into());
    raw.close_code().await
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_end_the_session_with_a_code_that_blames_the_device() {
    let net = Net::start(1).await;
    let ack = FrameType::Ack.value();
    assert_eq!(
        after(&net, vec![ack, 2, 9, 1]).await,
        CloseCode::MalformedFrame,
        "no such lane"
    );
    assert_eq!(
        after(&net, vec![ack, 3, 0, 1, 1]).await,
        CloseCode::MalformedFrame,
        "left over"
    );
    let name = [FrameType::Submit.value(), 6, 1, 1, 2, b'a', b' ', 0];
    assert_eq!(
        after(&net, name.to_vec()).await,
        CloseCode::MalformedFrame,
        "no name"
    );
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_frames_end_the_session() {
    let net = Net::start(1).await;
    let too_long = vec![FrameType::Submit.value(), 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(after(&net, too_long).await, CloseCode::OversizedFrame);
    let large = Bytes::from(vec![0; MAX_MESSAGE_BODY + 1]);
    let frame = frame::encode_with_body(&submit(1, "alice/phone"), large);
    assert!(frame.len() < MAX_CONTROL_PAYLOAD);
    assert_eq!(after(&net, frame.concat()).await, CloseCode::OversizedFrame);
    let mut raw = raw(&net).await;
    raw.greet().await;
    let huge = Bytes::from(vec![0; 1024 * 1024 + 1]);
    raw.bulk(frame::encode_with_body(&submit(1, "alice/phone"), huge).concat());
    assert_eq!(raw.close_code().await, CloseCode::OversizedFrame);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_place_end_the_session() {
    let net = Net::start(1).await;
    let welcome = Welcome {
        relay: "r1".parse().unwrap(),
        boot: 1,
        window: 1,
        bulk_window: 1,
        max_body: 1,
        time_ms: 0,
        redial_ms: 0,
    };
    assert_eq!(
        after(&net, frame::encode(&welcome)).await,
        CloseCode::UnexpectedFrame
    );
    let mut early = raw(&net).await;
    early.send(&Ack {
        lane: Lane::Message,
        through: 1,
    });
    assert_eq!(early.close_code().await, CloseCode::UnexpectedFrame);
    let mut bulk = raw(&net).await;
    bulk.greet().await;
    bulk.bulk(frame::encode(&Ack {
        lane: Lane::Message,
        through: 1,
    }));
    assert_eq!(bulk.close_code().await, CloseCode::UnexpectedFrame);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_frames_are_stepped_over_wherever_they_come() {
    let net = Net::start(1).await;
    let mut raw = raw(&net).await;
    raw.greet().await;
    let unknown = Bytes::from_static(&[0x7f, 3, 1, 2, 3]);
    raw.bytes(unknown.clone());
    raw.bulk(unknown.clone());
    raw.datagram(unknown);
    raw.datagram(frame::encode(&Ping {
        seq: 5,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background: false,
    }));
    let pong: Pong = raw.frame().await.header().unwrap();
    assert_eq!(pong.seq, 5);
    raw.bytes(frame::encode_with_body(&submit(1, "alice/phone"), "hi".into()).concat());
    let receipt: Receipt = raw.frame().await.header().unwrap();
    assert_eq!(
        receipt,
        Receipt {
            lane: Lane::Message,
            seq: 1,
            outcome: Outcome::Stored
        }
    );
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_datagram_ends_the_session() {
    let net = Net::start(1).await;
    let mut raw = raw(&net).await;
    raw.greet().await;
    raw.datagram(vec![FrameType::Ping.value(), 1, 0].into());
    assert_eq!(raw.close_code().await, CloseCode::MalformedFrame);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_says_nothing_is_not_waited_for() {
    let net = Net::start(1).await;
    let mut raw = raw(&net).await;
    raw.bytes(vec![FrameType::Hello.value()].into());
    assert_eq!(raw.close_code().await, CloseCode::HelloTimeout);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_answer_and_is_not_stored_twice() {
    let net = Net::start(1).await;
    let mut raw = raw(&net).await;
    raw.greet().await;
    let frame = frame::encode_with_body(&submit(1, "alice/phone"), "once".into()).concat();
    let refused = frame::encode_with_body(&submit(2, "bob/phone"), "never".into()).concat();
    for _ in 0..3 {
        raw.bytes(frame.clone());
        let receipt: Receipt = raw.frame().await.header().unwrap();
        assert_eq!((receipt.seq, receipt.outcome), (1, Outcome::Stored));
        raw.bytes(refused.clone());
        let receipt: Receipt = raw.frame().await.header().unwrap();
        let expected = Outcome::Refused(Refusal::NotAllowed);
        assert_eq!((receipt.seq, receipt.outcome), (2, expected));
    }
    let admin = net.admin_address("r1");
    assert_eq!(
        holdfast_tests::scrape::metric(admin, "stored_total").await,
        1.0
    );
    assert_eq!(
        holdfast_tests::scrape::metric(admin, "duplicates_total").await,
        4.0
    );
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_message_is_never_said_to_be_delivered() {
    let net = Net::start(1).await;
    let mut raw = raw(&net).await;
    raw.greet().await;
    let key = holdfast_protocol::id::Key::new("position").unwrap();
    let keyed = |seq| {
        let options = Options {
            key: Some(key.clone()),
            ..Options::default()
        };
        let submit = Submit {
            options,
            ..submit(seq, "alice/phone")
        };
        frame::encode_with_body(&submit, "here".into()).concat()
    };
    let answers = [
        (1, Outcome::Stored),
        (2, Outcome::Stored),
        (1, Outcome::Replaced),
        (2, Outcome::Stored),
    ];
    for (seq, outcome) in answers {
        raw.bytes(keyed(seq));
        let receipt: Receipt = raw.frame().await.header().unwrap();
        assert_eq!((receipt.seq, receipt.outcome), (seq, outcome));
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_unanswered_messages_than_the_window_end_the_session() {
    let mut net = Net::start(1).await;
    // Without an allocator nobody's home is known, so nothing is answered.
    net.stop_allocator().await;
    let files = net.pki.sender("carol/pc");
    let mut raw = Raw::dial(&files, net.relay_address("r1")).await.unwrap();
    raw.greet().await;
    for seq in 1..=WINDOW + 1 {
        raw.bytes(frame::encode_with_body(&submit(seq, "carol/phone"), "x".into()).concat());
    }
    assert_eq!(raw.close_code().await, CloseCode::WindowExceeded);
    net.stop().await;
}
