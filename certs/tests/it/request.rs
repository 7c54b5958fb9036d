//! Requests: what is taken from them, and every way in which they are refused.

use holdfast_certs::{Error, Identity, KeyType, Kind};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fixture::{Fixture, NOW, domain, phone, relay};
use crate::verifier::verify;

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn params(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params
}

fn request(params: &CertificateParams, key: &KeyPair) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// A sound request for these names, with a key of its own.
fn asking_for(names: Vec<SanType>) -> String {
    request(&params(names), &KeyPair::generate().unwrap())
}

fn refusal(names: Vec<SanType>, named: Option<&Identity>) -> Option<Error> {
    Fixture::new()
        .authority
        .sign(&asking_for(names), named, 90, NOW)
        .err()
}

#[test]
fn the_identity_comes_from_the_request_or_from_the_caller() {
    let fixture = Fixture::new();
    let named = asking_for(vec![uri("spiffe://example.org/device/alice/phone")]);
    let unnamed = asking_for(vec![]);
    for (request, caller) in [
        (&named, None),
        (&named, Some(phone())),
        (&unnamed, Some(phone())),
    ] {
        let signed = fixture
            .authority
            .sign(request, caller.as_ref(), 30, NOW)
            .unwrap();
        assert_eq!(signed.certificate.identity, phone());
        let trusted = fixture.authority.certificate_pem();
        let client = KeyUsage::client_auth();
        assert_eq!(
            verify(&signed.certificate_pem, trusted, client, None, NOW),
            Ok(())
        );
    }
    assert_eq!(fixture.authority.issued().unwrap().len(), 3);
}

#[test]
fn the_key_is_the_requests_own() {
    let fixture = Fixture::new();
    for (algorithm, key_type) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyType::P256),
        (&rcgen::PKCS_ED25519, KeyType::Ed25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = request(&params(vec![]), &key);
        let signed = fixture
            .authority
            .sign(&request, Some(&phone()), 30, NOW)
            .unwrap();
        let (_, parsed) = X509Certificate::from_der(&signed.certificate.der).unwrap();
        assert_eq!(
            parsed.public_key().subject_public_key.data.as_ref(),
            key.public_key_raw()
        );
        assert_eq!(signed.certificate.key_type, key_type);
    }
}

#[test]
fn what_a_certificate_may_do_is_not_the_requests_to_say() {
    let fixture = Fixture::new();
    let mut greedy = params(vec![]);
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let request = request(&greedy, &KeyPair::generate().unwrap());
    let signed = fixture
        .authority
        .sign(&request, Some(&phone()), 30, NOW)
        .unwrap();
    let (_, parsed) = X509Certificate::from_der(&signed.certificate.der).unwrap();
    assert!(!parsed.is_ca());
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
}

#[test]
fn a_server_may_ask_for_the_name_it_gets_anyway() {
    let fixture = Fixture::new();
    let request = asking_for(vec![
        uri("spiffe://example.org/relay/r1"),
        dns("example.org"),
    ]);
    let signed = fixture.authority.sign(&request, None, 30, NOW).unwrap();
    assert_eq!(signed.certificate.identity, relay());
}

#[test]
fn a_request_without_an_identity_is_refused() {
    assert_eq!(refusal(vec![], None), Some(Error::RequestUnnamed));
}

#[test]
fn a_foreign_trust_domain_is_refused() {
    let requested = "example.net".parse().unwrap();
    let expected = Some(Error::ForeignTrustDomain {
        requested,
        ours: domain(),
    });
    let foreign = || vec![uri("spiffe://example.net/device/alice/phone")];
    assert_eq!(refusal(foreign(), None), expected);
    assert_eq!(refusal(foreign(), Some(&phone())), expected);
}

