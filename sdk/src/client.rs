//! The handle an app holds.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{
    client::ClientConfig,
    id::{Identity, Key, Lane, MessageId, Name, Recipient, Sender},
    limits::MAX_TTL,
    message::{Options, Priority},
};
use holdfast_transport::credentials::Credentials;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    Closed, Config, ConnectError, Detached, Event, RadioUses, Received, SendError, Sent, State,
    States,
    committer::{Committer, Draft},
    core::{EngineConfig, Restored},
    counter::{Counter, Notice},
    dial::Dialler,
    driver::{Driver, Parts},
    state::Board,
    storage::{Origin, Storage},
};

/// What a message asks for besides delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// How long it may wait for its recipient, counted from the moment its relay accepts it, in whole
    /// seconds (rounded up), at most 365 days; `None` leaves it to the relay.
    pub ttl: Option<Duration>,
    /// Of the messages that wait for a device from one account under one key, the newest replaces the
    /// others. 1 to 64 bytes.
    pub key: Option<String>,
    /// The account keeps the newest message of the key for devices that join it later. Needs a `key`,
    /// and the sender's own account as the recipient; an empty body removes the key.
    pub retain: bool,
    /// Asks for news of the message's end, so that [`Sent::delivered`] can tell. The message stays in
    /// the outbox until then.
    pub notify: bool,
    /// Who is refused first when the recipient's mailbox fills up: low before normal before high. It
    /// changes no order.
    pub priority: Priority,
}

