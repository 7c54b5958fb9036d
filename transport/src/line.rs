//! The line behind the [gate](crate::gate): handshakes begin at a rate, and who comes sooner than that
//! waits for its turn. So a crowd that comes all at once, as after a restart, costs those who are
//! served no more than the rate does; and whoever waits is let in within a second, before anybody
//! dials again. The line is no longer than that: those behind it are refused, and come back.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use holdfast_protocol::{
    pace::{Bucket, Rate},
    time::Time,
};
use quinn::{Endpoint, Incoming};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use crate::gate::Gate;

/// How long the last in the line waits.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A handshake that may begin.
#[derive(Debug)]
pub struct Admitted {
    /// It.
    pub incoming: Incoming,
    /// To be let go when it is over.
    pub permit: OwnedSemaphorePermit,
}

/// Those whom the gate of an endpoint has let in, in the order in which they came.
pub struct Line {
    gate: Arc<Gate>,
    turns: Turns<Admitted>,
    /// The origin of every [`Time`] here.
    started: Instant,
}

impl Line {
    /// Nobody waits. To be dropped with the endpoint: those who wait hold its socket open.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self {
            turns: Turns::new(gate.rate()),
            gate,
            started: Instant::now(),
        }
    }

    /// Takes one that comes, unless the gate sends it away. `served` is as in [`Gate::admit`].
    pub fn receive(&mut self, incoming: Incoming, endpoint: &Endpoint, served: usize) {
        if self.turns.is_full() {
            return self.gate.refuse(incoming);
        }
        let Some((incoming, permit)) = self.gate.admit(incoming, endpoint, served) else {
            return;
        };
        if self.turns.push(self.now(), Admitted { incoming, permit }) {
            self.gate.delayed();
        }
    }

    /// Waits for the turn of whoever is next; for ever, while there is nobody. Cancel safe.
    pub async fn next(&mut self) -> Admitted {
        loop {
            match self.turns.due() {
                Some(due) => sleep_until(self.started + due.since_origin()).await,
                None => std::future::pending().await,
            }
            if let Some(admitted) = self.turns.pop(self.now()) {
                self.gate.admitted();
                return admitted;
            }
        }
    }

    fn now(&self) -> Time {
        Time::at(self.started.elapsed())
    }
}

/// Who waits, and whose turn it is when.
struct Turns<T> {
    waiting: VecDeque<T>,
    bucket: Bucket,
    most: usize,
}

impl<T> Turns<T> {
    fn new(rate: Rate) -> Self {
        let in_time = usize::try_from(rate.per_second).unwrap_or(usize::MAX);
        let in_time = in_time.saturating_mul(LONGEST_WAIT.as_secs() as usize);
        Self {
            waiting: VecDeque::new(),
            bucket: Bucket::new(rate),
            most: if rate.per_second == 0 {
                usize::MAX
            } else {
                in_time
            },
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.most
    }

    /// Whether it has to wait.
    fn push(&mut self, now: Time, whoever: T) -> bool {
        self.waiting.push_back(whoever);
        self.waiting.len() > 1 || self.bucket.ready_at() > now
    }

    fn due(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.bucket.ready_at())
    }

    fn pop(&mut self, now: Time) -> Option<T> {
        if self.waiting.is_empty() || !self.bucket.take(now) {
            return None;
        }
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(per_second: u64, burst: u64) -> Turns<u64> {
        Turns::new(Rate { per_second, burst })
    }

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    /// Who is let in when, in milliseconds, until nobody waits.
    fn let_in(turns: &mut Turns<u64>, mut now: Time) -> Vec<(u64, u128)> {
        let mut let_in = Vec::new();
        while let Some(due) = turns.due() {
            now = now.max(due);
            let who = turns.pop(now).unwrap();
            let_in.push((who, now.since_origin().as_millis()));
        }
        let_in
    }

    #[test]
    fn who_comes_at_the_rate_does_not_wait() {
        let mut turns = turns(100, 1);
        for number in 0..50 {
            let now = at(number * 10);
            assert!(!turns.push(now, number));
            assert_eq!(turns.pop(now), Some(number));
        }
    }

    #[test]
    fn a_crowd_is_let_in_at_the_rate_and_in_its_order() {
        let mut turns = turns(100, 3);
        let waited = (0..6)
            .map(|number| turns.push(at(5000), number))
            .collect::<Vec<_>>();
        assert_eq!(waited, [false, true, true, true, true, true]);
        let when = [5000, 5000, 5000, 5010, 5020, 5030];
        let expected: Vec<_> = (0..6).zip(when).collect();
        assert_eq!(let_in(&mut turns, at(5000)), expected);
    }

    #[test]
    fn nobody_waits_longer_than_a_second_nor_is_the_line_longer() {
        let mut turns = turns(100, 1);
        let mut refused = 0;
        for number in 0..1000 {
            match turns.is_full() {
                true => refused += 1,
                false => drop(turns.push(at(0), number)),
            }
        }
        assert_eq!(refused, 900);
        let let_in = let_in(&mut turns, at(0));
        assert_eq!(let_in.last(), Some(&(99, 990)));
        assert!(!turns.is_full(), "there is room again");
    }

    #[test]
    fn without_a_rate_nobody_waits_and_the_line_is_never_full() {
        let mut turns = turns(0, 0);
        for number in 0..10_000 {
            turns.push(at(0), number);
        }
        assert!(!turns.is_full());
        assert_eq!(let_in(&mut turns, at(0)).last(), Some(&(9999, 0)));
    }
}
