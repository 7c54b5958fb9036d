//! One session: the protocol's state machine, and the connection it talks through.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    client::{Action, Client, ClientConfig, Event, NotNow},
    id::Name,
    message::{Ack, Submit, Welcome},
    time::Time,
};
use holdfast_transport::{
    Ending,
    wire::{Incoming, Wire},
};
use tokio::time::{Instant, sleep_until, timeout};

/// How long an end waits until what was written has arrived.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much may wait for the connection before the next large body is handed to it, in bytes.
const BACKLOG: usize = 2 * 1024 * 1024;

/// One session with a relay.
#[derive(Debug)]
pub(crate) struct Session {
    protocol: Client,
    wire: Wire,
    origin: Instant,
}

impl Session {
    /// Greets the relay, and waits until it has taken the session.
    pub(crate) async fn greet(wire: Wire, config: ClientConfig) -> Result<(Self, Welcome), Ending> {
        let mut session = Self {
            protocol: Client::new(config),
            wire,
            origin: Instant::now(),
        };
        session.protocol.start(Time::ZERO);
        loop {
            if let Event::Welcomed(welcome) = session.next().await? {
                return Ok((session, welcome));
            }
        }
    }

    /// How long the session has lasted.
    pub(crate) fn age(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Waits for what happens next, and writes meanwhile. Cancel safe.
    ///
    /// # Errors
    /// When the session has ended: by the relay, the network, or because no ping was answered.
    pub(crate) async fn next(&mut self) -> Result<Event, Ending> {
        loop {
            while let Some(action) = self.protocol.poll() {
                if let Some(event) = self.carry_out(action)? {
                    return Ok(event);
                }
            }
            let deadline = self.deadline();
            tokio::select! {
                incoming = self.wire.next() => self.take(incoming?),
                () = sleep_until(deadline) => self.protocol.handle_timeout(self.now()),
            }
        }
    }

    /// Hands the relay a message, if there is room.
    pub(crate) fn submit(&mut self, submit: Submit, body: Bytes) -> Result<(), NotNow> {
        self.protocol.submit(submit, body)
    }

    /// Whether another large body may be handed over: what waits is held in memory.
    pub(crate) fn has_bulk_room(&self) -> bool {
        self.wire.backlog() < BACKLOG
    }

    /// Acknowledges.
    pub(crate) fn ack(&mut self, ack: Ack) {
        self.protocol.ack(ack);
    }

    /// Changes the list of allowed senders.
    pub(crate) fn allow(&mut self, tag: u32, sender: Name, allowed: bool) {
        self.protocol.allow(tag, sender, allowed);
    }

    /// Ends the session once what was written has arrived, or after a second.
    pub(crate) async fn leave(mut self) {
        // Past the time, what was not confirmed is sent again with the next session.
        let _ = timeout(LEAVE_TIMEOUT, self.settle()).await;
        self.protocol.goodbye();
        while let Some(action) = self.protocol.poll() {
            if let Action::Close(violation) = action {
                self.wire.close(&violation);
            }
        }
    }

    /// Waits until what was written has arrived. Closing a QUIC connection throws away what is under
    /// way, so a ping is sent after it, and its answer awaited. What the relay says meanwhile, it
    /// says again in the next session.
    async fn settle(&mut self) -> Result<(), Ending> {
        while let Some(action) = self.protocol.poll() {
            self.carry_out(action)?;
        }
        self.wire.flush().await?;
        self.protocol.ping_now(self.now());
        while !matches!(self.next().await?, Event::Observed(_)) {}
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) {
        let now = self.now();
        match incoming {
            Incoming::Control(bytes) => self.protocol.handle_control(now, bytes),
            Incoming::Bulk(bytes) => self.protocol.handle_bulk(bytes),
            Incoming::Datagram(bytes) => self.protocol.handle_datagram(now, bytes),
        }
    }

    fn carry_out(&mut self, action: Action) -> Result<Option<Event>, Ending> {
        match action {
            Action::Control(bytes) => self.wire.control(bytes),
            Action::Bulk(frame) => self.wire.bulk(frame),
            Action::Datagram(ping) => self.ping(ping)?,
            Action::Event(event) => return Ok(Some(event)),
            Action::Close(violation) => {
                self.wire.close(&violation);
                return Err(Ending::Lost(violation.to_string()));
            }
        }
        Ok(None)
    }

    fn ping(&mut self, ping: Bytes) -> Result<(), Ending> {
        self.wire
            .datagram(ping)
            .map_err(|error| Ending::Lost(format!("a ping could not be sent: {error}")))
    }

    fn now(&self) -> Time {
        Time::at(self.origin.elapsed())
    }

    fn deadline(&self) -> Instant {
        let far = Duration::from_secs(3600);
        let due = self.protocol.deadline();
        due.map_or_else(
            || Instant::now() + far,
            |due| self.origin + due.since_origin(),
        )
    }
}