#[test]
fn two_identities_are_refused_even_when_they_are_the_same() {
    let phone_uri = || uri("spiffe://example.org/device/alice/phone");
    assert_eq!(
        refusal(vec![phone_uri(), phone_uri()], None),
        Some(Error::RequestManyUris(2))
    );
    let more = vec![phone_uri(), uri("https://example.org/")];
    assert_eq!(
        refusal(more, Some(&phone())),
        Some(Error::RequestManyUris(2))
    );
}

#[test]
fn a_uri_that_is_no_identity_is_refused() {
    for bad in [
        "https://example.org/",
        "spiffe://example.org/admin/root",
        "spiffe://example.org",
    ] {
        assert_eq!(
            refusal(vec![uri(bad)], Some(&phone())),
            Some(Error::BadUri(bad.to_owned()))
        );
    }
}

#[test]
fn an_identity_other_than_the_callers_is_refused() {
    assert_eq!(
        refusal(vec![uri("spiffe://example.org/relay/r1")], Some(&phone())),
        Some(Error::RequestDiffers {
            requested: relay(),
            named: phone()
        })
    );
}

#[test]
fn names_beyond_the_identity_are_refused() {
    let extra = |name: &str, kind| {
        Some(Error::RequestExtraName {
            name: name.to_owned(),
            kind,
        })
    };
    let phone_and = |other| vec![uri("spiffe://example.org/device/alice/phone"), other];
    let device = Kind::Device;
    assert_eq!(
        refusal(phone_and(dns("example.org")), None),
        extra("example.org", device)
    );
    let relay_and = |other| vec![uri("spiffe://example.org/relay/r1"), other];
    assert_eq!(
        refusal(relay_and(dns("bank.test")), None),
        extra("bank.test", Kind::Relay)
    );
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    assert!(matches!(
        refusal(relay_and(address), None),
        Some(Error::RequestExtraName {
            kind: Kind::Relay,
            ..
        })
    ));
    let mail = SanType::Rfc822Name("alice@example.org".try_into().unwrap());
    assert!(matches!(
        refusal(vec![mail], Some(&phone())),
        Some(Error::RequestExtraName {
            kind: Kind::Device,
            ..
        })
    ));
}

#[test]
fn a_signature_that_proves_nothing_is_refused() {
    let fixture = Fixture::new();
    let sound = asking_for(vec![uri("spiffe://example.org/device/alice/phone")]);
    // The signature is the last thing in a request; one letter of it changes.
    let at = sound.find("-----END").unwrap() - 12;
    let other = if &sound[at..=at] == "A" { "B" } else { "A" };
    let forged = format!("{}{other}{}", &sound[..at], &sound[at + 1..]);
    let refused = fixture.authority.sign(&forged, None, 30, NOW).err();
    assert_eq!(refused, Some(Error::BadRequestSignature));
    assert!(fixture.authority.issued().unwrap().is_empty());
}

#[test]
fn keys_that_no_daemon_accepts_are_refused() {
    let fixture = Fixture::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let refused = fixture
        .authority
        .sign(&request(&params(vec![]), &key), Some(&phone()), 30, NOW);
    let expected = Error::UnsupportedKey("on elliptic curve 1.3.132.0.34".to_owned());
    assert_eq!(refused.err(), Some(expected));
}

#[test]
fn text_that_is_no_request_is_refused() {
    let fixture = Fixture::new();
    let sign = |text: &str| fixture.authority.sign(text, Some(&phone()), 30, NOW).err();
    let expected = |found: &str| {
        Some(Error::WrongPem {
            expected: "CERTIFICATE REQUEST",
            found: found.to_owned(),
        })
    };
    let sound = asking_for(vec![]);
    assert_eq!(sign(""), expected("none"));
    assert_eq!(sign(&sound.repeat(2)), expected("2 blocks"));
    assert_eq!(
        sign(fixture.authority.certificate_pem()),
        expected("`CERTIFICATE`")
    );
    let damaged = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    assert_eq!(sign(damaged), Some(Error::Damaged("CERTIFICATE REQUEST")));
}
