//! The command as a person calls it: what it writes, what it says, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// What a call ended with.
struct Ended {
    code: i32,
    said: String,
    complained: String,
}

fn run(folder: &Path, line: &str) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-certs"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    Ended {
        code: output.status.code().unwrap(),
        said: String::from_utf8(output.stdout).unwrap(),
        complained: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command that must work and returns what it said.
fn done(folder: &Path, line: &str) -> String {
    let ended = run(folder, line);
    assert_eq!(ended.code, 0, "{line}: {}", ended.complained);
    assert_eq!(ended.complained, "");
    ended.said
}

/// Runs a command that must be refused and returns why.
fn refused(folder: &Path, line: &str) -> String {
    let ended = run(folder, line);
    assert_eq!(ended.code, 1, "{line}: {}", ended.complained);
    assert_eq!(ended.said, "");
    ended.complained
}

fn folder_with_authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), "init --dir pki --trust-domain example.org");
    folder
}

#[test]
fn a_fleet_is_made_with_the_commands_of_the_help_text() {
    let folder = folder_with_authority();
    let here = folder.path();
    done(here, "issue allocator a1 --dir pki");
    let said = done(
        here,
        "issue relay r1 --dir pki --days 365 --key-type ed25519",
    );
    assert!(
        said.starts_with("spiffe://example.org/relay/r1, serial "),
        "{said}"
    );
    assert!(said.contains("\n  pki/relay/r1.key\n"), "{said}");
    done(here, "issue device alice/phone --dir pki --out for-alice");
    for file in [
        "pki/authority.pem",
        "pki/authority.key",
        "pki/revoked.crl",
        "pki/allocator/a1.pem",
        "pki/relay/r1.key",
        "for-alice/authority.pem",
        "for-alice/device/alice/phone.pem",
        "for-alice/device/alice/phone.key",
    ] {
        assert!(here.join(file).is_file(), "{file}");
    }
    assert!(!here.join("for-alice/authority.key").exists());
}

#[test]
fn nothing_is_overwritten_or_issued_when_a_file_is_in_the_way() {
    let folder = folder_with_authority();
    let here = folder.path();
    done(here, "issue relay r1 --dir pki");
    let before = fs::read_to_string(here.join("pki/relay/r1.pem")).unwrap();
    let why = refused(here, "issue relay r1 --dir pki");
    assert!(
        why.contains("pki/relay/r1.pem exists") && why.contains("--force"),
        "{why}"
    );
    assert_eq!(
        fs::read_to_string(here.join("pki/relay/r1.pem")).unwrap(),
        before
    );
    assert_eq!(fs::read_dir(here.join("pki/issued")).unwrap().count(), 1);

    done(here, "issue relay r1 --dir pki --force");
    assert_ne!(
        fs::read_to_string(here.join("pki/relay/r1.pem")).unwrap(),
        before
    );
    refused(here, "init --dir pki --trust-domain example.org");
    done(here, "init --dir pki --trust-domain example.org --force");
}

#[test]
fn refusals_say_what_to_do() {
    let folder = folder_with_authority();
    let here = folder.path();
    let why = refused(here, "issue relay r1 --dir nowhere");
    assert!(why.contains("holdfast-certs init --dir nowhere"), "{why}");
    let why = refused(here, "issue device alice --dir pki");
    assert!(why.contains("alice/phone"), "{why}");
    let why = refused(here, "issue relay ../r1 --dir pki");
    assert!(why.contains("A-Z a-z 0-9"), "{why}");
    let why = refused(here, "show pki/authority.key");
    assert!(
        why.contains("pki/authority.key") && why.contains("PRIVATE KEY"),
        "{why}"
    );
    let why = refused(here, "show nothing.pem");
    assert!(why.contains("cannot read nothing.pem"), "{why}");
    let why = refused(here, "revoke phone --dir pki");
    assert!(why.contains("device:alice/phone"), "{why}");
}

#[test]
fn wrong_calls_have_an_exit_code_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "",
        "issue admin root --dir pki",
        "init --dir pki --trust-domain Example.org",
        "sign --csr a --dir pki --out b --as alice",
        "show",
        "show --all",
        "renew r1.pem --dir pki --key k --key-type p256",
    ] {
        assert_eq!(run(folder.path(), line).code, 2, "{line}");
    }
    assert!(!folder.path().join("pki").exists());
}

