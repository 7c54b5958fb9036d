//! Handshakes that are begun and never completed, from addresses that may be forged.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use holdfast_protocol::close::CloseCode;
use holdfast_relay::HandshakeLimits;
use holdfast_tests::{
    initials::first_packets,
    net::{Net, eventually},
    raw::Raw,
    scrape::metric,
};
use tokio::{net::UdpSocket, task::JoinSet};

use crate::support::{receive, send};

/// Handshakes under way before an address has to be proven.
const UNPROVEN: usize = 8;

/// What came back to one forged address.
#[derive(Debug, Default)]
struct Answers {
    sent: usize,
    received: usize,
    retries: usize,
}

/// Sends each packet from an address in a subnet of its own; the sockets stay for the answers.
async fn flood(relay: SocketAddr, packets: &[Vec<u8>]) -> JoinSet<Answers> {
    let mut sockets = JoinSet::new();
    for (number, packet) in packets.iter().enumerate() {
        let [high, low] = u16::try_from(number + 1).unwrap().to_be_bytes();
        let address = Ipv4Addr::new(127, high, low, 1);
        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        socket.send_to(packet, relay).await.unwrap();
        let sent = packet.len();
        sockets.spawn(async move {
            let mut answers = Answers {
                sent,
                ..Answers::default()
            };
            let mut buffer = [0; 2048];
            let quiet = Duration::from_secs(2);
            while let Ok(Ok(size)) = tokio::time::timeout(quiet, socket.recv(&mut buffer)).await {
                answers.received += size;
                // A Retry: a long header of type 3.
                answers.retries += usize::from(buffer[0] & 0xf0 == 0xf0);
            }
            answers
        });
    }
    sockets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_handshakes_is_asked_for_proof_and_holds_up_nobody() {
    const COUNT: usize = 500;
    let net = Net::start_as(1, |config| {
        config.handshakes = HandshakeLimits {
            prove_above: UNPROVEN,
            timeout: Duration::from_secs(3),
            ..HandshakeLimits::default()
        };
    })
    .await;
    let (relay, admin) = (net.relay_address("r1"), net.admin_address("r1"));
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    let packets = first_packets(&net.pki, COUNT).await;
    let flood = flood(relay, &packets).await;
    eventually("the flood's arrival", async || {
        let handshakes = metric(admin, "handshakes").await;
        assert!(handshakes <= UNPROVEN as f64, "{handshakes}");
        metric(admin, "handshakes_retried_total").await >= (COUNT - UNPROVEN) as f64 * 0.9
    })
    .await;
    // Who is there goes on, and who comes proves its address on the way, which takes no help.
    send(&pc, "alice/phone", "as before").await.unwrap();
    assert_eq!(receive(&phone).await.1, "as before");
    let mut newcomer = Raw::dial(&net.pki.sender("bob/pc"), relay).await.unwrap();
    assert!(newcomer.is_welcome().await);
    let answers = flood.join_all().await;
    let retried = answers.iter().filter(|answers| answers.retries > 0).count();
    assert!(
        retried >= (COUNT - UNPROVEN) * 9 / 10,
        "{retried} were asked for proof"
    );
    for answer in answers {
        // Three times what came (RFC 9000, section 8.1), and quinn's word that the handshake was
        // given up, which it says in any case.
        assert!(
            answer.received <= 3 * answer.sent + 200,
            "{answer:?} amplifies"
        );
        assert!(
            answer.retries == 0 || answer.received < answer.sent / 4,
            "{answer:?}"
        );
    }
    let given_up = format!(
        "handshakes_failed_total{{reason=\"{:?}\"}}",
        CloseCode::HelloTimeout
    );
    eventually("the end of what was begun", async || {
        metric(admin, "handshakes").await == 0.0 && metric(admin, &given_up).await >= 1.0
    })
    .await;
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subnet_over_its_rate_gets_no_answer_and_others_do() {
    let net = Net::start_as(1, |config| {
        config.handshakes = HandshakeLimits {
            subnet_rate: 1,
            subnet_burst: 20,
            limit_loopback: true,
            ..HandshakeLimits::default()
        };
    })
    .await;
    let (relay, admin) = (net.relay_address("r1"), net.admin_address("r1"));
    let files = net.pki.sender("mallory/pc");
    let noisy: SocketAddr = ([127, 7, 7, 7], 0).into();
    let mut attempts = JoinSet::new();
    eventually("silence for the subnet", async || {
        let files = files.clone();
        attempts.spawn(async move { Raw::dial_from(noisy, &files, relay).await.is_ok() });
        metric(admin, "handshakes_ignored_total").await > 0.0
    })
    .await;
    assert!(metric(admin, "handshakes_retried_total").await > 0.0);
    let elsewhere: SocketAddr = ([127, 8, 8, 8], 0).into();
    let files = net.pki.sender("alice/phone");
    let mut phone = Raw::dial_from(elsewhere, &files, relay).await.unwrap();
    assert!(phone.is_welcome().await);
    attempts.shutdown().await;
    net.stop().await;
}
