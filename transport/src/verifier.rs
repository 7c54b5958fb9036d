//! Whose certificates a server takes.
//!
//! webpki proves the signature of a list of revoked certificates anew for every client, as long as it
//! is the list's to verify: that costs as much as to prove the client's own certificate. Here it is
//! proved once, when the credentials are read; who is on the list is looked up for every client all
//! the same, and so is whether the list has ended.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use crate::{
    credentials::{CredentialError, Credentials},
    revocation::{Leaf, RevocationLists},
};

/// Verifies clients' certificates.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    /// Proves everything but what is in `proved`.
    chains: Arc<dyn ClientCertVerifier>,
    /// The list that was proved, if there is one.
    proved: RevocationLists,
}

impl ClientVerifier {
    /// For a server whose credentials were [proved](Credentials::prove): with its own certificate, that
    /// proved the signature of its issuer's list.
    ///
    /// # Errors
    /// [`CredentialError::Mismatch`] when no verifier can be made of the authority or its lists.
    pub(crate) fn of(credentials: &Credentials) -> Result<Arc<Self>, CredentialError> {
        let is_proved = |list: &&CertificateRevocationListDer<'_>| is_proved(list, credentials);
        let (proved, others): (Vec<_>, Vec<_>) = credentials.revoked().iter().partition(is_proved);
        // Of two lists with one issuer, a single one was proved.
        let (proved, others) = match proved.len() {
            1 => (proved, others),
            _ => (Vec::new(), credentials.revoked().iter().collect()),
        };
        Ok(Arc::new(Self {
            chains: credentials.verifier_of_clients(others.into_iter().cloned())?,
            proved: RevocationLists::read(proved)
                .map_err(|why| CredentialError::Mismatch(why.to_string()))?,
        }))
    }
}

/// Whether a list is that of the one authority that has signed our own certificate, without others
/// between them.
fn is_proved(list: &CertificateRevocationListDer<'_>, credentials: &Credentials) -> bool {
    let Ok(list) = webpki::BorrowedCertRevocationList::from_der(list) else {
        return false;
    };
    let list = webpki::CertRevocationList::from(list);
    let own = credentials.chain().first().and_then(Leaf::of);
    let is_our_issuers = own.is_some_and(|own| own.issuer() == list.issuer());
    let authorities = credentials.authorities().roots.iter();
    let of_this_name = authorities.filter(|authority| *authority.subject == *list.issuer());
    // One that is only for some of its issuer's certificates is for webpki to judge.
    is_our_issuers && of_this_name.count() == 1 && list.issuing_distribution_point().is_none()
}

