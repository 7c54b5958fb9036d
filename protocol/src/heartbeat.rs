//! When to ping, and when the other side is gone.
//!
//! The device pings at an interval and announces in each ping when the next one comes at the
//! latest. The relay's deadline follows the announcement, so an interval that grows is never
//! punished. Pings are datagrams and may be lost: the device repeats one that is not answered
//! before it takes the relay for lost.

use std::{net::SocketAddr, time::Duration};

use crate::{
    message::{Ping, Pong},
    time::Time,
};

/// How a device pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingSchedule {
    /// Between two pings.
    pub interval: Duration,
    /// How long to wait for an answer before the ping is repeated.
    pub timeout: Duration,
    /// How many pings in a row may stay unanswered before the relay is taken for lost.
    pub attempts: u8,
}

impl Default for PingSchedule {
    /// Every 25 s, below the 30 s after which the least patient NATs forget a UDP binding
    /// (RFC 4787, section 4.3, asks for 120 s and finds many below); lost after 6 s of silence.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            timeout: Duration::from_secs(2),
            attempts: 3,
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing before [`Pinger::deadline`].
    Rest,
    /// Send this.
    Ping(Ping),
    /// The relay is gone.
    Lost,
}

/// The device's half.
#[derive(Clone, Debug)]
pub struct Pinger {
    schedule: PingSchedule,
    next_seq: u32,
    /// When there is something to do.
    due: Time,
    /// When each ping since the last answer was sent; the last of them carries `next_seq - 1`.
    unanswered: Vec<Time>,
}

impl Pinger {
    /// A pinger that pings at once.
    pub fn new(schedule: PingSchedule, now: Time) -> Self {
        Self {
            schedule,
            next_seq: 0,
            due: now,
            unanswered: Vec::new(),
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn deadline(&self) -> Time {
        self.due
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: Time) -> Beat {
        if now < self.due {
            return Beat::Rest;
        }
        if self.unanswered.len() >= self.schedule.attempts.into() {
            return Beat::Lost;
        }
        self.unanswered.push(now);
        self.due = now + self.schedule.timeout;
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        Beat::Ping(Ping {
            seq,
            next_within_ms: millis(self.schedule.interval),
        })
    }

    /// Pings at the next poll, whatever the interval: something suggests that the path has changed.
    /// The count of attempts begins anew, because earlier pings went out on the old path; so call
    /// this for an event and not in a loop, or a loss is never noticed.
    pub fn ping_now(&mut self, now: Time) {
        self.unanswered.clear();
        self.due = now;
    }

    /// Takes an answer, and tells the round trip. An answer to any ping since the last answer shows
    /// that the relay is there: on a path slower than the timeout no other ever comes.
    pub fn pong(&mut self, now: Time, pong: Pong) -> Option<Observation> {
        let age = self.next_seq.wrapping_sub(pong.seq) as usize;
        let index = self.unanswered.len().checked_sub(age)?;
        let answered = *self.unanswered.get(index)?;
        let last = *self.unanswered.last()?;
        self.unanswered.clear();
        self.due = last + self.schedule.interval;
        Some(Observation {
            address: pong.observed,
            round_trip: now.since(answered),
        })
    }
}

/// What a pong tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The address the relay sees the device at.
    pub address: SocketAddr,
    /// From ping to pong.
    pub round_trip: Duration,
}

/// The relay's half: the moment past which a device is gone.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    grace: Duration,
    at: Time,
}

impl Deadline {
    /// What is added to one and a half times the announced interval, unless configured otherwise:
    /// time for the device's own repeats.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

    /// The deadline of a device that has announced its first ping.
    pub fn new(now: Time, next_within_ms: u32, grace: Duration) -> Self {
        let mut deadline = Self { grace, at: now };
        deadline.extend(now, next_within_ms);
        deadline
    }

    /// The device has announced its next ping: 1.5 × the announcement, and the grace.
    pub fn extend(&mut self, now: Time, next_within_ms: u32) {
        let announced = Duration::from_millis(next_within_ms.into());
        self.at = now + announced + announced / 2 + self.grace;
    }

    /// The moment.
    pub fn at(&self) -> Time {
        self.at
    }

    /// Whether it has passed.
    pub fn has_passed(&self, now: Time) -> bool {
        now > self.at
    }
}

