//! How long things took, in a histogram that keeps three digits of each (HdrHistogram).

use std::{mem, sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::{Figure, Goal};

/// What took longer is counted as this, in microseconds: a minute.
const LONGEST: u64 = 60_000_000;

/// How long things took, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        Self(histogram.expect("bounds that lie apart, and digits from 0 to 5"))
    }

    /// Something took so long.
    pub(crate) fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST);
        self.0.saturating_record(micros);
    }

    /// Takes in what another noted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which this share of them was over, from 0 to 1, in microseconds.
    pub(crate) fn within(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64
    }

    /// Within which time half of them were over, 99 of 100, and 999 of 1,000, under these names.
    pub(crate) fn figures(&self, names: [&'static str; 3]) -> [Figure; 3] {
        let [half, most, nearly_all] = names;
        [(half, 0.5), (most, 0.99), (nearly_all, 0.999)]
            .map(|(name, share)| Figure::new(name, self.within(share), "us", Goal::None))
    }
}

/// What many tasks note; a clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Noted(Arc<Mutex<Latencies>>);

impl Noted {
    /// Something took so long.
    pub(crate) fn note(&self, took: Duration) {
        self.0.lock().note(took);
    }

    /// How many things have been noted.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count()
    }

    /// All of it; from now on it is empty again.
    pub(crate) fn take(&self) -> Latencies {
        mem::replace(&mut self.0.lock(), Latencies::new())
    }
}

impl Default for Noted {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Latencies::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_to_three_digits_and_what_takes_for_ever_counts_as_a_minute() {
        let mut latencies = Latencies::new();
        for micros in 1..=10_000 {
            latencies.note(Duration::from_micros(micros));
        }
        let near = |share, micros: f64| (latencies.within(share) / micros - 1.0).abs() < 0.001;
        assert!(near(0.5, 5_000.0) && near(0.99, 9_900.0) && near(0.999, 9_990.0));
        let mut other = Latencies::new();
        other.note(Duration::MAX);
        latencies.merge(&other);
        assert_eq!(latencies.count(), 10_001);
        let longest = latencies.within(1.0) / LONGEST as f64;
        assert!((longest - 1.0).abs() < 0.001);
    }
}
