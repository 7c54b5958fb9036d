//! What a device receives, and how the app says that it is done with it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, MessageId, Sender},
    message::{Deliver, Priority},
};
use tokio::sync::{mpsc, oneshot};

use crate::{core::Source, counter::Notice, error::Closed};

/// What comes from the relay for the app.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "gaps are rare: boxing would cost an allocation per message to save nothing"
)]
pub enum Event {
    /// A message.
    Message(Received),
    /// Messages that waited for this device have passed their time to live, and will not come.
    Gap {
        /// How many.
        missed: u64,
    },
}

/// A message in the app's hands.
///
/// It counts as received when [`done`](Self::done) has returned: then the device remembers it, the
/// relay deletes it, and the sender may learn of it. Dropped before that, it is not acknowledged: it
/// comes again with the next session, or the next process, and until then holds its place, so that a
/// relay delivers a window of 256 further messages (of 4 large ones) at most.
#[derive(Debug)]
pub struct Received {
    id: MessageId,
    body: Bytes,
    key: Option<String>,
    retained: bool,
    priority: Priority,
    accepted: SystemTime,
    ticket: Ticket,
}

impl Received {
    pub(crate) fn new(
        source: Source,
        deliver: Deliver,
        body: Bytes,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        let seq = deliver.seq;
        let id = MessageId {
            sender: deliver.from,
            epoch: deliver.epoch,
            lane: source.lane,
            seq,
        };
        Self {
            id,
            body,
            key: deliver.options.key.map(|key| key.as_str().to_owned()),
            retained: deliver.options.retain,
            priority: deliver.options.priority,
            accepted: SystemTime::UNIX_EPOCH + Duration::from_millis(deliver.accepted_ms),
            ticket: Ticket {
                slot: Some((source, seq)),
                notices,
            },
        }
    }

    /// Who sent it, as the sender's certificate says.
    pub fn sender(&self) -> &Sender {
        &self.id.sender
    }

    /// Its id; the sender has the same. A message that comes again has the same id again.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// What was sent.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The key it was sent under.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Whether it is part of the account's state: the newest message of its key.
    pub fn is_retained(&self) -> bool {
        self.retained
    }

    /// How much it matters, as its sender said.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// When its recipient's home relay accepted it, by that relay's clock.
    pub fn accepted_at(&self) -> SystemTime {
        self.accepted
    }

    /// The lane it came on: order holds within each, per sender.
    pub fn lane(&self) -> Lane {
        self.id.lane
    }

    /// The app is done with the message: it is never shown again, and is acknowledged to the relay.
    /// Returns when the device's disk remembers it. Messages of one sender are best done in order: a
    /// later one is remembered only when the earlier ones are done, too, and this returns before.
    ///
    /// # Errors
    /// [`Closed`] when the client is closed first; the message then comes again with the next one.
    pub async fn done(mut self) -> Result<(), Closed> {
        let Some((source, seq)) = self.ticket.slot.take() else {
            return Ok(());
        };
        let (reply, remembered) = oneshot::channel();
        let done = Notice::Done { source, seq, reply };
        self.ticket.notices.send(done).map_err(|_| Closed)?;
        remembered.await.map_err(|_| Closed)
    }
}

/// The claim to a message that is not done.
#[derive(Debug)]
struct Ticket {
    slot: Option<(Source, u64)>,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((source, seq)) = self.slot.take() {
            // Fails only if the client is closed; then nothing is kept of it anyway.
            let _ = self.notices.send(Notice::Dropped { source, seq });
        }
    }
}
