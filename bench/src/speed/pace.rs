//! How long messages take at a rate that the relay can easily keep, and what each costs when they come
//! one by one.

use std::{
    num::NonZeroU64,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use rustix::thread::set_current_timer_slack;
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::timeout,
};

use super::{
    Audience, Problem,
    audience::Progress,
    contest::{Contest, Load, Setting, Side, WARM_UP, span},
    latency::Latencies,
    pair::Pair,
    timetable::Timetable,
    turn::{Goals, Turn, names},
};
use crate::Goal;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

const CONTEST: Contest = Contest {
    what: "pacing",
    names: names!("pace."),
    goals: Goals::NONE,
    bare: names!("pace.bare_"),
    ratios: [
        ("pace.cpu_ratio", Goal::AtMost(0.65)),
        ("pace.p50_ratio", Goal::AtMost(1.3)),
        ("pace.p99_ratio", Goal::AtMost(1.3)),
    ],
};

/// What is to be sent how often.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many messages a second all pairs send together, one after the other and evenly
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// For how long
    #[arg(long = "for", value_name = "SPAN", default_value = "15s", value_parser = span)]
    pub span: Duration,
    /// What is the same for all that is measured with pairs.
    #[command(flatten)]
    pub setting: Setting,
}

impl Pace {
    /// Measures, and tells.
    ///
    /// # Errors
    /// [`Problem`], when it cannot be measured.
    pub async fn measure(&self, audience: &mut dyn Audience) -> Result<(), Problem> {
        CONTEST.hold(self, &self.setting, self.span, audience).await
    }
}

/// What came of a message: its number, and when the answer was there.
type Answer = Result<(u64, Instant), Problem>;

impl Load for Pace {
    async fn turn<P: Pair>(
        &self,
        side: &Side<P>,
        span: Duration,
        progress: &mut Progress<'_>,
    ) -> Result<Turn, Problem> {
        let table = Timetable::new(Instant::now(), self.rate);
        let (first, last) = (table.due_within(WARM_UP), table.due_within(WARM_UP + span));
        let (tell, answers) = mpsc::unbounded_channel();
        let body = Bytes::from(vec![0; self.setting.size as usize]);
        let (pairs, runtime) = (side.pairs.clone(), Handle::current());
        let sending = thread::spawn(move || {
            punctually(table, last, |number| {
                let pair = pairs[number as usize % pairs.len()].clone();
                runtime.spawn(exchange(number, pair, body.clone(), tell.clone()));
            })
        });
        progress.pass(WARM_UP).await;
        let since = side.server.mark()?;
        progress.pass(span).await;
        let spent = side.server.mark()?.since(since);
        let latencies = hear(answers, table, first).await?;
        // It has ended: every sender of the channel is gone.
        let _ = sending.join();
        Ok(Turn {
            messages: latencies.count(),
            spent,
            latencies,
        })
    }
}

/// Has each message sent when it is due, from a thread of its own: a runtime's timers are late by up to a
/// millisecond.
fn punctually(table: Timetable, end: u64, send: impl Fn(u64)) {
    // Without it, the thread is woken some 50 us late; it may not be had, and then that is so.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    for number in 0..end {
        let left = table.due(number).saturating_duration_since(Instant::now());
        if !left.is_zero() {
            thread::sleep(left);
        }
        send(number);
    }
}

async fn exchange(number: u64, pair: Arc<impl Pair>, body: Bytes, tell: UnboundedSender<Answer>) {
    let answer = pair.exchange(body).await.map(|()| (number, Instant::now()));
    // Fails only if the measurement was given up.
    let _ = tell.send(answer);
}

/// What all messages took from a number on, once all are answered.
async fn hear(
    mut answers: UnboundedReceiver<Answer>,
    table: Timetable,
    first: u64,
) -> Result<Latencies, Problem> {
    let mut latencies = Latencies::new();
    let hearing = async {
        while let Some(answer) = answers.recv().await {
            let (number, answered) = answer?;
            if number >= first {
                latencies.note(table.took(number, answered));
            }
        }
        Ok(())
    };
    let heard = timeout(PATIENCE, hearing).await;
    heard.unwrap_or(Err(Problem::Silent {
        what: "the answer to a message",
        after: PATIENCE,
    }))?;
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn messages_are_sent_in_order_and_none_before_it_is_due() {
        let table = Timetable::new(Instant::now(), 1_000);
        let sent = RefCell::new(Vec::new());
        punctually(table, 20, |number| {
            assert!(Instant::now() >= table.due(number));
            sent.borrow_mut().push(number);
        });
        assert_eq!(sent.take(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn every_answer_counts_from_when_it_was_due_but_those_of_the_warm_up() {
        let table = Timetable::new(Instant::now(), 1_000);
        let (tell, answers) = mpsc::unbounded_channel();
        for number in [3, 0, 1, 2] {
            let answered = table.due(number) + Duration::from_millis(10 * number);
            tell.send(Ok((number, answered))).unwrap();
        }
        drop(tell);
        let latencies = hear(answers, table, 2).await.unwrap();
        assert_eq!(latencies.count(), 2);
        let times = [0.5, 1.0].map(|share| (latencies.within(share) / 10_000.0).round());
        assert_eq!(times, [2.0, 3.0]);
    }

    #[tokio::test]
    async fn a_message_that_was_not_taken_ends_the_measurement() {
        let table = Timetable::new(Instant::now(), 1_000);
        let (tell, answers) = mpsc::unbounded_channel();
        tell.send(Err(Problem::forwarder("a connection was lost")))
            .unwrap();
        assert!(hear(answers, table, 0).await.is_err());
    }
}
