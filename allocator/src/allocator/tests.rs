//! What askers may take of the allocator, with limits small enough to reach.

use holdfast_protocol::{allocation::Locate, frame::encode};
use holdfast_transport::{Ending, endpoint};
use quinn::{ClientConfig, TransportConfig, VarInt};
use tokio::{net::UdpSocket, time::timeout};

use super::*;
use crate::HandshakeLimits;
use site::{FOR_EVER, Site};

#[path = "../../tests/it/site.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests from outside, which use more of it"
)]
mod site;

const PHONE: &str = "device:alice/phone";
const MOMENT: Duration = Duration::from_millis(20);

async fn start(site: &Site, limits: Limits) -> Allocator {
    Allocator::bind_with(config(site), limits).await.unwrap()
}

async fn start_with(site: &Site, change: impl FnOnce(&mut Config)) -> Allocator {
    let mut config = config(site);
    change(&mut config);
    Allocator::bind(config).await.unwrap()
}

fn config(site: &Site) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        credentials: site.files("allocator:a1"),
        data: site.path().join("data"),
        lease: crate::config::DEFAULT_LEASE,
        retry_after: crate::config::DEFAULT_RETRY_AFTER,
        requests_per_second: crate::config::DEFAULT_REQUESTS_PER_SECOND,
        requests_burst: crate::config::DEFAULT_REQUESTS_BURST,
        handshakes: HandshakeLimits::default(),
    }
}

#[tokio::test]
async fn a_handshake_too_many_is_refused() {
    let site = Site::new();
    let allocator = start_with(&site, |config| {
        config.handshakes.max = 1;
        config.handshakes.prove_above = 1;
    })
    .await;
    let _begun = begin(&site, allocator.address()).await;
    // It is asked to prove its address first, and does.
    let refused = site.dial(PHONE, allocator.address()).await.err().unwrap();
    assert_eq!(refused, Ending::Refused);
    assert_eq!(allocator.desk.gate.figures().refused, 1);
    allocator.shutdown().await;
}

#[tokio::test]
async fn an_asker_that_proves_its_address_is_served() {
    let site = Site::new();
    let allocator = start_with(&site, |config| config.handshakes.prove_above = 0).await;
    let phone = site.asker(PHONE, allocator.address()).await;
    phone.locate(None).await;
    assert_eq!(allocator.desk.gate.figures().retried, 1);
    allocator.shutdown().await;
}

#[tokio::test]
async fn an_asker_that_asks_without_end_is_sent_away_and_others_are_not() {
    let site = Site::new();
    let allocator = start_with(&site, |config| {
        config.requests_per_second = 1;
        config.requests_burst = 5;
    })
    .await;
    let phone = site.asker(PHONE, allocator.address()).await;
    let asking = async { while phone.try_locate(None).await.is_ok() {} };
    timeout(FOR_EVER, asking).await.unwrap();
    assert_eq!(phone.code().await, CloseCode::Overloaded);
    let pc = site.asker("device:alice/pc", allocator.address()).await;
    pc.locate(None).await;
    let relay = site.asker("relay:r1", allocator.address()).await;
    for _ in 0..20 {
        relay.locate(Some("alice")).await;
    }
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_room_comes_back() {
    let site = Site::new();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let allocator = start(&site, limits).await;
    let phone = site.asker(PHONE, allocator.address()).await;
    phone.locate(None).await;
    let pc = site.asker("device:alice/pc", allocator.address()).await;
    assert_eq!(pc.code().await, CloseCode::Overloaded);
    phone.connection.close(error_code(CloseCode::Goodbye), b"");
    let served = async {
        loop {
            let pc = site.asker("device:alice/pc", allocator.address()).await;
            if pc.try_locate(None).await.is_ok() {
                return;
            }
        }
    };
    timeout(FOR_EVER, served).await.unwrap();
    allocator.shutdown().await;
}

/// The first datagram of a handshake whose asker then falls silent.
async fn first_datagram(site: &Site) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut datagram = vec![0; 2048];
    tokio::select! {
        _ = site.dial(PHONE, socket.local_addr().unwrap()) => panic!("nobody answers there"),
        length = socket.recv(&mut datagram) => datagram.truncate(length.unwrap()),
    }
    datagram
}

/// Begins a handshake and never goes on; the socket has to stay.
async fn begin(site: &Site, address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let begun = first_datagram(site).await;
    socket.send_to(&begun, address).await.unwrap();
    // The allocator has taken it: it answers.
    socket.recv(&mut [0; 2048]).await.unwrap();
    socket
}

#[tokio::test]
async fn a_handshake_that_stands_still_gives_its_place_back() {
    let site = Site::new();
    let allocator = start_with(&site, |config| {
        config.handshakes.max = 1;
        config.handshakes.timeout = Duration::from_millis(500);
    })
    .await;
    let _begun = begin(&site, allocator.address()).await;
    let served = async { while site.dial(PHONE, allocator.address()).await.is_err() {} };
    timeout(FOR_EVER, served).await.unwrap();
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_device_that_asks_nothing_goes_and_a_relay_stays() {
    let site = Site::new();
    let limits = Limits {
        silence: MOMENT,
        ..Limits::default()
    };
    let allocator = start(&site, limits).await;
    let relay = site.asker("relay:r1", allocator.address()).await;
    let phone = site.asker(PHONE, allocator.address()).await;
    assert_eq!(phone.code().await, CloseCode::Goodbye);
    assert_eq!(relay.connection.close_reason(), None);
    relay.locate(Some("alice")).await;
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_request_that_never_ends_ends_the_connection() {
    let site = Site::new();
    let limits = Limits {
        request_time: MOMENT,
        ..Limits::default()
    };
    let allocator = start(&site, limits).await;
    let phone = site.asker(PHONE, allocator.address()).await;
    let (mut begun, _answer) = phone.connection.open_bi().await.unwrap();
    begun.write_all(&[0x20]).await.unwrap();
    assert_eq!(phone.code().await, CloseCode::HelloTimeout);
    allocator.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_is_never_read_ends_the_connection() {
    let site = Site::new();
    let limits = Limits {
        request_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let allocator = start(&site, limits).await;
    let credentials = site.credentials(PHONE);
    let mut config = ClientConfig::new(credentials.client(version::ALLOCATION).unwrap());
    let mut deaf = TransportConfig::default();
    deaf.stream_receive_window(VarInt::from_u32(0));
    config.transport_config(Arc::new(deaf));
    let endpoint = endpoint::bind_client(([127, 0, 0, 1], 0).into()).unwrap();
    let domain = credentials.trust_domain().as_str();
    let connecting = endpoint.connect_with(config, allocator.address(), domain);
    let phone = connecting.unwrap().await.unwrap();
    let (mut ask, _unread) = phone.open_bi().await.unwrap();
    let question = encode(&Locate { account: None });
    ask.write_all(&question).await.unwrap();
    ask.finish().unwrap();
    let ending = timeout(FOR_EVER, phone.closed()).await.unwrap();
    let Ending::Closed { code, .. } = ending.clone().into() else {
        panic!("{ending}");
    };
    assert_eq!(code, CloseCode::SlowReader);
    allocator.shutdown().await;
}

#[tokio::test]
async fn an_allocator_whose_socket_fails_says_so() {
    let site = Site::new();
    let mut allocator = start(&site, Limits::default()).await;
    let nobodys = VarInt::from_u32(0);
    allocator.port.endpoint().close(nobodys, b"");
    timeout(FOR_EVER, allocator.failed()).await.unwrap();
    allocator.shutdown().await;
}