#[test]
fn a_request_is_signed_for_whom_the_caller_names() {
    let folder = folder_with_authority();
    let here = folder.path();
    let request = CertificateParams::default()
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap();
    fs::write(here.join("pc.csr"), request.pem().unwrap()).unwrap();

    let why = refused(here, "sign --csr pc.csr --dir pki --out pc.pem");
    assert!(why.contains("pc.csr") && why.contains("--as"), "{why}");
    assert!(!here.join("pc.pem").exists());
    done(
        here,
        "sign --csr pc.csr --as device:alice/pc --dir pki --out pc.pem",
    );
    let said = done(here, "show pc.pem");
    assert!(
        said.contains("spiffe://example.org/device/alice/pc"),
        "{said}"
    );
    refused(
        here,
        "sign --csr pc.csr --as device:alice/pc --dir pki --out pc.pem",
    );
}

#[test]
fn renewal_replaces_a_pair_by_force_or_writes_beside_it() {
    let folder = folder_with_authority();
    let here = folder.path();
    done(here, "issue relay r1 --dir pki --key-type ed25519");
    let key = || fs::read_to_string(here.join("pki/relay/r1.key")).unwrap();
    let before = key();
    refused(here, "renew pki/relay/r1.pem --dir pki");
    done(
        here,
        "renew pki/relay/r1.pem --key pki/relay/r1.key --dir pki --out next/r1.pem",
    );
    assert!(!here.join("next/r1.key").exists());
    done(here, "renew pki/relay/r1.pem --dir pki --out next/r2.pem");
    assert!(here.join("next/r2.key").is_file());
    assert_eq!(key(), before);

    done(here, "renew pki/relay/r1.pem --dir pki --force");
    assert_ne!(key(), before);
    let said = done(here, "show pki/relay/r1.pem");
    assert!(said.contains("Ed25519"), "the kind of key stays: {said}");
    let why = refused(
        here,
        "renew pki/relay/r1.pem --key next/r2.key --dir pki --force",
    );
    assert!(why.contains("next/r2.key"), "{why}");
}

#[test]
fn what_was_revoked_shows_everywhere() {
    let folder = folder_with_authority();
    let here = folder.path();
    done(here, "issue device alice/phone --dir pki");
    done(here, "issue device alice/pc --dir pki");
    let said = done(
        here,
        "revoke device:alice/phone --reason key-compromise --dir pki",
    );
    assert!(said.contains("revoked device:alice/phone"), "{said}");
    assert!(
        said.contains("signed pki/revoked.crl, valid for 30 days"),
        "{said}"
    );

    let listed = done(here, "show --all --dir pki");
    let state = |name: &str| {
        listed
            .lines()
            .find(|line| line.ends_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        state("device:alice/phone").starts_with("revoked "),
        "{listed}"
    );
    assert!(state("device:alice/pc").starts_with("valid "), "{listed}");

    let list: serde_json::Value =
        serde_json::from_str(&done(here, "show pki/revoked.crl --json")).unwrap();
    assert_eq!(list["number"], "2");
    let serial = list["revoked"][0]["serial"].as_str().unwrap();
    assert!(said.contains(serial), "{said}");

    let why = refused(here, "renew pki/device/alice/phone.pem --dir pki --force");
    assert!(why.contains("is revoked"), "{why}");
    done(here, "revoke pki/device/alice/pc.pem --dir pki");
    done(here, &format!("revoke {serial} --dir pki"));
    assert_eq!(
        done(here, "crl --dir pki --days 7").trim(),
        "signed pki/revoked.crl, valid for 7 days"
    );
}

#[test]
fn show_says_the_same_to_people_and_to_scripts() {
    let folder = folder_with_authority();
    let here = folder.path();
    done(here, "issue relay r1 --dir pki --days 30");
    let text = done(here, "show pki/relay/r1.pem");
    let json: serde_json::Value =
        serde_json::from_str(&done(here, "show pki/relay/r1.pem --json")).unwrap();
    assert_eq!(json["kind"], "relay");
    assert_eq!(json["identity"][0], "spiffe://example.org/relay/r1");
    assert_eq!(json["state"], "valid");
    // It was issued a moment ago, so the thirtieth day has begun.
    assert_eq!(json["days_left"], 29);
    for value in ["serial", "valid_until", "key", "issuer"] {
        assert!(
            text.contains(json[value].as_str().unwrap()),
            "{value}: {text}"
        );
    }
    assert!(done(here, "show pki/authority.pem").contains("authority"));
}
