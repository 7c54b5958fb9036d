//! What each sender may still send. It is kept by sender and not by session, so that nobody has more
//! for coming back, or for coming twice.

use std::sync::Arc;

use ahash::HashMap;
use holdfast_protocol::{
    id::Sender,
    pace::{Bucket, Rate},
    time::Time,
};
use parking_lot::Mutex;

/// How many senders are remembered at least before it is looked whom to forget.
const SWEPT_ABOVE: usize = 1024;

/// The allowances of all senders; a clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowances(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    senders: HashMap<Sender, Allowance>,
    /// How many were left when it was last looked whom to forget.
    swept: usize,
}

impl Allowances {
    /// A sender's, at rates of messages and of their bytes: a new one, unless something of its last
    /// is missing or in use.
    pub(crate) fn of(&self, sender: &Sender, rates: (Rate, Rate), now: Time) -> Allowance {
        if rates == (Rate::UNLIMITED, Rate::UNLIMITED) {
            return Allowance::new(rates);
        }
        let mut book = self.0.lock();
        if book.senders.len() >= SWEPT_ABOVE.max(2 * book.swept) {
            book.senders
                .retain(|_, allowance| !allowance.is_settled(now));
            book.swept = book.senders.len();
        }
        let allowance = book.senders.entry(sender.clone());
        allowance.or_insert_with(|| Allowance::new(rates)).clone()
    }
}

/// One sender's; a clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Allowance(Arc<Mutex<Buckets>>);

#[derive(Debug)]
struct Buckets {
    messages: Bucket,
    bytes: Bucket,
}

impl Allowance {
    /// One of which nothing is missing.
    pub(crate) fn new((messages, bytes): (Rate, Rate)) -> Self {
        Self(Arc::new(Mutex::new(Buckets {
            messages: Bucket::new(messages),
            bytes: Bucket::new(bytes),
        })))
    }

    /// When the next message may be sent.
    pub(crate) fn opens_at(&self) -> Time {
        let buckets = self.0.lock();
        buckets.messages.ready_at().max(buckets.bytes.ready_at())
    }

    /// A message of so many bytes was sent.
    pub(crate) fn spend(&self, now: Time, bytes: u64) {
        let mut buckets = self.0.lock();
        buckets.messages.spend(now, 1);
        buckets.bytes.spend(now, bytes);
    }

    /// Whether no session has it, and a new one would be the same.
    fn is_settled(&self, now: Time) -> bool {
        let buckets = self.0.lock();
        Arc::strong_count(&self.0) == 1
            && buckets.messages.is_full(now)
            && buckets.bytes.is_full(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATES: (Rate, Rate) = (
        Rate {
            per_second: 10,
            burst: 5,
        },
        Rate::UNLIMITED,
    );

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    fn device(number: usize) -> Sender {
        Sender::Device(format!("a{number}/phone").parse().unwrap())
    }

    /// How many messages it may send at a moment.
    fn use_up(allowance: &Allowance, now: Time) -> usize {
        let mut sent = 0;
        while allowance.opens_at() <= now {
            allowance.spend(now, 1);
            sent += 1;
        }
        sent
    }

    #[test]
    fn whoever_comes_back_or_comes_twice_has_no_more_for_it() {
        let all = Allowances::default();
        let first = all.of(&device(1), RATES, at(0));
        let second = all.of(&device(1), RATES, at(0));
        assert_eq!(use_up(&first, at(0)), 5);
        assert_eq!(use_up(&second, at(0)), 0);
        drop((first, second));
        let back = all.of(&device(1), RATES, at(200));
        assert_eq!(use_up(&back, at(200)), 2);
        assert_eq!(use_up(&all.of(&device(2), RATES, at(200)), at(200)), 5);
    }

    #[test]
    fn only_those_are_remembered_who_used_some_of_it_lately_or_are_there() {
        let all = Allowances::default();
        let there = all.of(&device(0), RATES, at(0));
        for number in 1..100 * SWEPT_ABOVE {
            let now = at(number as u64);
            use_up(&all.of(&device(number), RATES, now), now);
            // What is missing is back after half a second.
            assert!(all.0.lock().senders.len() <= 2 * SWEPT_ABOVE);
        }
        assert_eq!(use_up(&there, at(0)), 5);
        assert_eq!(use_up(&all.of(&device(0), RATES, at(0)), at(0)), 0);
    }

    #[test]
    fn without_a_rate_nobody_is_remembered() {
        let all = Allowances::default();
        let free = all.of(&device(1), (Rate::UNLIMITED, Rate::UNLIMITED), at(0));
        free.spend(at(0), u64::MAX);
        assert_eq!(free.opens_at(), at(0));
        assert!(all.0.lock().senders.is_empty());
    }
}
