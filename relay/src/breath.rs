//! Lets the other tasks run now and then: quinn's futures are ready for as long as there is something,
//! and know nothing of tokio's budget, so whoever sends without end would keep a thread to itself.

/// Counts how much was done in one breath.
#[derive(Debug)]
pub(crate) struct Breath {
    most: u32,
    done: u32,
}

impl Breath {
    /// One of so many pieces of work.
    pub(crate) fn of(most: u32) -> Self {
        Self { most, done: 0 }
    }

    /// A piece of work was done. Lets the others run if it was the last of this breath.
    pub(crate) async fn spend(&mut self) {
        self.done += 1;
        if self.done >= self.most {
            self.done = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use super::*;

    #[tokio::test]
    async fn one_that_always_has_work_lets_the_others_run() {
        let (rounds, seen) = (Cell::new(0), Cell::new(0));
        let busy = async {
            let mut breath = Breath::of(4);
            for _ in 0..12 {
                ready(()).await;
                rounds.set(rounds.get() + 1);
                breath.spend().await;
            }
        };
        let other = async {
            tokio::task::yield_now().await;
            seen.set(rounds.get());
        };
        tokio::join!(busy, other);
        assert!(seen.get() < 12, "{}", seen.get());
    }
}
