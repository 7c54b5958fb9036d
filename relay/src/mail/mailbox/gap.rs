//! The place in a mailbox's order at which a device is told of messages that will not come.

use holdfast_protocol::{
    id::Lane,
    message::{Ack, Gap},
};

use crate::mail::desk::Positions;

/// A gap that the device is yet to acknowledge.
#[derive(Debug, Default)]
pub(super) struct PendingGap {
    position: Option<u64>,
    /// How many the device was told of in this session.
    told: Option<u64>,
}

impl PendingGap {
    /// The gap, if it is its turn: `missed` messages will not come, and `next` is the position of
    /// the `message` lane's next one. Its turn comes when everything that was accepted before it
    /// was known has been handed over.
    pub(super) fn turn(
        &mut self,
        missed: u64,
        next: Option<u64>,
        positions: &mut Positions,
    ) -> Option<Gap> {
        if missed == 0 || self.told.is_some() {
            return None;
        }
        let position = *self.position.get_or_insert_with(|| positions.take());
        if next.is_some_and(|next| next < position) {
            return None;
        }
        self.told = Some(missed);
        Some(Gap { position, missed })
    }

    /// The device knows of so many now.
    pub(super) fn take_acked(&mut self, ack: Ack) -> Option<u64> {
        let covers = |position| ack.lane == Lane::Message && position <= ack.through;
        let told = self.told?;
        if !self.position.is_some_and(covers) {
            return None;
        }
        *self = Self::default();
        Some(told)
    }

    /// The device is to be told anew.
    pub(super) fn rewind(&mut self) {
        self.told = None;
    }
}
