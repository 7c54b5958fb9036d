//! What became of what was sent: the handle an app holds, and the driver's side of it.

use std::collections::HashMap;

use holdfast_protocol::{
    id::{Lane, MessageId},
    message::Outcome as Answer,
};
use tokio::sync::watch;

use crate::error::Unsent;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is on the disk of its recipient's home relay, and waits there.
    Stored,
    /// The recipient's app has it; of an account, every device it was for.
    Delivered,
    /// Its time to live ended while it waited.
    Expired,
    /// A newer message of the same key took its place while it waited.
    Replaced,
}

/// What is known of a message's fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// What the relay said last.
    answer: Option<Answer>,
    /// It is not sent any more.
    given_up: bool,
}

/// A message that is in the outbox. It is sent whether or not this handle is kept.
#[derive(Clone, Debug)]
pub struct Sent {
    id: MessageId,
    notify: bool,
    fate: watch::Receiver<Fate>,
}

impl Sent {
    pub(crate) fn new(id: MessageId, notify: bool, fate: watch::Receiver<Fate>) -> Self {
        Self { id, notify, fate }
    }

    /// The message's id; its recipient sees the same.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Waits until the message is safe: on a relay's disk, or with its recipient. As long as
    /// the device is offline, that takes.
    ///
    /// # Errors
    /// [`Unsent`] when the relay refuses it, when it has become too old to be sent again, or when the
    /// client is closed first.
    pub async fn stored(&self) -> Result<Outcome, Unsent> {
        self.reaches(|_| true).await
    }

    /// Waits until the message has come to its end: [`Outcome::Delivered`], unless it expired or was
    /// replaced.
    ///
    /// A message sent without [`SendOptions::notify`](crate::SendOptions::notify) gets one answer:
    /// if that is [`Outcome::Stored`], it is also what this returns.
    ///
    /// # Errors
    /// [`Unsent`] when the relay refuses it, when it has become too old to be asked about again, or
    /// when the client is closed first.
    pub async fn delivered(&self) -> Result<Outcome, Unsent> {
        self.reaches(|answer| answer.is_final() || !self.notify)
            .await
    }

    async fn reaches(&self, enough: impl Fn(Answer) -> bool) -> Result<Outcome, Unsent> {
        let mut fates = self.fate.clone();
        let fate = fates
            .wait_for(|fate| fate.given_up || fate.answer.is_some_and(&enough))
            .await
            .map_err(|_| Unsent::Closed)?;
        match fate.answer.filter(|answer| enough(*answer)) {
            Some(Answer::Stored) => Ok(Outcome::Stored),
            Some(Answer::Delivered) => Ok(Outcome::Delivered),
            Some(Answer::Expired) => Ok(Outcome::Expired),
            Some(Answer::Replaced) => Ok(Outcome::Replaced),
            Some(Answer::Refused(refusal)) => Err(Unsent::Refused(refusal)),
            None => Err(Unsent::TooOld),
        }
    }
}

/// How many handles may be waited for before the ones nobody holds are looked for.
const PRUNE_FROM: usize = 1024;

/// The handles that wait for an answer. Dropping it tells them all that the client was closed.
#[derive(Debug)]
pub(crate) struct Receipts {
    waiting: HashMap<(Lane, u64), watch::Sender<Fate>>,
    prune_at: usize,
}

