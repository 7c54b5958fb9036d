//! The same files through OpenSSL, which shares no code with ours.
//!
//! Where there is no `openssl` command these tests pass without checking anything, and say so.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use holdfast_certs::{
    Identity, KeyType, Overwrite, PairPaths, Reason, Target, Terms, write_certificate, write_pair,
};

use crate::fixture::{Fixture, NOW, every_kind, phone};

fn is_missing() -> bool {
    let missing = Command::new("openssl").arg("version").output().is_err();
    if missing {
        println!("skipped: there is no `openssl` command on this machine");
    }
    missing
}

fn openssl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn verify(folder: &Path, purpose: &str, file: &str) -> Output {
    let now = NOW.unix_timestamp().to_string();
    let arguments = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "authority.pem",
        "-attime",
        &now,
    ];
    let lists = [
        "-crl_check",
        "-CRLfile",
        "revoked.crl",
        "-purpose",
        purpose,
        file,
    ];
    openssl(folder, &[arguments.as_slice(), &lists].concat())
}

#[test]
fn certificates_keys_and_lists_are_read_and_verified() {
    if is_missing() {
        return;
    }
    for key_type in KeyType::ALL {
        let fixture = Fixture::with(key_type);
        for identity in every_kind() {
            let terms = Terms {
                key_type,
                ..Terms::default()
            };
            let issued = fixture.authority.issue(&identity, &terms, NOW).unwrap();
            let paths = PairPaths::of(fixture.path(), &identity);
            write_pair(&paths, &issued, Overwrite::Never).unwrap();

            let file = paths.certificate.to_str().unwrap();
            let client = verify(fixture.path(), "sslclient", file);
            assert!(client.status.success(), "{}", text(&client));
            let server = verify(fixture.path(), "sslserver", file);
            assert_eq!(
                server.status.success(),
                identity.kind().is_server(),
                "{}",
                text(&server)
            );

            let key = paths.key.to_str().unwrap();
            let of_key = openssl(fixture.path(), &["pkey", "-in", key, "-pubout"]);
            let of_certificate =
                openssl(fixture.path(), &["x509", "-in", file, "-noout", "-pubkey"]);
            assert!(of_key.status.success(), "{}", text(&of_key));
            assert_eq!(of_key.stdout, of_certificate.stdout);
        }
        let arguments = [
            "crl",
            "-in",
            "revoked.crl",
            "-CAfile",
            "authority.pem",
            "-noout",
        ];
        let list = openssl(fixture.path(), &arguments);
        assert!(text(&list).contains("verify OK"), "{}", text(&list));
    }
}

#[test]
fn a_revoked_certificate_is_refused() {
    if is_missing() {
        return;
    }
    let fixture = Fixture::new();
    let issued = fixture
        .authority
        .issue(&phone(), &Terms::default(), NOW)
        .unwrap();
    let file = fixture.path().join("phone.pem");
    write_certificate(&file, &issued.certificate_pem, Overwrite::Never).unwrap();
    let target = Target::Identity(phone());
    fixture
        .authority
        .revoke(&target, Reason::KeyCompromise, NOW)
        .unwrap();
    let refused = verify(fixture.path(), "sslclient", "phone.pem");
    assert!(!refused.status.success());
    assert!(
        text(&refused).contains("certificate revoked"),
        "{}",
        text(&refused)
    );
}

#[test]
fn its_requests_are_signed() {
    if is_missing() {
        return;
    }
    let fixture = Fixture::new();
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    for (name, kind) in [
        ("p256", curve.as_slice()),
        ("ed25519", &["-newkey", "ed25519"]),
    ] {
        let name_uri = format!("subjectAltName=URI:spiffe://example.org/device/alice/{name}");
        let common = [
            "req", "-new", "-noenc", "-keyout", "k.pem", "-out", "r.csr", "-subj", "/",
        ];
        let made = openssl(
            fixture.path(),
            &[&common, kind, ["-addext", &name_uri].as_slice()].concat(),
        );
        assert!(made.status.success(), "{}", text(&made));
        let request = fs::read_to_string(fixture.path().join("r.csr")).unwrap();
        let signed = fixture.authority.sign(&request, None, 30, NOW).unwrap();
        assert_eq!(
            signed.certificate.identity,
            Identity::device("alice", name).unwrap()
        );
    }
}

#[test]
fn keys_it_made_are_kept_on_renewal() {
    if is_missing() {
        return;
    }
    let fixture = Fixture::new();
    let common = [
        "req", "-new", "-noenc", "-keyout", "k.pem", "-out", "r.csr", "-subj", "/",
    ];
    for kind in [["ec", "ec_paramgen_curve:P-256"].as_slice(), &["ed25519"]] {
        let mut arguments = common.to_vec();
        arguments.extend(["-newkey", kind[0]]);
        arguments.extend(
            kind.get(1)
                .into_iter()
                .flat_map(|option| ["-pkeyopt", option]),
        );
        let made = openssl(fixture.path(), &arguments);
        assert!(made.status.success(), "{}", text(&made));
        let read = |file: &str| fs::read_to_string(fixture.path().join(file)).unwrap();
        let signed = fixture
            .authority
            .sign(&read("r.csr"), Some(&phone()), 30, NOW)
            .unwrap();
        let key = read("k.pem");
        let terms = Terms::default();
        let renewed = fixture
            .authority
            .renew(&signed.certificate_pem, Some(&key), &terms, NOW)
            .unwrap();
        assert_eq!(renewed.certificate.identity, phone());
    }
}
