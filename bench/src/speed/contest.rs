//! Holdfast by itself, or in alternation with the bare forwarder in the same run, so that whatever else the
//! machine does, it does to both.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use clap::Args;

use super::{
    Audience, Problem,
    audience::Progress,
    forwarder::{Callers, Forwarder},
    latency::Latencies,
    lean::LeanDevices,
    pair::{Devices, Pair},
    server::{Server, Spent},
    stack::Room,
    target::Target,
};
use crate::figure::{Figure, Goal, percentile};

/// How many turns each side has.
const TURNS: u32 = 5;

/// How long the load runs before anything is measured, in each turn.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);

/// What is the same for every measurement with pairs.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(skip)]
pub struct Setting {
    /// How many pairs of devices: one of an account writes, another reads
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pairs: u32,
    /// How large a message is, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub size: u64,
    /// Load the relay with devices that speak the protocol and remember nothing, instead of the client
    /// library: they take a small part of its processor time, and leave the rest to the relay
    #[arg(long)]
    pub lean: bool,
    /// Measure a bare QUIC forwarder, too, in alternation: five turns each. The ratios are the medians
    /// of those of the turns
    #[arg(long)]
    pub baseline: bool,
    /// What is measured.
    #[command(flatten)]
    pub target: Target,
}

/// How long something is measured: shorter, nothing can be told of it.
const SPANS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// How long something is measured, as it is typed.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let fits = SPANS.contains(&span).then_some(span);
    fits.ok_or_else(|| "a span from 100ms to 1h, for example 10s".to_owned())
}

/// A way to load pairs.
pub(super) trait Load {
    /// Loads the pairs of a side for a span, after a [`WARM_UP`].
    fn turn<P: Pair>(
        &self,
        side: &Side<P>,
        span: Duration,
        progress: &mut Progress<'_>,
    ) -> impl Future<Output = Result<Turn, Problem>>;
}

/// Those who exchange messages, and the server that passes them on.
pub(super) struct Side<P> {
    pub(super) pairs: Vec<Arc<P>>,
    pub(super) server: Server,
}

impl<P> Side<P> {
    fn new(pairs: Vec<P>, server: Server) -> Self {
        let pairs = pairs.into_iter().map(Arc::new).collect();
        Self { pairs, server }
    }
}

/// The bare forwarder, and who is connected to it.
struct Bare {
    forwarder: Forwarder,
    side: Side<Callers>,
}

impl Bare {
    async fn start(pairs: u32) -> Result<Self, Problem> {
        let forwarder = Forwarder::start().await?;
        let side = Side::new(forwarder.connect(pairs).await?, forwarder.server()?);
        Ok(Self { forwarder, side })
    }
}

/// What came of a turn.
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
    fn sum<'a>(turns: impl Iterator<Item = &'a Self>) -> Self {
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
        $crate::speed::contest::Names {
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
        for (name, share) in self.within.into_iter().zip([0.5, 0.99, 0.999]) {
            let took = turn.latencies.within(share);
            figures.push(Figure::new(name, took, "us", none));
        }
        if let Some(bytes) = server.resident()? {
            let mib = bytes as f64 / f64::from(1 << 20);
            figures.push(Figure::new(self.memory, mib, "MiB", none));
        }
        Ok(figures)
    }
}

