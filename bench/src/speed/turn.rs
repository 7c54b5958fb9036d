//! What came of a stretch of load, and the figures of it.

use std::time::Duration;

use super::{
    Audience, Problem,
    latency::Latencies,
    server::{Server, Spent},
};
use crate::figure::{Figure, Goal};

/// What came of a turn, or of several.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// How many messages were answered in it.
    pub(super) messages: u64,
    /// What was spent meanwhile.
    pub(super) spent: Spent,
    /// What each message took.
    pub(super) latencies: Latencies,
}

impl Turn {
    pub(super) fn sum<'a>(turns: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self {
            messages: 0,
            spent: Spent::default(),
            latencies: Latencies::new(),
        };
        for turn in turns {
            all.messages += turn.messages;
            all.spent += turn.spent;
            all.latencies.merge(&turn.latencies);
        }
        all
    }

    /// Of the server's processor, for each message, in microseconds.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        Some(self.each_us(self.spent.server?))
    }

    /// Of the load generator's processor, for each message, in microseconds.
    pub(super) fn own_us(&self) -> f64 {
        self.each_us(self.spent.own)
    }

    fn each_us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.messages as f64
    }

    fn per_second(&self) -> f64 {
        self.messages as f64 / self.spent.span.as_secs_f64()
    }
}

/// How the figures of a measurement are called.
pub(super) struct Names {
    pub(super) messages: &'static str,
    pub(super) per_second: &'static str,
    pub(super) cpu: &'static str,
    /// Half of all, 99 of 100, 999 of 1,000.
    pub(super) within: [&'static str; 3],
    pub(super) memory: &'static str,
}

/// What a measurement's figures are held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goals {
    pub(super) per_second: Goal,
    pub(super) cpu: Goal,
}

impl Goals {
    pub(super) const NONE: Self = Self {
        per_second: Goal::None,
        cpu: Goal::None,
    };
}

/// The names of a measurement's figures, which begin with this.
macro_rules! names {
    ($part:literal) => {
        $crate::speed::turn::Names {
            messages: concat!($part, "messages"),
            per_second: concat!($part, "msg_per_s"),
            cpu: concat!($part, "cpu_us_per_msg"),
            within: [
                concat!($part, "p50_us"),
                concat!($part, "p99_us"),
                concat!($part, "p999_us"),
            ],
            memory: concat!($part, "rss_mib"),
        }
    };
}
pub(super) use names;

impl Names {
    /// What is to be told of a turn, or of all of them together, and of the server at its end.
    pub(super) fn figures(
        &self,
        turn: &Turn,
        goals: Goals,
        server: &Server,
    ) -> Result<Vec<Figure>, Problem> {
        let none = Goal::None;
        let rate = turn.per_second();
        let mut figures = vec![
            Figure::new(self.messages, turn.messages as f64, "count", none),
            Figure::new(self.per_second, rate, "msg/s", goals.per_second),
        ];
        if let Some(cpu) = turn.cpu_us() {
            figures.push(Figure::new(self.cpu, cpu, "us", goals.cpu));
        }
        figures.extend(turn.latencies.figures(self.within));
        if let Some(bytes) = server.resident()? {
            let mib = bytes as f64 / f64::from(1 << 20);
            figures.push(Figure::new(self.memory, mib, "MiB", none));
        }
        Ok(figures)
    }
}

/// What the load generator itself takes of the machine that it shares with the server.
pub(super) fn tell_own(what: &str, turn: &Turn, audience: &mut dyn Audience) {
    let own = turn.own_us();
    audience.note(&format!(
        "{what} takes the load generator {own:.1} us of processor time"
    ));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of a second, in which each message took the same.
    pub(in super::super) fn turn(messages: u64, cpu_ms: u64, took_us: u64) -> Turn {
        let mut latencies = Latencies::new();
        (0..messages).for_each(|_| latencies.note(Duration::from_micros(took_us)));
        let spent = Spent {
            span: Duration::from_secs(1),
            server: Some(Duration::from_millis(cpu_ms)),
            own: Duration::from_millis(10),
        };
        Turn {
            messages,
            spent,
            latencies,
        }
    }

    #[test]
    fn turns_add_up() {
        let all = Turn::sum([turn(1_000, 2, 100), turn(3_000, 4, 200)].iter());
        assert_eq!(all.cpu_us(), Some(1.5));
        assert_eq!(all.own_us(), 5.0);
        assert_eq!(all.per_second(), 2_000.0);
        assert_eq!(all.latencies.count(), all.messages);
        let figures = names!("route.").figures(&all, Goals::NONE, &Server::default());
        let figures = figures.unwrap();
        let found = figures.iter().map(|figure| (figure.name, figure.value));
        let expected = [
            ("route.messages", 4_000.0),
            ("route.msg_per_s", 2_000.0),
            ("route.cpu_us_per_msg", 1.5),
            ("route.p50_us", 200.0),
            ("route.p99_us", 200.0),
            ("route.p999_us", 200.0),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
