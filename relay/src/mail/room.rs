//! How much room a mailbox has, and for whom.
//!
//! Room is counted in messages and in bytes, and a message needs both. The last part of a mailbox is
//! kept for messages that matter more: what is low in priority finds it full first. No sender may
//! take more than its own share, so that one alone cannot keep all others out.
//!
//! What comes again after a crash is another matter: the device may have it already, and then a
//! refusal would be a lie. [`Repeats`] is the room for that.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Sub, SubAssign},
};

use holdfast_protocol::{
    id::Lane,
    limits::{BULK_DELIVERY_WINDOW, DELIVERY_WINDOW},
    message::{Priority, Refusal},
};

use super::{
    message::Party,
    policy::{MESSAGE_OVERHEAD, Rules},
};

/// So much mail, or room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages.
    pub messages: usize,
    /// Bytes of their bodies, and 128 more for each.
    pub bytes: u64,
}

impl Load {
    /// One message with a body of `bytes`.
    pub(crate) fn of_body(bytes: usize) -> Self {
        Self {
            messages: 1,
            bytes: bytes as u64 + MESSAGE_OVERHEAD,
        }
    }

    /// Whether another one still fits in beside this one.
    fn leaves_room_for(self, other: Self, limit: Self) -> bool {
        self.messages + other.messages <= limit.messages && self.bytes + other.bytes <= limit.bytes
    }

    /// All of it but so many hundredths, rounded down in favour of who takes the rest.
    fn without_percent(self, percent: u8) -> Self {
        let percent = u64::from(percent);
        let messages = self.messages as u64;
        // Divided first: a limit may be the largest number there is.
        let part = |whole: u64| whole / 100 * percent + whole % 100 * percent / 100;
        Self {
            messages: (messages - part(messages)) as usize,
            bytes: self.bytes - part(self.bytes),
        }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sub for Load {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            messages: self.messages - other.messages,
            bytes: self.bytes - other.bytes,
        }
    }
}

/// How many hundredths of a mailbox are closed to messages of a priority.
const fn reserved_percent(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 25,
        Priority::Normal => 5,
        Priority::High => 0,
    }
}

/// What waits in a mailbox when a message comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// From everybody.
    pub(crate) all: Load,
    /// From the message's sender: all devices of its account, or its service.
    pub(crate) of_sender: Load,
}

impl Waiting {
    /// Whether a message still finds room.
    ///
    /// # Errors
    /// [`Refusal::MailboxFull`], or else [`Refusal::PairFull`].
    pub(crate) fn admit(
        self,
        message: Load,
        priority: Priority,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let open = rules.mailbox.without_percent(reserved_percent(priority));
        if !self.all.leaves_room_for(message, open) {
            return Err(Refusal::MailboxFull);
        }
        if !self.of_sender.leaves_room_for(message, rules.pair) {
            return Err(Refusal::PairFull);
        }
        Ok(())
    }
}

/// How many messages were taken without room, because they may have been handed over in an earlier
/// run. From one party no more than a device may have had unacknowledged when that run ended: who
/// says of new messages that they are repeated gains one window in each run.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<Party, [usize; 2]>);

impl Repeats {
    /// Whether another one of a party's may be taken.
    pub(crate) fn allow(&self, party: &Party, lane: Lane) -> bool {
        let most = match lane {
            Lane::Message => DELIVERY_WINDOW,
            Lane::Bulk => BULK_DELIVERY_WINDOW,
        };
        self.0
            .get(party)
            .is_none_or(|taken| taken[lane as usize] < most)
    }

    /// One was taken.
    pub(crate) fn note(&mut self, party: Party, lane: Lane) {
        self.0.entry(party).or_default()[lane as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(messages: usize, bytes: u64) -> Load {
        Load { messages, bytes }
    }

    fn rules(mailbox: Load, pair: Load) -> Rules {
        Rules {
            mailbox,
            pair,
            ..Rules::default()
        }
    }

    /// The most messages of a byte each that are admitted, of one priority.
    fn most(rules: &Rules, priority: Priority) -> Load {
        let mut waiting = Waiting::default();
        let message = load(1, 10);
        while waiting.admit(message, priority, rules).is_ok() {
            waiting.all += message;
        }
        waiting.all
    }

    #[test]
    fn the_last_part_is_for_what_matters_more() {
        let plenty = load(1_000_000, u64::MAX);
        for (mailbox, low, normal, high) in [
            (load(100, u64::MAX), 75, 95, 100),
            (load(usize::MAX, 1000), 75, 95, 100),
            // Where a part is less than one message, nobody goes short of one.
            (load(3, u64::MAX), 3, 3, 3),
            (load(4, u64::MAX), 3, 4, 4),
            (load(20, u64::MAX), 15, 19, 20),
        ] {
            let rules = rules(mailbox, plenty);
            let found = Priority::ALL.map(|priority| most(&rules, priority).messages);
            assert_eq!(found, [low, normal, high], "{mailbox:?}");
        }
    }

    #[test]
    fn bytes_are_counted_with_what_a_message_costs_besides_its_body() {
        assert_eq!(Load::of_body(2), load(1, 130));
        let exact = rules(load(9, 130), load(9, 130));
        let admit = |body| Waiting::default().admit(Load::of_body(body), Priority::High, &exact);
        assert_eq!(admit(2), Ok(()));
        assert_eq!(admit(3), Err(Refusal::MailboxFull));
    }

    #[test]
    fn a_sender_has_its_share_by_count_and_by_bytes() {
        let message = load(1, 10);
        for (pair, most) in [(load(2, 1000), 2), (load(9, 39), 3), (load(9, 40), 4)] {
            let rules = rules(load(100, 1000), pair);
            let mut waiting = Waiting::default();
            for _ in 0..most {
                assert_eq!(waiting.admit(message, Priority::Normal, &rules), Ok(()));
                waiting.all += message;
                waiting.of_sender += message;
            }
            let refused = waiting.admit(message, Priority::High, &rules);
            assert_eq!(refused, Err(Refusal::PairFull), "{pair:?}");
            waiting.of_sender = Load::default();
            assert_eq!(waiting.admit(message, Priority::Low, &rules), Ok(()));
        }
    }

    #[test]
    fn a_full_mailbox_is_said_to_be_full_also_to_who_has_too_much_in_it() {
        let rules = rules(load(1, 1000), load(1, 1000));
        let waiting = Waiting {
            all: load(1, 10),
            of_sender: load(1, 10),
        };
        let refused = waiting.admit(load(1, 10), Priority::High, &rules);
        assert_eq!(refused, Err(Refusal::MailboxFull));
    }

    #[test]
    fn a_party_repeats_no_more_than_a_window_in_each_lane() {
        let party = |name: &str| Party::Service(name.parse().unwrap());
        let mut repeats = Repeats::default();
        for (lane, window) in [(Lane::Message, 256), (Lane::Bulk, 4)] {
            for _ in 0..window {
                assert!(repeats.allow(&party("a"), lane));
                repeats.note(party("a"), lane);
            }
            assert!(!repeats.allow(&party("a"), lane));
            assert!(repeats.allow(&party("b"), lane));
        }
    }
}
