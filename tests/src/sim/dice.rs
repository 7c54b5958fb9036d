//! All that happens by chance, from one seed.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// A stream of random choices. Streams of different purposes are kept apart, so that a choice more
/// in one place moves nothing in another.
#[derive(Clone, Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mixed = seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(StdRng::seed_from_u64(mixed))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// One of `0..count`, of which there must be one.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.random()
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.0.random_range(from * 1000..=to * 1000))
    }

    /// A wait of this length on average, as between events that know nothing of each other.
    pub(crate) fn about(&mut self, mean: Duration) -> Duration {
        let even: f64 = self.0.random_range(1e-9..1.0);
        mean.mul_f64(-even.ln())
    }
}
