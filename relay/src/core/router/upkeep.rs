//! What nobody asks for, and time and the store bring: answers for what became durable, and mail that was
//! held in memory too long or has expired.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Inner, Router};
use crate::{
    mail::{
        account::Account,
        clock::MailClock,
        desk::{Moment, Write},
    },
    store::StoreError,
};

/// How many durable commits are answered at a time: a fraction of a millisecond of work.
const FINISHED: usize = 32;

/// How often at most what is held in memory is looked through.
const TICK: Duration = Duration::from_millis(25);

/// How often some accounts are looked through for mail past its time to live.
pub(super) const SWEEP: Duration = Duration::from_secs(1);

/// How many accounts at a time.
const SWEEP_ACCOUNTS: usize = 1000;

impl Router {
    /// Does what time and the store have brought: answers what became durable, writes what was held
    /// too long, drops what has expired. The lock is let go after each account, for others wait for it.
    pub(crate) fn work(&self, now: Moment) {
        let done = [self.0.finish(now), self.0.tick(now), self.0.sweep(now)];
        for error in done.into_iter().filter_map(Result::err) {
            tracing::error!(%error, "an account could not be read");
        }
    }
}

impl Inner {
    /// Answers some of what became durable. The rest waits for the next time, which comes at once:
    /// there are others that wait for a processor.
    fn finish(&self, now: Moment) -> Result<(), StoreError> {
        let some = self.finished.take(FINISHED);
        let mut result = Ok(());
        for commit in &some {
            let mut state = self.state.lock();
            let done = self.with_account(now, &mut state, &commit.account, |account, desk| {
                let durable = commit.durable.iter();
                durable.for_each(|done| account.stored(done, desk));
            });
            result = result.and(done);
        }
        if !some.is_empty() {
            self.turns
                .written(some.iter().map(|commit| commit.weight).sum());
        }
        result
    }

    fn tick(&self, now: Moment) -> Result<(), StoreError> {
        if now.time < self.state.lock().next_tick {
            return Ok(());
        }
        loop {
            let mut state = self.state.lock();
            let Some(name) = state.residents.next_due(now.time) else {
                return Ok(());
            };
            state.next_tick = now.time + TICK;
            self.with_account(now, &mut state, &name, Account::tick)?;
        }
    }

    /// Looks through some accounts for what has expired, and drops from memory what the store
    /// knows anyway.
    pub(super) fn sweep(&self, now: Moment) -> Result<(), StoreError> {
        let Some(accounts) = self.begin_sweep(now) else {
            return Ok(());
        };
        let durable = self.finished.through.load(Ordering::Acquire);
        for _ in 0..accounts {
            let mut state = self.state.lock();
            let Some(name) = state.residents.next_in_round() else {
                break;
            };
            self.with_account(now, &mut state, &name, Account::sweep)?;
            if state.residents.len() > self.rules.max_settled
                && let Some(account) = state.residents.unload(&name, durable)
            {
                self.metrics.unloaded(account.waiting_bytes());
            }
        }
        self.end_sweep(durable);
        Ok(())
    }

    /// How many accounts are to be looked through, if it is time to.
    fn begin_sweep(&self, now: Moment) -> Option<usize> {
        let mut state = self.state.lock();
        if now.time < state.next_sweep {
            return None;
        }
        state.next_sweep = now.time + SWEEP;
        self.record_time(now, &mut state.mail_clock);
        Some(SWEEP_ACCOUNTS.min(state.residents.len()))
    }

    /// What could not be dropped from memory becomes durable, so that it can be next time.
    fn end_sweep(&self, durable: u64) {
        let state = self.state.lock();
        if state.residents.len() > self.rules.max_settled && durable < state.writes {
            self.ask_for_durability(state.writes);
        }
    }

    /// Writes down now and then what the clock of mail shows: the next run begins there.
    fn record_time(&self, now: Moment, mail_clock: &mut MailClock) {
        if let Some(reading) = mail_clock.record(now) {
            let reading = vec![Write::PutReading(reading)];
            self.store.commit(reading, Box::new(|| {}));
        }
    }

    /// Has the store tell when everything up to a number is durable: what nobody waits for is
    /// otherwise never told of.
    fn ask_for_durability(&self, number: u64) {
        let finished = self.finished.clone();
        let done = move || {
            finished.through.fetch_max(number, Ordering::AcqRel);
        };
        self.store.commit(Vec::new(), Box::new(done));
    }
}
