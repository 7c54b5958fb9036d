//! An authority and whatever certificates a test wants, good and bad.

use std::{
    fs,
    path::{Path, PathBuf},
};

use holdfast::CredentialFiles;
use holdfast_certs::{
    Authority, Identity, KeyType, Overwrite, PairPaths, Reason, Target, Terms, write_pair,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// The trust domain of every test.
pub const TRUST_DOMAIN: &str = "holdfast.test";

/// An authority in a folder of its own.
pub struct Pki {
    dir: TempDir,
    authority: Authority,
}

/// What is wrong with a forged certificate, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Forgery {
    /// Its URI SANs.
    pub uris: Vec<String>,
    /// It ended yesterday.
    pub expired: bool,
    /// It ends so long from now; after a day, if that is not said.
    pub lasts: Option<Duration>,
    /// It is signed by somebody else.
    pub foreign_authority: bool,
}

impl Pki {
    /// A new authority for [`TRUST_DOMAIN`].
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let domain = TRUST_DOMAIN.parse().expect("a trust domain");
        // Old enough to have signed lists that end soon.
        let since = OffsetDateTime::now_utc() - 2 * Duration::DAY;
        let authority =
            Authority::create(dir.path(), &domain, KeyType::P256, since, Overwrite::Never)
                .expect("an authority");
        Self { dir, authority }
    }

    /// Certificate and key of an identity, issued when first asked for.
    pub fn files(&self, identity: &Identity) -> CredentialFiles {
        let paths = PairPaths::of(self.dir.path(), identity);
        if !paths.certificate.exists() {
            let now = OffsetDateTime::now_utc();
            let issued = self
                .authority
                .issue(identity, &Terms::default(), now)
                .expect("issued");
            write_pair(&paths, &issued, Overwrite::Never).expect("written");
        }
        self.with(paths.certificate, paths.key)
    }

    /// The files of a device, written `account/device`, or of a service, written `service/name`.
    pub fn sender(&self, name: &str) -> CredentialFiles {
        let (account, device) = name.split_once('/').expect("account/device");
        let identity = match account {
            "service" => Identity::service(device),
            _ => Identity::device(account, device),
        };
        self.files(&identity.expect("an identity"))
    }

    /// The files of a relay.
    pub fn relay(&self, name: &str) -> CredentialFiles {
        self.files(&Identity::relay(name).expect("a name"))
    }

    /// The files of the allocator.
    pub fn allocator(&self) -> CredentialFiles {
        self.files(&Identity::allocator("a1").expect("a name"))
    }

    /// Revokes every certificate of a device.
    pub fn revoke(&self, account: &str, device: &str) {
        let target = Target::Identity(Identity::device(account, device).expect("a name"));
        let now = OffsetDateTime::now_utc();
        self.authority
            .revoke(&target, Reason::KeyCompromise, now)
            .expect("revoked");
    }

    /// Puts a new certificate and key in the place of an identity's.
    pub fn renew(&self, identity: &Identity) {
        let paths = PairPaths::of(self.dir.path(), identity);
        let now = OffsetDateTime::now_utc();
        let issued = self.authority.issue(identity, &Terms::default(), now);
        write_pair(&paths, &issued.expect("issued"), Overwrite::Replace).expect("written");
    }

    /// Signs the list of revoked certificates so that it ends in `left`.
    pub fn sign_list(&self, left: Duration) {
        let signed = OffsetDateTime::now_utc() + left - Duration::DAY;
        self.authority.publish_crl(1, signed).expect("signed");
    }

    /// A client certificate that `holdfast-certs` would not issue.
    pub fn forge(&self, name: &str, forgery: &Forgery) -> CredentialFiles {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = forgery
            .uris
            .iter()
            .map(|uri| SanType::URI(uri.as_str().try_into().expect("ASCII")))
            .collect();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let now = OffsetDateTime::now_utc();
        let ends = if forgery.expired {
            now - Duration::DAY
        } else {
            now + forgery.lasts.unwrap_or(Duration::DAY)
        };
        (params.not_before, params.not_after) = (now - 2 * Duration::DAY, ends);
        let certificate = if forgery.foreign_authority {
            let (foreign, foreign_key) = foreign_authority();
            params.signed_by(&key, &Issuer::from_params(&foreign, foreign_key))
        } else {
            let pem = fs::read_to_string(self.authority.key_path()).expect("the authority's key");
            let own_key = KeyPair::from_pem(&pem).expect("a key");
            let own = self.authority.certificate_pem();
            params.signed_by(
                &key,
                &Issuer::from_ca_cert_pem(own, own_key).expect("an issuer"),
            )
        };
        let path = self.dir.path().join(format!("{name}.pem"));
        let key_path = self.dir.path().join(format!("{name}.key"));
        fs::write(&path, certificate.expect("signed").pem()).expect("written");
        fs::write(&key_path, key.serialize_pem()).expect("written");
        self.with(path, key_path)
    }

    fn with(&self, certificate: PathBuf, key: PathBuf) -> CredentialFiles {
        CredentialFiles {
            certificate,
            key,
            authority: self.authority.certificate_path(),
            revoked: Some(self.authority.crl_path()),
        }
    }

    /// The authority's folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

fn foreign_authority() -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "somebody else");
    (params, KeyPair::generate().expect("a key"))
}
