//! How long a network forgives silence. Between a device and its relay stands, as a rule, an address
//! translation that forgets a UDP binding over which nothing went for a while: after 30 s the least
//! patient, after 120 s those that keep to RFC 4787 (section 4.3), and nobody says so. The interval
//! that holds is found by trying:
//!
//! ```text
//!   grow ×1.5 ──broke──> bisect ──narrow enough──> confirm ──three held──> settled ── a week ──┐
//!    ^  └──── at the longest ───────────────────────^ │ ^                    │ broke           │
//!    │                                                └─┴────────────────────┘                 │
//!    └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Once settled it pings at 0.8 of the longest interval that held.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PingSchedule;

/// The shortest interval that is tried: below it, a network is as good as none.
pub const SHORTEST: Duration = Duration::from_secs(5);

/// How often an interval has to hold before it is relied on.
const CONFIRMATIONS: u8 = 3;

/// How long an interval is relied on before a longer one is tried again: networks change.
const RELIED_ON_MS: u64 = 7 * 24 * 3600 * 1000;

/// What is known of a network, to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The longest silence that held, in milliseconds.
    pub held_ms: u32,
    /// When that was found, by the relays' clock: milliseconds since 1970-01-01 UTC.
    pub since_ms: u64,
}

/// What is known of the network that the device is in.
#[derive(Clone, Debug)]
pub struct Learner {
    longest: Duration,
    /// What held, the longest last, and how often. The first was assumed.
    held: Vec<(Duration, u8)>,
    /// The shortest that did not hold.
    broke: Option<Duration>,
    /// Since when the longest that held is relied on.
    settled: Option<u64>,
    /// The settled interval failed once, without proof.
    doubted: bool,
}

impl Learner {
    /// A network of which this is remembered; without, that it forgives the schedule's shortest
    /// interval is taken for granted.
    pub fn new(schedule: &PingSchedule, remembered: Option<Learned>) -> Self {
        let longest = schedule.longest.max(schedule.interval);
        let held = remembered.map_or(schedule.interval, |learned| {
            let shortest = SHORTEST.min(schedule.interval);
            Duration::from_millis(learned.held_ms.into()).clamp(shortest, longest)
        });
        Self {
            longest,
            held: vec![(held, 0)],
            broke: None,
            settled: remembered.map(|learned| learned.since_ms),
            doubted: false,
        }
    }

    /// What can be relied on, as far as is known.
    pub fn reliable(&self) -> Duration {
        match self.settled {
            Some(_) => self.longest_held().mul_f64(0.8),
            None => self.longest_held(),
        }
    }

    /// The silence to keep next.
    pub fn interval(&self) -> Duration {
        match self.broke {
            _ if self.settled.is_some() => self.reliable(),
            Some(broke) if !self.is_narrow(broke) => between(self.longest_held(), broke),
            None if self.longest_held() < self.longest => {
                self.longest_held().mul_f64(1.5).min(self.longest)
            }
            _ => self.longest_held(),
        }
    }

    /// What is worth remembering; `None` while it is still being found out.
    pub fn learned(&self) -> Option<Learned> {
        self.settled.map(|since_ms| Learned {
            held_ms: super::millis(self.longest_held()),
            since_ms,
        })
    }

    /// After such a silence the device was still to be reached, `now_ms` by the relays' clock.
    pub fn held(&mut self, silence: Duration, now_ms: u64) {
        let tried = self.interval();
        if silence < tried {
            return;
        }
        self.doubted = false;
        match self.settled {
            Some(since) if now_ms.saturating_sub(since) >= RELIED_ON_MS => self.doubt_all(),
            Some(_) => {}
            None => self.confirm(tried, now_ms),
        }
    }

    /// After such a silence the device was not to be reached. It is `proven` where the address had
    /// changed; a missing answer alone may also have been lost, and does not move what is settled
    /// until it happens again.
    pub fn broke(&mut self, silence: Duration, proven: bool) {
        if self.settled.is_some() && !proven && !self.doubted {
            self.doubted = true;
            return;
        }
        self.doubted = false;
        self.settled = None;
        self.broke = Some(self.broke.map_or(silence, |broke| broke.min(silence)));
        self.held.retain(|(held, _)| *held < silence);
        if self.held.is_empty() {
            let guess = silence.div_f64(1.5).max(SHORTEST.min(silence));
            self.held.push((guess, 0));
        }
    }

    fn longest_held(&self) -> Duration {
        self.held.last().map_or(SHORTEST, |(held, _)| *held)
    }

    /// Whether 0.8 of what held is at least three quarters of what the network forgives, wherever
    /// between the two that lies: to try any more would only cost.
    fn is_narrow(&self, broke: Duration) -> bool {
        self.longest_held().mul_f64(0.8) >= broke.mul_f64(0.75)
    }

    fn confirm(&mut self, tried: Duration, now_ms: u64) {
        match self.held.last_mut() {
            Some((held, times)) if *held == tried => *times = times.saturating_add(1),
            _ => self.held.push((tried, 1)),
        }
        let is_done = match self.broke {
            Some(broke) => self.is_narrow(broke),
            None => tried == self.longest,
        };
        let enough = self
            .held
            .last()
            .is_some_and(|(_, times)| *times >= CONFIRMATIONS);
        if is_done && enough {
            self.settled = Some(now_ms);
        }
    }

    /// Relies on nothing but what held, which is tried again with longer ones.
    fn doubt_all(&mut self) {
        self.held = vec![(self.longest_held(), 0)];
        self.broke = None;
        self.settled = None;
    }
}

/// The middle of two intervals, as a ratio: what is found this way is equally good for short and
/// for long ones.
fn between(held: Duration, broke: Duration) -> Duration {
    Duration::from_secs_f64((held.as_secs_f64() * broke.as_secs_f64()).sqrt())
}
