//! A daemon's credentials while it runs: read again when their files change, without ending a
//! connection, except those whose certificates have been revoked.
//!
//! What cannot be used is not taken: the former credentials stay, and the log says why. New
//! credentials are in force for every handshake from then on, in both directions; connections that
//! are open go on with what they were opened with, for TLS has no second look.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use holdfast_protocol::{
    close::Violation,
    id::{Identity, TrustDomain},
};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, ServerConfig, crypto::rustls::QuicClientConfig};
use tokio::sync::Notify;

use crate::{
    credentials::{CredentialError, CredentialFiles, Credentials},
    ending::error_code,
    expiry::{Reminder, Stage},
    handshake::ServerTls,
    identity::peer_identity,
    revocation::{Leaf, RevocationLists, certificate_ends, expired, revoked},
    tickets::TicketFolder,
    verifier::ClientVerifier,
};

/// How often the files are looked at. A revocation ends connections within this.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The credentials that are in force, and the connections that were admitted under them.
pub struct LiveCredentials {
    files: CredentialFiles,
    /// Where sessions are kept that clients may resume.
    tickets: Option<PathBuf>,
    accepts: Vec<&'static [u8]>,
    identity: Identity,
    trust_domain: TrustDomain,
    current: ArcSwap<Current>,
    /// The files as they were when they were last read, whatever came of it.
    seen: Mutex<Fingerprint>,
    dials: Mutex<Vec<ClientTls>>,
    admitted: Mutex<HashMap<u64, Admitted>>,
    numbers: AtomicU64,
    asked: Notify,
    reloads: AtomicU64,
    failures: AtomicU64,
    cut: AtomicU64,
}

struct Current {
    credentials: Credentials,
    server: Arc<ServerTls>,
    lists: RevocationLists,
    certificate_ends: Option<SystemTime>,
}

struct Admitted {
    connection: Connection,
    leaf: Leaf,
}

/// The TLS half of dialling for one protocol, as it stands now.
#[derive(Clone)]
pub struct ClientTls {
    alpn: &'static [u8],
    config: Arc<ArcSwap<QuicClientConfig>>,
}

impl ClientTls {
    /// What to dial with now.
    pub fn now(&self) -> Arc<QuicClientConfig> {
        self.config.load_full()
    }
}

/// How the credentials of a daemon stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// How often new credentials came into force.
    pub reloads: u64,
    /// How often they could not be used.
    pub failures: u64,
    /// Connections that a revocation has ended or turned away.
    pub cut: u64,
    /// When the certificate ends.
    pub certificate_ends: Option<SystemTime>,
    /// When the list of revoked certificates ends.
    pub list_ends: Option<SystemTime>,
}

/// Keeps a connection among those that a revocation can end, until it is dropped.
pub struct Admission {
    live: Arc<LiveCredentials>,
    number: u64,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.live.admitted.lock().remove(&self.number);
    }
}

