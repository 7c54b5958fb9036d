//! An authority, and clients with certificates of its making.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use holdfast::{Client, Config, CredentialFiles, PingSchedule, Retry, State};
use holdfast_certs::{Authority, Identity, KeyType, Overwrite, PairPaths, Terms, write_pair};
use holdfast_transport::credentials::Credentials;
use tempfile::TempDir;
use time::OffsetDateTime;

/// Longer than anything here takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that will happen.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let happened = tokio::time::timeout(PATIENCE, future).await;
    happened.expect("it did not happen")
}

/// An authority, and a folder for everything.
pub(crate) struct World {
    dir: TempDir,
    authority: Authority,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let domain = "example.org".parse().unwrap();
        let now = OffsetDateTime::now_utc();
        let kept = dir.path().join("authority");
        let authority = Authority::create(&kept, &domain, KeyType::P256, now, Overwrite::Never);
        Self {
            dir,
            authority: authority.unwrap(),
        }
    }

    /// A folder for a client's storage.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.dir.path().join("state").join(name)
    }

    /// A certificate of the authority's, valid for some days.
    pub(crate) fn certificate(&self, identity: &Identity) -> CredentialFiles {
        let paths = PairPaths::of(self.dir.path(), identity);
        let now = OffsetDateTime::now_utc();
        let issued = self.authority.issue(identity, &Terms::default(), now);
        write_pair(&paths, &issued.unwrap(), Overwrite::Replace).unwrap();
        CredentialFiles {
            certificate: paths.certificate,
            key: paths.key,
            authority: self.authority.certificate_path(),
            revoked: None,
        }
    }

    pub(crate) fn device(&self, account: &str, device: &str) -> CredentialFiles {
        self.certificate(&Identity::device(account, device).unwrap())
    }

    pub(crate) fn server(&self, identity: &Identity) -> Arc<Credentials> {
        Arc::new(Credentials::load(&self.certificate(identity)).unwrap())
    }

    /// What `alice/phone` connects with, impatiently.
    pub(crate) fn config(&self, allocator: SocketAddr) -> Config {
        Config {
            retry: Retry {
                base: Duration::from_millis(20),
                cap: Duration::from_millis(100),
                seed: Some(7),
            },
            dial_timeout: Duration::from_millis(400),
            pings: PingSchedule {
                timeout: PATIENCE,
                ..PingSchedule::default()
            },
            ..Config::new(self.device("alice", "phone"), vec![allocator])
        }
    }

    /// As [`config`](Self::config), with storage in the folder `phone`.
    pub(crate) fn kept(&self, allocator: SocketAddr) -> Config {
        Config {
            directory: Some(self.directory("phone")),
            ..self.config(allocator)
        }
    }
}

/// Waits for a state that `wanted` recognises.
pub(crate) async fn reaches(client: &Client, wanted: impl Fn(&State) -> bool) -> State {
    let mut states = client.states();
    within(async {
        let mut state = states.current();
        while !wanted(&state) {
            state = states.changed().await.expect("the client lives");
        }
        state
    })
    .await
}
