//! Making an authority, opening it, and what the certificates it issues say.

use std::fs;

use holdfast_certs::{
    AUTHORITY_DAYS, Authority, Certificate, Error, Identity, KeyType, Kind, MAX_DAYS, Overwrite,
    PairPaths, Terms, place_authority, write_pair,
};
use time::Duration;
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fixture::{Fixture, NOW, after, days, domain, every_kind, phone, relay};
use crate::verifier::{is_named, verify};

#[test]
fn every_kind_is_accepted_for_what_it_is_and_nothing_else() {
    for authority_key in KeyType::ALL {
        let fixture = Fixture::with(authority_key);
        let trusted = fixture.authority.certificate_pem();
        for key_type in KeyType::ALL {
            for identity in every_kind() {
                let terms = Terms {
                    key_type,
                    ..Terms::default()
                };
                let issued = fixture.authority.issue(&identity, &terms, NOW).unwrap();
                let check = |usage| {
                    verify(
                        &issued.certificate_pem,
                        trusted,
                        usage,
                        Some(&fixture.crl()),
                        NOW,
                    )
                };
                let serves = identity.kind().is_server();
                assert_eq!(check(KeyUsage::client_auth()), Ok(()), "{identity}");
                assert_eq!(check(KeyUsage::server_auth()).is_ok(), serves, "{identity}");
                assert_eq!(is_named(&issued.certificate_pem, "example.org"), serves);
                assert_eq!(issued.certificate.key_type, key_type);
            }
        }
    }
}

#[test]
fn a_certificate_says_who_and_how_long_and_that_it_signs_nothing() {
    let fixture = Fixture::new();
    let issued = fixture
        .authority
        .issue(&relay(), &Terms::default(), NOW)
        .unwrap();
    let certificate = &issued.certificate;
    assert_eq!(certificate.identity, relay());
    assert_eq!(certificate.trust_domain, domain());
    assert_eq!(certificate.not_before, NOW - Duration::HOUR);
    assert_eq!(certificate.not_after, after(90));

    let (_, parsed) = X509Certificate::from_der(&certificate.der).unwrap();
    assert!(!parsed.is_ca());
    assert!(parsed.basic_constraints().unwrap().unwrap().critical);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let names = parsed.subject_alternative_name().unwrap().unwrap().value;
    let names = names
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    assert_eq!(
        names,
        ["URI(spiffe://example.org/relay/r1)", "DNSName(example.org)"]
    );
    assert_eq!(parsed.subject().to_string(), "O=Holdfast, CN=relay/r1");
}

#[test]
fn the_authority_signs_certificates_and_lists_and_no_further_authority() {
    let fixture = Fixture::new();
    let pem = x509_parser::pem::parse_x509_pem(fixture.authority.certificate_pem().as_bytes());
    let pem = pem.unwrap().1;
    let parsed = pem.parse_x509().unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert_eq!(
        fixture.authority.not_after(),
        after(i64::from(AUTHORITY_DAYS))
    );
}

#[test]
fn the_longest_names_fit() {
    let fixture = Fixture::new();
    let longest = "n".repeat(holdfast_certs::MAX_NAME);
    let identity = Identity::device(&longest, &longest).unwrap();
    let issued = fixture
        .authority
        .issue(&identity, &Terms::default(), NOW)
        .unwrap();
    assert_eq!(issued.certificate.identity, identity);
    let trusted = fixture.authority.certificate_pem();
    let client = KeyUsage::client_auth();
    assert_eq!(
        verify(&issued.certificate_pem, trusted, client, None, NOW),
        Ok(())
    );
}

#[test]
fn an_authority_opens_as_it_was_made() {
    let fixture = Fixture::new();
    let again = Authority::open(fixture.path()).unwrap();
    assert_eq!(again.trust_domain(), &domain());
    assert_eq!(again.not_after(), fixture.authority.not_after());
    let issued = again.issue(&phone(), &Terms::default(), NOW).unwrap();
    let trusted = fixture.authority.certificate_pem();
    let client = KeyUsage::client_auth();
    assert_eq!(
        verify(&issued.certificate_pem, trusted, client, None, NOW),
        Ok(())
    );
}

#[test]
fn another_authority_of_the_same_domain_is_not_trusted() {
    let (ours, theirs) = (Fixture::new(), Fixture::new());
    let issued = theirs
        .authority
        .issue(&phone(), &Terms::default(), NOW)
        .unwrap();
    let trusted = ours.authority.certificate_pem();
    let client = KeyUsage::client_auth();
    assert_eq!(
        verify(&issued.certificate_pem, trusted, client, None, NOW),
        Err(webpki::Error::UnknownIssuer)
    );
}

