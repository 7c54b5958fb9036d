//! The device's half: when it pings, and what the answers show.
//!
//! In the background a ping asks for a second answer after the interval that is being tried. When it
//! comes, the device was to be reached all that time, and pings next at once, in the same wake of the
//! radio. When it does not, or when the relay sees the ping come from another address, the network
//! has forgotten the device meanwhile. The second answer is what tells so where the network gives a
//! device the same address again.

use std::{net::SocketAddr, time::Duration};

use super::{Learner, millis};
use crate::{
    limits::MAX_PING_INTERVAL,
    message::{Ping, Pong},
    time::Time,
};

/// How a device pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingSchedule {
    /// Between two pings, in the foreground; in the background it is where the learning begins.
    pub interval: Duration,
    /// The longest interval that is tried in the background. Not above `interval`, it is never
    /// anything else.
    pub longest: Duration,
    /// How long to wait for an answer before the ping is repeated.
    pub timeout: Duration,
    /// How many pings in a row may stay unanswered before the relay is taken for lost.
    pub attempts: u8,
}

impl Default for PingSchedule {
    /// Every 25 s, below the 30 s after which the least patient NATs forget a UDP binding
    /// (RFC 4787, section 4.3, asks for 120 s and finds many below); in the background up to every
    /// 540 s; lost after 6 s of silence.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            longest: Duration::from_secs(540),
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

/// What a pong tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The address the relay sees the device at.
    pub address: SocketAddr,
    /// From ping to pong.
    pub round_trip: Duration,
}

/// A silence: nothing is sent from one ping to the next.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// The ping that began it.
    seq: u32,
    since: Time,
    /// How long it is to be.
    span: Duration,
    /// Whether a late answer was asked for.
    listens: bool,
    /// Something else was sent after all.
    disturbed: bool,
}

/// The device's half.
#[derive(Clone, Debug)]
pub struct Pinger {
    schedule: PingSchedule,
    learner: Learner,
    background: bool,
    next_seq: u32,
    /// When there is something to do.
    due: Time,
    /// When each ping since the last answer was sent; the last of them carries `next_seq - 1`.
    unanswered: Vec<Time>,
    silence: Option<Silence>,
    /// The silence that the ping without an answer has ended, if the late answer did not.
    doubtful: Option<Silence>,
    /// Where the relay saw the last ping come from, on this network.
    address: Option<SocketAddr>,
}

impl Pinger {
    /// A pinger that pings at once, for an app in the foreground, with what is known of the network.
    pub fn new(schedule: PingSchedule, learner: Learner, now: Time) -> Self {
        Self {
            schedule,
            learner,
            background: false,
            next_seq: 0,
            due: now,
            unanswered: Vec::new(),
            silence: None,
            doubtful: None,
            address: None,
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn deadline(&self) -> Time {
        self.due
    }

    /// What is known of the network.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: Time) -> Beat {
        if now < self.due {
            return Beat::Rest;
        }
        if self.unanswered.len() >= self.schedule.attempts.into() {
            return Beat::Lost;
        }
        if self.unanswered.is_empty() {
            let kept = self.silence.take();
            self.doubtful = kept.filter(|silence| now >= self.end_of(*silence));
        }
        Beat::Ping(self.ping(now))
    }

    /// Pings at the next poll, whatever the interval: something suggests that the path has changed.
    /// The count of attempts begins anew, because earlier pings went out on the old path; so call
    /// this for an event and not in a loop, or a loss is never noticed.
    pub fn ping_now(&mut self, now: Time) {
        self.unanswered.clear();
        self.silence = None;
        self.doubtful = None;
        self.due = now;
    }

    /// The app went to the background, or came to the foreground. Pings at the next poll: the relay
    /// is to know.
    pub fn set_background(&mut self, background: bool, now: Time) {
        if self.background != background {
            self.background = background;
            self.ping_now(now);
        }
    }

    /// The device has another socket, so its address is to change, and that says nothing of the
    /// network; or it is in another network altogether, of which this is known. Pings at the next
    /// poll.
    pub fn rebound(&mut self, network: Option<Learner>, now: Time) {
        if let Some(learner) = network {
            self.learner = learner;
        }
        self.address = None;
        self.ping_now(now);
    }

    /// Whether the app is in the background.
    pub fn is_background(&self) -> bool {
        self.background
    }

    /// Something other than a ping went to or fro: the path is not silent.
    pub fn disturb(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.disturbed = true;
        }
    }

