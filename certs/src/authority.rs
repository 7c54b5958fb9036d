//! The authority: the one key that decides who is who in a trust domain.
//!
//! It lives in a folder:
//!
//! | file | what |
//! |---|---|
//! | `authority.pem` | its certificate, which every program trusts |
//! | `authority.key` | its private key, mode 0600; whoever has it can be anybody |
//! | `revoked.crl` | the signed list of revoked certificates, there from the first day |
//! | `revoked.txt` | the authority's own memory of what it revoked |
//! | `issued/SERIAL.pem` | every certificate it has issued |
//! | `authority.lock` | held while the list of revoked certificates changes |

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;

use crate::certificate::{self, Certificate};
use crate::error::{Error, Result};
use crate::identity::{Identity, TrustDomain};
use crate::key::{self, KeyType};
use crate::ledger::Ledger;
use crate::pem;
use crate::profile::{self, Validity};
use crate::request::Request;
use crate::revocation::{self, Reason, Revocations, Revoked};
use crate::serial::Serial;
use crate::storage::{self, Overwrite, Secrecy};

/// How long an authority's own certificate is valid, in days: ten years.
pub const AUTHORITY_DAYS: u32 = 3_652;
/// How long a certificate is valid unless said otherwise, in days.
pub const DEFAULT_DAYS: u32 = 90;
/// The longest validity of a certificate or a revocation list that can be asked for, in days.
pub const MAX_DAYS: u32 = AUTHORITY_DAYS;
/// How long a list of revoked certificates is valid unless said otherwise, in days.
pub const DEFAULT_CRL_DAYS: u32 = 30;

/// How far a verifier's clock may lag behind the authority's.
const CLOCK_SKEW: Duration = Duration::HOUR;

const KEY: &str = "authority.key";
const LOCK: &str = "authority.lock";

/// What can be chosen about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long it is valid, in days; cut off where the authority's own certificate ends.
    pub days: u32,
    /// The kind of key to make for it.
    pub key_type: KeyType,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            days: DEFAULT_DAYS,
            key_type: KeyType::default(),
        }
    }
}

/// A new certificate with its private key, which its debug output leaves out.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PEM (PKCS #8).
    pub key_pem: String,
    /// What the certificate says.
    pub certificate: Certificate,
}

/// A new certificate for a key that its owner keeps.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// What the certificate says.
    pub certificate: Certificate,
}

/// Which certificates to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one in this PEM text.
    Certificate(String),
    /// The one of this number.
    Serial(Serial),
    /// All of this identity that have not run out.
    Identity(Identity),
}

