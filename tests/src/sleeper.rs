//! A device in the background behind an address translation: the protocol's own pinger and watch, the
//! translation between them, and simulated time. Both kinds of translation are met, the one that
//! gives a new port when it has forgotten the device, and the one that gives the same again.

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

use holdfast_protocol::{
    heartbeat::{Beat, Deadline, Learned, Learner, PingSchedule, Pinger, Watch, millis},
    message::{Ping, Pong},
    time::Time,
};

/// One way.
const DELAY: Duration = Duration::from_millis(40);

/// Pings that follow each other this soon are one wake of the radio.
const WAKE: Duration = Duration::from_secs(1);

/// The device, its network and its relay.
pub struct Sleeper {
    now: Time,
    pinger: Pinger,
    nat: Nat,
    watch: Watch,
    /// On their way to the relay and to the device.
    up: Vec<(Time, Ping, SocketAddr)>,
    down: Vec<(Time, Pong)>,
    pings: usize,
    wakes: usize,
    silences: Vec<Silence>,
}

/// The time from one ping to the next.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// When it began.
    pub since: Time,
    /// How long it is meant to last.
    pub tried: Duration,
    /// For how long the translation had forgotten the device when the next ping went out.
    pub forgotten: Duration,
}

impl Silence {
    /// For how long what the relay had for the device had to wait: until the next ping was there.
    pub fn out_of_reach(&self) -> Duration {
        if self.forgotten.is_zero() {
            return Duration::ZERO;
        }
        self.forgotten + DELAY
    }
}

/// Forgets a binding over which nothing went out for a while.
struct Nat {
    timeout: Duration,
    /// The device gets the same port again.
    keeps_port: bool,
    port: u16,
    last_out: Time,
}

impl Nat {
    fn lets_in(&self, now: Time) -> bool {
        now.since(self.last_out) < self.timeout
    }

    fn forgotten_for(&self, now: Time) -> Duration {
        now.since(self.last_out + self.timeout)
    }

    fn pass_out(&mut self, now: Time) -> SocketAddr {
        if !self.lets_in(now) && !self.keeps_port {
            self.port = self.port.wrapping_add(1);
        }
        self.last_out = now;
        SocketAddr::from(([203, 0, 113, 7], self.port))
    }
}

impl Sleeper {
    /// Behind a translation that forgets after `timeout`; it knows nothing of it.
    pub fn new(timeout: Duration, keeps_port: bool) -> Self {
        Self::remembering(timeout, keeps_port, None)
    }

    /// One that was in this network before, and has learned this.
    pub fn remembering(timeout: Duration, keeps_port: bool, learned: Option<Learned>) -> Self {
        let schedule = PingSchedule::default();
        let mut pinger = Pinger::new(schedule, Learner::new(&schedule, learned), Time::ZERO);
        pinger.set_background(true, Time::ZERO);
        let first = millis(schedule.interval);
        Self {
            now: Time::ZERO,
            pinger,
            nat: Nat {
                timeout,
                keeps_port,
                port: 50_000,
                last_out: Time::ZERO,
            },
            watch: Watch::new(Time::ZERO, first, Deadline::DEFAULT_GRACE),
            up: Vec::new(),
            down: Vec::new(),
            pings: 0,
            wakes: 0,
            silences: Vec::new(),
        }
    }

    /// Goes on until the interval has settled. How many silences that took, which end with a wake of
    /// the radio each; `None` if it has not within this span.
    ///
    /// # Panics
    /// When the relay cuts the device off, or the device gives the relay up.
    pub fn settle(&mut self, within: Duration) -> Option<usize> {
        let (end, before) = (self.now + within, self.wakes);
        while self.learned().is_none() && self.next_event() < end {
            self.step();
        }
        self.learned().map(|_| self.wakes - before)
    }

    /// Goes on for this span. How many pings were sent in it.
    ///
    /// # Panics
    /// As [`Self::settle`].
    pub fn run(&mut self, span: Duration) -> usize {
        let before = self.pings;
        self.run_until(self.now + span);
        self.pings - before
    }

    /// Goes on until then.
    ///
    /// # Panics
    /// As [`Self::settle`].
    pub fn run_until(&mut self, end: Time) {
        while self.next_event() < end {
            self.step();
        }
    }

    /// What it has learned of the translation.
    pub fn learned(&self) -> Option<Learned> {
        self.pinger.learner().learned()
    }

    /// How long it is silent now, or means to be once it has settled.
    pub fn interval(&self) -> Duration {
        self.pinger.learner().interval()
    }

    /// How many pings were sent.
    pub fn pings(&self) -> usize {
        self.pings
    }

    /// All silences; the last goes on.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    fn step(&mut self) {
        self.now = self.next_event();
        self.reach_relay();
        self.reach_device();
        match self.pinger.poll(self.now) {
            Beat::Rest => {}
            Beat::Ping(ping) => self.ping(ping),
            Beat::Lost => unreachable!("the relay is there"),
        }
    }

    fn next_event(&self) -> Time {
        let arrivals = self.up.iter().map(|(at, ..)| *at);
        let arrivals = arrivals.chain(self.down.iter().map(|(at, _)| *at));
        let own = self.pinger.deadline().min(self.watch.due());
        arrivals.fold(own, Time::min).max(self.now)
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
            if self.nat.lets_in(now) {
                self.pinger.pong(now, clock, pong);
            }
        }
    }

    fn ping(&mut self, ping: Ping) {
        let now = self.now;
        if let Some(over) = self.silences.last_mut() {
            over.forgotten = self.nat.forgotten_for(now);
            self.wakes += usize::from(now.since(over.since) > WAKE);
        }
        self.pings += 1;
        self.silences.push(Silence {
            since: now,
            tried: Duration::from_millis(ping.echo_after_ms.into()),
            forgotten: Duration::ZERO,
        });
        let from = self.nat.pass_out(now);
        self.up.push((now + DELAY, ping, from));
    }
}
