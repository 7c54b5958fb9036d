//! What a link does to packets, and the draw that decides it for one of them. Pure: the random
//! source is passed in, so that a seed names a whole run.

use std::time::Duration;

use rand::Rng;

/// How much longer a packet that is held back travels than the slowest that keeps its turn.
const OVERTAKING: Duration = Duration::from_millis(10);

/// How a link treats the packets of either direction. The default is a clear sky: nothing happens
/// to them.
///
/// The chances lie between 0 and 1, and are tried in the order loss, duplicate, reorder: what is
/// lost is not duplicated, what is duplicated is not held back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weather {
    /// The chance that a packet is lost.
    pub loss: f64,
    /// The time every packet travels.
    pub delay: Duration,
    /// The most that is added to the delay, evenly distributed from zero. Packets keep their order:
    /// one that drew less waits for those before it.
    pub jitter: Duration,
    /// The chance that a packet arrives twice; the copy draws a jitter of its own.
    pub duplicate: f64,
    /// The chance that a packet is held back until those of the next 10 ms have overtaken it.
    pub reorder: f64,
}

/// What becomes of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Drop,
    /// It arrives after this time, and behind those sent before it.
    Deliver(Duration),
    /// It arrives after this time, and those behind it need not wait.
    HoldBack(Duration),
    /// It arrives twice, after these times.
    Duplicate(Duration, Duration),
}

impl Fate {
    /// Decides one packet. Takes the same number of draws in any weather, so the fate of the n-th
    /// packet depends on the seed and on the weather it meets, and on none that it did not.
    pub fn draw(rng: &mut impl Rng, weather: &Weather) -> Self {
        let [loss, duplicate, reorder, jitter, copy_jitter] = rng.random::<[f64; 5]>();
        let travel = |share| weather.delay + weather.jitter.mul_f64(share);
        if loss < weather.loss {
            return Self::Drop;
        }
        if duplicate < weather.duplicate {
            return Self::Duplicate(travel(jitter), travel(copy_jitter));
        }
        if reorder < weather.reorder {
            return Self::HoldBack(travel(1.0) + OVERTAKING);
        }
        Self::Deliver(travel(jitter))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const STORM: Weather = Weather {
        loss: 0.1,
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(20),
        duplicate: 0.05,
        reorder: 0.2,
    };

    fn fates(seed: u64, weather: Weather, count: usize) -> Vec<Fate> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..count).map(|_| Fate::draw(&mut rng, &weather)).collect()
    }

    #[test]
    fn a_seed_names_every_fate() {
        assert_eq!(fates(7, STORM, 1_000), fates(7, STORM, 1_000));
        assert_ne!(fates(7, STORM, 1_000), fates(8, STORM, 1_000));
    }

    #[test]
    fn a_clear_sky_delivers_at_once() {
        let clear = fates(7, Weather::default(), 1_000);
        assert!(
            clear
                .iter()
                .all(|fate| *fate == Fate::Deliver(Duration::ZERO))
        );
    }

    #[test]
    fn each_chance_is_met_about_as_often_as_it_says() {
        let drawn = fates(7, STORM, 100_000);
        let share = |wanted: fn(&Fate) -> bool| {
            drawn.iter().filter(|fate| wanted(fate)).count() as f64 / drawn.len() as f64
        };
        // The tolerance is above six standard deviations (0.0015 at most, for a chance of 0.2).
        let close = |seen: f64, meant: f64| (seen - meant).abs() < 0.01;
        assert!(close(share(|fate| *fate == Fate::Drop), 0.1));
        assert!(close(
            share(|fate| matches!(fate, Fate::Duplicate(..))),
            0.9 * 0.05
        ));
        assert!(close(
            share(|fate| matches!(fate, Fate::HoldBack(_))),
            0.9 * 0.95 * 0.2
        ));
    }

    #[test]
    fn a_certain_chance_always_happens() {
        let lost = fates(7, Weather { loss: 1.0, ..STORM }, 1_000);
        assert!(lost.iter().all(|fate| *fate == Fate::Drop));
    }

    #[test]
    fn jitter_stays_between_the_delay_and_its_sum() {
        let bounds = STORM.delay..=STORM.delay + STORM.jitter;
        let mut spread = Vec::new();
        for fate in fates(7, STORM, 10_000) {
            match fate {
                Fate::Deliver(after) => spread.push(after),
                Fate::Duplicate(after, copy) => spread.extend([after, copy]),
                Fate::HoldBack(after) => assert_eq!(after, *bounds.end() + OVERTAKING),
                Fate::Drop => {}
            }
        }
        assert!(spread.iter().all(|after| bounds.contains(after)));
        let widest = spread
            .iter()
            .max()
            .unwrap()
            .abs_diff(*spread.iter().min().unwrap());
        assert!(widest > STORM.jitter.mul_f64(0.9));
    }

    #[test]
    fn a_change_of_weather_leaves_later_draws_alone() {
        let (mut calm, mut stormy) = (StdRng::seed_from_u64(7), StdRng::seed_from_u64(7));
        for _ in 0..100 {
            Fate::draw(&mut calm, &Weather::default());
            Fate::draw(&mut stormy, &STORM);
        }
        assert_eq!(
            Fate::draw(&mut calm, &STORM),
            Fate::draw(&mut stormy, &STORM)
        );
    }
}
