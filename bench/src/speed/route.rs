//! How much a relay passes on between devices that are online: each writer keeps a window of messages on
//! their way, and sends the next when one is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use holdfast_protocol::limits::WINDOW;
use tokio::task::JoinSet;

use super::{
    Audience, Problem,
    arrival::all,
    audience::Progress,
    contest::{Contest, Load, Setting, Side, WARM_UP, span},
    latency::Noted,
    pair::Pair,
    turn::{Goals, Turn, names},
};
use crate::Goal;

const CONTEST: Contest = Contest {
    what: "routing",
    names: names!("route."),
    goals: Goals {
        per_second: Goal::None,
        cpu: Goal::AtMost(1.8),
    },
    bare: names!("route.bare_"),
    ratios: [
        ("route.cpu_ratio", Goal::AtMost(2.0)),
        ("route.p50_ratio", Goal::None),
        ("route.p99_ratio", Goal::None),
    ],
};

/// What is to be passed on.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How many messages each writer keeps on their way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=WINDOW as i64))]
    pub window: u32,
    /// For how long
    #[arg(long = "for", value_name = "SPAN", default_value = "10s", value_parser = span)]
    pub span: Duration,
    /// What is the same for all that is measured with pairs.
    #[command(flatten)]
    pub setting: Setting,
}

impl Route {
    /// Measures, and tells.
    ///
    /// # Errors
    /// [`Problem`], when it cannot be measured.
    pub async fn measure(&self, audience: &mut dyn Audience) -> Result<(), Problem> {
        CONTEST.hold(self, &self.setting, self.span, audience).await
    }
}

impl Load for Route {
    async fn turn<P: Pair>(
        &self,
        side: &Side<P>,
        span: Duration,
        progress: &mut Progress<'_>,
    ) -> Result<Turn, Problem> {
        let (book, mut slots) = (Arc::<Book>::default(), JoinSet::new());
        let body = Bytes::from(vec![0; self.setting.size as usize]);
        for pair in &side.pairs {
            for _ in 0..self.window {
                slots.spawn(exchange(pair.clone(), body.clone(), book.clone()));
            }
        }
        progress.pass(WARM_UP).await;
        book.noted.take();
        let (since, first) = (side.server.mark()?, book.answered());
        progress.pass(span).await;
        let (spent, last) = (side.server.mark()?.since(since), book.answered());
        let latencies = book.noted.take();
        book.over.store(true, Ordering::Release);
        let ending = progress.follow(all(slots), "the answer to a message", || book.answered());
        ending.await??;
        Ok(Turn {
            messages: last - first,
            spent,
            latencies,
        })
    }
}

/// What a turn's messages came to.
#[derive(Default)]
struct Book {
    over: AtomicBool,
    answered: AtomicU64,
    noted: Noted,
}

impl Book {
    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    fn note(&self, took: Duration) {
        self.answered.fetch_add(1, Ordering::Release);
        self.noted.note(took);
    }
}

/// One place in a window: a message after the other.
async fn exchange(pair: Arc<impl Pair>, body: Bytes, book: Arc<Book>) -> Result<(), Problem> {
    while !book.over.load(Ordering::Acquire) {
        let sent = Instant::now();
        pair.exchange(body.clone()).await?;
        book.note(sent.elapsed());
    }
    Ok(())
}
