//! How often one asker may connect and ask. A device asks when every relay it knows has failed; one
//! that asks without end is broken, or broken into.

use std::collections::HashMap;

use holdfast_protocol::{
    id::Identity,
    pace::{Bucket, Rate},
    time::Time,
};

/// How many askers are remembered. Each takes some 100 bytes.
const MAX_ASKERS: usize = 65_536;

/// The buckets of those who have asked lately.
#[derive(Debug)]
pub(crate) struct Turnstile {
    rate: Rate,
    askers: HashMap<Identity, Bucket>,
}

impl Turnstile {
    /// Nobody has asked.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            askers: HashMap::new(),
        }
    }

    /// Whether the asker may pass now. Relays may at any time: they ask for all accounts.
    pub(crate) fn pass(&mut self, asker: &Identity, now: Time) -> bool {
        if matches!(asker, Identity::Relay(_)) || self.rate.per_second == 0 {
            return true;
        }
        if let Some(bucket) = self.askers.get_mut(asker) {
            return bucket.take(now);
        }
        if self.askers.len() >= MAX_ASKERS {
            self.askers.retain(|_, bucket| !bucket.is_full(now));
        }
        // Each has proved its certificate: so many at once are many devices, not one that forges.
        if self.askers.len() < MAX_ASKERS {
            let mut bucket = Bucket::new(self.rate);
            bucket.take(now);
            self.askers.insert(asker.clone(), bucket);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn turnstile() -> Turnstile {
        Turnstile::new(Rate {
            per_second: 1,
            burst: 3,
        })
    }

    fn device(account: &str) -> Identity {
        let uri = format!("spiffe://example.org/device/{account}/phone");
        Identity::parse(&uri).unwrap().1
    }

    fn passes(turnstile: &mut Turnstile, asker: &Identity, now: Time) -> usize {
        (0..100).take_while(|_| turnstile.pass(asker, now)).count()
    }

    #[test]
    fn each_asker_has_a_rate_of_its_own_and_relays_have_none() {
        let (mut turnstile, now) = (turnstile(), at(10));
        assert_eq!(passes(&mut turnstile, &device("alice"), now), 3);
        assert_eq!(passes(&mut turnstile, &device("bob"), now), 3);
        assert_eq!(passes(&mut turnstile, &device("alice"), at(12)), 2);
        let (_, relay) = Identity::parse("spiffe://example.org/relay/r1").unwrap();
        assert_eq!(passes(&mut turnstile, &relay, now), 100);
    }

    #[test]
    fn those_who_have_not_asked_for_long_are_forgotten_and_more_than_many_are_let_in() {
        let mut turnstile = turnstile();
        for number in 0..MAX_ASKERS + 10 {
            assert!(turnstile.pass(&device(&format!("a{number}")), at(10)));
        }
        assert_eq!(turnstile.askers.len(), MAX_ASKERS);
        assert!(turnstile.pass(&device("late"), at(20)));
        assert_eq!(turnstile.askers.len(), 1);
    }
}