/// What is measured of both sides, under which names, and how the ratios are called.
pub(super) struct Contest {
    pub(super) what: &'static str,
    pub(super) names: Names,
    pub(super) goals: Goals,
    pub(super) bare: Names,
    /// Of processor time, p50 and p99, each with its goal.
    pub(super) ratios: [(&'static str, Goal); 3],
}

impl Contest {
    /// Measures for so long, each side; tells all figures.
    pub(super) async fn hold(
        &self,
        load: &impl Load,
        setting: &Setting,
        span: Duration,
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let (messages, size) = (0, setting.size);
        let site = setting
            .target
            .reach(Room { messages, size }, audience)
            .await?;
        let bare = match setting.baseline {
            true => Some(Bare::start(setting.pairs).await?),
            false => None,
        };
        let side = bare.as_ref().map(|bare| &bare.side);
        let mut coming = Progress::new(audience, "attaching", f64::from(2 * setting.pairs));
        if setting.lean {
            let pairs = LeanDevices::attach(&site, setting.pairs, &mut coming).await?;
            let held = Side::new(pairs, site.server);
            self.compare(load, (&held, side), span, audience).await?;
        } else {
            let pairs = Devices::attach(&site, setting.pairs, &mut coming).await?;
            let held = Side::new(pairs, site.server);
            self.compare(load, (&held, side), span, audience).await?;
            Devices::close(&held.pairs).await;
        }
        if let Some(bare) = bare {
            bare.forwarder.stop().await;
        }
        site.leave().await;
        Ok(())
    }

    async fn compare<P: Pair>(
        &self,
        load: &impl Load,
        (held, bare): (&Side<P>, Option<&Side<Callers>>),
        span: Duration,
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let before = held.server.metric("stored_total").await;
        match bare {
            None => self.measure(load, held, span, audience).await?,
            Some(bare) => self.alternate(load, (held, bare), span, audience).await?,
        }
        let now = held.server.metric("stored_total").await;
        if let Some((now, before)) = now.zip(before) {
            let stored = now - before;
            audience.note(&format!("{stored} messages went to the disk on their way"));
        }
        Ok(())
    }

    async fn measure<P: Pair>(
        &self,
        load: &impl Load,
        held: &Side<P>,
        span: Duration,
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let whole = (WARM_UP + span).as_secs_f64();
        let mut progress = Progress::new(audience, self.what, whole);
        let turn = load.turn(held, span, &mut progress).await?;
        self.tell(&turn, held.server, audience)
    }

    async fn alternate<P: Pair>(
        &self,
        load: &impl Load,
        (held, bare): (&Side<P>, &Side<Callers>),
        span: Duration,
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let each = span / TURNS;
        let whole = 2.0 * f64::from(TURNS) * (WARM_UP + each).as_secs_f64();
        let mut progress = Progress::new(audience, self.what, whole);
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            let one = load.turn(held, each, &mut progress).await?;
            turns.push((one, load.turn(bare, each, &mut progress).await?));
        }
        let one = Turn::sum(turns.iter().map(|(one, _)| one));
        self.tell(&one, held.server, audience)?;
        let other = Turn::sum(turns.iter().map(|(_, other)| other));
        let figures = self.bare.figures(&other, Goals::NONE, &bare.server)?;
        figures
            .into_iter()
            .for_each(|figure| audience.figure(figure));
        tell_own("a message through the bare forwarder", &other, audience);
        self.ratios(&turns)
            .for_each(|figure| audience.figure(figure));
        Ok(())
    }

    fn tell(
        &self,
        turn: &Turn,
        server: Server,
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let figures = self.names.figures(turn, self.goals, &server)?;
        figures
            .into_iter()
            .for_each(|figure| audience.figure(figure));
        tell_own("a message", turn, audience);
        Ok(())
    }

    /// The medians: one turn that something else disturbed decides nothing.
    fn ratios(&self, turns: &[(Turn, Turn)]) -> impl Iterator<Item = Figure> {
        let of: [fn(&Turn) -> f64; 3] = [
            |turn| turn.cpu_us().unwrap_or(f64::NAN),
            |turn| turn.latencies.within(0.5),
            |turn| turn.latencies.within(0.99),
        ];
        let figures = self.ratios.iter().zip(of).map(|((name, goal), of)| {
            let ratios: Vec<f64> = turns
                .iter()
                .map(|(one, other)| of(one) / of(other))
                .collect();
            Figure::new(name, percentile(&ratios, 0.5), "ratio", *goal)
        });
        let known: Vec<Figure> = figures.filter(|figure| !figure.value.is_nan()).collect();
        known.into_iter()
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
mod tests {
    use super::*;

    const CONTEST: Contest = Contest {
        what: "testing",
        names: names!("route."),
        goals: Goals::NONE,
        bare: names!("route.bare_"),
        ratios: [
            ("route.cpu_ratio", Goal::AtMost(2.0)),
            ("route.p50_ratio", Goal::None),
            ("route.p99_ratio", Goal::None),
        ],
    };

    fn turn(messages: u64, cpu_ms: u64, took_us: u64) -> Turn {
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
        let figures = CONTEST.names.figures(&all, Goals::NONE, &Server::default());
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

    #[test]
    fn a_disturbed_turn_does_not_decide_a_ratio() {
        let turns = [
            (turn(100, 3, 120), turn(100, 2, 100)),
            (turn(100, 900, 9_000), turn(100, 2, 100)),
            (turn(100, 3, 120), turn(100, 2, 100)),
        ];
        let ratios: Vec<_> = CONTEST.ratios(&turns).map(|f| (f.name, f.value)).collect();
        let expected = [
            ("route.cpu_ratio", 1.5),
            ("route.p50_ratio", 1.2),
            ("route.p99_ratio", 1.2),
        ];
        assert_eq!(ratios, expected);
    }

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        let blind = |mut turn: Turn| {
            turn.spent.server = None;
            turn
        };
        let turns = [(blind(turn(10, 1, 50)), turn(10, 1, 50))];
        let ratios: Vec<_> = CONTEST.ratios(&turns).map(|f| f.name).collect();
        assert_eq!(ratios, ["route.p50_ratio", "route.p99_ratio"]);
    }
}