impl LiveCredentials {
    /// Reads the files for an endpoint that accepts any of the `accepts` protocols. With a folder for
    /// `tickets`, clients may resume their sessions.
    ///
    /// # Errors
    /// [`CredentialError`] names the file that is missing or wrong, or has ended.
    pub fn load(
        files: CredentialFiles,
        accepts: &[&'static [u8]],
        tickets: Option<&Path>,
    ) -> Result<Arc<Self>, CredentialError> {
        let seen = Fingerprint::of(&files);
        let current = Current::load(&files, accepts, tickets)?;
        Ok(Arc::new(Self {
            tickets: tickets.map(Path::to_owned),
            accepts: accepts.to_vec(),
            identity: current.credentials.identity().clone(),
            trust_domain: current.credentials.trust_domain().clone(),
            files,
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(seen),
            dials: Mutex::default(),
            admitted: Mutex::default(),
            numbers: AtomicU64::new(0),
            asked: Notify::new(),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }))
    }

    /// Who we are, which no reload changes.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whose certificates we take.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The TLS half of accepting, as it stands now.
    pub fn server(&self) -> Arc<ServerTls> {
        self.current.load().server.clone()
    }

    /// The TLS half of dialling for a protocol, now and after every reload.
    ///
    /// # Errors
    /// [`CredentialError::Mismatch`] as [`Credentials::client`].
    pub fn client(&self, alpn: &'static [u8]) -> Result<ClientTls, CredentialError> {
        let config = self.current.load().credentials.client(alpn)?;
        let tls = ClientTls {
            alpn,
            config: Arc::new(ArcSwap::new(config)),
        };
        self.dials.lock().push(tls.clone());
        Ok(tls)
    }

    /// Holds a connection's certificate against its end and against the list as it is now, and, as
    /// long as the answer is kept, against every later list. A handshake is not enough: it may have
    /// begun under an older list, and a resumed one verifies no certificate.
    ///
    /// # Errors
    /// A [`Violation`] to close the connection with.
    pub fn admit(self: &Arc<Self>, connection: &Connection) -> Result<Admission, Violation> {
        let leaf = Leaf::of_peer(connection)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted {
            connection: connection.clone(),
            leaf: leaf.clone(),
        };
        // Known first, checked then: a list that comes in between misses nobody.
        self.admitted.lock().insert(number, admitted);
        let admission = Admission {
            live: self.clone(),
            number,
        };
        if self.current.load().lists.hold(&leaf) {
            self.cut.fetch_add(1, Ordering::Relaxed);
            return Err(revoked(&leaf));
        }
        match leaf.ends() {
            Some(ends) if ends <= SystemTime::now() => Err(expired(&leaf)),
            _ => Ok(admission),
        }
    }

    /// Has [`keep_current`](Self::keep_current) read the files now, changed or not.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    /// How the credentials stand.
    pub fn figures(&self) -> Figures {
        let current = self.current.load();
        Figures {
            reloads: self.reloads.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
            certificate_ends: current.certificate_ends,
            list_ends: current.lists.ends(),
        }
    }

    /// Looks at the files for ever, and gives what is new to `endpoint`. `configure` says what else
    /// the endpoint accepts with.
    pub async fn keep_current(
        self: Arc<Self>,
        endpoint: Endpoint,
        configure: impl Fn(Arc<ServerTls>) -> ServerConfig,
    ) {
        let mut reminders = Reminders::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            reminders.say(&self.figures(), SystemTime::now());
            let demanded = tokio::select! {
                _ = look.tick() => false,
                () = self.asked.notified() => true,
            };
            let live = self.clone();
            match tokio::task::spawn_blocking(move || live.look(demanded)).await {
                Ok(true) => {
                    endpoint.set_server_config(Some(configure(self.server())));
                    self.cut_revoked();
                }
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the credentials could not be read"),
            }
        }
    }

    /// Reads the files if they have changed or it is demanded; whether there is something new.
    fn look(&self, demanded: bool) -> bool {
        let found = Fingerprint::of(&self.files);
        let mut seen = self.seen.lock();
        if *seen == found && !demanded {
            return false;
        }
        *seen = found;
        drop(seen);
        match self.exchange() {
            Ok(()) => {
                self.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!(identity = %self.identity, "the credentials were read again");
                true
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the new credentials cannot be used; the former stay");
                false
            }
        }
    }

    /// Everything is made before anything is exchanged.
    fn exchange(&self) -> Result<(), CredentialError> {
        let new = Current::load(&self.files, &self.accepts, self.tickets.as_deref())?;
        self.same_identity(&new.credentials)?;
        let dials = self.dials.lock();
        let configs: Result<Vec<_>, _> = dials
            .iter()
            .map(|tls| new.credentials.client(tls.alpn))
            .collect();
        for (tls, config) in dials.iter().zip(configs?) {
            tls.config.store(config);
        }
        self.current.store(Arc::new(new));
        Ok(())
    }

    fn same_identity(&self, new: &Credentials) -> Result<(), CredentialError> {
        if (new.identity(), new.trust_domain()) == (&self.identity, &self.trust_domain) {
            return Ok(());
        }
        Err(CredentialError::NoIdentity {
            path: self.files.certificate.clone(),
            why: format!(
                "it is for {} of {}, and {} of {} is running",
                new.identity(),
                new.trust_domain(),
                self.identity,
                self.trust_domain
            ),
        })
    }