#[test]
fn no_certificate_outlives_its_authority() {
    let fixture = Fixture::new();
    let end = fixture.authority.not_after();
    let late = end - Duration::days(10);
    let issued = fixture.authority.issue(&phone(), &days(90), late).unwrap();
    assert_eq!(issued.certificate.not_after, end);

    let too_late = end + Duration::SECOND;
    let refused = fixture.authority.issue(&phone(), &days(90), too_late).err();
    assert_eq!(refused, Some(Error::AuthorityExpired(end)));
    let too_early = after(-1);
    let refused = fixture
        .authority
        .issue(&phone(), &days(90), too_early)
        .err();
    assert_eq!(
        refused,
        Some(Error::AuthorityNotYetValid(NOW - Duration::HOUR))
    );
}

#[test]
fn days_have_bounds() {
    let fixture = Fixture::new();
    for bad in [0, MAX_DAYS + 1, u32::MAX] {
        let refused = fixture.authority.issue(&phone(), &days(bad), NOW).err();
        assert_eq!(refused, Some(Error::BadDays(bad)));
    }
    assert!(fixture.authority.issued().unwrap().is_empty());
    assert!(
        fixture
            .authority
            .issue(&phone(), &days(MAX_DAYS), NOW)
            .is_ok()
    );
}

#[test]
fn what_is_no_authority_does_not_open() {
    let empty = tempfile::tempdir().unwrap();
    let refused = Authority::open(empty.path()).err();
    assert_eq!(refused, Some(Error::NoAuthority(empty.path().to_owned())));

    let (fixture, other) = (Fixture::new(), Fixture::new());
    let certificate = fixture.authority.certificate_path();
    let key = fixture.authority.key_path();

    fs::copy(other.authority.key_path(), &key).unwrap();
    let refused = Authority::open(fixture.path()).err();
    assert_eq!(refused, Some(Error::ForeignAuthorityKey(key.clone())));

    fs::write(&key, "no key").unwrap();
    let refused = Authority::open(fixture.path()).err();
    assert!(matches!(refused, Some(Error::NotAnAuthority { path, .. }) if path == key));

    let leaf = other
        .authority
        .issue(&relay(), &Terms::default(), NOW)
        .unwrap();
    fs::write(&key, leaf.key_pem).unwrap();
    fs::write(&certificate, leaf.certificate_pem).unwrap();
    let refused = Authority::open(fixture.path()).err();
    assert!(matches!(refused, Some(Error::NotAnAuthority { path, .. }) if path == certificate));

    fs::remove_file(&key).unwrap();
    assert!(matches!(Authority::open(fixture.path()), Err(Error::Io { path, .. }) if path == key));
}

#[test]
fn an_authority_is_replaced_only_by_force_and_then_set_aside() {
    let fixture = Fixture::new();
    fixture
        .authority
        .issue(&phone(), &Terms::default(), NOW)
        .unwrap();
    let create =
        |overwrite| Authority::create(fixture.path(), &domain(), KeyType::Ed25519, NOW, overwrite);
    let refused = create(Overwrite::Never).err();
    assert_eq!(
        refused,
        Some(Error::Exists(fixture.authority.certificate_path()))
    );
    let unchanged = Authority::open(fixture.path()).unwrap();
    assert_eq!(
        unchanged.certificate_pem(),
        fixture.authority.certificate_pem()
    );

    let replaced = create(Overwrite::Replace).unwrap();
    assert_ne!(
        replaced.certificate_pem(),
        fixture.authority.certificate_pem()
    );
    assert!(replaced.issued().unwrap().is_empty());
    let aside = fixture
        .path()
        .join(format!("replaced-{}", NOW.unix_timestamp()));
    let former = Authority::open(&aside).unwrap();
    assert_eq!(
        former.certificate_pem(),
        fixture.authority.certificate_pem()
    );
    assert_eq!(former.issued().unwrap().len(), 1);
}

