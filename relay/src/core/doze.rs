//! What waits while a device's app is in the background: messages of low priority, which need not
//! wake its radio. They leave together, with the first thing that wakes it anyway: its own ping, or
//! anything else that goes to it.

use holdfast_protocol::{
    limits::{DELIVERY_WINDOW, DELIVERY_WINDOW_BYTES},
    message::Priority,
};

use crate::mail::outlet::{Body, Outbound};

/// How many messages wait at most: half of the window, so that one of higher priority always finds
/// room behind them.
const MAX_MESSAGES: usize = DELIVERY_WINDOW / 2;

/// How many bytes of bodies wait at most, for the same reason.
const MAX_BYTES: u64 = DELIVERY_WINDOW_BYTES as u64 / 2;

/// The messages that wait for one device to be awake.
#[derive(Debug, Default)]
pub(crate) struct Doze {
    background: bool,
    waiting: Vec<Outbound>,
    bytes: u64,
}

impl Doze {
    /// The app went to the background, or came to the foreground.
    pub(crate) fn set_background(&mut self, background: bool) {
        self.background = background;
    }

    /// Takes what is to go to the device. What goes now, in order.
    pub(crate) fn pass(&mut self, batch: Vec<Outbound>) -> Vec<Outbound> {
        if !self.background && self.waiting.is_empty() {
            return batch;
        }
        let mut due = Vec::new();
        for outbound in batch {
            if self.is_woken_by(outbound) {
                due.append(&mut self.wake());
            }
        }
        due
    }

    /// Whether this one wakes the device, or that it is one too many.
    fn is_woken_by(&mut self, outbound: Outbound) -> bool {
        let may_wait = self.background && is_low(&outbound);
        self.bytes += body_bytes(&outbound);
        self.waiting.push(outbound);
        let is_full = self.waiting.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES;
        !may_wait || is_full
    }

    /// The device is awake: everything that waits goes.
    pub(crate) fn wake(&mut self) -> Vec<Outbound> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

fn is_low(outbound: &Outbound) -> bool {
    matches!(outbound, Outbound::Deliver { deliver, .. } if deliver.options.priority == Priority::Low)
}

fn body_bytes(outbound: &Outbound) -> u64 {
    match outbound {
        Outbound::Deliver {
            body: Body::Held(body),
            ..
        } => body.len() as u64,
        // Only its place is held.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_protocol::{
        id::{Lane, Sender},
        message::{Deliver, Options, Outcome},
    };

    use super::*;
    use crate::mail::outlet::Question;

    fn message(position: u64, priority: Priority, bytes: usize) -> Outbound {
        let options = Options {
            priority,
            ..Options::default()
        };
        Outbound::Deliver {
            session: 1,
            lane: Lane::Message,
            deliver: Deliver {
                position,
                from: Sender::Service("push".parse().unwrap()),
                epoch: 1,
                seq: position,
                accepted_ms: 0,
                options,
            },
            body: Body::Held(Bytes::from(vec![0; bytes])),
        }
    }

    fn low(position: u64) -> Outbound {
        message(position, Priority::Low, 10)
    }

    fn asleep() -> Doze {
        let mut doze = Doze::default();
        doze.set_background(true);
        doze
    }

    #[test]
    fn in_the_foreground_nothing_waits() {
        let mut doze = Doze::default();
        assert_eq!(doze.pass(vec![low(1)]), [low(1)]);
    }

    #[test]
    fn in_the_background_what_is_low_waits_for_the_next_wake() {
        let mut doze = asleep();
        for position in 1..=100 {
            assert_eq!(doze.pass(vec![low(position)]), []);
        }
        let all: Vec<_> = (1..=100).map(low).collect();
        assert_eq!(doze.wake(), all, "in one batch");
        assert_eq!(doze.wake(), []);
    }

    #[test]
    fn whatever_else_goes_takes_along_what_waits_and_keeps_its_order() {
        for priority in [Priority::Normal, Priority::High] {
            let mut doze = asleep();
            doze.pass(vec![low(1)]);
            let other = message(2, priority, 10);
            assert_eq!(doze.pass(vec![other.clone()]), [low(1), other]);
        }
        let mut doze = asleep();
        doze.pass(vec![low(1)]);
        let answer = Outbound::Answer {
            question: Question::Allow { tag: 1 },
            outcome: Outcome::Stored,
        };
        assert_eq!(doze.pass(vec![answer.clone()]), [low(1), answer]);
    }

    #[test]
    fn what_waits_leaves_room_in_the_window() {
        let mut doze = asleep();
        let mut position = 1;
        while doze.pass(vec![low(position)]).is_empty() {
            position += 1;
        }
        assert_eq!(position as usize, MAX_MESSAGES);
        let large = message(1, Priority::Low, MAX_BYTES as usize);
        assert_eq!(doze.pass(vec![large.clone()]), [large]);
    }
}
