//! Who we are and whom we trust: PEM files in, TLS 1.3 configurations with mutual certificates out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use holdfast_protocol::id::{Identity, InvalidId, Name, TrustDomain};
use quinn::crypto::rustls::QuicClientConfig;
#[cfg(feature = "server")]
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{
    CipherSuite, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};
#[cfg(feature = "server")]
use rustls_pki_types::{ServerName, UnixTime};
use serde::Deserialize;

#[cfg(feature = "server")]
use crate::handshake::ServerTls;
use crate::{identity::uri_identity, wallet::Wallet};

/// How many times a client may resume one session: each ticket is good for one time, and the next
/// connection brings as many again. Two, so that one that came to nothing does not cost the other.
#[cfg(feature = "server")]
const TICKETS: usize = 2;

/// Where a program's credentials lie.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CredentialFiles {
    /// Its certificate, with any intermediate ones after it (PEM).
    pub certificate: PathBuf,
    /// The certificate's key (PEM).
    pub key: PathBuf,
    /// The authority that signs everybody's certificates (PEM).
    pub authority: PathBuf,
    /// The authority's list of revoked certificates (PEM); none are taken for revoked without it.
    pub revoked: Option<PathBuf>,
}

impl CredentialFiles {
    /// The same files, with relative paths taken from `base`.
    pub fn resolve(self, base: &Path) -> Self {
        Self {
            certificate: base.join(self.certificate),
            key: base.join(self.key),
            authority: base.join(self.authority),
            revoked: self.revoked.map(|path| base.join(path)),
        }
    }
}

/// Why credentials cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A file does not hold what it should.
    #[error("{}: no {what} could be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
    /// The certificate's URI SAN is not one identity of ours.
    #[error("{}: {why}; issue one with holdfast-certs", path.display())]
    NoIdentity {
        /// The certificate.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something has ended, so that nobody would accept it.
    #[error("{}: the {what} has ended; {}", path.display(), remedy(what))]
    Over {
        /// The file.
        path: PathBuf,
        /// What has ended.
        what: &'static str,
    },
    /// The pieces do not fit each other.
    #[error("certificate, key and authority cannot be used together: {0}")]
    Mismatch(String),
}

