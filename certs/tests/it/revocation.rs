//! Revocation: by file, by number, by identity; and the list over time.

use std::fs;

use holdfast_certs::{Authority, Error, Issued, Reason, Serial, Summary, Target, inspect};
use webpki::KeyUsage;

use crate::fixture::{Fixture, NOW, after, days, phone, relay};
use crate::verifier::verify;

fn issue(fixture: &Fixture, validity: u32) -> Issued {
    fixture
        .authority
        .issue(&phone(), &days(validity), NOW)
        .unwrap()
}

fn check(fixture: &Fixture, issued: &Issued) -> Result<(), webpki::Error> {
    let trusted = fixture.authority.certificate_pem();
    let client = KeyUsage::client_auth();
    verify(
        &issued.certificate_pem,
        trusted,
        client,
        Some(&fixture.crl()),
        NOW,
    )
}

/// The number of the list on disk, and the serial numbers on it.
fn list(fixture: &Fixture) -> (u64, Vec<String>) {
    let Ok(Summary::RevocationList(list)) = inspect(&fixture.crl()) else {
        panic!("no list");
    };
    let serials = list.revoked.into_iter().map(|entry| entry.serial).collect();
    (list.number.unwrap().parse().unwrap(), serials)
}

#[test]
fn every_way_to_name_a_certificate_revokes_that_one_alone() {
    let ways: [fn(&Issued) -> Target; 3] = [
        |issued| Target::Certificate(issued.certificate_pem.clone()),
        |issued| Target::Serial(issued.certificate.serial),
        |issued| Target::Identity(issued.certificate.identity.clone()),
    ];
    for target in ways {
        let fixture = Fixture::new();
        let gone = issue(&fixture, 90);
        let stays = fixture.authority.issue(&relay(), &days(90), NOW).unwrap();
        assert_eq!(check(&fixture, &gone), Ok(()));
        let revoked = fixture
            .authority
            .revoke(&target(&gone), Reason::KeyCompromise, NOW)
            .unwrap();
        assert_eq!(revoked.len(), 1);
        assert_eq!(revoked[0].serial, gone.certificate.serial);
        assert_eq!(revoked[0].reason, Reason::KeyCompromise);
        assert_eq!(check(&fixture, &gone), Err(webpki::Error::CertRevoked));
        assert_eq!(check(&fixture, &stays), Ok(()));
    }
}

#[test]
fn an_identity_loses_all_its_certificates_that_are_still_good() {
    let fixture = Fixture::new();
    let all = [issue(&fixture, 90), issue(&fixture, 60), issue(&fixture, 1)];
    let later = after(2);
    let target = Target::Identity(phone());
    let revoked = fixture
        .authority
        .revoke(&target, Reason::default(), later)
        .unwrap();
    assert_eq!(revoked.len(), 2);
    assert_eq!(check(&fixture, &all[0]), Err(webpki::Error::CertRevoked));
    assert_eq!(check(&fixture, &all[1]), Err(webpki::Error::CertRevoked));
}

#[test]
fn the_list_is_there_from_the_first_day_and_its_number_grows() {
    let fixture = Fixture::new();
    assert_eq!(list(&fixture), (1, vec![]));
    let serial = issue(&fixture, 90).certificate.serial;
    fixture
        .authority
        .revoke(&Target::Serial(serial), Reason::default(), NOW)
        .unwrap();
    assert_eq!(list(&fixture), (2, vec![serial.to_string()]));
    // A list that was lost does not start the count again.
    fs::remove_file(fixture.authority.crl_path()).unwrap();
    fixture.authority.publish_crl(30, NOW).unwrap();
    assert_eq!(list(&fixture), (3, vec![serial.to_string()]));
}

#[test]
fn revoking_again_keeps_the_first_date_and_reason() {
    let fixture = Fixture::new();
    let target = Target::Serial(issue(&fixture, 90).certificate.serial);
    let first = fixture
        .authority
        .revoke(&target, Reason::KeyCompromise, NOW)
        .unwrap();
    let again = fixture
        .authority
        .revoke(&target, Reason::Superseded, after(1))
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(fixture.authority.revoked().unwrap(), first);
}