    /// Ends the connections whose certificates are on the list.
    fn cut_revoked(&self) {
        let current = self.current.load();
        let admitted = self.admitted.lock();
        for Admitted { connection, leaf } in admitted.values() {
            if current.lists.hold(leaf) {
                let violation = revoked(leaf);
                connection.close(error_code(violation.code), violation.what.as_bytes());
                self.cut.fetch_add(1, Ordering::Relaxed);
                let who = peer_identity(connection, &self.trust_domain)
                    .map_or_else(|violation| violation.what, |identity| identity.to_string());
                tracing::warn!(who, serial = leaf.serial(), "revoked: cut off");
            }
        }
    }
}

impl Current {
    fn load(
        files: &CredentialFiles,
        accepts: &[&[u8]],
        tickets: Option<&Path>,
    ) -> Result<Self, CredentialError> {
        let credentials = Credentials::load(files)?;
        let lists = RevocationLists::read(credentials.revoked()).map_err(|why| {
            CredentialError::Unreadable {
                path: files.revoked.clone().unwrap_or_default(),
                what: "list of revoked certificates",
                why,
            }
        })?;
        let certificate_ends = credentials.chain().first().and_then(certificate_ends);
        let now = SystemTime::now();
        let over = |ends: Option<SystemTime>| ends.is_some_and(|ends| ends <= now);
        if over(certificate_ends) {
            return Err(CredentialError::over(&files.certificate, "certificate"));
        }
        if over(lists.ends()) {
            let path = files.revoked.as_deref().unwrap_or(Path::new(""));
            return Err(CredentialError::over(path, "list of revoked certificates"));
        }
        credentials.prove()?;
        let verifier = ClientVerifier::of(&credentials)?;
        let server = match tickets {
            Some(folder) => {
                let tickets = ticket_folder(folder, files)?.until(lists.ends());
                credentials.resuming_server(accepts, verifier, Arc::new(tickets))?
            }
            None => credentials.accepting(accepts, verifier)?,
        };
        Ok(Self {
            server,
            credentials,
            lists,
            certificate_ends,
        })
    }
}

fn ticket_folder(folder: &Path, files: &CredentialFiles) -> Result<TicketFolder, CredentialError> {
    let authority = fs::read(&files.authority);
    let opened = authority.and_then(|authority| TicketFolder::open(folder, &authority));
    opened.map_err(|error| CredentialError::Unreadable {
        path: folder.to_owned(),
        what: "folder for tickets",
        why: error.to_string(),
    })
}

/// What the operator is told about what will end.
#[derive(Default)]
struct Reminders {
    certificate: Reminder,
    list: Reminder,
}

impl Reminders {
    fn say(&mut self, figures: &Figures, now: SystemTime) {
        match self.certificate.turn(figures.certificate_ends, now) {
            None | Some(Stage::Far) => {}
            Some(Stage::Over) => tracing::error!(
                "the certificate has ended: nobody can connect until a new one is in place"
            ),
            Some(stage) => tracing::warn!("the certificate ends {stage}: renew it"),
        }
        match self.list.turn(figures.list_ends, now) {
            None | Some(Stage::Far) => {}
            Some(Stage::Over) => tracing::error!(
                "the list of revoked certificates has ended: open connections stay, new ones are \
                 refused until a new list is in place (holdfast-certs crl)"
            ),
            Some(stage) => tracing::warn!(
                "the list of revoked certificates ends {stage}; past it new connections are refused: \
                 sign a new one (holdfast-certs crl)"
            ),
        }
    }
}

/// What tells one state of the files from another without reading them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fingerprint(Vec<Option<(u64, SystemTime)>>);

impl Fingerprint {
    fn of(files: &CredentialFiles) -> Self {
        let mut paths = vec![&files.certificate, &files.key, &files.authority];
        paths.extend(&files.revoked);
        Self(paths.into_iter().map(|path| stamp(path)).collect())
    }
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
