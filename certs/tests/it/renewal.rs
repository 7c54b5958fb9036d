//! Renewal: the same identity, with the same key or a new one.

use holdfast_certs::{Error, Reason, Target, Terms};
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fixture::{Fixture, NOW, after, days, phone};
use crate::verifier::verify;

fn public_key(der: &[u8]) -> Vec<u8> {
    let (_, parsed) = X509Certificate::from_der(der).unwrap();
    parsed.public_key().raw.to_vec()
}

#[test]
fn both_the_old_and_the_renewed_certificate_are_good() {
    let fixture = Fixture::new();
    let old = fixture.authority.issue(&phone(), &days(90), NOW).unwrap();
    let new = fixture
        .authority
        .renew(&old.certificate_pem, None, &Terms::default(), after(60))
        .unwrap();
    assert_eq!(new.certificate.identity, phone());
    assert_eq!(new.certificate.not_after, after(150));
    assert_ne!(new.certificate.serial, old.certificate.serial);
    assert_ne!(
        public_key(&new.certificate.der),
        public_key(&old.certificate.der)
    );
    for one in [&old, &new] {
        let trusted = fixture.authority.certificate_pem();
        let client = KeyUsage::client_auth();
        assert_eq!(
            verify(&one.certificate_pem, trusted, client, None, after(61)),
            Ok(())
        );
    }
}

#[test]
fn a_kept_key_stays() {
    let fixture = Fixture::new();
    let old = fixture.authority.issue(&phone(), &days(90), NOW).unwrap();
    let new = fixture
        .authority
        .renew(
            &old.certificate_pem,
            Some(&old.key_pem),
            &Terms::default(),
            NOW,
        )
        .unwrap();
    assert_eq!(new.key_pem, old.key_pem);
    assert_eq!(
        public_key(&new.certificate.der),
        public_key(&old.certificate.der)
    );
}

#[test]
fn an_expired_certificate_can_be_renewed() {
    let fixture = Fixture::new();
    let old = fixture.authority.issue(&phone(), &days(1), NOW).unwrap();
    let new = fixture
        .authority
        .renew(&old.certificate_pem, None, &days(90), after(400))
        .unwrap();
    assert_eq!(new.certificate.not_after, after(490));
}

#[test]
fn what_must_not_come_back_is_refused() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let terms = Terms::default();
    let old = fixture.authority.issue(&phone(), &terms, NOW).unwrap();
    let foreign = other.authority.issue(&phone(), &terms, NOW).unwrap();
    let renew = |certificate: &str, key: Option<&str>| {
        fixture.authority.renew(certificate, key, &terms, NOW).err()
    };
    assert_eq!(
        renew(&foreign.certificate_pem, None),
        Some(Error::ForeignCertificate)
    );
    assert_eq!(
        renew(&old.certificate_pem, Some(&foreign.key_pem)),
        Some(Error::ForeignKey)
    );
    let own = fixture.authority.certificate_pem();
    assert_eq!(
        renew(own, None),
        Some(Error::BadUri("spiffe://example.org".to_owned()))
    );

    let serial = old.certificate.serial;
    fixture
        .authority
        .revoke(&Target::Serial(serial), Reason::default(), NOW)
        .unwrap();
    assert_eq!(
        renew(&old.certificate_pem, None),
        Some(Error::Revoked(serial))
    );
}
