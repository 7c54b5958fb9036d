//! What `inspect` reads out of every kind of file.

use holdfast_certs::{Error, KeyType, Summary, Terms, inspect};
use rcgen::{CertificateParams, KeyPair};

use crate::fixture::{Fixture, NOW, after, relay};

#[test]
fn a_certificate_and_its_authority() {
    let fixture = Fixture::with(KeyType::Ed25519);
    let issued = fixture
        .authority
        .issue(&relay(), &Terms::default(), NOW)
        .unwrap();
    let Ok(Summary::Certificate(leaf)) = inspect(&issued.certificate_pem) else {
        panic!("no certificate");
    };
    assert_eq!(leaf.uris, ["spiffe://example.org/relay/r1"]);
    assert_eq!(leaf.dns_names, ["example.org"]);
    assert_eq!(leaf.purposes, ["serverAuth", "clientAuth"]);
    assert_eq!(leaf.serial, issued.certificate.serial.to_string());
    assert_eq!(leaf.not_after, after(90));
    assert_eq!(leaf.key, "P-256");
    assert!(!leaf.is_authority);

    let Ok(Summary::Certificate(authority)) = inspect(fixture.authority.certificate_pem()) else {
        panic!("no certificate");
    };
    assert!(authority.is_authority);
    assert_eq!(authority.uris, ["spiffe://example.org"]);
    assert_eq!(authority.key, "Ed25519");
    assert_eq!(authority.issuer, leaf.issuer);
}

#[test]
fn a_certificate_of_another_maker() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let foreign = CertificateParams::default().self_signed(&key).unwrap();
    let Ok(Summary::Certificate(read)) = inspect(&foreign.pem()) else {
        panic!("no certificate");
    };
    assert!(read.uris.is_empty());
    assert!(read.key.starts_with("unsupported"));
}

#[test]
fn a_request() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let Ok(Summary::Request(read)) = inspect(&pem) else {
        panic!("no request");
    };
    assert_eq!(read.other_names, ["example.org"]);
    assert_eq!(read.key, KeyType::P256);
}

#[test]
fn anything_else_is_refused() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let refused = inspect(&key).err();
    assert!(matches!(refused, Some(Error::WrongPem { found, .. }) if found == "`PRIVATE KEY`"));
    assert!(matches!(inspect("hello"), Err(Error::WrongPem { found, .. }) if found == "none"));
    let damaged = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    assert_eq!(inspect(damaged), Err(Error::Damaged("X509 CRL")));
}
