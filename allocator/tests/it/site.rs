//! A trust domain in a temporary folder, and askers with certificates from it.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use holdfast_certs::{Authority, Identity, KeyType, Overwrite, PairPaths, Terms, write_pair};
use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased, Locate},
    close::CloseCode,
    id::TrustDomain,
    version,
};
use holdfast_transport::{
    Ending,
    credentials::{CredentialFiles, Credentials},
    endpoint,
    exchange::{self, ExchangeError},
};
use quinn::{Connection, Endpoint};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::time::timeout;

/// Longer than anything here takes; only what would wait for ever is cut off by it.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(30);

/// An authority and what it has issued.
pub(crate) struct Site {
    dir: TempDir,
    authority: Authority,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::of("example.org")
    }

    pub(crate) fn of(trust_domain: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let domain = trust_domain.parse().unwrap();
        let now = OffsetDateTime::now_utc();
        let authority =
            Authority::create(dir.path(), &domain, KeyType::P256, now, Overwrite::Never).unwrap();
        Self { dir, authority }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Trusts the certificates of another site, too.
    pub(crate) fn trust(&self, other: &Self) {
        let path = self.authority.certificate_path();
        let both = [&self.authority, &other.authority].map(|a| a.certificate_pem());
        fs::write(path, both.concat()).unwrap();
    }

    /// The credentials of `identity`, for example `device:alice/phone`, as files.
    pub(crate) fn files(&self, identity: &str) -> CredentialFiles {
        let identity: Identity = identity.parse().unwrap();
        let paths = PairPaths::of(self.path(), &identity);
        if !paths.certificate.exists() {
            let now = OffsetDateTime::now_utc();
            let issued = self.authority.issue(&identity, &Terms::default(), now);
            write_pair(&paths, &issued.unwrap(), Overwrite::Never).unwrap();
        }
        CredentialFiles {
            certificate: paths.certificate,
            key: paths.key,
            authority: self.authority.certificate_path(),
            revoked: Some(self.authority.crl_path()),
        }
    }

    pub(crate) fn credentials(&self, identity: &str) -> Credentials {
        Credentials::load(&self.files(identity)).unwrap()
    }

    /// Connects `identity` to the allocator at `address`, which should be of the same trust domain.
    pub(crate) async fn dial(&self, identity: &str, address: SocketAddr) -> Result<Asker, Ending> {
        let credentials = self.credentials(identity);
        let server = credentials.trust_domain();
        Asker::dial(&credentials, address, server).await
    }

    /// As [`dial`](Self::dial), where nothing should be in the way.
    pub(crate) async fn asker(&self, identity: &str, address: SocketAddr) -> Asker {
        self.dial(identity, address).await.unwrap()
    }
}

/// One connection to an allocator.
pub(crate) struct Asker {
    pub(crate) connection: Connection,
    _endpoint: Endpoint,
}

impl Asker {
    /// Connects to an allocator of the trust domain `server`.
    pub(crate) async fn dial(
        credentials: &Credentials,
        address: SocketAddr,
        server: &TrustDomain,
    ) -> Result<Self, Ending> {
        let endpoint = endpoint::bind_client(([127, 0, 0, 1], 0).into()).unwrap();
        let tls = credentials.client(version::ALLOCATION).unwrap();
        let connection = endpoint::dial(&endpoint, tls, address, server)?.await?;
        Ok(Self {
            connection,
            _endpoint: endpoint,
        })
    }

    /// Asks for an account, or for its own.
    pub(crate) async fn try_locate(
        &self,
        account: Option<&str>,
    ) -> Result<Allocation, ExchangeError> {
        let account = account.map(|account| account.parse().unwrap());
        exchange::ask(&self.connection, &Locate { account }).await
    }

    /// As [`try_locate`](Self::try_locate), where nothing should be in the way.
    pub(crate) async fn locate(&self, account: Option<&str>) -> Allocation {
        self.try_locate(account).await.unwrap()
    }

    /// Takes a lease.
    pub(crate) async fn lease(&self, lease: &Lease) -> Result<Leased, ExchangeError> {
        exchange::ask(&self.connection, lease).await
    }

    /// Says `bytes` on a stream of their own.
    pub(crate) async fn say(&self, bytes: &[u8]) {
        let (mut send, _recv) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
    }

    /// Why the connection ended, once it has.
    pub(crate) async fn ending(&self) -> Ending {
        let closed = timeout(FOR_EVER, self.connection.closed()).await;
        closed.unwrap().into()
    }

    /// The code that the allocator closed the connection with.
    pub(crate) async fn code(&self) -> CloseCode {
        match self.ending().await {
            Ending::Closed { code, .. } => code,
            other => panic!("{other}"),
        }
    }
}
