//! What the certificates say: the X.509 profile (RFC 5280) of an authority and of an identity.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::error::Result;
use crate::identity::{Identity, TrustDomain};
use crate::serial::Serial;

const ORGANISATION: &str = "Holdfast";

/// The longest common name X.509 allows, in characters (RFC 5280 appendix A.1).
const MAX_COMMON_NAME: usize = 64;

/// From when until when a certificate is valid, both inclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
}

/// An authority for its trust domain and nothing else, that cannot make further authorities.
pub(crate) fn authority(
    trust_domain: &TrustDomain,
    validity: Validity,
) -> Result<CertificateParams> {
    let serial = Serial::random()?;
    // Verifiers find a revocation list by its issuer's name: two authorities of one trust domain, as
    // there are while one takes over from the other, must not share it.
    let name = format!("authority {}", &serial.to_string()[..16]);
    let mut params = common(serial, validity, Some(name));
    params.subject_alt_names = vec![SanType::URI(trust_domain.uri().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// One identity of a trust domain.
pub(crate) fn identity(
    identity: &Identity,
    trust_domain: &TrustDomain,
    validity: Validity,
) -> Result<CertificateParams> {
    // The subject is for people to read, never an identity: one that is too long is left out.
    let name = format!("{}/{}", identity.kind(), identity.name());
    let name = (name.len() <= MAX_COMMON_NAME).then_some(name);
    let mut params = common(Serial::random()?, validity, name);
    params.subject_alt_names = alternative_names(identity, trust_domain)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes(identity);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn common(serial: Serial, validity: Validity, common_name: Option<String>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = validity.from;
    params.not_after = validity.until;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, ORGANISATION);
    if let Some(common_name) = common_name {
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
    }
    params
}

/// The identity, and for servers the trust domain: all of a fleet share one TLS server name, so that a
/// session ticket from one is good at the others.
fn alternative_names(identity: &Identity, trust_domain: &TrustDomain) -> Result<Vec<SanType>> {
    let mut names = vec![SanType::URI(identity.uri(trust_domain).try_into()?)];
    if identity.kind().is_server() {
        names.push(SanType::DnsName(trust_domain.as_str().try_into()?));
    }
    Ok(names)
}

/// Servers connect to each other as well, so they are clients too.
fn purposes(identity: &Identity) -> Vec<ExtendedKeyUsagePurpose> {
    let mut purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if identity.kind().is_server() {
        purposes.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
    }
    purposes
}
