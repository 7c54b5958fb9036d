//! A device in the background behind address translations: the protocol's own pinger and watch, a
//! translation between them, and simulated time. Both kinds of translation are met, the one that
//! gives a new port when it has forgotten the device, and the one that gives the same again.

use std::{net::SocketAddr, time::Duration};

use holdfast_protocol::{
    heartbeat::{Beat, Deadline, Learner, PingSchedule, Pinger, Watch},
    message::{Ping, Pong},
    time::Time,
};

use crate::figure::{Figure, Goal};

/// One way.
const DELAY: Duration = Duration::from_millis(40);

/// For how long each device is watched.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What others do, to compare with.
const FIXED: Duration = Duration::from_secs(30);

/// A day of one device.
pub(crate) struct Course {
    /// After which silence the translation forgets.
    pub(crate) timeout: Duration,
    /// The silences that it tried, and when each began.
    pub(crate) silences: Vec<(Time, Duration)>,
    pub(crate) keeps_port: bool,
    /// How many silences it took until it had settled, and the interval it settled at.
    settled: Option<(usize, Duration)>,
    pings: usize,
    /// The longest time out of reach, in intervals.
    delay: f64,
}

/// Forgets a binding over which nothing went out for a while.
struct Nat {
    timeout: Duration,
    keeps_port: bool,
    port: u16,
    last_out: Time,
}

impl Nat {
    fn is_bound(&self, now: Time) -> bool {
        now.since(self.last_out) < self.timeout
    }

    fn pass_out(&mut self, now: Time) -> SocketAddr {
        if !self.is_bound(now) && !self.keeps_port {
            self.port = self.port.wrapping_add(1);
        }
        self.last_out = now;
        SocketAddr::from(([203, 0, 113, 7], self.port))
    }
}

struct World {
    now: Time,
    nat: Nat,
    pinger: Pinger,
    watch: Watch,
    up: Vec<(Time, Ping, SocketAddr)>,
    down: Vec<(Time, Pong)>,
    course: Course,
}

impl World {
    fn new(timeout: Duration, keeps_port: bool) -> Self {
        let schedule = PingSchedule::default();
        let mut pinger = Pinger::new(schedule, Learner::new(&schedule, None), Time::ZERO);
        pinger.set_background(true, Time::ZERO);
        let first = holdfast_protocol::heartbeat::millis(schedule.interval);
        Self {
            now: Time::ZERO,
            nat: Nat {
                timeout,
                keeps_port,
                port: 50_000,
                last_out: Time::ZERO,
            },
            pinger,
            watch: Watch::new(Time::ZERO, first, Deadline::DEFAULT_GRACE),
            up: Vec::new(),
            down: Vec::new(),
            course: Course {
                timeout,
                silences: Vec::new(),
                keeps_port,
                settled: None,
                pings: 0,
                delay: 0.0,
            },
        }
    }

    fn run(mut self, span: Duration) -> Course {
        loop {
            self.now = self.next_event().max(self.now);
            if self.now.since_origin() >= span {
                return self.course;
            }
            self.reach_relay();
            self.reach_device();
            if let Beat::Ping(ping) = self.pinger.poll(self.now) {
                self.ping(ping);
            }
        }
    }

    fn next_event(&self) -> Time {
        let arrivals = self.up.iter().map(|(at, ..)| *at);
        let arrivals = arrivals.chain(self.down.iter().map(|(at, _)| *at));
        let own = self.pinger.deadline().min(self.watch.due());
        arrivals.fold(own, Time::min)
    }

    fn reach_relay(&mut self) {
        let (now, watch) = (self.now, &mut self.watch);
        let arrived = self.up.extract_if(.., |(at, ..)| *at <= now);
        let answers = arrived.map(|(_, ping, from)| watch.ping(now, ping, from));
        self.down.extend(answers.map(|pong| (now + DELAY, pong)));
        let late = self.watch.poll(now);
        self.down.extend(late.map(|pong| (now + DELAY, pong)));
        assert!(!self.watch.has_passed(now), "a live device is cut off");
    }

    fn reach_device(&mut self) {
        let now = self.now;
        let clock = u64::try_from(now.since_origin().as_millis()).unwrap_or(u64::MAX);
        for (_, pong) in self.down.extract_if(.., |(at, _)| *at <= now) {
            if self.nat.is_bound(now) {
                self.pinger.pong(now, clock, pong);
            }
        }
        let learner = self.pinger.learner();
        if learner.learned().is_some() && self.course.settled.is_none() {
            self.course.settled = Some((self.course.probes(), learner.interval()));
        }
    }

    /// What waited for the device since the translation forgot it can go when this ping arrives.
    fn ping(&mut self, ping: Ping) {
        let bound_until = self.nat.last_out + self.nat.timeout;
        if let Some((_, tried)) = self.course.silences.last()
            && self.now > bound_until
        {
            let out_of_reach = (self.now + DELAY).since(bound_until);
            let intervals = out_of_reach.div_duration_f64(*tried);
            self.course.delay = self.course.delay.max(intervals);
        }
        self.course.pings += 1;
        let tried = Duration::from_millis(ping.echo_after_ms.into());
        self.course.silences.push((self.now, tried));
        let from = self.nat.pass_out(self.now);
        self.up.push((self.now + DELAY, ping, from));
    }
}

impl Course {
    /// How many silences there were, each of which ends with a wake of the radio: pings that follow
    /// each other at once are one wake.
    fn probes(&self) -> usize {
        let wake = Duration::from_secs(1);
        let pairs = self.silences.windows(2);
        pairs.filter(|w| w[1].0.since(w[0].0) > wake).count()
    }

    fn ratio(&self) -> f64 {
        let settled = self.settled.map(|(_, interval)| interval);
        settled.map_or(f64::NAN, |interval| interval.div_duration_f64(self.timeout))
    }
}

/// A day behind each translation.
pub(crate) fn courses() -> Vec<Course> {
    let timeouts = [60, 120, 300].map(Duration::from_secs);
    let kinds = timeouts.into_iter().flat_map(|t| [(t, false), (t, true)]);
    kinds
        .map(|(timeout, keeps_port)| World::new(timeout, keeps_port).run(DAY))
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
    let delay = largest(&patient, |course| course.delay);
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
        let unsettled = World::new(Duration::from_secs(60), false).run(Duration::from_secs(60));
        let figures = figures(&[unsettled]);
        assert!(!figures[0].holds() && !figures[1].holds());
    }
}