#[test]
fn everything_issued_is_on_record_before_it_is_handed_out() {
    let fixture = Fixture::new();
    for identity in every_kind() {
        fixture
            .authority
            .issue(&identity, &Terms::default(), NOW)
            .unwrap();
    }
    // What a crash or a person may leave in the folder is no record.
    fs::write(
        fixture.path().join("issued/.holdfast-Ab3dE9"),
        "half a certif",
    )
    .unwrap();
    fs::write(fixture.path().join("issued/notes.pem"), "mine").unwrap();
    let issued = fixture.authority.issued().unwrap();
    let kinds = issued
        .iter()
        .map(|one| one.identity.kind())
        .collect::<Vec<_>>();
    assert_eq!(
        kinds,
        [Kind::Device, Kind::Service, Kind::Relay, Kind::Allocator]
    );

    fs::remove_dir_all(fixture.path().join("issued")).unwrap();
    fs::write(fixture.path().join("issued"), "in the way").unwrap();
    let refused = fixture.authority.issue(&phone(), &Terms::default(), NOW);
    assert!(matches!(refused, Err(Error::Io { .. })));
}

#[test]
fn a_pair_is_never_overwritten_unasked() {
    let fixture = Fixture::new();
    let issued = fixture
        .authority
        .issue(&phone(), &Terms::default(), NOW)
        .unwrap();
    let other = fixture
        .authority
        .issue(&phone(), &Terms::default(), NOW)
        .unwrap();
    let paths = PairPaths::of(fixture.path(), &phone());
    write_pair(&paths, &issued, Overwrite::Never).unwrap();
    assert_eq!(
        write_pair(&paths, &other, Overwrite::Never),
        Err(Error::Exists(paths.certificate.clone()))
    );
    assert_eq!(fs::read_to_string(&paths.key).unwrap(), issued.key_pem);

    fs::remove_file(&paths.certificate).unwrap();
    assert_eq!(
        write_pair(&paths, &other, Overwrite::Never),
        Err(Error::Exists(paths.key.clone()))
    );
    assert!(!paths.certificate.exists());

    write_pair(&paths, &other, Overwrite::Replace).unwrap();
    assert_eq!(fs::read_to_string(&paths.key).unwrap(), other.key_pem);
    let written = fs::read_to_string(&paths.certificate).unwrap();
    assert_eq!(
        Certificate::from_pem(&written).as_ref(),
        Ok(&other.certificate)
    );
}

#[test]
fn nothing_temporary_stays_behind() {
    let fixture = Fixture::new();
    let issued = fixture
        .authority
        .issue(&relay(), &Terms::default(), NOW)
        .unwrap();
    let paths = PairPaths::of(fixture.path(), &relay());
    write_pair(&paths, &issued, Overwrite::Never).unwrap();
    assert!(write_pair(&paths, &issued, Overwrite::Never).is_err());
    for folder in ["", "relay", "issued"] {
        for entry in fs::read_dir(fixture.path().join(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with('.'), "{name:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn only_keys_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let issued = fixture
        .authority
        .issue(&relay(), &Terms::default(), NOW)
        .unwrap();
    let paths = PairPaths::of(fixture.path(), &relay());
    write_pair(&paths, &issued, Overwrite::Never).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&paths.key), 0o600);
    assert_eq!(mode(&fixture.authority.key_path()), 0o600);
    // The process' own mask may take rights away from the others, never from the owner.
    for public in [paths.certificate, fixture.authority.crl_path()] {
        assert_eq!(mode(&public) & 0o600, 0o600);
    }

    // A key that replaces one with looser rights does not inherit them.
    fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o666)).unwrap();
    let paths = PairPaths::of(fixture.path(), &relay());
    write_pair(&paths, &issued, Overwrite::Replace).unwrap();
    assert_eq!(mode(&paths.key), 0o600);
}

#[test]
fn the_trusted_certificate_goes_with_the_pair() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let out = tempfile::tempdir().unwrap();
    let place =
        |fixture: &Fixture, overwrite| place_authority(out.path(), &fixture.authority, overwrite);
    let path = place(&fixture, Overwrite::Never).unwrap();
    assert_eq!(place(&fixture, Overwrite::Never), Ok(path.clone()));
    assert_eq!(
        place(&other, Overwrite::Never),
        Err(Error::Exists(path.clone()))
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        fixture.authority.certificate_pem()
    );
    place(&other, Overwrite::Replace).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        other.authority.certificate_pem()
    );
}

#[test]
fn a_private_key_does_not_reach_a_log() {
    let fixture = Fixture::new();
    let issued = fixture
        .authority
        .issue(&phone(), &Terms::default(), NOW)
        .unwrap();
    let secret = issued.key_pem.lines().nth(1).unwrap();
    assert!(!format!("{issued:?}").contains(secret));
    let own = fs::read_to_string(fixture.authority.key_path()).unwrap();
    let secret = own.lines().nth(1).unwrap();
    assert!(!format!("{:?}", fixture.authority).contains(secret));
}