/// A device's or service's connection to its relay: sends, receives, and finds a relay again whenever
/// it loses one. Clones share it; when the last is dropped, the connection ends.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    me: Sender,
    epoch: u64,
    committer: Committer,
    notices: mpsc::UnboundedSender<Notice>,
    board: Arc<Board>,
    events: Mutex<mpsc::UnboundedReceiver<Event>>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Fails only if the driver has ended already.
        let _ = self.notices.send(Notice::Close);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("identity", &self.shared.me)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client, and lets it look for a relay in the background. To be called in a tokio
    /// runtime with I/O and time; the client lives in it.
    ///
    /// # Errors
    /// [`ConnectError`] when something on this side is wrong: the configuration, the credentials, the
    /// directory. That no relay can be reached is no error; see [`state`](Self::state) and
    /// [`attached`](Self::attached).
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let agent = config.check()?;
        let credentials = Credentials::load(&config.credentials)?;
        let me = sender(credentials.identity())?;
        let directory = config.directory.clone();
        let origin = Origin {
            owner: credentials.identity().uri(credentials.trust_domain()),
            outbox: rand::random(),
            inbox: rand::random(),
        };
        let opening =
            tokio::task::spawn_blocking(move || Storage::open(directory.as_deref(), &origin));
        let (storage, origin, restored) = opening
            .await
            .map_err(|error| storage_error(&config, &error))??;
        let session = ClientConfig {
            agent,
            outbox: origin.outbox,
            inbox: origin.inbox,
            pings: config.pings,
        };
        let dialler = Dialler::new(&credentials, config.dial_timeout)?;
        Self::start(&config, me, session, dialler, storage, restored)
    }

    fn start(
        config: &Config,
        me: Sender,
        session: ClientConfig,
        dialler: Dialler,
        storage: Storage,
        restored: Restored,
    ) -> Result<Self, ConnectError> {
        let (notices, said) = mpsc::unbounded_channel();
        let (shown, events) = mpsc::unbounded_channel();
        let committer = Committer::start(storage, &restored.logbook, notices.clone())
            .map_err(|error| storage_error(config, &error))?;
        let board = Arc::new(Board::new());
        let epoch = session.outbox;
        let engine = EngineConfig {
            allocators: config.allocators.clone(),
            session,
            retry: config.retry,
            seed: config.retry.seed.unwrap_or_else(rand::random),
        };
        let parts = Parts {
            dialler,
            counter: Counter::new(board.clone(), notices.clone(), shown),
            notices: said,
            board: board.clone(),
            committer: committer.clone(),
        };
        let driver = Driver::new(engine, restored, parts);
        let shared = Shared {
            me,
            epoch,
            committer,
            notices,
            board,
            events: Mutex::new(events),
            driver: Mutex::new(Some(tokio::spawn(driver.run()))),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Who this is, as the certificate says.
    pub fn identity(&self) -> &Sender {
        &self.shared.me
    }

    /// Puts a message into the outbox, whether or not a relay can be reached. It returns when the
    /// message is on the device's disk; messages sent at the same time share one sync.
    ///
    /// `to` is `account/device`, or `account` for every device of the account but the sender. Messages
    /// of up to 16 KiB reach a recipient in the order in which they were sent, and so do larger ones,
    /// but small ones may overtake large ones.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    pub async fn send(
        &self,
        to: &str,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let draft = self.draft(to, body.into(), options)?;
        let (lane, notify) = (draft.lane, draft.options.notify);
        let (seq, fates) = self.shared.committer.append(draft).await?;
        let id = MessageId {
            sender: self.shared.me.clone(),
            epoch: self.shared.epoch,
            lane,
            seq,
        };
        Ok(Sent::new(id, notify, fates))
    }

    /// The next message; `None` when the client is closed. Gaps are passed over: an app that wants to
    /// hear of them calls [`next_event`](Self::next_event) instead. Cancel safe; of several tasks that
    /// wait, one gets the message.
    pub async fn next(&self) -> Option<Received> {
        loop {
            if let Event::Message(received) = self.next_event().await? {
                return Some(received);
            }
        }
    }

    /// The next message, or word of messages that will not come; `None` when the client is closed.
    /// Cancel safe.
    pub async fn next_event(&self) -> Option<Event> {
        self.shared.events.lock().await.recv().await
    }

    /// Lets another account's devices write to this account's, or no longer. Returns when the home
    /// relay has it on disk, however long it takes to reach one.
    ///
    /// # Errors
    /// [`Closed`] when the client is closed first: ask again with the next one.
    pub async fn allow(&self, account: &Name, allowed: bool) -> Result<(), Closed> {
        let (reply, made) = oneshot::channel();
        let request = Notice::Allow {
            account: account.clone(),
            allowed,
            reply,
        };
        let asked = self.shared.notices.send(request);
        asked.map_err(|_| Closed)?;
        made.await.map_err(|_| Closed)
    }

    /// Where the client stands now.
    pub fn state(&self) -> State {
        self.shared.board.state()
    }

    /// Follows where the client stands.
    pub fn states(&self) -> States {
        self.shared.board.states()
    }

    /// Waits until the client has a session, and says with which relay.
    ///
    /// # Errors
    /// [`Detached`] when waiting alone does not help.
    pub async fn attached(&self) -> Result<Name, Detached> {
        self.states().attached().await
    }

    /// The app is in the foreground now: pings are frequent, and whatever was lost meanwhile is
    /// noticed at once. This is how a client begins.
    pub fn foreground(&self) {
        self.tell(Notice::Background(false));
    }

    /// The app is in the background now: the client pings as seldom as the network allows, and
    /// messages of low priority wait at the relay until the radio is awake anyway.
    pub fn background(&self) {
        self.tell(Notice::Background(true));
    }

    /// The device is in another network, or has another address: the session moves there. `network`
    /// is what the app calls it, for example the Wi-Fi's name or the carrier's; by it the client
    /// remembers how seldom it may ping there.
    pub fn network_changed(&self, network: Option<&str>) {
        self.tell(Notice::Network(network.map(str::to_owned)));
    }

    /// The device is in no network: nothing is dialled until [`network_changed`](Self::network_changed).
    pub fn network_lost(&self) {
        self.tell(Notice::NetworkLost);
    }

    /// Looks for a relay now, without waiting any longer: after [`State::Superseded`], or when the app
    /// knows that the network is back. A session that stands is exchanged for a new one.
    pub fn reconnect(&self) {
        self.shared.board.hurry();
        self.tell(Notice::Reconnect);
    }

    /// The address the relay saw the last ping come from.
    pub fn observed_address(&self) -> Option<SocketAddr> {
        self.shared.board.observed_address()
    }

    /// How long the last ping took there and back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.board.round_trip()
    }

    /// What the client has cost the battery since it was made, while the app was in the foreground and
    /// in the background: how often it woke the radio, and the payload of QUIC in bytes, without
    /// QUIC's overhead and its handshakes. A wake is the first byte to or fro after 10 s of silence.
    pub fn radio_use(&self) -> RadioUses {
        self.shared.board.radio_use()
    }

    /// Ends the connection, and returns when no task of the client's runs any more and its directory
    /// is free. What is in the outbox stays there, and leaves with the next client on the same
    /// directory; handles that wait for an answer get [`Unsent::Closed`](crate::Unsent::Closed).
    pub async fn close(&self) {
        // Fails only if the driver has ended already.
        let _ = self.shared.notices.send(Notice::Close);
        let mut driver = self.shared.driver.lock().await;
        if let Some(handle) = driver.as_mut() {
            // Fails only if the runtime is being shut down; then it has ended, too.
            let _ = handle.await;
        }
        *driver = None;
    }

    fn tell(&self, notice: Notice) {
        // Fails only if the client is closed.
        let _ = self.shared.notices.send(notice);
    }

    fn draft(&self, to: &str, body: Bytes, options: SendOptions) -> Result<Draft, SendError> {
        let to: Recipient = to.parse().map_err(SendError::Recipient)?;
        let (size, limit) = (body.len(), self.shared.board.max_body());
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let key = options.key.map(Key::new).transpose();
        let options = Options {
            ttl_s: options.ttl.map(whole_seconds).transpose()?,
            key: key.map_err(SendError::Key)?,
            retain: options.retain,
            notify: options.notify,
            priority: options.priority,
        };
        if options.retain && !self.may_retain(&to, &options) {
            return Err(SendError::BadRetain);
        }
        Ok(Draft {
            lane: Lane::for_body(size),
            to,
            options,
            body,
        })
    }

    fn may_retain(&self, to: &Recipient, options: &Options) -> bool {
        let own = match to {
            Recipient::Account(account) => self.shared.me.account() == Some(account),
            Recipient::Device(_) => false,
        };
        own && options.key.is_some()
    }
}

fn sender(identity: &Identity) -> Result<Sender, ConnectError> {
    match identity {
        Identity::Device(device) => Ok(Sender::Device(device.clone())),
        Identity::Service(name) => Ok(Sender::Service(name.clone())),
        Identity::Relay(_) | Identity::Allocator(_) => Err(ConnectError::WrongKind {
            identity: identity.to_string(),
        }),
    }
}

fn whole_seconds(ttl: Duration) -> Result<u32, SendError> {
    if ttl > MAX_TTL {
        return Err(SendError::Ttl(ttl));
    }
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    u32::try_from(seconds).map_err(|_| SendError::Ttl(ttl))
}

fn storage_error(config: &Config, error: &dyn fmt::Display) -> ConnectError {
    ConnectError::Storage {
        directory: config.directory.clone().unwrap_or_default(),
        why: error.to_string(),
    }
}
