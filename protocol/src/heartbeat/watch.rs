//! The relay's half: it answers pings, at once and once more after a silence if it is asked to, and
//! knows the moment past which a device is gone.

use std::{net::SocketAddr, time::Duration};

use crate::{
    message::{Ping, Pong},
    time::Time,
};

/// When a late answer is sent again: a datagram that got lost is not to be taken for a binding that
/// was forgotten. Both arrive within one wake of the radio.
const ECHO_REPEAT: Duration = Duration::from_millis(250);

/// How often a late answer is sent.
const ECHOES: u8 = 2;

/// The moment past which a device is gone.
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

/// A late answer that is to be given.
#[derive(Clone, Copy, Debug)]
struct Echo {
    pong: Pong,
    at: Time,
    left: u8,
}

/// What a relay does about one device's pings.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    deadline: Deadline,
    echo: Option<Echo>,
}

impl Watch {
    /// Watches a device that has announced its first ping.
    pub fn new(now: Time, next_within_ms: u32, grace: Duration) -> Self {
        Self {
            deadline: Deadline::new(now, next_within_ms, grace),
            echo: None,
        }
    }

    /// Takes a ping that came from `observed`; the answer. A late answer that an earlier ping asked
    /// for is not given any more: the device has shown itself.
    pub fn ping(&mut self, now: Time, ping: Ping, observed: SocketAddr) -> Pong {
        self.deadline.extend(now, ping.next_within_ms);
        let pong = Pong::at_once(&ping, observed);
        self.echo = (ping.echo_after_ms > 0).then(|| Echo {
            pong: Pong { late: true, ..pong },
            at: now + Duration::from_millis(ping.echo_after_ms.into()),
            left: ECHOES,
        });
        pong
    }

    /// The late answer that is due.
    pub fn poll(&mut self, now: Time) -> Option<Pong> {
        let echo = self.echo.as_mut().filter(|echo| now >= echo.at)?;
        let pong = echo.pong;
        echo.left -= 1;
        echo.at = echo.at + ECHO_REPEAT;
        if echo.left == 0 {
            self.echo = None;
        }
        Some(pong)
    }

    /// Whether the device is gone.
    pub fn has_passed(&self, now: Time) -> bool {
        self.deadline.has_passed(now)
    }

    /// When [`poll`](Self::poll) or [`has_passed`](Self::has_passed) has something to say.
    pub fn due(&self) -> Time {
        let gone = self.deadline.at() + Duration::from_millis(1);
        self.echo.map_or(gone, |echo| echo.at.min(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn ping(seq: u32, echo_after_ms: u32) -> Ping {
        Ping {
            seq,
            next_within_ms: 302_000,
            echo_after_ms,
            background: echo_after_ms > 0,
        }
    }

    fn watch() -> Watch {
        Watch::new(Time::ZERO, 25_000, Deadline::DEFAULT_GRACE)
    }

    fn here() -> SocketAddr {
        "192.0.2.1:4433".parse().unwrap()
    }

    #[test]
    fn a_late_answer_comes_twice_and_then_no_more() {
        let mut watch = watch();
        let at_once = watch.ping(Time::ZERO, ping(7, 300_000), here());
        assert!(!at_once.late);
        assert_eq!(watch.due(), secs(300));
        assert_eq!(watch.poll(secs(299)), None);
        let late = Pong {
            late: true,
            ..at_once
        };
        assert_eq!(watch.poll(secs(300)), Some(late));
        assert_eq!(watch.poll(secs(300)), None, "not both at once");
        assert_eq!(watch.due(), secs(300) + ECHO_REPEAT);
        assert_eq!(watch.poll(secs(301)), Some(late));
        assert_eq!(watch.poll(secs(1000)), None);
        assert!(!watch.has_passed(secs(450)), "the announced time holds");
    }

    #[test]
    fn a_later_ping_takes_the_place_of_what_was_asked_for() {
        let mut watch = watch();
        watch.ping(Time::ZERO, ping(1, 10_000), here());
        watch.ping(secs(5), ping(2, 0), here());
        assert_eq!(watch.poll(secs(20)), None);
        watch.ping(secs(20), ping(3, 10_000), here());
        assert_eq!(watch.poll(secs(30)).map(|pong| pong.seq), Some(3));
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