    /// Takes an answer at `now`, which is `now_ms` by the relays' clock, and tells the round trip. An
    /// answer to any ping since the last answer shows that the relay is there: on a path slower than
    /// the timeout no other ever comes.
    pub fn pong(&mut self, now: Time, now_ms: u64, pong: Pong) -> Option<Observation> {
        if pong.late {
            self.late_pong(now, now_ms, pong.seq);
            return None;
        }
        let age = self.next_seq.wrapping_sub(pong.seq) as usize;
        let index = self.unanswered.len().checked_sub(age)?;
        let answered = *self.unanswered.get(index)?;
        self.unanswered.clear();
        // The silence that this ping has begun is as long as the one that did not hold: another ping,
        // in the same wake of the radio, begins one that may.
        let held = !self.did_not_hold(pong.observed);
        let silence = self.silence.filter(|_| held);
        self.due = silence.map_or(now, |silence| self.end_of(silence));
        Some(Observation {
            address: pong.observed,
            round_trip: now.since(answered),
        })
    }

    fn ping(&mut self, now: Time) -> Ping {
        let silence = Silence {
            seq: self.next_seq,
            since: now,
            span: self.interval(),
            listens: self.learns(),
            disturbed: false,
        };
        self.silence = Some(silence);
        self.unanswered.push(now);
        self.due = now + self.schedule.timeout;
        self.next_seq = silence.seq.wrapping_add(1);
        Ping {
            seq: silence.seq,
            next_within_ms: millis(self.end_of(silence).since(now).min(MAX_PING_INTERVAL)),
            echo_after_ms: if silence.listens {
                millis(silence.span)
            } else {
                0
            },
            background: self.background,
        }
    }

    /// The relay has answered late, as it was asked to: it reaches the device after such a silence.
    fn late_pong(&mut self, now: Time, now_ms: u64, seq: u32) {
        let Some(silence) = self
            .silence
            .take_if(|silence| silence.listens && silence.seq == seq)
        else {
            return;
        };
        if !silence.disturbed {
            self.learner.held(silence.span, now_ms);
        }
        self.unanswered.clear();
        self.due = now;
    }

    /// The relay is there, so if the silence before its answer was too long, it was too long for the
    /// network.
    fn did_not_hold(&mut self, observed: SocketAddr) -> bool {
        let before = self.address.replace(observed);
        let moved = before.is_some_and(|address| address != observed);
        let Some(silence) = self.doubtful.take().filter(|silence| !silence.disturbed) else {
            return false;
        };
        if !moved && !silence.listens {
            return false;
        }
        self.learner.broke(silence.span, moved);
        true
    }

    fn learns(&self) -> bool {
        self.background && self.schedule.longest > self.schedule.interval
    }

    fn interval(&self) -> Duration {
        match self.learns() {
            true => self.learner.interval(),
            false => self.schedule.interval.min(self.learner.reliable()),
        }
    }

    /// When the next ping is due, if nothing happens before.
    fn end_of(&self, silence: Silence) -> Time {
        let patience = if silence.listens {
            self.schedule.timeout
        } else {
            Duration::ZERO
        };
        silence.since + silence.span + patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn foreground() -> Pinger {
        let schedule = PingSchedule::default();
        let learner = Learner::new(&schedule, None);
        Pinger::new(schedule, learner, Time::ZERO)
    }

    fn answer(pinger: &mut Pinger, now: Time, seq: u32) -> Option<Observation> {
        let observed = "192.0.2.1:4433".parse().unwrap();
        let late = false;
        pinger.pong(
            now,
            0,
            Pong {
                seq,
                observed,
                late,
            },
        )
    }

    #[test]
    fn pings_go_out_at_the_interval_while_they_are_answered() {
        let mut pinger = foreground();
        for round in 0..10 {
            let now = secs(25 * u64::from(round));
            let expected = Ping {
                seq: round,
                next_within_ms: 25_000,
                echo_after_ms: 0,
                background: false,
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
        let mut pinger = foreground();
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
        let mut pinger = foreground();
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
        let mut pinger = foreground();
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
        let mut pinger = foreground();
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
        let mut pinger = foreground();
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
}