/// A certificate authority on disk.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    trust_domain: TrustDomain,
    certificate_pem: String,
    certificate_der: Vec<u8>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The file name of its certificate.
    pub const CERTIFICATE: &str = "authority.pem";

    /// Makes a new authority in the folder `dir`, with an empty list of revoked certificates.
    ///
    /// With [`Overwrite::Replace`], an authority that is already there moves to a folder
    /// `replaced-…` inside `dir` with all its records; nothing is lost, and nothing it signed is
    /// accepted by those who trust the new one.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one already, [`Error::Io`] when the folder cannot be written.
    pub fn create(
        dir: &Path,
        trust_domain: &TrustDomain,
        key_type: KeyType,
        now: OffsetDateTime,
        overwrite: Overwrite,
    ) -> Result<Self> {
        storage::create_folder(dir)?;
        let _lock = lock(dir)?;
        storage::ensure_free(&[&dir.join(Self::CERTIFICATE), &dir.join(KEY)], overwrite)?;
        set_aside(dir, now)?;

        let pair = key::generate(key_type)?;
        let validity = Validity {
            from: now - CLOCK_SKEW,
            until: now + Duration::days(i64::from(AUTHORITY_DAYS)),
        };
        let certificate = profile::authority(trust_domain, validity)?.self_signed(&pair)?;
        let write = |file: &str, text: &str, secrecy| {
            storage::write(&dir.join(file), text, secrecy, Overwrite::Never)
        };
        // The certificate comes last: without it there is no authority, so a crash before leaves
        // nothing that looks like one.
        write(KEY, &pair.serialize_pem(), Secrecy::Private)?;
        let authority = Self::assemble(dir, certificate.pem(), pair)?;
        Revocations::default().publish(dir, &authority.issuer, DEFAULT_CRL_DAYS, now)?;
        write(
            Self::CERTIFICATE,
            &authority.certificate_pem,
            Secrecy::Public,
        )?;
        Ok(authority)
    }

    /// Opens the authority in the folder `dir`.
    ///
    /// # Errors
    /// [`Error::NoAuthority`] when there is none, [`Error::ForeignAuthorityKey`] when its key and
    /// certificate do not belong together, [`Error::NotAnAuthority`] for a certificate of another
    /// making, and what reading the two files yields.
    pub fn open(dir: &Path) -> Result<Self> {
        let certificate_pem = storage::read_if_present(&dir.join(Self::CERTIFICATE))?
            .ok_or_else(|| Error::NoAuthority(dir.to_owned()))?;
        let key_path = dir.join(KEY);
        let why = "it does not hold exactly one P-256 or Ed25519 private key";
        let pair = key::read(&storage::read(&key_path)?).map_err(|_| Error::NotAnAuthority {
            path: key_path,
            why,
        })?;
        Self::assemble(dir, certificate_pem, pair)
    }

    fn assemble(dir: &Path, certificate_pem: String, pair: KeyPair) -> Result<Self> {
        let path = dir.join(Self::CERTIFICATE);
        let refuse = |why| Error::NotAnAuthority {
            path: path.clone(),
            why,
        };
        let certificate_der = pem::single(&certificate_pem, &[pem::CERTIFICATE], pem::CERTIFICATE)
            .map_err(|_| refuse("it does not hold exactly one certificate"))?;
        let parsed = certificate::parse(&certificate_der)
            .map_err(|_| refuse("its certificate is damaged"))?;
        let trust_domain = own_trust_domain(&parsed).map_err(refuse)?;
        if !key::belongs(&pair, parsed.public_key()) {
            return Err(Error::ForeignAuthorityKey(dir.join(KEY)));
        }
        let validity = parsed.validity();
        Ok(Self {
            dir: dir.to_owned(),
            trust_domain,
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            issuer: Issuer::from_ca_cert_der(&certificate_der.as_slice().into(), pair)?,
            certificate_pem,
            certificate_der,
        })
    }

    /// The domain it answers for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its own certificate, PEM, which every program trusts.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Where its certificate lies.
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.join(Self::CERTIFICATE)
    }

    /// Where its private key lies.
    pub fn key_path(&self) -> PathBuf {
        self.dir.join(KEY)
    }

    /// Where its list of revoked certificates lies.
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join(revocation::LIST)
    }

    /// Makes a key and a certificate for `identity`.
    ///
    /// # Errors
    /// [`Error::AuthorityExpired`], [`Error::BadDays`], or [`Error::Io`] when the record of it cannot
    /// be written: a certificate that could not be revoked is not handed out.
    pub fn issue(&self, identity: &Identity, terms: &Terms, now: OffsetDateTime) -> Result<Issued> {
        let pair = key::generate(terms.key_type)?;
        let signed = self.certify(identity, &pair, terms.days, now)?;
        Ok(signed.with_key(&pair))
    }

    /// Signs a request (PKCS #10, PEM) for the identity inside it, for `named`, or for both when they
    /// agree.
    ///
    /// # Errors
    /// [`Error::BadRequestSignature`], [`Error::RequestUnnamed`], [`Error::RequestManyUris`],
    /// [`Error::ForeignTrustDomain`], [`Error::RequestDiffers`], [`Error::RequestExtraName`],
    /// [`Error::UnsupportedKey`], and what [`issue`](Self::issue) yields.
    pub fn sign(
        &self,
        request_pem: &str,
        named: Option<&Identity>,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<Signed> {
        let request = Request::from_pem(request_pem)?;
        let identity = request.identity(&self.trust_domain, named)?;
        self.certify(&identity, &request.public_key, days, now)
    }

    /// Issues a certificate for the same identity as `certificate_pem`, which may have expired: with
    /// `key_pem`, the private key it was issued with, or with a new key.
    ///
    /// The former certificate stays valid until it runs out, so that nothing breaks while the new one
    /// is carried to its machine.
    ///
    /// # Errors
    /// [`Error::ForeignCertificate`], [`Error::Revoked`], [`Error::ForeignKey`], and what
    /// [`issue`](Self::issue) yields.
    pub fn renew(
        &self,
        certificate_pem: &str,
        key_pem: Option<&str>,
        terms: &Terms,
        now: OffsetDateTime,
    ) -> Result<Issued> {
        let former = self.recognise(certificate_pem)?;
        if Revocations::load(&self.dir)?.contains(former.serial) {
            return Err(Error::Revoked(former.serial));
        }
        let pair = match key_pem {
            Some(text) => key::read(text)?,
            None => key::generate(terms.key_type)?,
        };
        let same_key = key::belongs(&pair, certificate::parse(&former.der)?.public_key());
        if key_pem.is_some() && !same_key {
            return Err(Error::ForeignKey);
        }
        let signed = self.certify(&former.identity, &pair, terms.days, now)?;
        Ok(signed.with_key(&pair))
    }

    /// Revokes certificates and signs a new list. Revoking twice is no error: the first date stays.
    ///
    /// Returns what is revoked now of what was asked for.
    ///
    /// # Errors
    /// [`Error::ForeignCertificate`], [`Error::UnknownSerial`], [`Error::AlreadyExpired`],
    /// [`Error::NothingToRevoke`], [`Error::AuthorityExpired`], or [`Error::Io`].
    pub fn revoke(
        &self,
        target: &Target,
        reason: Reason,
        now: OffsetDateTime,
    ) -> Result<Vec<Revoked>> {
        let certificates = self.targeted(target, now)?;
        let _lock = lock(&self.dir)?;
        let mut revocations = Revocations::load(&self.dir)?;
        for certificate in &certificates {
            revocations.add(Revoked::new(certificate, reason, now));
        }
        self.publish(&mut revocations, DEFAULT_CRL_DAYS, now)?;
        let targeted = |entry: &&Revoked| certificates.iter().any(|one| one.serial == entry.serial);
        Ok(revocations
            .entries()
            .iter()
            .filter(targeted)
            .cloned()
            .collect())
    }

    /// Signs the list of revoked certificates anew, valid for `days`; writes it to
    /// [`crl_path`](Self::crl_path) and returns it, PEM.
    ///
    /// A list that has run out makes its readers refuse everybody, so this belongs into a timer.
    ///
    /// # Errors
    /// [`Error::AuthorityExpired`], [`Error::BadDays`], or [`Error::Io`].
    pub fn publish_crl(&self, days: u32, now: OffsetDateTime) -> Result<String> {
        let _lock = lock(&self.dir)?;
        self.publish(&mut Revocations::load(&self.dir)?, days, now)
    }

    /// Everything it has issued, ordered by identity.
    ///
    /// # Errors
    /// [`Error::Io`], or what reading a damaged record yields.
    pub fn issued(&self) -> Result<Vec<Certificate>> {
        self.ledger().all()
    }

    /// Everything it has revoked, those that have run out since included.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::DamagedList`].
    pub fn revoked(&self) -> Result<Vec<Revoked>> {
        Ok(Revocations::load(&self.dir)?.entries().to_vec())
    }

    fn ledger(&self) -> Ledger {
        Ledger::of(&self.dir)
    }

    fn publish(
        &self,
        revocations: &mut Revocations,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<String> {
        check_days(days)?;
        self.check_valid(now)?;
        revocations.publish(&self.dir, &self.issuer, days, now)
    }

    /// Signs a certificate and records it.
    fn certify(
        &self,
        identity: &Identity,
        public_key: &impl PublicKeyData,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<Signed> {
        check_days(days)?;
        self.check_valid(now)?;
        let validity = Validity {
            from: (now - CLOCK_SKEW).max(self.not_before),
            until: (now + Duration::days(i64::from(days))).min(self.not_after),
        };
        let params = profile::identity(identity, &self.trust_domain, validity)?;
        let signed = params.signed_by(public_key, &self.issuer)?;
        let certificate = Certificate::from_der(signed.der().to_vec())?;
        let certificate_pem = signed.pem();
        self.ledger().record(certificate.serial, &certificate_pem)?;
        Ok(Signed {
            certificate_pem,
            certificate,
        })
    }

    /// Reads a certificate and makes sure that this authority signed it.
    fn recognise(&self, certificate_pem: &str) -> Result<Certificate> {
        let certificate = Certificate::from_pem(certificate_pem)?;
        let parsed = certificate::parse(&certificate.der)?;
        let own = certificate::parse(&self.certificate_der)?;
        let ours = parsed.issuer().as_raw() == own.subject().as_raw()
            && parsed.verify_signature(Some(own.public_key())).is_ok();
        if ours {
            Ok(certificate)
        } else {
            Err(Error::ForeignCertificate)
        }
    }

    fn targeted(&self, target: &Target, now: OffsetDateTime) -> Result<Vec<Certificate>> {
        let one = match target {
            Target::Certificate(pem) => self.recognise(pem)?,
            Target::Serial(serial) => self.ledger().find(*serial)?,
            Target::Identity(identity) => {
                let valid = self.ledger().valid_of(identity, now)?;
                let none = valid.is_empty();
                return if none {
                    Err(Error::NothingToRevoke(identity.clone()))
                } else {
                    Ok(valid)
                };
            }
        };
        if one.not_after < now {
            return Err(Error::AlreadyExpired {
                serial: one.serial,
                expired: one.not_after,
            });
        }
        Ok(vec![one])
    }

    fn check_valid(&self, now: OffsetDateTime) -> Result<()> {
        if now > self.not_after {
            return Err(Error::AuthorityExpired(self.not_after));
        }
        if now < self.not_before {
            return Err(Error::AuthorityNotYetValid(self.not_before));
        }
        Ok(())
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Signed {
    fn with_key(self, pair: &KeyPair) -> Issued {
        Issued {
            certificate_pem: self.certificate_pem,
            key_pem: pair.serialize_pem(),
            certificate: self.certificate,
        }
    }
}

fn check_days(days: u32) -> Result<()> {
    if (1..=MAX_DAYS).contains(&days) {
        Ok(())
    } else {
        Err(Error::BadDays(days))
    }
}

fn lock(dir: &Path) -> Result<File> {
    storage::lock(&dir.join(LOCK))
}

/// Moves a former authority and its records out of the way, to be found again should it have been a
/// mistake.
fn set_aside(dir: &Path, now: OffsetDateTime) -> Result<()> {
    let files = [
        Authority::CERTIFICATE,
        KEY,
        revocation::LIST,
        revocation::MEMORY,
        Ledger::FOLDER,
    ];
    let present = files
        .iter()
        .filter(|file| dir.join(file).exists())
        .collect::<Vec<_>>();
    if present.is_empty() {
        return Ok(());
    }
    let aside = dir.join(format!("replaced-{}", now.unix_timestamp()));
    fs::create_dir(&aside).map_err(Error::io("create the folder", &aside))?;
    for file in present {
        let path = dir.join(file);
        fs::rename(&path, aside.join(file)).map_err(Error::io("move", &path))?;
    }
    Ok(())
}

/// Reads the trust domain off an authority's certificate, or says why it is none.
fn own_trust_domain(
    certificate: &X509Certificate<'_>,
) -> std::result::Result<TrustDomain, &'static str> {
    if !certificate.is_ca() {
        return Err("it is a certificate for a single identity");
    }
    match certificate::uris(certificate)
        .unwrap_or_default()
        .as_slice()
    {
        [uri] => TrustDomain::from_uri(uri).map_err(|_| "its URI names no trust domain"),
        _ => Err("it does not carry exactly one spiffe:// URI"),
    }
}
