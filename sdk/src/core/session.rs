//! One session: the protocol's state machine, how old it is, and how much of what it said has not
//! left yet.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    client::{Action, Client, ClientConfig, NotNow},
    heartbeat::Learner,
    id::Name,
    message::{Ack, Submit},
    time::Time,
};

/// How much may wait for the connection before the next large body is handed to it, in bytes.
const BACKLOG: usize = 2 * 1024 * 1024;

/// One session with a relay.
#[derive(Debug)]
pub(crate) struct Session {
    protocol: Client,
    since: Time,
    backlog: usize,
}

impl Session {
    /// A session that is to be opened, with what is known of the network.
    pub(crate) fn new(config: ClientConfig, learner: Learner, background: bool, now: Time) -> Self {
        let mut protocol = Client::new(config);
        protocol.rebound(Some(learner), now);
        protocol.set_background(background, now);
        Self {
            protocol,
            since: now,
            backlog: 0,
        }
    }

    /// What it begins with.
    pub(crate) fn hello(&self) -> Bytes {
        self.protocol.hello()
    }

    /// The connection is there, and the relay is being greeted.
    pub(crate) fn greeted(&mut self, now: Time) {
        self.since = now;
        self.protocol.greeted(now);
    }

    /// The app went to the background, or came to the foreground.
    pub(crate) fn set_background(&mut self, background: bool, now: Time) {
        self.protocol.set_background(background, now);
    }

    /// The device has another socket, perhaps in another network.
    pub(crate) fn rebound(&mut self, network: Option<Learner>, now: Time) {
        self.protocol.rebound(network, now);
    }

    /// What is known of the network.
    pub(crate) fn learner(&self) -> &Learner {
        self.protocol.learner()
    }

    /// How long the session has lasted.
    pub(crate) fn age(&self, now: Time) -> Duration {
        now.since(self.since)
    }

    /// The relay's half says something.
    pub(crate) fn control(&mut self, now: Time, bytes: Bytes) {
        self.protocol.handle_control(now, bytes);
    }

    /// The relay's half has sent a stream.
    pub(crate) fn bulk(&mut self, bytes: Bytes) {
        self.protocol.handle_bulk(bytes);
    }

    /// The relay's half has sent a datagram.
    pub(crate) fn datagram(&mut self, now: Time, bytes: Bytes) {
        self.protocol.handle_datagram(now, bytes);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.protocol.handle_timeout(now);
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.protocol.deadline()
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.protocol.poll()
    }

    /// So much has not left yet.
    pub(crate) fn set_backlog(&mut self, bytes: usize) {
        self.backlog = bytes;
    }

    /// Hands the relay a message, if there is room.
    pub(crate) fn submit(&mut self, submit: Submit, body: Bytes) -> Result<(), NotNow> {
        let size = body.len();
        self.protocol.submit(submit, body)?;
        self.backlog += size;
        Ok(())
    }

    /// Whether another large body may be handed over: what waits is held in memory.
    pub(crate) fn has_bulk_room(&self) -> bool {
        self.backlog < BACKLOG
    }

    /// Acknowledges.
    pub(crate) fn ack(&mut self, ack: Ack) {
        self.protocol.ack(ack);
    }

    /// Changes the list of allowed senders.
    pub(crate) fn allow(&mut self, tag: u32, sender: Name, allowed: bool) {
        self.protocol.allow(tag, sender, allowed);
    }

    /// Pings now: its answer shows that what was written before has arrived.
    pub(crate) fn ping_now(&mut self, now: Time) {
        self.protocol.ping_now(now);
    }

    /// Ends the session.
    pub(crate) fn goodbye(&mut self) {
        self.protocol.goodbye();
    }
}
