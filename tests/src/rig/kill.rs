//! Kills: a process in the middle of its work is gone, and started again.
//!
//! A life is one set of stores, killed several times: then everything is fetched, the book is closed,
//! and the next life begins.

use std::{fmt, future::Future};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::ledger::Verdict;

mod allocator;
mod device;
mod relay;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// One of two relays.
    Relay,
    /// One of three devices that write to each other.
    Device,
    /// The allocator.
    Allocator,
}

/// What is asked of the rig.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is killed.
    pub target: Target,
    /// How often.
    pub kills: u32,
    /// What is sent and when it is killed follows from it.
    pub seed: u64,
}

/// What came of the kills.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many there were.
    pub kills: u32,
    /// How many of them met a store while it moved into a new log; only relays' stores do.
    pub moving: u32,
    /// What was promised and what came.
    pub verdict: Verdict,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            answered,
            lost,
            twice,
            disordered,
            ..
        } = self.verdict;
        let kills = self.kills;
        writeln!(f, "compactions cut off {}", self.moving)?;
        write!(
            f,
            "kills {kills} answered {answered} lost {lost} twice {twice} disordered {disordered}"
        )
    }
}

/// Kills so often, and says what it does.
pub async fn run(options: &Options, say: &mut impl FnMut(String)) -> Outcome {
    match options.target {
        Target::Relay => live_and_die::<relay::Life>(options, say).await,
        Target::Device => live_and_die::<device::Life>(options, say).await,
        Target::Allocator => live_and_die::<allocator::Life>(options, say).await,
    }
}

/// One set of stores, from its first message to its last.
trait Life: Sized {
    /// Starts everything.
    fn begin(seed: u64) -> impl Future<Output = Self>;

    /// Lets things run for a while, kills, starts again. What it was like; an error when it did not
    /// start again, and this life is over.
    fn kill(&mut self) -> impl Future<Output = Result<String, String>>;

    /// How often a kill met a store while it moved into a new log.
    fn moving(&self) -> u32 {
        0
    }

    /// Lets everything come to its end, and closes the book.
    fn end(self) -> impl Future<Output = Verdict>;
}

async fn live_and_die<L: Life>(options: &Options, say: &mut impl FnMut(String)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rng = SmallRng::seed_from_u64(options.seed);
    while outcome.kills < options.kills {
        let kills = rng.random_range(6..=12).min(options.kills - outcome.kills);
        let mut life = L::begin(rng.random()).await;
        let mut started = Ok(String::new());
        for _ in 0..kills {
            outcome.kills += 1;
            started = life.kill().await;
            let (Ok(what) | Err(what)) = &started;
            say(format!("kill {}: {what}", outcome.kills));
            if started.is_err() {
                break;
            }
        }
        outcome.moving += life.moving();
        let mut verdict = life.end().await;
        if let Err(why) = started {
            verdict.lost += 1;
            verdict.findings.push(format!("not started again: {why}"));
        }
        verdict.findings.iter().for_each(|what| say(what.clone()));
        outcome.verdict.add(verdict);
    }
    outcome
}
