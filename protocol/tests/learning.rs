//! A device in the background behind address translations of every kind: what interval it settles at,
//! how soon, and for how long nobody can reach it meanwhile.

#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

use std::{net::SocketAddr, time::Duration};

use holdfast_protocol::{
    heartbeat::{Beat, Deadline, Learned, Learner, PingSchedule, Pinger, Watch},
    message::{Ping, Pong},
    time::Time,
};

/// One way.
const DELAY: Duration = Duration::from_millis(40);

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Forgets a binding over which nothing went out for a while.
struct Nat {
    timeout: Duration,
    /// The device gets the same port again.
    keeps_port: bool,
    port: u16,
    last_out: Time,
}

impl Nat {
    fn out(&mut self, now: Time) -> SocketAddr {
        if !self.lets_in(now) && !self.keeps_port {
            self.port += 1;
        }
        self.last_out = now;
        SocketAddr::from(([203, 0, 113, 7], self.port))
    }

    fn lets_in(&self, now: Time) -> bool {
        now.since(self.last_out) < self.timeout
    }
}

/// A device, its network and its relay.
struct World {
    now: Time,
    pinger: Pinger,
    nat: Nat,
    watch: Watch,
    /// On their way to the relay and to the device.
    up: Vec<(Time, Ping)>,
    down: Vec<(Time, Pong)>,
    /// How many pings were sent.
    sent: usize,
    /// How many times the radio woke for them, after the first.
    wakes: usize,
    /// The longest time for which the relay could not reach the device.
    unreachable: Duration,
}

impl World {
    fn new(timeout: Duration, keeps_port: bool) -> Self {
        Self::remembering(timeout, keeps_port, None)
    }

    fn remembering(timeout: Duration, keeps_port: bool, learned: Option<Learned>) -> Self {
        let schedule = PingSchedule::default();
        let mut pinger = Pinger::new(schedule, Learner::new(&schedule, learned), Time::ZERO);
        pinger.set_background(true, Time::ZERO);
        Self {
            now: Time::ZERO,
            pinger,
            nat: Nat {
                timeout,
                keeps_port,
                port: 50_000,
                last_out: Time::ZERO,
            },
            watch: Watch::new(Time::ZERO, 25_000, Deadline::DEFAULT_GRACE),
            up: Vec::new(),
            down: Vec::new(),
            sent: 0,
            wakes: 0,
            unreachable: Duration::ZERO,
        }
    }

    fn next_event(&self) -> Time {
        let arrivals = self.up.iter().map(|(at, _)| *at);
        let arrivals = arrivals.chain(self.down.iter().map(|(at, _)| *at));
        let own = [self.pinger.deadline(), self.watch.due()];
        arrivals.chain(own).min().unwrap().max(self.now)
    }

    fn step(&mut self) {
        self.now = self.next_event();
        let now = self.now;
        for (_, ping) in self
            .up
            .extract_if(.., |(at, _)| *at <= now)
            .collect::<Vec<_>>()
        {
            let from = SocketAddr::from(([203, 0, 113, 7], self.nat.port));
            let pong = self.watch.ping(now, ping, from);
            self.down.push((now + DELAY, pong));
        }
        if let Some(late) = self.watch.poll(now) {
            self.down.push((now + DELAY, late));
        }
        assert!(!self.watch.has_passed(now), "a live device is cut off");
        for (_, pong) in self
            .down
            .extract_if(.., |(at, _)| *at <= now)
            .collect::<Vec<_>>()
        {
            if self.nat.lets_in(now) {
                self.pinger
                    .pong(now, now.since_origin().as_millis() as u64, pong);
            }
        }
        match self.pinger.poll(now) {
            Beat::Rest => {}
            Beat::Ping(ping) => self.ping(ping),
            Beat::Lost => unreachable!("the relay is there"),
        }
    }

    fn ping(&mut self, ping: Ping) {
        let bound_until = self.nat.last_out + self.nat.timeout;
        self.unreachable = self.unreachable.max(self.now.since(bound_until));
        let silence = self.now.since(self.nat.last_out);
        self.wakes += usize::from(self.sent > 0 && silence > secs(1));
        self.sent += 1;
        self.nat.out(self.now);
        self.up.push((self.now + DELAY, ping));
    }

    fn learned(&self) -> Option<Learned> {
        self.pinger.learner().learned()
    }