/// A program's certificate, key, authority and list of revoked certificates.
#[derive(Debug)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
    identity: Identity,
    trust_domain: TrustDomain,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CredentialError`] names the file that is missing or wrong.
    pub fn load(files: &CredentialFiles) -> Result<Self, CredentialError> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| unreadable(&files.key, "private key", error))?;
        let (trust_domain, identity) = own_identity(&files.certificate, &chain)?;
        let revoked = match &files.revoked {
            Some(path) => revocation_lists(path)?,
            None => Vec::new(),
        };
        let roots = Arc::new(authorities(&files.authority)?);
        Ok(Self {
            chain,
            key,
            roots,
            revoked,
            identity,
            trust_domain,
        })
    }

    /// Checks what a server is going to be checked for: that its own certificate is good now, under
    /// its own authority and list of revoked certificates, and that the list is the authority's.
    ///
    /// # Errors
    /// [`CredentialError::Mismatch`] says what is wrong.
    #[cfg(feature = "server")]
    pub(crate) fn prove(&self) -> Result<(), CredentialError> {
        use rustls::client::danger::ServerCertVerifier;
        let name = ServerName::try_from(self.trust_domain.as_str()).map_err(mismatch)?;
        let (leaf, others) = self
            .chain
            .split_first()
            .ok_or_else(|| mismatch("there is no certificate"))?;
        self.verifier_of_servers()?
            .verify_server_cert(leaf, others, &name, &[], UnixTime::now())
            .map_err(mismatch)?;
        Ok(())
    }

    /// The certificate, with any intermediate ones after it.
    #[cfg(feature = "server")]
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The lists of revoked certificates.
    #[cfg(feature = "server")]
    pub(crate) fn revoked(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.revoked
    }

    /// The authorities whose certificates we take.
    #[cfg(feature = "server")]
    pub(crate) fn authorities(&self) -> &RootCertStore {
        &self.roots
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whose certificates we take; also the TLS server name of every relay and allocator.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The TLS half of an endpoint that accepts connections for any of the `alpn` protocols. Every
    /// one proves its certificate.
    ///
    /// # Errors
    /// [`CredentialError::Mismatch`] when key and certificate do not belong together.
    #[cfg(feature = "server")]
    pub fn server(&self, alpn: &[&[u8]]) -> Result<Arc<ServerTls>, CredentialError> {
        let verifier = self.verifier_of_clients(self.revoked.iter().cloned())?;
        self.accepting(alpn, verifier)
    }

    /// The same, with a verifier of the caller's.
    #[cfg(feature = "server")]
    pub(crate) fn accepting(
        &self,
        alpn: &[&[u8]],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerTls>, CredentialError> {
        let mut config = self.full_handshakes(alpn, verifier)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        quic_server(config)
    }

    /// As [`accepting`](Self::accepting), for an endpoint whose clients may resume their sessions and
    /// send along their first words (0-RTT). A resumed handshake does not run the verifier again: whoever accepts one has to
    /// hold the certificate of the session against its end, and against the list of revoked ones.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    #[cfg(feature = "server")]
    pub(crate) fn resuming_server(
        &self,
        alpn: &[&[u8]],
        verifier: Arc<dyn ClientCertVerifier>,
        sessions: Arc<dyn rustls::server::StoresServerSessions>,
    ) -> Result<Arc<ServerTls>, CredentialError> {
        let mut config = self.full_handshakes(alpn, verifier)?;
        config.session_storage = sessions;
        config.send_tls13_tickets = TICKETS;
        // QUIC knows all or nothing, and limits early data by its windows (RFC 9001, section 4.6.1).
        config.max_early_data_size = u32::MAX;
        quic_server(config)
    }

    /// Proves clients' certificates, and for each of them that a list of revoked ones is its issuer's.
    #[cfg(feature = "server")]
    pub(crate) fn verifier_of_clients(
        &self,
        revoked: impl IntoIterator<Item = CertificateRevocationListDer<'static>>,
    ) -> Result<Arc<dyn ClientCertVerifier>, CredentialError> {
        WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .with_crls(revoked)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            // A list that has ended may lack the newest revocations: it vouches for nobody.
            .enforce_revocation_expiration()
            .build()
            .map_err(mismatch)
    }

    #[cfg(feature = "server")]
    fn full_handshakes(
        &self,
        alpn: &[&[u8]],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<rustls::ServerConfig, CredentialError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(mismatch)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(mismatch)?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// The TLS half of a connection that is dialled for the protocol `alpn`, with a full handshake.
    ///
    /// # Errors
    /// [`CredentialError::Mismatch`] when key and certificate do not belong together.
    pub fn client(&self, alpn: &[u8]) -> Result<Arc<QuicClientConfig>, CredentialError> {
        let mut config = self.dialling(alpn)?;
        config.resumption = Resumption::disabled();
        quic_client(config)
    }

    /// The same for all servers of a fleet, resuming an earlier session where there is one, and able to
    /// send along first words (0-RTT). What is learned for the next time is kept in memory with the
    /// answer, so dial with one and the same again.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn resuming_client(&self, alpn: &[u8]) -> Result<ResumingClient, CredentialError> {
        let mut config = self.dialling(alpn)?;
        config.enable_early_data = true;
        Ok(ResumingClient {
            config,
            wallet: Arc::default(),
        })
    }

    pub(crate) fn dialling(&self, alpn: &[u8]) -> Result<rustls::ClientConfig, CredentialError> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(mismatch)?
            .with_webpki_verifier(self.verifier_of_servers()?)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(mismatch)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// A list that has ended still counts for those that it names; a device that cannot get a newer
    /// one is not to be cut off by that.
    fn verifier_of_servers(&self) -> Result<Arc<WebPkiServerVerifier>, CredentialError> {
        WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .with_crls(self.revoked.iter().cloned())
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(mismatch)
    }
}

#[cfg(feature = "server")]
fn quic_server(config: rustls::ServerConfig) -> Result<Arc<ServerTls>, CredentialError> {
    Ok(Arc::new(ServerTls::new(config).map_err(mismatch)?))
}

/// The TLS half of connections to all servers of a fleet, and the sessions to resume with each.
pub struct ResumingClient {
    config: rustls::ClientConfig,
    wallet: Arc<Wallet>,
}

impl ResumingClient {
    /// For a connection that is dialled to the server of this name.
    ///
    /// # Errors
    /// [`CredentialError::Mismatch`] when QUIC has no use for the configuration.
    pub fn toward(&self, server: &Name) -> Result<Arc<QuicClientConfig>, CredentialError> {
        let mut config = self.config.clone();
        config.resumption = Resumption::store(self.wallet.toward(server));
        quic_client(config)
    }
}

fn quic_client(config: rustls::ClientConfig) -> Result<Arc<QuicClientConfig>, CredentialError> {
    let config = QuicClientConfig::try_from(config).map_err(mismatch)?;
    Ok(Arc::new(config))
}

/// With AES-128-GCM and SHA-256 first: processors have instructions for SHA-256, seldom for the SHA-384
/// of rustls' own first choice, and a handshake derives dozens of keys.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unreadable(path, "certificate", "it holds none")),
        Err(error) => Err(unreadable(path, "certificate", error)),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unreadable(path, "authority", error))?;
    }
    Ok(roots)
}

fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialError> {
    CertificateRevocationListDer::pem_file_iter(path)
        .and_then(|lists| lists.collect())
        .map_err(|error| unreadable(path, "list of revoked certificates", error))
}

fn own_identity(
    path: &Path,
    chain: &[CertificateDer<'_>],
) -> Result<(TrustDomain, Identity), CredentialError> {
    let no_identity = |why: String| CredentialError::NoIdentity {
        path: path.to_owned(),
        why,
    };
    let leaf = chain
        .first()
        .ok_or_else(|| no_identity("it is empty".to_owned()))?;
    uri_identity(leaf).map_err(|violation| no_identity(violation.what))
}

impl CredentialError {
    /// An end that has come.
    #[cfg(feature = "server")]
    pub(crate) fn over(path: &Path, what: &'static str) -> Self {
        Self::Over {
            path: path.to_owned(),
            what,
        }
    }
}

fn remedy(what: &str) -> &'static str {
    match what {
        "certificate" => "renew it with holdfast-certs renew",
        _ => "sign a new one with holdfast-certs crl",
    }
}

fn unreadable(path: &Path, what: &'static str, why: impl ToString) -> CredentialError {
    CredentialError::Unreadable {
        path: path.to_owned(),
        what,
        why: why.to_string(),
    }
}

fn mismatch(error: impl ToString) -> CredentialError {
    CredentialError::Mismatch(error.to_string())
}

impl From<InvalidId> for CredentialError {
    fn from(error: InvalidId) -> Self {
        Self::Mismatch(error.to_string())
    }
}
