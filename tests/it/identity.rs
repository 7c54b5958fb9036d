//! Who is let in, and what everybody else is told.

use holdfast::{Client, Config, CredentialFiles, State};
use holdfast_protocol::{close::CloseCode, version};
use holdfast_tests::{
    net::{Net, within},
    pki::{Forgery, TRUST_DOMAIN},
    raw::Raw,
    scrape::metric,
};
use holdfast_transport::Ending;

/// TLS alerts (RFC 8446, section 6).
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;

fn uri(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{path}")
}

fn phone() -> Vec<String> {
    vec![uri("device/alice/phone")]
}

/// How a relay ends a connection with these credentials.
async fn ending(net: &Net, files: &CredentialFiles, alpn: &[u8]) -> Ending {
    match Raw::dial_as(files, net.relay_address("r1"), alpn).await {
        Ok(mut raw) => raw.ending().await,
        Err(ending) => ending,
    }
}

async fn close_code(net: &Net, files: &CredentialFiles, alpn: &[u8]) -> CloseCode {
    match ending(net, files, alpn).await {
        Ending::Closed { code, .. } => code,
        other => panic!("{other}"),
    }
}

async fn alert(net: &Net, files: &CredentialFiles) -> u8 {
    match ending(net, files, version::SESSION).await {
        Ending::Handshake { alert, .. } => alert,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_verify_are_refused_by_an_alert() {
    let net = Net::start(1).await;
    let foreign = Forgery {
        uris: phone(),
        foreign_authority: true,
        ..Default::default()
    };
    assert_eq!(
        alert(&net, &net.pki.forge("foreign", &foreign)).await,
        UNKNOWN_CA
    );
    let expired = Forgery {
        uris: phone(),
        expired: true,
        ..Default::default()
    };
    assert_eq!(
        alert(&net, &net.pki.forge("expired", &expired)).await,
        CERTIFICATE_EXPIRED
    );
    let admin = net.admin_address("r1");
    for number in [UNKNOWN_CA, CERTIFICATE_EXPIRED] {
        let failed = format!("handshakes_failed_total{{reason=\"tls_alert_{number}\"}}");
        assert_eq!(metric(admin, &failed).await, 1.0, "{failed}");
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_revoked_before_the_relay_started_is_refused() {
    let mut net = Net::start(1).await;
    let phone = net.pki.sender("alice/phone");
    net.pki.revoke("alice", "phone");
    net.stop_relay("r1").await;
    net.start_relay("r1").await;
    assert_eq!(alert(&net, &phone).await, CERTIFICATE_REVOKED);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_say_no_single_identity_of_ours_are_refused_each_with_its_code() {
    let net = Net::start(1).await;
    let two = vec![uri("device/alice/phone"), uri("device/alice/pc")];
    let foreign = vec!["spiffe://elsewhere.test/device/alice/phone".to_owned()];
    let cases = [
        ("none", Vec::new(), CloseCode::IdentityMissing),
        ("two", two, CloseCode::IdentityAmbiguous),
        (
            "strange",
            vec![uri("robot/r2d2")],
            CloseCode::IdentityMalformed,
        ),
        ("foreign", foreign, CloseCode::ForeignTrustDomain),
    ];
    for (name, uris, expected) in cases {
        let files = net.pki.forge(
            name,
            &Forgery {
                uris,
                ..Default::default()
            },
        );
        let code = match Raw::dial_as_nobody(&files, net.relay_address("r1")).await {
            Ok(mut raw) => raw.close_code().await,
            Err(Ending::Closed { code, .. }) => code,
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(code, expected, "{name}");
        let failed = format!("handshakes_failed_total{{reason=\"{expected:?}\"}}");
        assert_eq!(
            metric(net.admin_address("r1"), &failed).await,
            1.0,
            "{failed}"
        );
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_of_the_wrong_kind_is_refused() {
    let net = Net::start(1).await;
    let cases = [
        (net.pki.allocator(), version::SESSION),
        (net.pki.allocator(), version::PEER),
        (net.pki.relay("r2"), version::SESSION),
        (net.pki.sender("alice/phone"), version::PEER),
    ];
    for (files, alpn) in cases {
        assert_eq!(close_code(&net, &files, alpn).await, CloseCode::WrongKind);
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_the_relay_does_not_speak_is_refused() {
    let net = Net::start(1).await;
    let phone = net.pki.sender("alice/phone");
    let no_application_protocol = 120;
    match ending(&net, &phone, b"holdfast/99").await {
        Ending::Handshake { alert, .. } => assert_eq!(alert, no_application_protocol),
        other => panic!("{other}"),
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_told_what_is_wrong_with_its_certificate() {
    let net = Net::start(1).await;
    let forgery = Forgery {
        uris: phone(),
        expired: true,
        ..Default::default()
    };
    let config = Config {
        credentials: net.pki.forge("expired", &forgery),
        ..net.config("alice/phone")
    };
    let phone = Client::connect(config).await.unwrap();
    let mut states = phone.states();
    let refused = async {
        loop {
            if let Some(State::Refused { why, .. }) = states.changed().await {
                return why;
            }
        }
    };
    let why = within("a refusal", refused).await;
    assert!(why.contains("expired") || why.contains("45"), "{why}");
    phone.close().await;
    net.stop().await;
}
