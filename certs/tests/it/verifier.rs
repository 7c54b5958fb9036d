//! The verifier that rustls, and so every daemon, uses.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use time::OffsetDateTime;
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationOptionsBuilder, anchor_from_trusted_cert,
};

/// Verifies a certificate the way one end of a TLS connection would.
pub(crate) fn verify(
    certificate: &str,
    authority: &str,
    usage: KeyUsage,
    revoked: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    let seconds = u64::try_from(now.unix_timestamp()).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let lists = revoked.into_iter().map(list).collect::<Vec<_>>();
    let lists = lists.iter().collect::<Vec<_>>();
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build()
    });
    EndEntityCert::try_from(&certificate)?
        .verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &[anchor_from_trusted_cert(&authority).unwrap()],
            &[],
            now,
            usage,
            revocation,
            None,
        )
        .map(drop)
}

/// Whether a TLS client that asked for this server name would take the certificate.
pub(crate) fn is_named(certificate: &str, name: &str) -> bool {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    EndEntityCert::try_from(&certificate)
        .unwrap()
        .verify_is_valid_for_subject_name(&name)
        .is_ok()
}

fn list(pem: &str) -> webpki::CertRevocationList<'static> {
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
    OwnedCertRevocationList::from_der(&der).unwrap().into()
}