impl ClientCertVerifier for ClientVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chains
            .verify_client_cert(end_entity, intermediates, now)?;
        let leaf = Leaf::of(end_entity).ok_or(CertificateError::BadEncoding)?;
        if self.proved.are_of(leaf.issuer()) {
            // A list that has ended may lack the newest revocations: it vouches for nobody.
            if self.proved.have_ended(now) {
                return Err(CertificateError::ExpiredRevocationList.into());
            }
            if self.proved.hold(&leaf) {
                return Err(CertificateError::Revoked.into());
            }
        }
        Ok(verified)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use holdfast_certs::{
        Authority, Identity, KeyType, Overwrite, PairPaths, Reason, Target, Terms, write_pair,
    };
    use rustls_pki_types::pem::PemObject;
    use time::OffsetDateTime;

    use super::*;
    use crate::credentials::CredentialFiles;

    /// How long the lists are good for, in days.
    const DAYS: u32 = 2;

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn authority(dir: &Path) -> Authority {
        let domain = "holdfast.test".parse().unwrap();
        Authority::create(dir, &domain, KeyType::P256, now(), Overwrite::Never).unwrap()
    }

    /// The certificate of a device, and its files.
    fn device(authority: &Authority, dir: &Path, name: &str) -> CertificateDer<'static> {
        let identity = Identity::device("alice", name).unwrap();
        let issued = authority.issue(&identity, &Terms::default(), now());
        let paths = PairPaths::of(dir, &identity);
        write_pair(&paths, &issued.unwrap(), Overwrite::Never).unwrap();
        CertificateDer::from_pem_file(paths.certificate).unwrap()
    }

    /// The credentials of a relay of the authority, which takes the certificates of all these.
    fn relay(dir: &Path, authorities: &[&Authority]) -> Credentials {
        let identity = Identity::relay("r1").unwrap();
        let issued = authorities[0].issue(&identity, &Terms::default(), now());
        let paths = PairPaths::of(dir, &identity);
        write_pair(&paths, &issued.unwrap(), Overwrite::Never).unwrap();
        let all: String = authorities
            .iter()
            .map(|one| one.certificate_pem())
            .collect();
        fs::write(dir.join("all.pem"), all).unwrap();
        Credentials::load(&CredentialFiles {
            certificate: paths.certificate,
            key: paths.key,
            authority: dir.join("all.pem"),
            revoked: Some(authorities[0].crl_path()),
        })
        .unwrap()
    }

    fn revoke(authority: &Authority, name: &str) {
        let target = Target::Identity(Identity::device("alice", name).unwrap());
        let revoked = authority.revoke(&target, Reason::KeyCompromise, now());
        revoked.unwrap();
    }

    /// What becomes of a certificate in so many days.
    fn verify(
        verifier: &ClientVerifier,
        certificate: &CertificateDer<'_>,
        days: u32,
    ) -> Result<(), Error> {
        let then = UnixTime::now().as_secs() + u64::from(days) * 24 * 3600 + 60;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(then));
        let verified = verifier.verify_client_cert(certificate, &[], then);
        verified.map(|_| ())
    }

    #[test]
    fn who_is_on_the_list_that_was_proved_is_refused_and_so_is_everybody_once_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let [phone, stolen] = ["phone", "stolen"].map(|name| device(&authority, dir.path(), name));
        revoke(&authority, "stolen");
        authority.publish_crl(DAYS, now()).unwrap();
        let credentials = relay(dir.path(), &[&authority]);
        credentials.prove().unwrap();
        let verifier = ClientVerifier::of(&credentials).unwrap();
        assert!(
            verifier.proved.ends().is_some(),
            "nothing is left to webpki"
        );
        assert_eq!(verify(&verifier, &phone, 0), Ok(()));
        assert_eq!(
            verify(&verifier, &stolen, 0),
            Err(CertificateError::Revoked.into())
        );
        assert_eq!(
            verify(&verifier, &phone, DAYS),
            Err(CertificateError::ExpiredRevocationList.into())
        );
    }

    #[test]
    fn who_is_on_a_list_that_was_not_proved_is_refused_too() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [ours, theirs] = dirs.each_ref().map(|dir| authority(dir.path()));
        let [phone, stolen] = ["phone", "stolen"].map(|name| device(&theirs, dirs[1].path(), name));
        revoke(&theirs, "stolen");
        let list = theirs.publish_crl(DAYS, now()).unwrap();
        fs::write(ours.crl_path(), list).unwrap();
        let credentials = relay(dirs[0].path(), &[&ours, &theirs]);
        credentials.prove().unwrap();
        let verifier = ClientVerifier::of(&credentials).unwrap();
        assert_eq!(verifier.proved.ends(), None);
        assert_eq!(verify(&verifier, &phone, 0), Ok(()));
        let revoked = Err(CertificateError::Revoked.into());
        assert_eq!(verify(&verifier, &stolen, 0), revoked);
        assert!(verify(&verifier, &phone, DAYS).is_err());
    }

    #[test]
    fn of_two_lists_of_one_authority_none_counts_as_proved() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let lists = [(); 2].map(|()| authority.publish_crl(DAYS, now()).unwrap());
        fs::write(authority.crl_path(), lists.concat()).unwrap();
        let verifier = ClientVerifier::of(&relay(dir.path(), &[&authority])).unwrap();
        assert_eq!(verifier.proved.ends(), None);
    }
}
