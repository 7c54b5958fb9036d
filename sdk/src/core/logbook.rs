//! The device's account of time, by the clocks of its relays: how old what was sent is, and how old
//! what is remembered of others.
//!
//! A device's own clock is worth nothing here: it jumps, and stands still while the device sleeps. A
//! relay tells its clock at each welcome, and from one welcome to the next the logbook counts what
//! has passed. Clocks of relays can be wrong, too, and the two ages that are counted err to opposite
//! sides, each to where nothing arrives twice:
//!
//! - **how long ago something was sent** is never counted too short: every step forward counts, in
//!   full, and a step back counts as nothing. A relay whose clock is years ahead makes its devices give
//!   up what is unanswered then; they are told so. What passes while a device is away counts as less
//!   only between a relay and one whose clock is behind it, by that difference at most: for that,
//!   [`SOURCE_MEMORY`](holdfast_protocol::limits::SOURCE_MEMORY) is a month longer than
//!   [`MAX_RETRY_AGE`].
//! - **how long ago something was received** is never counted too long by more than a step of
//!   [`PLAUSIBLE`]: larger ones, forward and back, count as nothing, and smaller ones count as they
//!   are, so that two relays that disagree cancel out. A device that was away for longer keeps its
//!   memory for longer.
//!
//! # Pages
//!
//! What is in the outbox is not stamped with a time but with the number of a **page**, which is known
//! without asking a relay: the first under which it may be submitted. A page begins with each session
//! and after each day of one, with the time it begins at; a message that is written while there is no
//! session gets the number of the page that the next one will begin. So a message that waits for its
//! first session is as old as that session, however long it waited, and one that was sent is as old as
//! its page or younger, by a day at most. A page is on the disk before anything is submitted under it,
//! and that is the only sync it costs: one for each session, and one a day.

use std::time::Duration;

use holdfast_protocol::{
    limits::{MAX_RETRY_AGE, MAX_TTL},
    time::Time,
};
use serde::{Deserialize, Serialize};

/// How long it is remembered how far the app has come with a source, at least: 425 days. The last
/// message that a mark covers was submitted for the first time before the mark was made. Its sender
/// may submit it again for another 60 days ([`MAX_RETRY_AGE`]), and what a relay accepts then may wait
/// there for 365 days ([`MAX_TTL`], which bounds what relays can be configured to). After that no copy
/// of it can come.
pub(crate) const MARK_MEMORY: Duration =
    Duration::from_secs(MAX_RETRY_AGE.as_secs() + MAX_TTL.as_secs());

/// A longer step between what two relays tell may be a wrong clock.
const PLAUSIBLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Pages that begin within so long share the beginning of the first. A session begins a new page
/// after as long.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// From which page on messages were submitted at this time or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leaf {
    page: u64,
    /// As in [`Logbook::passed_ms`].
    began_ms: u64,
}

/// The account of time. A device without one begins with page 0, which stands for all that was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logbook {
    /// The number of the last page.
    page: u64,
    /// What the relay's clock showed when it began: milliseconds since 1970-01-01 UTC.
    told_ms: Option<u64>,
    /// How much has passed until then, or less: milliseconds. Counts every step forward.
    passed_ms: u64,
    /// How much has passed until then, or more: milliseconds. Counts plausible steps.
    aged_ms: u64,
    /// When pages began, oldest first; one for each day at most.
    leaves: Vec<Leaf>,
    /// When the last page began, in this run of the program.
    #[serde(skip)]
    at: Option<Time>,
}

impl Default for Logbook {
    fn default() -> Self {
        Self {
            page: 0,
            told_ms: None,
            passed_ms: 0,
            aged_ms: 0,
            leaves: vec![Leaf {
                page: 0,
                began_ms: 0,
            }],
            at: None,
        }
    }
}

impl Logbook {
    /// The number of the last page.
    pub fn page(&self) -> u64 {
        self.page
    }

    /// A relay tells its clock: begins a page.
    pub(crate) fn welcomed(&mut self, now: Time, told_ms: u64) {
        let last = self.told_ms.unwrap_or(told_ms);
        let forward = told_ms.saturating_sub(last);
        // What this program has seen pass is beyond doubt.
        let seen = self.at.map_or(0, |at| millis(now.since(at)));
        self.age(last, told_ms);
        self.turn(now, told_ms, forward.max(seen));
    }

    /// In a session: begins a page if the last one is a day old, and says whether it did.
    pub(crate) fn tick(&mut self, now: Time) -> bool {
        let (Some(at), Some(last)) = (self.at, self.told_ms) else {
            return false;
        };
        let seen = now.since(at);
        if seen < DAY {
            return false;
        }
        let told_ms = last.saturating_add(millis(seen));
        self.age(last, told_ms);
        self.turn(now, told_ms, millis(seen));
        true
    }

    /// Whether what may have been submitted under a page may not be submitted any more.
    pub(crate) fn is_too_old(&self, page: u64, now: Time) -> bool {
        let leaf = self.leaves.iter().rev().find(|leaf| leaf.page <= page);
        let seen = self.at.map_or(0, |at| millis(now.since(at)));
        let passed = self.passed_ms.saturating_add(seen);
        // Of pages that are not known any more, one that began later is too old already.
        leaf.is_none_or(|leaf| passed.saturating_sub(leaf.began_ms) >= millis(MAX_RETRY_AGE))
    }

