//! Holdfast by itself, or in alternation with the bare forwarder in the same run, so that whatever else the
//! machine does, it does to both.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use clap::Args;

use super::{
    Audience, Problem,
    arrival::allow_files,
    audience::Progress,
    forwarder::{Callers, Forwarder},
    lean::LeanDevices,
    pair::{Devices, Pair},
    server::Server,
    stack::Room,
    target::Target,
    turn::{Goals, Names, Turn, tell_own},
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
        // Two sockets for each pair, on either side.
        allow_files(4 * setting.pairs as usize)?;
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
        audience.figures(figures);
        tell_own("a message through the bare forwarder", &other, audience);
        audience.figures(self.ratios(&turns));
        Ok(())
    }

    fn tell(
        &self,
        turn: &Turn,
        server: Server,
        audience: &mut dyn Audience,
    ) -> Result<(), Problem> {
        let figures = self.names.figures(turn, self.goals, &server)?;
        audience.figures(figures);
        tell_own("a message", turn, audience);
        Ok(())
    }

    /// The medians: one turn that something else disturbed decides nothing.
    fn ratios(&self, turns: &[(Turn, Turn)]) -> Vec<Figure> {
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
        figures.filter(|figure| !figure.value.is_nan()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed::turn::{names, tests::turn};

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

    #[test]
    fn a_disturbed_turn_does_not_decide_a_ratio() {
        let turns = [
            (turn(100, 3, 120), turn(100, 2, 100)),
            (turn(100, 900, 9_000), turn(100, 2, 100)),
            (turn(100, 3, 120), turn(100, 2, 100)),
        ];
        let ratios: Vec<_> = CONTEST
            .ratios(&turns)
            .iter()
            .map(|f| (f.name, f.value))
            .collect();
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
        let ratios: Vec<_> = CONTEST.ratios(&turns).iter().map(|f| f.name).collect();
        assert_eq!(ratios, ["route.p50_ratio", "route.p99_ratio"]);
    }
}
