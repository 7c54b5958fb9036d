//! What an issued certificate says: the facts that records, renewal and revocation go by.

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::error::{Error, Result};
use crate::identity::{Identity, TrustDomain};
use crate::key::KeyType;
use crate::pem;
use crate::serial::Serial;

/// A certificate of one identity, as parsed from its file. Parsing proves nothing: whether an authority
/// signed it is [`Authority`](crate::Authority)'s to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its number within its authority.
    pub serial: Serial,
    /// Whom it speaks for.
    pub identity: Identity,
    /// The domain that identity lives in.
    pub trust_domain: TrustDomain,
    /// From when on it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid, inclusive.
    pub not_after: OffsetDateTime,
    /// The kind of its public key.
    pub key_type: KeyType,
    /// The certificate itself, in DER.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate from PEM.
    ///
    /// # Errors
    /// [`Error::WrongPem`] without exactly one certificate, [`Error::Damaged`] when it does not parse,
    /// [`Error::NoIdentity`] or [`Error::BadUri`] when it speaks for nobody Holdfast knows.
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::from_der(pem::single(text, &[pem::CERTIFICATE], pem::CERTIFICATE)?)
    }

    /// Reads a certificate from DER; errors as [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(der: Vec<u8>) -> Result<Self> {
        let parsed = parse(&der)?;
        let uris = uris(&parsed)?;
        let [uri] = uris.as_slice() else {
            return Err(Error::NoIdentity(uris.len()));
        };
        let (trust_domain, identity) = Identity::from_uri(uri)?;
        let validity = parsed.validity();
        Ok(Self {
            serial: serial(&parsed)?,
            identity,
            trust_domain,
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            key_type: KeyType::of(parsed.public_key())?,
            der,
        })
    }
}

/// Parses a certificate completely: trailing bytes are an error.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>> {
    match parse_x509_certificate(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(Error::Damaged(pem::CERTIFICATE)),
    }
}

pub(crate) fn serial(certificate: &X509Certificate<'_>) -> Result<Serial> {
    Serial::from_der(certificate.raw_serial()).ok_or(Error::Damaged(pem::CERTIFICATE))
}

/// The URIs among a certificate's alternative names, in order.
pub(crate) fn uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| Error::Damaged(pem::CERTIFICATE))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Ok(names.iter().filter_map(uri).collect())
}
