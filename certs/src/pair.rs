//! A certificate and its key as two files that lie side by side.

use std::path::{Path, PathBuf};

use crate::authority::{Authority, Issued};
use crate::error::Result;
use crate::identity::Identity;
use crate::storage::{self, Overwrite, Secrecy};

/// Where an identity's certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairPaths {
    /// The certificate: PEM, readable by everybody.
    pub certificate: PathBuf,
    /// The private key: PEM (PKCS #8), mode 0600.
    pub key: PathBuf,
}

impl PairPaths {
    /// The files of `identity` under the folder `out`: `out/device/alice/phone.pem` and `.key`.
    ///
    /// The folders mirror the identity's URI, so the files of two identities never collide.
    pub fn of(out: &Path, identity: &Identity) -> Self {
        let stem = out.join(identity.path());
        Self {
            certificate: append(&stem, ".pem"),
            key: append(&stem, ".key"),
        }
    }

    /// The pair whose certificate lies at `certificate`; its key lies beside it, `.key` in place of
    /// `.pem`.
    pub fn beside(certificate: &Path) -> Self {
        let stem = match certificate.extension() {
            Some(end) if end == "pem" => certificate.with_extension(""),
            _ => certificate.to_owned(),
        };
        Self {
            certificate: certificate.to_owned(),
            key: append(&stem, ".key"),
        }
    }

    /// Refuses when one of the two files is in the way; to be asked before a certificate is issued for
    /// them.
    ///
    /// # Errors
    /// [`Error::Exists`](crate::Error::Exists), naming the file.
    pub fn ensure_free(&self, overwrite: Overwrite) -> Result<()> {
        storage::ensure_free(&[&self.certificate, &self.key], overwrite)
    }
}

/// Writes a certificate and its key.
///
/// The key comes first: a program that watches the certificate finds the pair complete when it changes.
///
/// # Errors
/// [`Error::Exists`](crate::Error::Exists) when a file is there and may not be replaced,
/// [`Error::Io`](crate::Error::Io) otherwise. No file is ever half written.
pub fn write_pair(paths: &PairPaths, issued: &Issued, overwrite: Overwrite) -> Result<()> {
    paths.ensure_free(overwrite)?;
    storage::write(&paths.key, &issued.key_pem, Secrecy::Private, overwrite)?;
    write_certificate(&paths.certificate, &issued.certificate_pem, overwrite)
}

/// Writes a certificate whose key lies elsewhere; errors as [`write_pair`].
///
/// # Errors
/// As [`write_pair`].
pub fn write_certificate(path: &Path, certificate_pem: &str, overwrite: Overwrite) -> Result<()> {
    storage::write(path, certificate_pem, Secrecy::Public, overwrite)
}

/// Puts a copy of the authority's certificate into the folder `out`, so that it holds all that a program
/// needs to prove who it is and to recognise others. A copy that is already there is left alone.
///
/// The revocation list is not copied: it changes, and a copy would grow stale unnoticed.
///
/// # Errors
/// [`Error::Exists`](crate::Error::Exists) when the certificate of another authority is there and may not
/// be replaced, [`Error::Io`](crate::Error::Io) otherwise.
pub fn place_authority(out: &Path, authority: &Authority, overwrite: Overwrite) -> Result<PathBuf> {
    let path = out.join(Authority::CERTIFICATE);
    let present = storage::read_if_present(&path)?;
    if present.as_deref() != Some(authority.certificate_pem()) {
        write_certificate(&path, authority.certificate_pem(), overwrite)?;
    }
    Ok(path)
}

/// Appends to a path's last part. `with_extension` would cut off what follows a dot in a name.
fn append(stem: &Path, end: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_in_a_name_stay() {
        let paths = PairPaths::of(Path::new("out"), &Identity::relay("r1.eu").unwrap());
        assert_eq!(paths.certificate, PathBuf::from("out/relay/r1.eu.pem"));
        assert_eq!(paths.key, PathBuf::from("out/relay/r1.eu.key"));
        assert_eq!(PairPaths::beside(&paths.certificate), paths);
        assert_eq!(
            PairPaths::beside(Path::new("r1")).key,
            PathBuf::from("r1.key")
        );
    }
}
