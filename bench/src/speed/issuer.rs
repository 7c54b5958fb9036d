//! Certificates for very many devices and services. `holdfast-certs` syncs each to the disk, and keeps a
//! copy; these end after a day, and are gone with the measurement.

use std::{
    fs,
    path::{Path, PathBuf},
};

use holdfast::CredentialFiles;
use holdfast_certs::{Authority, Identity};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer as Signer, KeyPair, SanType};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::Problem;

/// Signs for an authority.
pub(crate) struct Issuer {
    authority: Authority,
    signer: Signer<'static, KeyPair>,
    folder: TempDir,
}

impl Issuer {
    /// For the authority in a folder, which has its key.
    pub(crate) fn open(folder: &Path) -> Result<Self, Problem> {
        let bad = |source| Problem::Authority {
            folder: folder.to_owned(),
            source,
        };
        let authority = Authority::open(folder).map_err(bad)?;
        let key = authority.key_path();
        let pem = fs::read_to_string(&key).map_err(Problem::io(key.display().to_string()))?;
        let signer = KeyPair::from_pem(&pem)
            .and_then(|key| Signer::from_ca_cert_pem(authority.certificate_pem(), key));
        let signer = signer.map_err(|source| Problem::Certificate {
            uri: authority.trust_domain().uri(),
            source,
        })?;
        let folder = tempfile::tempdir().map_err(Problem::io("a temporary folder"))?;
        Ok(Self {
            authority,
            signer,
            folder,
        })
    }

    /// The certificate and key of somebody, written to files of their own.
    pub(crate) fn issue(&self, identity: &Identity) -> Result<CredentialFiles, Problem> {
        let uri = identity.uri(self.authority.trust_domain());
        let (certificate, key) = self
            .sign(&uri)
            .map_err(|source| Problem::Certificate { uri, source })?;
        let name = identity.name().replace('/', "+");
        Ok(CredentialFiles {
            certificate: self.write(&format!("{name}.pem"), &certificate)?,
            key: self.write(&format!("{name}.key"), &key)?,
            authority: self.authority.certificate_path(),
            revoked: None,
        })
    }

    fn sign(&self, uri: &str) -> Result<(String, String), rcgen::Error> {
        let (key, now) = (KeyPair::generate()?, OffsetDateTime::now_utc());
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // The other side's clock may be behind.
        (params.not_before, params.not_after) = (now - Duration::HOUR, now + Duration::DAY);
        let certificate = params.signed_by(&key, &self.signer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn write(&self, name: &str, pem: &str) -> Result<PathBuf, Problem> {
        let path = self.folder.path().join(name);
        fs::write(&path, pem).map_err(Problem::io(path.display().to_string()))?;
        Ok(path)
    }
}