/// A duration in whole milliseconds, as the wire has it.
pub fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn answer(pinger: &mut Pinger, now: Time, seq: u32) -> Option<Observation> {
        pinger.pong(
            now,
            Pong {
                seq,
                observed: "192.0.2.1:4433".parse().unwrap(),
            },
        )
    }

    #[test]
    fn pings_go_out_at_the_interval_while_they_are_answered() {
        let mut pinger = Pinger::new(PingSchedule::default(), Time::ZERO);
        for round in 0..10 {
            let now = secs(25 * u64::from(round));
            let expected = Ping {
                seq: round,
                next_within_ms: 25_000,
            };
            assert_eq!(pinger.poll(now), Beat::Ping(expected));
            let later = now + Duration::from_millis(80);
            let seen = answer(&mut pinger, later, round).unwrap();
            assert_eq!(seen.round_trip, Duration::from_millis(80));
            assert_eq!(pinger.poll(later), Beat::Rest);
        }
    }

    #[test]
    fn silence_is_asked_three_times_then_taken_for_loss() {
        let mut pinger = Pinger::new(PingSchedule::default(), Time::ZERO);
        let mut now = Time::ZERO;
        for seq in 0..3 {
            assert!(matches!(pinger.poll(now), Beat::Ping(ping) if ping.seq == seq));
            now = pinger.deadline();
        }
        assert_eq!(now, secs(6));
        assert_eq!(pinger.poll(now), Beat::Lost);
    }

    #[test]
    fn one_lost_ping_changes_nothing() {
        let mut pinger = Pinger::new(PingSchedule::default(), Time::ZERO);
        pinger.poll(Time::ZERO);
        assert!(matches!(
            pinger.poll(secs(2)),
            Beat::Ping(Ping { seq: 1, .. })
        ));
        assert!(answer(&mut pinger, secs(2), 1).is_some());
        assert_eq!(pinger.deadline(), secs(27));
    }

    #[test]
    fn a_path_slower_than_the_timeout_is_not_taken_for_loss() {
        let mut pinger = Pinger::new(PingSchedule::default(), Time::ZERO);
        pinger.poll(Time::ZERO);
        pinger.poll(secs(2));
        let seen = answer(&mut pinger, secs(3), 0).unwrap();
        assert_eq!(seen.round_trip, Duration::from_secs(3));
        assert_eq!(
            pinger.deadline(),
            secs(27),
            "the interval runs from the last ping"
        );
        assert_eq!(answer(&mut pinger, secs(5), 1), None, "nothing is awaited");
    }

    #[test]
    fn a_changed_path_is_asked_at_once_and_three_times() {
        let mut pinger = Pinger::new(PingSchedule::default(), Time::ZERO);
        pinger.poll(Time::ZERO);
        pinger.ping_now(secs(1));
        for (at, seq) in [(1, 1), (3, 2), (5, 3)] {
            assert!(matches!(pinger.poll(secs(at)), Beat::Ping(ping) if ping.seq == seq));
        }
        assert_eq!(
            answer(&mut pinger, secs(6), 0),
            None,
            "it came by the old path"
        );
        assert_eq!(pinger.poll(secs(7)), Beat::Lost);
    }

    #[test]
    fn an_answer_to_no_ping_is_none() {
        let mut pinger = Pinger::new(PingSchedule::default(), Time::ZERO);
        assert_eq!(
            answer(&mut pinger, Time::ZERO, u32::MAX),
            None,
            "none was sent"
        );
        pinger.poll(Time::ZERO);
        for seq in [1, 7, u32::MAX] {
            assert_eq!(answer(&mut pinger, secs(1), seq), None, "{seq}");
        }
        assert!(answer(&mut pinger, secs(1), 0).is_some());
    }

    #[test]
    fn the_deadline_follows_the_announcement() {
        let mut deadline = Deadline::new(Time::ZERO, 25_000, Deadline::DEFAULT_GRACE);
        assert_eq!(deadline.at(), Time::at(Duration::from_millis(47_500)));
        deadline.extend(secs(25), 540_000);
        assert!(!deadline.has_passed(secs(25 + 810 + 10)));
        assert!(deadline.has_passed(secs(25 + 810 + 11)));
    }
}
