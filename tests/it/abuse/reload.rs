//! Certificates, and the list of revoked ones, that change while a relay runs.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use holdfast_certs::Identity;
use holdfast_protocol::{
    close::CloseCode,
    frame,
    message::{Ping, Pong},
    version,
};
use holdfast_tests::{
    daemon::Daemon,
    net::{Net, eventually, test_limits, within},
    raw::Raw,
    scrape::metric,
};
use holdfast_transport::Ending;

use crate::support::{receive, send};

const RELAY: &str = env!("CARGO_BIN_EXE_relay-under-test");
const CERTIFICATE_REVOKED: u8 = 44;

/// What a revocation may take to end a session.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

async fn greeted(net: &Net, name: &str, relay: SocketAddr) -> Raw {
    let mut raw = Raw::dial(&net.pki.sender(name), relay).await.unwrap();
    raw.greet().await;
    raw
}

/// Whole or not at all, as a relay may read it at any time.
fn replace(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

/// The session answers.
async fn is_alive(raw: &mut Raw) {
    raw.datagram(frame::encode(&Ping {
        seq: 9,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background: false,
    }));
    let pong: Pong = raw.frame().await.header().unwrap();
    assert_eq!(pong.seq, 9);
}

/// The alert that a handshake ends with, now or with the first thing that is read.
async fn alert(net: &Net, name: &str, address: SocketAddr, alpn: &[u8]) -> Option<u8> {
    let ending = match Raw::dial_as(&net.pki.sender(name), address, alpn).await {
        Ok(mut raw) => raw.ending().await,
        Err(ending) => ending,
    };
    match ending {
        Ending::Handshake { alert, .. } => Some(alert),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_session_within_seconds_and_no_other() {
    let net = Net::start(1).await;
    let (relay, admin) = (net.relay_address("r1"), net.admin_address("r1"));
    let mut lost = greeted(&net, "alice/phone", relay).await;
    let mut kept = greeted(&net, "alice/pc", relay).await;
    let client = net.client("bob/pc").await;
    net.pki.revoke("alice", "phone");
    let revoked = Instant::now();
    match lost.ending().await {
        Ending::Closed { code, reason } => {
            assert_eq!(code, CloseCode::Revoked);
            assert!(reason.contains("was revoked"), "{reason}");
        }
        other => panic!("{other}"),
    }
    assert!(
        revoked.elapsed() < REVOKED_WITHIN,
        "{:?}",
        revoked.elapsed()
    );
    is_alive(&mut kept).await;
    assert_eq!(metric(admin, "revoked_total").await, 1.0);
    eventually("the end of one session", async || {
        metric(admin, "sessions").await == 2.0
    })
    .await;
    assert_eq!(
        alert(&net, "alice/phone", relay, version::SESSION).await,
        Some(CERTIFICATE_REVOKED)
    );
    // The allocator reads the list by itself, as well.
    let allocator = net.allocator_address();
    let asked = async || alert(&net, "alice/phone", allocator, version::ALLOCATION).await;
    assert_eq!(
        within("a refusal", asked()).await,
        Some(CERTIFICATE_REVOKED)
    );
    send(&client, "bob/phone", "as before").await.unwrap();
    client.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_to_those_who_come_and_ends_no_session() {
    let net = Net::start(1).await;
    let (relay, admin) = (net.relay_address("r1"), net.admin_address("r1"));
    let mut before = greeted(&net, "alice/pc", relay).await;
    let shown = before.certificate();
    net.pki.renew(&Identity::relay("r1").unwrap());
    eventually("the new certificate", async || {
        metric(admin, "credential_reloads_total").await > 0.0
    })
    .await;
    let mut after = greeted(&net, "alice/phone", relay).await;
    assert_ne!(after.certificate(), shown);
    is_alive(&mut before).await;
    is_alive(&mut after).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_changes_nothing_and_is_counted() {
    let net = Net::start(1).await;
    let (relay, admin) = (net.relay_address("r1"), net.admin_address("r1"));
    let mut before = greeted(&net, "alice/pc", relay).await;
    let files = net.pki.relay("r1");
    let good = fs::read(&files.certificate).unwrap();
    let (other, list) = (net.pki.relay("r2"), files.revoked.clone().unwrap());
    let mut failures = 0.0;
    for (path, content) in [
        (&files.certificate, &b"no certificate"[..]),
        (&files.certificate, &fs::read(&other.certificate).unwrap()),
        (
            &list,
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        ),
        (&files.authority, b""),
    ] {
        let former = fs::read(path).unwrap();
        replace(path, content);
        let failed = async || metric(admin, "credential_failures_total").await > failures;
        eventually("a failure", failed).await;
        failures = metric(admin, "credential_failures_total").await;
        let reloads = metric(admin, "credential_reloads_total").await;
        replace(path, &former);
        eventually("the former again", async || {
            metric(admin, "credential_reloads_total").await > reloads
        })
        .await;
    }
    assert_eq!(fs::read(&files.certificate).unwrap(), good);
    let mut after = greeted(&net, "alice/phone", relay).await;
    is_alive(&mut before).await;
    is_alive(&mut after).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_leases_are_dialled_anew_with_what_is_new() {
    let mut net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    for name in [&home, &other] {
        net.pki.renew(&Identity::relay(name).unwrap());
    }
    for name in [&home, &other] {
        let admin = net.admin_address(name);
        eventually("the new certificate", async || {
            metric(admin, "credential_reloads_total").await > 0.0
        })
        .await;
    }
    net.stop_allocator().await;
    net.start_allocator().await;
    net.leased(&home).await;
    net.leased(&other).await;
    let (away, _guide) = net.client_at("alice/phone", &other).await;
    let (pc, _pc_guide) = net.client_at("alice/pc", &home).await;
    send(&pc, "alice/phone", "over a new link").await.unwrap();
    assert_eq!(receive(&away).await.1, "over a new link");
    away.close().await;
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_end_of_the_list_sessions_stay_and_nobody_new_comes_in() {
    let net = Net::start(1).await;
    let (relay, admin) = (net.relay_address("r1"), net.admin_address("r1"));
    let mut before = greeted(&net, "alice/pc", relay).await;
    let ends = metric(admin, "revocation_list_ends_seconds").await;
    net.pki.sign_list(time::Duration::seconds(8));
    eventually("the list that ends", async || {
        metric(admin, "revocation_list_ends_seconds").await < ends
    })
    .await;
    eventually("the end of the list", async || {
        Raw::dial(&net.pki.sender("alice/phone"), relay)
            .await
            .is_err()
    })
    .await;
    is_alive(&mut before).await;
    net.pki.sign_list(time::Duration::days(1));
    eventually("a newer list", async || {
        match Raw::dial(&net.pki.sender("alice/phone"), relay).await {
            Ok(mut raw) => raw.is_welcome().await,
            Err(_) => false,
        }
    })
    .await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_reads_its_certificates_again_when_it_is_told_to() {
    let net = Net::start(0).await;
    let config = net.relay_config("r1", test_limits());
    let mut relay = Daemon::start(Path::new(RELAY), &config).await;
    relay.hang_up().await;
    relay.logged("the credentials were read again").await;
    let (own, other) = (&config.credentials, net.pki.relay("r2"));
    fs::copy(other.key, &own.key).unwrap();
    fs::copy(other.certificate, &own.certificate).unwrap();
    relay.hang_up().await;
    relay
        .logged("and relay/r1 of holdfast.test is running")
        .await;
    assert!(relay.terminate().await);
    net.stop().await;
}