    /// The time at which marks are made now: to be compared with nothing but its like.
    pub(crate) fn aged_ms(&self) -> u64 {
        self.aged_ms
    }

    fn age(&mut self, last_ms: u64, told_ms: u64) {
        if last_ms.abs_diff(told_ms) <= millis(PLAUSIBLE) {
            let aged = self.aged_ms.saturating_add(told_ms);
            self.aged_ms = aged.saturating_sub(last_ms);
        }
    }

    fn turn(&mut self, now: Time, told_ms: u64, step: u64) {
        self.page = self.page.saturating_add(1);
        self.told_ms = Some(told_ms);
        self.passed_ms = self.passed_ms.saturating_add(step);
        self.at = Some(now);
        let began = self.leaves.last().map(|leaf| leaf.began_ms);
        if began.is_none_or(|began| self.passed_ms.saturating_sub(began) >= millis(DAY)) {
            self.leaves.push(Leaf {
                page: self.page,
                began_ms: self.passed_ms,
            });
        }
        self.prune();
    }

    /// Of the leaves that are too old the last one stays, to show that its pages are.
    fn prune(&mut self) {
        let passed = self.passed_ms;
        let is_old = |leaf: &Leaf| passed.saturating_sub(leaf.began_ms) >= millis(MAX_RETRY_AGE);
        let old = self.leaves.partition_point(is_old);
        self.leaves.drain(..old.saturating_sub(1));
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    /// 2026-01-01 00:00 UTC.
    const TOLD_MS: u64 = 1_767_225_600_000;

    fn at_day(day: u64) -> Time {
        Time::at(DAY * day as u32)
    }

    /// A logbook that was told these days, each in another run of the program.
    fn told(days: &[i64]) -> Logbook {
        let mut logbook = Logbook::default();
        for day in days {
            logbook.at = None;
            logbook.welcomed(
                Time::ZERO,
                TOLD_MS.saturating_add_signed(day * DAY_MS as i64),
            );
        }
        logbook
    }

    #[test]
    fn steps_forward_count_in_full_and_steps_back_as_nothing() {
        assert_eq!(told(&[0, 3, 1000]).passed_ms, 1000 * DAY_MS);
        assert_eq!(told(&[0, -400, -399, 1]).passed_ms, 401 * DAY_MS);
        assert_eq!(told(&[20_000]).passed_ms, 0, "the first is no step");
    }

    #[test]
    fn marks_age_by_plausible_steps_and_clocks_that_disagree_a_little_cancel_out() {
        assert_eq!(told(&[0, 7, 14]).aged_ms, 14 * DAY_MS);
        assert_eq!(told(&[0, 8, 400, 0]).aged_ms, 0);
        assert_eq!(told(&[0, 10, 13, 10, 13, 10, 13]).aged_ms, 3 * DAY_MS);
        assert_eq!(
            told(&[0, -5]).aged_ms,
            0,
            "there is nothing before the start"
        );
    }

    #[test]
    fn what_the_program_has_seen_pass_counts_although_the_relays_clock_stands_still() {
        let mut logbook = told(&[0]);
        logbook.welcomed(at_day(30), TOLD_MS);
        assert_eq!(logbook.passed_ms, 30 * DAY_MS);
        assert!(!logbook.is_too_old(1, at_day(59)));
        assert!(logbook.is_too_old(1, at_day(60)), "without another page");
    }

    #[test]
    fn a_page_is_as_old_as_its_day_or_looks_older_by_a_day_at_most() {
        let mut logbook = told(&[0]);
        let almost = DAY - Duration::from_millis(1);
        logbook.welcomed(Time::at(almost), TOLD_MS + millis(almost));
        let now = Time::at(MAX_RETRY_AGE);
        assert!(logbook.is_too_old(2, now), "it shares the first one's day");
        logbook.welcomed(at_day(1), TOLD_MS + DAY_MS);
        assert!(!logbook.is_too_old(3, now));
        assert!(logbook.is_too_old(3, now + DAY));
    }

    #[test]
    fn the_logbook_stays_small_and_forgets_no_page_too_early() {
        let mut logbook = Logbook::default();
        for hour in 0..24 * 400_u64 {
            let now = Time::at(Duration::from_secs(3600 * hour));
            logbook.welcomed(now, TOLD_MS + 3_600_000 * hour);
            assert!(logbook.leaves.len() <= 62, "{}", logbook.leaves.len());
            assert!(!logbook.is_too_old(logbook.page, now));
            let page_of = |days: u64| logbook.page.saturating_sub(24 * days);
            assert!(!logbook.is_too_old(page_of(58), now));
            assert_eq!(logbook.is_too_old(page_of(61), now), hour >= 24 * 60);
        }
        let bytes = postcard::to_allocvec(&logbook).unwrap().len();
        assert!(bytes < 62 * 10 + 40, "{bytes} bytes");
    }

    #[test]
    fn absurd_clocks_do_no_harm() {
        let mut logbook = Logbook::default();
        for told_ms in [u64::MAX, 0, u64::MAX, 0, 1, u64::MAX] {
            logbook.welcomed(Time::ZERO, told_ms);
            assert!(!logbook.is_too_old(logbook.page, Time::ZERO));
        }
        assert_eq!(logbook.passed_ms, u64::MAX);
    }
}
