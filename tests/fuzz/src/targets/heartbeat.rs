//! When to ping, and when the other side is gone: both sides of it, at whatever times and answers.

use std::time::Duration;

use holdfast_protocol::{
    heartbeat::{Beat, Deadline, Learner, PingSchedule, Pinger},
    message::Pong,
    time::Time,
};
use serde::{Deserialize, Serialize};

use crate::script;

/// What happens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    Wait { ms: u64 },
    Back { ms: u64 },
    Due,
    Answer { age: u32 },
    Unasked { seq: u32 },
    PathChanged,
    Background { is: bool },
    Disturbed,
    Late { age: u32, port: u16 },
    Announce { ms: u32 },
}

pub(crate) fn check(data: &[u8]) -> bool {
    let (first, rest) = data.split_at(data.len().min(4));
    let byte = |index: usize| first.get(index).copied().unwrap_or(3);
    let schedule = PingSchedule {
        interval: Duration::from_secs(byte(0).into()),
        longest: Duration::from_secs(2 * u64::from(byte(3))),
        timeout: Duration::from_secs(byte(1).into()),
        attempts: byte(2),
    };
    let mut now = Time::ZERO;
    let mut pinger = Pinger::new(schedule, Learner::new(&schedule, None), now);
    let mut deadline = Deadline::new(now, 0, Deadline::DEFAULT_GRACE);
    let (mut unanswered, mut sent) = (0u32, 0u32);
    for step in script::steps::<Step>(rest) {
        match step {
            Step::Wait { ms } => now = now + Duration::from_millis(ms),
            Step::Back { ms } => now = now - Duration::from_millis(ms),
            Step::Due => now = now.max(pinger.deadline()),
            Step::PathChanged => {
                pinger.ping_now(now);
                unanswered = 0;
            }
            Step::Background { is } => {
                unanswered = if is == pinger.is_background() {
                    unanswered
                } else {
                    0
                };
                pinger.set_background(is, now);
            }
            Step::Disturbed => pinger.disturb(),
            Step::Late { age, port } => {
                let due = pinger.deadline();
                let pong = Pong {
                    seq: sent.wrapping_sub(1).wrapping_sub(age),
                    observed: ([192, 0, 2, 1], port).into(),
                    late: true,
                };
                assert_eq!(pinger.pong(now, 0, pong), None, "it measures nothing");
                unanswered = if pinger.deadline() == due {
                    unanswered
                } else {
                    0
                };
            }
            Step::Announce { ms } => {
                deadline.extend(now, ms);
                assert!(!deadline.has_passed(now));
                assert!(deadline.at().since(now) >= Duration::from_millis(ms.into()));
            }
            Step::Answer { age } => {
                let seq = sent.wrapping_sub(1).wrapping_sub(age);
                let taken = answer(&mut pinger, now, seq);
                assert_eq!(taken, age < unanswered, "ping {age} before the last");
                unanswered = if taken { 0 } else { unanswered };
            }
            Step::Unasked { seq } => {
                if answer(&mut pinger, now, seq) {
                    assert!(sent.wrapping_sub(1).wrapping_sub(seq) < unanswered);
                    unanswered = 0;
                }
            }
        }
        match pinger.poll(now) {
            Beat::Rest => assert!(now < pinger.deadline()),
            Beat::Ping(ping) => {
                assert_eq!(ping.seq, sent);
                (sent, unanswered) = (sent.wrapping_add(1), unanswered + 1);
                assert!(unanswered <= schedule.attempts.into());
            }
            Beat::Lost => assert_eq!(unanswered, u32::from(schedule.attempts)),
        }
    }
    sent > 0
}

fn answer(pinger: &mut Pinger, now: Time, seq: u32) -> bool {
    let observed = ([192, 0, 2, 1], 4433).into();
    let late = false;
    let pong = Pong {
        seq,
        observed,
        late,
    };
    pinger.pong(now, 0, pong).is_some()
}
