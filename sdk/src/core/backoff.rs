//! How long to wait before trying again: exponential, capped, with full jitter.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::config::Retry;

/// The waits of one client. The randomness comes from a seed.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    rounds: u32,
    random: StdRng,
}

impl Backoff {
    pub(crate) fn new(retry: Retry, seed: u64) -> Self {
        Self {
            base: retry.base.min(retry.cap),
            cap: retry.cap,
            rounds: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        self.next_of(Duration::ZERO)
    }

    /// The next wait, of a crowd that needs so long to get through. Those who have not by then are
    /// fewer, and given the same time again, and once more; if that was not enough either, things go
    /// more slowly than was said, and each wait is twice as long as the one before.
    pub(crate) fn next_of(&mut self, crowd: Duration) -> Duration {
        let crowded = self.doubled(crowd, self.rounds.saturating_sub(2));
        let ceiling = crowded.max(self.doubled(self.base, self.rounds));
        self.rounds = self.rounds.saturating_add(1);
        self.within(ceiling)
    }

    /// A moment at random within a span, evenly distributed.
    pub(crate) fn within(&mut self, span: Duration) -> Duration {
        self.random.random_range(Duration::ZERO..=span)
    }

    /// The wait after a refusal that only a person can lift: at least half the cap, so that nobody
    /// is asked in vain too often.
    pub(crate) fn at_cap(&mut self) -> Duration {
        self.random.random_range(self.cap / 2..=self.cap)
    }

    /// The trouble is over.
    pub(crate) fn reset(&mut self) {
        self.rounds = 0;
    }

    /// A span that was doubled so often, up to the cap if it was shorter at first.
    fn doubled(&self, span: Duration, times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        span.saturating_mul(factor).min(self.cap.max(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(Retry::default(), seed)
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = backoff(1);
        let ceilings: Vec<u128> = (0..10)
            .map(|_| {
                let ceiling = backoff.doubled(backoff.base, backoff.rounds);
                assert!(backoff.next() <= ceiling);
                ceiling.as_millis()
            })
            .collect();
        assert_eq!(
            ceilings,
            [
                500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000
            ]
        );
    }

    #[test]
    fn jitter_spreads_over_the_whole_span() {
        let (mut low, mut high) = (0, 0);
        for seed in 0..1000 {
            match backoff(seed).next().as_millis() {
                0..125 => low += 1,
                375.. => high += 1,
                _ => {}
            }
        }
        for quarter in [low, high] {
            assert!((200..300).contains(&quarter), "{quarter} of 1000");
        }
    }

    #[test]
    fn a_crowd_waits_three_times_for_as_long_as_it_needs_and_longer_when_it_must() {
        let crowd = Duration::from_secs(10);
        let longest = |rounds: u32| {
            let waits = (0..1000).map(|seed| {
                let mut backoff = backoff(seed);
                backoff.rounds = rounds;
                backoff.next_of(crowd).as_secs()
            });
            waits.max().unwrap()
        };
        assert_eq!([0, 1, 2, 3, 4].map(longest), [9, 9, 9, 19, 39]);
    }

    #[test]
    fn a_hundred_rounds_do_not_overflow() {
        let mut backoff = backoff(2);
        for _ in 0..100 {
            assert!(backoff.next() <= Duration::from_secs(60));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(500));
    }

    #[test]
    fn a_refusal_waits_for_half_the_cap_at_least() {
        let mut backoff = backoff(3);
        for _ in 0..100 {
            let wait = backoff.at_cap();
            assert!(wait >= Duration::from_secs(30) && wait <= Duration::from_secs(60));
        }
    }
}