    fn interval(&self) -> Duration {
        self.pinger.learner().interval()
    }

    /// Until it has settled. How many silences it took, which end with a wake each.
    fn settle(&mut self) -> usize {
        let before = self.wakes;
        while self.learned().is_none() {
            assert!(self.wakes < before + 100, "it settles");
            self.step();
        }
        self.wakes - before
    }

    fn run(&mut self, span: Duration) -> usize {
        let (end, before) = (self.now + span, self.sent);
        while self.next_event() < end {
            self.step();
        }
        self.sent - before
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn behind_any_translation_it_settles_within_twelve_silences_at_three_quarters_of_what_holds() {
    for timeout in (38..=540).map(secs) {
        for keeps_port in [false, true] {
            let mut world = World::new(timeout, keeps_port);
            let silences = world.settle();
            let ratio = world.interval().div_duration_f64(timeout);
            assert!(
                (0.75..=1.0).contains(&ratio),
                "{timeout:?} {keeps_port}: {ratio}"
            );
            assert!(silences <= 12, "{timeout:?} {keeps_port}: {silences}");
        }
    }
}

#[test]
fn while_it_learns_it_is_out_of_reach_for_less_than_an_interval() {
    for timeout in [60, 120, 300].map(secs) {
        let mut world = World::new(timeout, true);
        world.settle();
        assert!(world.unreachable < timeout, "{:?}", world.unreachable);
        world.unreachable = Duration::ZERO;
        world.run(secs(24 * 3600));
        assert_eq!(world.unreachable, Duration::ZERO, "what has settled holds");
    }
}

#[test]
fn behind_a_patient_translation_it_pings_a_fifth_as_often_as_every_thirty_seconds() {
    let mut world = World::new(secs(300), false);
    let day = secs(24 * 3600);
    let pings = world.run(day);
    assert!(pings * 5 < 24 * 120, "{pings} with the learning");
}

#[test]
fn where_nothing_is_ever_forgotten_it_stops_at_the_longest() {
    let mut world = World::new(10 * WEEK, false);
    let silences = world.settle();
    assert_eq!(silences, 10);
    assert_eq!(world.interval(), secs(540).mul_f64(0.8));
}

#[test]
fn an_impatient_translation_is_met_below_where_it_began() {
    let mut world = World::new(secs(15), false);
    world.settle();
    let ratio = world.interval().div_duration_f64(secs(15));
    assert!((0.7..=1.0).contains(&ratio), "{ratio}");
}

#[test]
fn what_is_remembered_is_used_from_the_first_silence_on() {
    let mut world = World::new(secs(300), false);
    world.settle();
    let learned = world.learned();
    let mut again = World::remembering(secs(300), false, learned);
    let (interval, settled) = (again.interval(), world.interval());
    assert_eq!(interval.as_millis(), settled.as_millis());
    again.run(secs(3600));
    assert_eq!(again.interval(), interval);
    assert_eq!(again.unreachable, Duration::ZERO);
}

#[test]
fn after_a_week_longer_ones_are_tried_again() {
    let mut world = World::new(secs(60), false);
    world.settle();
    world.nat.timeout = secs(300);
    world.run(WEEK - secs(3600));
    assert!(world.interval() < secs(60));
    world.run(secs(2 * 3600));
    let ratio = world.interval().div_duration_f64(secs(300));
    assert!((0.75..=1.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_translation_that_has_grown_impatient_is_noticed_at_once() {
    for keeps_port in [false, true] {
        let mut world = World::new(secs(300), keeps_port);
        world.settle();
        world.nat.timeout = secs(100);
        world.run(secs(3600));
        let ratio = world.interval().div_duration_f64(secs(100));
        assert!((0.75..=1.0).contains(&ratio), "{keeps_port} {ratio}");
    }
}

#[test]
fn lost_answers_do_not_shorten_what_has_settled() {
    let mut world = World::new(secs(300), true);
    world.settle();
    let interval = world.interval();
    world.down.clear();
    let mut lost = 0;
    while lost < 10 {
        world.step();
        // Every other late answer is lost, with its repetition.
        if world.wakes.is_multiple_of(2) {
            let before = world.down.len();
            world.down.retain(|(_, pong)| !pong.late);
            lost += before - world.down.len();
        }
    }
    assert_eq!(world.interval(), interval);
}
