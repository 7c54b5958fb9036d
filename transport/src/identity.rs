//! Who the other side is: the one URI SAN of its verified certificate, never a frame.

use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{Identity, TrustDomain},
};
use quinn::Connection;
use rustls_pki_types::CertificateDer;

/// The identity of the other side of a connection whose handshake is complete.
///
/// # Errors
/// A [`Violation`] to close the connection with: no URI SAN, several, one that is no identity of
/// ours, or one of another trust domain.
pub fn peer_identity(
    connection: &Connection,
    trust_domain: &TrustDomain,
) -> Result<Identity, Violation> {
    let chain = peer_chain(connection);
    let leaf = chain
        .as_ref()
        .and_then(|chain| chain.first())
        .ok_or_else(|| {
            Violation::new(CloseCode::IdentityMissing, "no certificate was presented")
        })?;
    let (domain, identity) = uri_identity(leaf)?;
    if domain == *trust_domain {
        return Ok(identity);
    }
    let what = format!("trust domain {domain}; this is {trust_domain}");
    Err(Violation::new(CloseCode::ForeignTrustDomain, what))
}

/// The certificates that the other side has presented, its own first.
pub(crate) fn peer_chain(connection: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    let identity = connection.peer_identity()?;
    identity.downcast().ok().map(|chain| *chain)
}

/// The identity that a certificate's one URI SAN names.
pub(crate) fn uri_identity(
    leaf: &CertificateDer<'_>,
) -> Result<(TrustDomain, Identity), Violation> {
    let certificate = webpki::EndEntityCert::try_from(leaf).map_err(|error| {
        Violation::new(
            CloseCode::IdentityMalformed,
            format!("the certificate: {error}"),
        )
    })?;
    let mut uris = certificate.valid_uri_names();
    let uri = uris.next().ok_or_else(|| {
        Violation::new(CloseCode::IdentityMissing, "the certificate has no URI SAN")
    })?;
    if uris.next().is_some() {
        let what = "the certificate has more than one URI SAN";
        return Err(Violation::new(CloseCode::IdentityAmbiguous, what));
    }
    Identity::parse(uri)
        .map_err(|error| Violation::new(CloseCode::IdentityMalformed, error.to_string()))
}
