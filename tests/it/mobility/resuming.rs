//! A device that comes back resumes its TLS session; what was decided of it meanwhile holds all the
//! same.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast::{Client, CredentialFiles, State};
use holdfast_protocol::{
    close::CloseCode,
    frame,
    limits::MAX_BULK_BODY,
    message::{Hello, Ping},
    version,
};
use holdfast_tests::{
    link::{Link, Weather},
    net::{LOOPBACK, Net, eventually, within},
    pki::Forgery,
    scrape::metric,
};
use holdfast_transport::{
    Ending,
    credentials::Credentials,
    endpoint,
    wire::{Incoming, Wire, goodbye},
};
use quinn::{Connection, Endpoint, ZeroRttAccepted, crypto::rustls::QuicClientConfig};

use crate::support::{over_link, reaches, receive, send};

/// How long a handshake may take where a network is slower than that.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a relay that stops waits for devices, at most.
const LONG: Duration = Duration::from_secs(120);

/// Long enough for a first session on a busy machine, and not much longer: a test waits for its end.
const SHORT_LIFE: time::Duration = time::Duration::seconds(8);

async fn resumed(net: &Net, relay: &str) -> f64 {
    metric(net.admin_address(relay), "handshakes_resumed_total").await
}

async fn is_attached_to(client: &Client, relay: &str) {
    reaches(
        client,
        |state| matches!(state, State::Attached { relay: now } if now.as_str() == relay),
    )
    .await;
}

