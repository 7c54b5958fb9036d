//! How a device in the background learns its ping interval behind address translations of both kinds,
//! those that give it a new port when they have forgotten it, and those that give it the same again.

use std::time::Duration;

use holdfast_protocol::time::Time;
use holdfast_tests::sleeper::{Silence, Sleeper};

use crate::figure::{Figure, Goal};

/// For how long each device is watched.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What others do, to compare with.
const FIXED: Duration = Duration::from_secs(30);

/// What one device did.
pub(crate) struct Course {
    /// After which silence the translation forgets.
    pub(crate) timeout: Duration,
    pub(crate) keeps_port: bool,
    /// The silences that it tried.
    pub(crate) silences: Vec<Silence>,
    /// How many silences it took until it had settled, and the interval it settled at.
    settled: Option<(usize, Duration)>,
    pings: usize,
}

impl Course {
    fn run(timeout: Duration, keeps_port: bool, span: Duration) -> Self {
        let mut sleeper = Sleeper::new(timeout, keeps_port);
        let probes = sleeper.settle(span);
        let settled = probes.map(|probes| (probes, sleeper.interval()));
        sleeper.run_until(Time::ZERO + span);
        Self {
            timeout,
            keeps_port,
            silences: sleeper.silences().to_vec(),
            settled,
            pings: sleeper.pings(),
        }
    }

    fn ratio(&self) -> f64 {
        let settled = self.settled.map(|(_, interval)| interval);
        settled.map_or(f64::NAN, |interval| interval.div_duration_f64(self.timeout))
    }

    /// The longest time out of reach, in intervals.
    fn delay(&self) -> f64 {
        let delays = self.silences.iter();
        let delays = delays.map(|s| s.out_of_reach().div_duration_f64(s.tried));
        delays.fold(0.0, f64::max)
    }
}

/// A day behind each translation.
pub(crate) fn courses() -> Vec<Course> {
    let timeouts = [60, 120, 300].map(Duration::from_secs);
    let kinds = timeouts.into_iter().flat_map(|t| [(t, false), (t, true)]);
    kinds
        .map(|(timeout, keeps_port)| Course::run(timeout, keeps_port, DAY))
        .collect()
}

/// Of the two kinds of translation, the one that does worse.
pub(crate) fn figures(courses: &[Course]) -> Vec<Figure> {
    let names = [
        (60, "nat60.settled_ratio", "nat60.probes"),
        (120, "nat120.settled_ratio", "nat120.probes"),
        (300, "nat300.settled_ratio", "nat300.probes"),
    ];
    let mut figures = Vec::new();
    for (timeout, ratio, probes) in names {
        let both = behind(courses, timeout);
        let goal = Goal::Within(0.75, 1.0);
        figures.push(Figure::new(ratio, worst_ratio(&both, goal), "ratio", goal));
        let most = largest(&both, |c| c.settled.map_or(f64::NAN, |(n, _)| n as f64));
        figures.push(Figure::new(probes, most, "count", Goal::AtMost(12.0)));
    }
    let patient = behind(courses, 300);
    let fixed = DAY.div_duration_f64(FIXED);
    let saved = fixed / largest(&patient, |course| course.pings as f64);
    figures.push(Figure::new(
        "nat300.pings_saved",
        saved,
        "ratio",
        Goal::AtLeast(5.0),
    ));
    let delay = largest(&patient, Course::delay);
    let goal = Goal::AtMost(1.0);
    figures.push(Figure::new(
        "nat300.delay_intervals",
        delay,
        "intervals",
        goal,
    ));
    figures
}

fn behind(courses: &[Course], seconds: u64) -> Vec<&Course> {
    let timeout = Duration::from_secs(seconds);
    courses.iter().filter(|c| c.timeout == timeout).collect()
}

/// One that misses the goal, if there is any; else the one that pings most.
fn worst_ratio(courses: &[&Course], goal: Goal) -> f64 {
    let ratios = || courses.iter().map(|course| course.ratio());
    let missed = ratios().find(|ratio| !goal.is_met(*ratio));
    missed.unwrap_or_else(|| ratios().fold(f64::INFINITY, f64::min))
}

/// The largest; not a number, if one of them is not.
fn largest(courses: &[&Course], of: impl Fn(&Course) -> f64) -> f64 {
    let values = courses.iter().map(|course| of(course));
    values.fold(0.0, |a, b| if b.is_nan() || b > a { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_meet_their_goals_behind_both_kinds() {
        let courses = courses();
        assert_eq!(courses.len(), 6);
        for figure in figures(&courses) {
            assert!(figure.holds(), "{figure}");
        }
    }

    #[test]
    fn a_day_without_an_end_of_learning_meets_no_goal() {
        let unsettled = Course::run(Duration::from_secs(60), false, Duration::from_secs(60));
        let figures = figures(&[unsettled]);
        assert!(!figures[0].holds() && !figures[1].holds());
    }
}
