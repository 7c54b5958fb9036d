//! How often something may happen, and how slowly: a bucket of tokens against those who do too much,
//! patience with those who do too little.

use std::time::Duration;

use crate::time::Time;

/// So many a second on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each second; 0 for no limit at all.
    pub per_second: u64,
    /// Tokens there are at first, and at most.
    pub burst: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: 0,
        burst: 0,
    };

    /// How long `tokens` take to come back.
    fn span(self, tokens: u64) -> Duration {
        match self.per_second {
            0 => Duration::ZERO,
            rate => nanos(u128::from(tokens) * 1_000_000_000 / u128::from(rate)),
        }
    }
}

/// A token bucket, kept as the time at which it would be full again (the generic cell rate algorithm,
/// ITU-T I.371): one number, which needs no ticking.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    full_at: Time,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: Time::ZERO,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Time) -> bool {
        let there_is = self.ready_at() <= now;
        if there_is {
            self.spend(now, 1);
        }
        there_is
    }

    /// Takes as many as that, and more than there are if need be: who owes, waits. So what is larger
    /// than the bucket passes, too, at its price.
    pub fn spend(&mut self, now: Time, tokens: u64) {
        self.full_at = self.full_at.max(now) + self.rate.span(tokens);
    }

    /// When there is a token.
    pub fn ready_at(&self) -> Time {
        let rest = self.rate.burst.saturating_sub(1);
        self.full_at - self.rate.span(rest)
    }

    /// Whether nothing is missing: then it may be forgotten, and a new one is the same.
    pub fn is_full(&self, now: Time) -> bool {
        self.full_at <= now
    }
}

/// How long something may rest, and how slow it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long nothing at all may come of it.
    pub grace: Duration,
    /// Bytes a second that it has to do on average, once the grace is used up.
    pub bytes_per_second: u64,
}

/// Patience with work that is under way: it runs out with time, and comes back with every byte, up to
/// the grace. So neither a pause nor a trickle holds anything for long, however long the work.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pace: Pace,
    ends: Time,
}

impl Patience {
    /// The work begins.
    pub fn new(pace: Pace, now: Time) -> Self {
        Self {
            pace,
            ends: now + pace.grace,
        }
    }

    /// So many bytes were done since it was last told.
    pub fn progress(&mut self, now: Time, bytes: u64) {
        let rate = u128::from(self.pace.bytes_per_second.max(1));
        let earned = nanos(u128::from(bytes) * 1_000_000_000 / rate);
        self.ends = (self.ends + earned).min(now + self.pace.grace);
    }

    /// When it is at its end.
    pub fn ends(&self) -> Time {
        self.ends
    }

    /// Whether it is.
    pub fn is_over(&self, now: Time) -> bool {
        self.ends <= now
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    fn taken(bucket: &mut Bucket, now: Time) -> usize {
        (0..1000).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate {
            per_second: 10,
            burst: 5,
        };
        let mut bucket = Bucket::new(rate);
        let start = at(1_000);
        assert_eq!(taken(&mut bucket, start), 5);
        assert_eq!(bucket.ready_at(), at(1_100));
        assert_eq!(taken(&mut bucket, at(1_099)), 0);
        assert_eq!(taken(&mut bucket, at(1_100)), 1);
        assert_eq!(taken(&mut bucket, at(1_300)), 2);
        assert!(!bucket.is_full(at(1_700)));
        assert!(bucket.is_full(at(1_800)));
        assert_eq!(
            taken(&mut bucket, at(60_000)),
            5,
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn what_is_larger_than_the_bucket_passes_and_is_paid_for() {
        let rate = Rate {
            per_second: 1_000,
            burst: 1_000,
        };
        let mut bucket = Bucket::new(rate);
        bucket.spend(Time::ZERO, 5_000);
        assert_eq!(bucket.ready_at(), at(4_001));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut bucket = Bucket::new(Rate::UNLIMITED);
        bucket.spend(Time::ZERO, u64::MAX);
        assert_eq!(taken(&mut bucket, Time::ZERO), 1000);
    }

    #[test]
    fn patience_ends_with_a_pause_and_with_a_trickle_and_not_with_steady_work() {
        let pace = Pace {
            grace: 10 * SECOND,
            bytes_per_second: 100,
        };
        let mut paused = Patience::new(pace, Time::ZERO);
        paused.progress(at(1_000), 1_000_000);
        assert_eq!(
            paused.ends(),
            at(11_000),
            "no more than the grace is saved up"
        );
        let (mut trickle, mut steady) = (paused, paused);
        let over = (2..).find(|second| {
            trickle.progress(at(second * 1000), 10);
            trickle.is_over(at(second * 1000))
        });
        // Each second costs 1 s and earns 0.1 s.
        assert_eq!(over, Some(13));
        for second in 2..1_000 {
            steady.progress(at(second * 1000), 100);
            assert!(!steady.is_over(at(second * 1000)));
        }
    }

    proptest! {
        #[test]
        fn over_any_span_no_more_passes_than_burst_and_rate_allow(
            per_second in 1..1_000_u64,
            burst in 1..100_u64,
            pauses in prop::collection::vec(0..50_u64, 1..300),
        ) {
            let mut bucket = Bucket::new(Rate { per_second, burst });
            let (mut now, mut passed) = (0, 0);
            for pause in pauses {
                now += pause;
                passed += u64::from(bucket.take(at(now)));
                prop_assert!(passed <= burst + now * per_second / 1000 + 1);
            }
        }
    }
}