/// What is done to the relays meanwhile is no reason to spend tickets on dialling.
async fn without_network(client: &Client) {
    client.network_lost();
    reaches(client, |state| *state == State::Offline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_reconnects_resumes_also_with_a_relay_that_was_restarted() {
    let mut net = Net::start(1).await;
    let phone = net.client("alice/phone").await;
    assert_eq!(resumed(&net, "r1").await, 0.0);
    phone.reconnect();
    eventually("a resumed session", async || {
        resumed(&net, "r1").await == 1.0
    })
    .await;
    is_attached_to(&phone, "r1").await;
    without_network(&phone).await;
    net.stop_relay("r1").await;
    net.start_relay("r1").await;
    phone.network_changed(None);
    is_attached_to(&phone, "r1").await;
    assert_eq!(
        resumed(&net, "r1").await,
        1.0,
        "by the count of the new process"
    );
    let pc = net.client("alice/pc").await;
    send(&pc, "alice/phone", "are you there?").await.unwrap();
    assert_eq!(receive(&phone).await.1, "are you there?");
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

/// A device attached to one relay that goes, and comes back to another: how many sessions that one
/// has resumed, and whether the device is served.
async fn moves_to_another_relay(mut net: Net) -> f64 {
    let (home, first) = net.home_and_other("alice").await;
    let (phone, guide) = net.client_at("alice/phone", &first).await;
    without_network(&phone).await;
    net.stop_relay(&first).await;
    guide.name(&[(&home, net.relay_address(&home))]);
    phone.network_changed(None);
    is_attached_to(&phone, &home).await;
    let resumed = resumed(&net, &home).await;
    let (pc, _guide) = net.client_at("alice/pc", &home).await;
    send(&pc, "alice/phone", "are you there?").await.unwrap();
    assert_eq!(receive(&phone).await.1, "are you there?");
    pc.close().await;
    phone.close().await;
    net.stop().await;
    resumed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_shares_the_tickets_resumes_what_another_began() {
    let net = Net::start(2).await;
    assert_eq!(moves_to_another_relay(net).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_tickets_of_its_own_shakes_hands_anew() {
    let net = Net::start_as(2, |config| config.tickets = None).await;
    assert_eq!(moves_to_another_relay(net).await, 0.0);
}

/// Stops a relay in order, and waits until the device is with the other one.
async fn follows(mut net: Net, phone: &Client, from: &str, to: &str) -> Net {
    let stopping = from.to_owned();
    let moving = tokio::spawn(async move {
        net.stop_relay(&stopping).await;
        net
    });
    is_attached_to(phone, to).await;
    moving.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_resumes_with_a_relay_that_it_comes_back_to_from_another() {
    let mut net = Net::start_as(2, |config| {
        config.tickets = None;
        config.limits.drain = LONG;
    })
    .await;
    let phone = net.client("alice/phone").await;
    let here = phone.attached().await.unwrap().to_string();
    let there = ["r1", "r2"].into_iter().find(|relay| *relay != here);
    let there = there.unwrap();
    net = follows(net, &phone, &here, there).await;
    assert_eq!(resumed(&net, there).await, 0.0, "its tickets are its own");
    net.start_relay(&here).await;
    net = follows(net, &phone, there, &here).await;
    assert_eq!(resumed(&net, &here).await, 1.0, "it has one of before");
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_resumes_is_served_however_slow_its_network_is() {
    let net = Net::start_as(1, |config| config.handshakes.timeout = PATIENCE).await;
    let link = Link::start(1, net.relay_address("r1")).await.unwrap();
    let (phone, _guide) = over_link(&net, "alice/phone", &link).await;
    let pc = net.client("alice/pc").await;
    link.set_weather(Weather {
        delay: PATIENCE * 3 / 4,
        ..Weather::default()
    });
    phone.reconnect();
    eventually("a resumed session", async || {
        resumed(&net, "r1").await == 1.0
    })
    .await;
    // Each takes longer than a handshake may, and the phone has answered when both have come.
    send(&pc, "alice/phone", "are you there?").await.unwrap();
    assert_eq!(receive(&phone).await.1, "are you there?");
    send(&phone, "alice/pc", "yes").await.unwrap();
    assert_eq!(receive(&pc).await.1, "yes");
    assert_eq!(resumed(&net, "r1").await, 1.0, "and no other session");
    pc.close().await;
    phone.close().await;
    net.stop().await;
    link.close().await;
}

/// A device without an SDK that resumes wherever it can.
struct Comer {
    socket: Endpoint,
    tls: Arc<QuicClientConfig>,
    credentials: Credentials,
    relay: SocketAddr,
}

impl Comer {
    fn new(files: &CredentialFiles, relay: SocketAddr) -> Self {
        let credentials = Credentials::load(files).unwrap();
        let resuming = credentials.resuming_client(version::SESSION).unwrap();
        Self {
            socket: endpoint::bind_client(LOOPBACK).unwrap(),
            tls: resuming.toward(&"r1".parse().unwrap()).unwrap(),
            credentials,
            relay,
        }
    }

    /// Dials, with a session to resume if there is one.
    async fn dial(&self) -> Result<(Connection, Option<ZeroRttAccepted>), Ending> {
        let domain = self.credentials.trust_domain();
        let dialled = endpoint::dial(&self.socket, self.tls.clone(), self.relay, domain)?;
        match dialled.into_0rtt() {
            Ok((connection, accepted)) => Ok((connection, Some(accepted))),
            Err(connecting) => Ok((within("a handshake", connecting).await?, None)),
        }
    }

    /// Has a session until there are tickets for the next; whether it was resumed.
    async fn visit(&self) -> Result<bool, Ending> {
        let (connection, resumes) = self.dial().await?;
        within("an answer", chat(connection, resumes)).await
    }

    /// Dials, and is not served; whether there was a session to resume, and why it ended.
    async fn is_turned_away(&self) -> (bool, Ending) {
        let (connection, resumes) = self.dial().await.unwrap();
        let why = within("an end", connection.closed()).await;
        (resumes.is_some(), why.into())
    }
}

/// The welcome may come before the handshake is complete; the answer to a ping that leaves afterwards
/// comes behind the tickets.
async fn chat(connection: Connection, resumes: Option<ZeroRttAccepted>) -> Result<bool, Ending> {
    let mut wire = Wire::open(connection, MAX_BULK_BODY).await?;
    wire.control(frame::encode(&Hello {
        agent: "by-hand".parse().unwrap(),
        outbox: 1,
        inbox: 1,
        next_within_ms: 60_000,
        background: false,
    }));
    while !matches!(wire.next().await?, Incoming::Control(_)) {}
    let resumed = match resumes {
        Some(accepted) => accepted.await,
        None => false,
    };
    // Fails only if the connection has ended, and why is said next.
    let _ = wire.datagram(frame::encode(&Ping {
        seq: 1,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background: false,
    }));
    while !matches!(wire.next().await?, Incoming::Datagram(_)) {}
    wire.close(&goodbye());
    Ok(resumed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_one_who_was_revoked_meanwhile_is_not_resumed() {
    let net = Net::start(1).await;
    let admin = net.admin_address("r1");
    let comer = Comer::new(&net.pki.sender("alice/phone"), net.relay_address("r1"));
    assert!(!comer.visit().await.unwrap());
    assert!(comer.visit().await.unwrap(), "it was resumed");
    net.pki.revoke("alice", "phone");
    eventually("the new list", async || {
        metric(admin, "credential_reloads_total").await > 0.0
    })
    .await;
    let (connection, resumes) = comer.dial().await.unwrap();
    assert!(resumes.is_some(), "there is a session to resume");
    match within("an end", connection.closed()).await.into() {
        Ending::Closed { code, reason } => {
            assert_eq!(code, CloseCode::Revoked);
            assert!(reason.contains("was revoked"), "{reason}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(metric(admin, "handshakes_resumed_total").await, 2.0);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_past_the_end_of_its_certificate() {
    let net = Net::start(1).await;
    let uris = vec!["spiffe://holdfast.test/device/alice/phone".to_owned()];
    let forgery = Forgery {
        uris,
        lasts: Some(SHORT_LIFE),
        ..Forgery::default()
    };
    let files = net.pki.forge("short-lived", &forgery);
    let comer = Comer::new(&files, net.relay_address("r1"));
    assert!(!comer.visit().await.unwrap());
    // Each visit brings the tickets for the next.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let refused = async {
        loop {
            match comer.visit().await {
                Ok(resumed) => assert!(resumed, "no handshake verifies the certificate again"),
                Err(ending) => return ending,
            }
            pace.tick().await;
        }
    };
    match within("the end of the certificate", refused).await {
        Ending::Closed { code, .. } => assert_eq!(code, CloseCode::Expired),
        other => panic!("{other}"),
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_end_of_the_list_who_resumes_is_told_what_a_stranger_is_told() {
    let net = Net::start(1).await;
    let relay = net.relay_address("r1");
    let comer = Comer::new(&net.pki.sender("alice/phone"), relay);
    assert!(!comer.visit().await.unwrap());
    net.pki.sign_list(SHORT_LIFE);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let served = async {
        while let Ok(resumed) = comer.visit().await {
            assert!(resumed, "each visit brings the tickets for the next");
            pace.tick().await;
        }
    };
    within("the end of the list", served).await;
    let (resumes, ending) = comer.is_turned_away().await;
    assert!(resumes, "of two tickets one is left");
    assert!(matches!(ending, Ending::Handshake { .. }), "{ending}");
    let stranger = Comer::new(&net.pki.sender("alice/pc"), relay);
    assert_eq!(stranger.is_turned_away().await, (false, ending));
    net.pki.sign_list(time::Duration::days(1));
    eventually("a newer list", async || comer.visit().await.is_ok()).await;
    assert!(comer.visit().await.unwrap(), "and sessions to resume");
    net.stop().await;
}
