//! Slows a sender down without refusing it anything: what is over its rate waits its turn. How much
//! can wait is bounded by the sender's own window, for nothing that waits has been answered.

use std::collections::VecDeque;

use holdfast_protocol::time::Time;

use crate::core::allowance::Allowance;

/// What one sender has sent and was not let through yet, in order.
#[derive(Debug)]
pub(crate) struct Throttle<T> {
    allowance: Allowance,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Throttle<T> {
    /// Nothing waits.
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            waiting: VecDeque::new(),
        }
    }

    /// Puts an item of `size` bytes at the end of the line.
    pub(crate) fn queue(&mut self, size: usize, item: T) {
        self.waiting.push_back((size as u64, item));
    }

    /// Whether anything waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The size of the next item whose turn it is.
    pub(crate) fn peek(&self, now: Time) -> Option<usize> {
        let (size, _) = self.waiting.front()?;
        (self.allowance.opens_at() <= now).then_some(*size as usize)
    }

    /// The next item, of which [`peek`](Self::peek) has told that it is its turn.
    pub(crate) fn next(&mut self, now: Time) -> Option<T> {
        let (size, item) = self.waiting.pop_front()?;
        self.allowance.spend(now, size);
        Some(item)
    }

    /// When it is the turn of the next item, if there is one.
    pub(crate) fn turn(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.allowance.opens_at())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdfast_protocol::pace::Rate;

    use super::*;

    const SMALL: usize = 10;

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    fn throttle(messages: u64, bytes: u64) -> Throttle<usize> {
        let rate = |per_second| Rate {
            per_second,
            burst: per_second,
        };
        Throttle::new(Allowance::new((rate(messages), rate(bytes))))
    }

    fn passed(throttle: &mut Throttle<usize>, now: Time) -> Vec<usize> {
        let next = || {
            throttle.peek(now)?;
            throttle.next(now)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn what_is_over_the_rate_waits_and_comes_in_order() {
        let mut throttle = throttle(10, 0);
        let mut let_through = Vec::new();
        for number in 0..25 {
            throttle.queue(SMALL, number);
            let_through.extend(passed(&mut throttle, at(0)));
            assert_eq!(throttle.is_waiting(), number >= 10);
        }
        assert_eq!(let_through, (0..10).collect::<Vec<_>>());
        assert_eq!(throttle.turn(), Some(at(100)));
        assert_eq!(throttle.peek(at(99)), None);
        assert_eq!(passed(&mut throttle, at(99)), [0_usize; 0]);
        assert_eq!(passed(&mut throttle, at(100)), [10]);
        assert_eq!(
            passed(&mut throttle, at(1_100)),
            (11..21).collect::<Vec<_>>()
        );
        assert_eq!(
            passed(&mut throttle, at(9_000)),
            (21..25).collect::<Vec<_>>()
        );
        assert_eq!(throttle.turn(), None);
    }

    #[test]
    fn large_messages_wait_by_their_bytes_and_pass_however_large() {
        let mut throttle = throttle(0, 1_000);
        for number in 0..3 {
            throttle.queue(5_000, number);
        }
        assert_eq!(passed(&mut throttle, at(0)), [0]);
        assert_eq!(passed(&mut throttle, at(4_000)), [0_usize; 0]);
        assert_eq!(passed(&mut throttle, at(5_000)), [1]);
        assert_eq!(passed(&mut throttle, at(10_000)), [2]);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut throttle = throttle(0, 0);
        for number in 0..1_000 {
            throttle.queue(usize::MAX >> 1, number);
            assert_eq!(throttle.peek(at(0)), Some(usize::MAX >> 1));
            assert_eq!(throttle.next(at(0)), Some(number));
            assert!(!throttle.is_waiting());
        }
    }
}
