//! A certificate and its key as two files that lie side by side.

use std::path::{Path, PathBuf};

use crate::authority::Issued;
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
        // Appended, not `with_extension`: a name may hold dots.
        let stem = out.join(identity.path()).into_os_string();
        let file = |extension: &str| {
            let mut path = stem.clone();
            path.push(extension);
            PathBuf::from(path)
        };
        Self {
            certificate: file(".pem"),
            key: file(".key"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_in_a_name_stay() {
        let paths = PairPaths::of(Path::new("out"), &Identity::relay("r1.eu").unwrap());
        assert_eq!(paths.certificate, PathBuf::from("out/relay/r1.eu.pem"));
        assert_eq!(paths.key, PathBuf::from("out/relay/r1.eu.key"));
    }
}