#[test]
fn an_entry_goes_once_it_stood_on_a_list_after_its_certificates_end() {
    let fixture = Fixture::new();
    let issued = issue(&fixture, 10);
    let serial = issued.certificate.serial;
    fixture
        .authority
        .revoke(&Target::Serial(serial), Reason::default(), NOW)
        .unwrap();
    let on_list = |day| {
        fixture.authority.publish_crl(30, after(day)).unwrap();
        !list(&fixture).1.is_empty()
    };
    assert!(on_list(9));
    assert!(on_list(11), "the first list after the end still names it");
    assert!(!on_list(12));

    // The authority remembers nevertheless.
    assert_eq!(fixture.authority.revoked().unwrap().len(), 1);
    let renewed = fixture
        .authority
        .renew(&issued.certificate_pem, None, &days(90), after(13));
    assert_eq!(renewed.err(), Some(Error::Revoked(serial)));
}

#[test]
fn a_list_runs_out_and_is_signed_anew() {
    let fixture = Fixture::new();
    let issued = issue(&fixture, 90);
    let check = |crl: &str| {
        let trusted = fixture.authority.certificate_pem();
        let client = KeyUsage::client_auth();
        verify(
            &issued.certificate_pem,
            trusted,
            client,
            Some(crl),
            after(31),
        )
    };
    let expired = check(&fixture.crl());
    assert!(
        matches!(expired, Err(webpki::Error::CrlExpired { .. })),
        "{expired:?}"
    );
    let fresh = fixture.authority.publish_crl(7, after(30)).unwrap();
    assert_eq!(fresh, fixture.crl());
    assert_eq!(check(&fresh), Ok(()));
}

#[test]
fn two_authorities_of_one_domain_keep_their_lists_apart() {
    let (old, new) = (Fixture::new(), Fixture::new());
    let issued = issue(&new, 90);
    let trusted = new.authority.certificate_pem();
    let client = KeyUsage::client_auth();
    // The list of the other authority says nothing about this certificate, rather than breaking it.
    assert_eq!(
        verify(
            &issued.certificate_pem,
            trusted,
            client,
            Some(&old.crl()),
            NOW
        ),
        Err(webpki::Error::UnknownRevocationStatus)
    );
}

#[test]
fn what_cannot_be_revoked_is_refused_and_no_list_is_signed() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let foreign = issue(&other, 90);
    let short = issue(&fixture, 1).certificate;
    let revoke = |target: Target, now| {
        fixture
            .authority
            .revoke(&target, Reason::default(), now)
            .err()
    };

    let target = Target::Certificate(foreign.certificate_pem);
    assert_eq!(revoke(target, NOW), Some(Error::ForeignCertificate));
    let unknown: Serial = "abc".parse().unwrap();
    assert_eq!(
        revoke(Target::Serial(unknown), NOW),
        Some(Error::UnknownSerial(unknown))
    );
    assert_eq!(
        revoke(Target::Identity(relay()), NOW),
        Some(Error::NothingToRevoke(relay()))
    );
    assert_eq!(
        revoke(Target::Serial(short.serial), after(2)),
        Some(Error::AlreadyExpired {
            serial: short.serial,
            expired: short.not_after
        })
    );
    assert_eq!(list(&fixture), (1, vec![]));
    assert_eq!(
        fixture.authority.publish_crl(0, NOW),
        Err(Error::BadDays(0))
    );
}

#[test]
fn a_damaged_memory_is_reported_with_its_line_and_left_alone() {
    let fixture = Fixture::new();
    let path = fixture.path().join("revoked.txt");
    let text = fs::read_to_string(&path).unwrap() + "abc not a date\n";
    fs::write(&path, &text).unwrap();
    let line = text.lines().count();
    let expected = Error::DamagedList {
        path: path.clone(),
        line,
    };
    assert_eq!(fixture.authority.publish_crl(30, NOW), Err(expected));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn commands_that_run_at_once_do_not_lose_each_others_entries() {
    let fixture = Fixture::new();
    let serials = (0..8)
        .map(|_| issue(&fixture, 90).certificate.serial)
        .collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for serial in &serials {
            scope.spawn(|| {
                let authority = Authority::open(fixture.path()).unwrap();
                authority
                    .revoke(&Target::Serial(*serial), Reason::default(), NOW)
                    .unwrap();
            });
        }
    });
    let (number, revoked) = list(&fixture);
    assert_eq!(number, 9);
    assert_eq!(revoked.len(), 8);
}