impl Receipts {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            prune_at: PRUNE_FROM,
        }
    }

    pub(crate) fn expect(&mut self, lane: Lane, seq: u64, fate: watch::Sender<Fate>) {
        if fate.is_closed() {
            return;
        }
        if self.waiting.len() >= self.prune_at {
            self.waiting.retain(|_, handle| !handle.is_closed());
            self.prune_at = PRUNE_FROM.max(2 * self.waiting.len());
        }
        self.waiting.insert((lane, seq), fate);
    }

    /// Tells the handle; `last` says that no other answer will come.
    pub(crate) fn resolve(&mut self, lane: Lane, seq: u64, answer: Answer, last: bool) {
        if let Some(handle) = self.waiting.get(&(lane, seq)) {
            handle.send_modify(|fate| fate.answer = Some(answer));
        } else if let Answer::Refused(refusal) = answer {
            tracing::warn!(?lane, seq, %refusal, "a message nobody waits for was refused");
        }
        if last {
            self.waiting.remove(&(lane, seq));
        }
    }

    /// Tells the handle that the message is not sent any more.
    pub(crate) fn give_up(&mut self, lane: Lane, seq: u64) {
        match self.waiting.remove(&(lane, seq)) {
            Some(handle) => handle.send_modify(|fate| fate.given_up = true),
            None => tracing::warn!(
                ?lane,
                seq,
                "a message nobody waits for is given up: {}",
                Unsent::TooOld
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::message::Refusal;

    fn sent(receipts: &mut Receipts, seq: u64, notify: bool) -> Sent {
        let (sender, receiver) = watch::channel(Fate::default());
        receipts.expect(Lane::Message, seq, sender);
        let id = MessageId {
            sender: holdfast_protocol::id::Sender::Device("alice/pc".parse().unwrap()),
            epoch: 1,
            lane: Lane::Message,
            seq,
        };
        Sent::new(id, notify, receiver)
    }

    #[tokio::test]
    async fn stored_is_not_the_end_of_a_message_with_notify() {
        let mut receipts = Receipts::new();
        let handle = sent(&mut receipts, 1, true);
        receipts.resolve(Lane::Message, 1, Answer::Stored, false);
        assert_eq!(handle.stored().await, Ok(Outcome::Stored));
        receipts.resolve(Lane::Message, 1, Answer::Expired, true);
        assert_eq!(handle.delivered().await, Ok(Outcome::Expired));
        assert_eq!(handle.stored().await, Ok(Outcome::Expired));
    }

    #[tokio::test]
    async fn stored_is_all_that_a_message_without_notify_hears() {
        let mut receipts = Receipts::new();
        let handle = sent(&mut receipts, 1, false);
        receipts.resolve(Lane::Message, 1, Answer::Stored, true);
        assert_eq!(handle.delivered().await, Ok(Outcome::Stored));
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_with_its_reason() {
        let mut receipts = Receipts::new();
        let handle = sent(&mut receipts, 1, true);
        let refused = Answer::Refused(Refusal::MailboxFull);
        receipts.resolve(Lane::Message, 1, refused, true);
        let expected = Err(Unsent::Refused(Refusal::MailboxFull));
        assert_eq!(handle.stored().await, expected);
        assert_eq!(handle.delivered().await, expected);
    }

    #[tokio::test]
    async fn closing_tells_who_waits() {
        let mut receipts = Receipts::new();
        let (first, second) = (sent(&mut receipts, 1, true), sent(&mut receipts, 2, false));
        receipts.resolve(Lane::Message, 1, Answer::Stored, false);
        drop(receipts);
        assert_eq!(
            first.stored().await,
            Ok(Outcome::Stored),
            "this much is known"
        );
        assert_eq!(first.delivered().await, Err(Unsent::Closed));
        assert_eq!(second.stored().await, Err(Unsent::Closed));
    }

    #[tokio::test]
    async fn what_is_given_up_is_told_with_what_was_known_before() {
        let mut receipts = Receipts::new();
        let (first, second) = (sent(&mut receipts, 1, true), sent(&mut receipts, 2, true));
        receipts.resolve(Lane::Message, 2, Answer::Stored, false);
        receipts.give_up(Lane::Message, 1);
        receipts.give_up(Lane::Message, 2);
        assert_eq!(first.stored().await, Err(Unsent::TooOld));
        assert_eq!(second.stored().await, Ok(Outcome::Stored));
        assert_eq!(second.delivered().await, Err(Unsent::TooOld));
    }

    #[test]
    fn handles_that_nobody_holds_take_no_room_for_ever() {
        let mut receipts = Receipts::new();
        let kept = sent(&mut receipts, 0, false);
        for seq in 1..=10 * PRUNE_FROM as u64 {
            sent(&mut receipts, seq, false);
        }
        assert!(receipts.waiting.len() <= PRUNE_FROM + 1);
        assert!(
            receipts
                .waiting
                .contains_key(&(Lane::Message, kept.id().seq))
        );
    }
}
