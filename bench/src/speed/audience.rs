//! Who is told what is measured, while it is measured.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use super::Problem;
use crate::Figure;

/// Between two looks at the clock.
const GLANCE: Duration = Duration::from_millis(100);

/// How long it may take until a little more is done.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever is told.
pub trait Audience {
    /// A figure is there.
    fn figure(&mut self, figure: Figure);
    /// Some are there.
    fn figures(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            self.figure(figure);
        }
    }
    /// Something else that helps to judge the figures.
    fn note(&mut self, text: &str);
    /// How much is done, from 0 to 1, of what is done now.
    fn progress(&mut self, what: &str, share: f64);
}

/// How far something of known length has come.
pub(crate) struct Progress<'a> {
    audience: &'a mut dyn Audience,
    what: &'static str,
    whole: f64,
    done: f64,
}

impl<'a> Progress<'a> {
    /// Nothing yet, of so much.
    pub(crate) fn new(audience: &'a mut dyn Audience, what: &'static str, whole: f64) -> Self {
        audience.progress(what, 0.0);
        Self {
            audience,
            what,
            whole,
            done: 0.0,
        }
    }

    /// So much more.
    pub(crate) fn add(&mut self, more: f64) {
        self.set(self.done + more);
    }

    /// So much in all.
    pub(crate) fn set(&mut self, done: f64) {
        self.done = done.min(self.whole);
        self.audience.progress(self.what, self.done / self.whole);
    }

    /// Lets time pass, of which the whole is so many seconds.
    pub(crate) async fn pass(&mut self, span: Duration) {
        let until = Instant::now() + span;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let some = left.min(GLANCE);
            tokio::time::sleep(some).await;
            self.add(some.as_secs_f64());
        }
    }

    /// Waits for work, and looks meanwhile how much of it is done: if nothing more is for long, `next` does
    /// not come.
    pub(crate) async fn follow<W: Future>(
        &mut self,
        work: W,
        next: &'static str,
        done: impl Fn() -> u64,
    ) -> Result<W::Output, Problem> {
        let (mut work, mut since, mut last) = (pin!(work), Instant::now(), 0);
        loop {
            if let Ok(output) = tokio::time::timeout(GLANCE, &mut work).await {
                return Ok(output);
            }
            let now = done();
            self.set(now as f64);
            if now != last {
                (since, last) = (Instant::now(), now);
            }
            if since.elapsed() > PATIENCE {
                let after = PATIENCE;
                return Err(Problem::Silent { what: next, after });
            }
        }
    }
}
