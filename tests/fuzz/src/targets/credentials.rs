//! Certificates, keys and revocation lists, as files of whoever made them.

use std::{cell::LazyCell, fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_certs::{
    Authority, Identity, KeyType, Overwrite, PairPaths, Terms, inspect as summarise, write_pair,
};
use holdfast_transport::credentials::{CredentialFiles, Credentials};
use tempfile::TempDir;
use time::OffsetDateTime;

thread_local! {
    static FILES: LazyCell<Files> = LazyCell::new(Files::new);
}

/// Sound credentials, any of which is replaced by what is tried.
struct Files {
    folder: TempDir,
    sound: CredentialFiles,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (domain, now) = ("holdfast.test".parse(), OffsetDateTime::now_utc());
        let domain = domain.expect("a trust domain");
        let authority =
            Authority::create(folder.path(), &domain, KeyType::P256, now, Overwrite::Never);
        let authority = authority.expect("an authority");
        let phone = Identity::device("alice", "phone").expect("names");
        let issued = authority.issue(&phone, &Terms::default(), now);
        let paths = PairPaths::of(folder.path(), &phone);
        write_pair(&paths, &issued.expect("issued"), Overwrite::Never).expect("written");
        let sound = CredentialFiles {
            certificate: paths.certificate,
            key: paths.key,
            authority: authority.certificate_path(),
            revoked: Some(authority.crl_path()),
        };
        Self { folder, sound }
    }

    /// Sound credentials but for one file, which holds `text`.
    fn with(&self, which: u8, text: &str) -> CredentialFiles {
        let path: PathBuf = self.folder.path().join("tried.pem");
        fs::write(&path, text).expect("written");
        let mut files = self.sound.clone();
        match which % 4 {
            0 => files.certificate = path,
            1 => files.key = path,
            2 => files.authority = path,
            _ => files.revoked = Some(path),
        }
        files
    }
}

/// What a program loads when it starts: the first byte says which of its files is the rest.
pub(crate) fn load(data: &[u8]) -> bool {
    let Some((which, rest)) = data.split_first() else {
        return false;
    };
    let labels = ["CERTIFICATE", "PRIVATE KEY", "CERTIFICATE", "X509 CRL"];
    let text = pem(labels[usize::from(which % 4)], rest);
    let files = FILES.with(|files| files.with(*which, &text));
    let Ok(credentials) = Credentials::load(&files) else {
        return false;
    };
    credentials.server(&[b"holdfast/1"]).ok();
    credentials.client(b"holdfast/1").ok();
    true
}

/// What the tool for certificates is shown: the first byte says what it is called.
pub(crate) fn inspect(data: &[u8]) -> bool {
    let Some((which, rest)) = data.split_first() else {
        return false;
    };
    let labels = ["CERTIFICATE", "CERTIFICATE REQUEST", "X509 CRL"];
    summarise(&pem(labels[usize::from(which % 3)], rest)).is_ok()
}

/// Sound files, newly made, each after its number in [`load`].
pub(crate) fn seeds(which: &[u8]) -> Vec<Vec<u8>> {
    let files = Files::new();
    let sound = files.sound.clone();
    let revoked = sound.revoked.unwrap_or_default();
    let paths = [sound.certificate, sound.key, sound.authority, revoked];
    let chosen = which.iter().map(|which| {
        let pem = fs::read(&paths[usize::from(*which)]).expect("written");
        [vec![*which], pem].concat()
    });
    chosen.collect()
}

/// The bytes as a PEM text: as they are if they begin one, and in base64 if not.
fn pem(label: &str, bytes: &[u8]) -> String {
    if bytes.starts_with(b"-----BEGIN") {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64_STANDARD.encode(bytes).as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
