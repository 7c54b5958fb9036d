//! The clock by which mail ages.
//!
//! Times to live outlast a restart, so they cannot be counted by a monotonic clock alone; and a wall
//! clock jumps: a battery is flat, an operator mistypes a year, a time server corrects it all. By such
//! a clock one jump forward would expire everything, and one back would keep it for ever. So mail has
//! a clock of its own, which never goes back and follows these rules:
//!
//! - **While the relay runs**, it advances with the monotonic clock. Whatever the wall clock does
//!   meanwhile changes nothing. (No correction of drift: systems that are told the time slew the
//!   monotonic clock, too, and a crystal by itself is off by minutes a month.)
//! - **Each minute** its reading is written down, beside the wall clock's ([`Reading`]). That is where
//!   the next run begins: it is not behind by more than the last minute.
//! - **The time that the relay was down** is what the wall clock has advanced since then. If it went
//!   back, none is known, and none is counted.
//! - **A wall clock that goes back is doubted** for ten minutes, also while the relay runs: until then
//!   what is written down is what it would have shown. (A machine without a battery has the wrong
//!   time until it is told; if it was written down, being told would look like time down.)
//! - **One hour of it is believed at once**: a restart, an upgrade. What is claimed beyond that is
//!   believed when the relay has run for ten minutes in which the wall clock did not take it back, as
//!   it does when a time server corrects it. If it takes back a part, the rest is believed.
//! - **No more is ever believed** than mail may wait at all; more would change nothing for mail, and
//!   would only age the memory of what was seen before ([`ledger`](super::ledger)).
//!
//! So mail lives for its time to live, counted in running time and in what is known of the time down;
//! a wrong clock at boot can shorten that by an hour, unless it stays wrong for ten minutes.

use std::time::Duration;

use holdfast_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::desk::{Moment, Now};

/// How much time down is believed at once.
const AT_ONCE: Duration = Duration::from_secs(3600);

/// How long the wall clock has to stay with what it says beyond that.
const PROBATION: Duration = Duration::from_secs(600);

/// How often a reading is to be written down.
const RECORDED: Duration = Duration::from_secs(60);

/// Both clocks at one moment, as they are written down. In milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The clock of mail.
    pub(crate) mail_ms: u64,
    /// The wall clock, since 1970-01-01 UTC.
    pub(crate) wall_ms: u64,
    /// Time down that was claimed and not believed yet.
    pub(crate) claimed_ms: u64,
}

/// The clock by which mail ages.
#[derive(Debug)]
pub(crate) struct MailClock {
    longest_ms: u64,
    last: Option<Reading>,
    run: Option<Run>,
    recorded: Option<Time>,
}

/// This run of the relay.
#[derive(Debug)]
struct Run {
    /// When it began.
    began: Time,
    /// What the clocks would have shown then if the relay had not been down.
    last: Reading,
    wall: Wall,
    /// Time down that is believed.
    believed_ms: u64,
    /// Time down that was claimed all the time and is not believed yet.
    claimed_ms: u64,
}

impl MailClock {
    /// Goes on from the last reading of the run before, if there was one. `longest` is how long mail
    /// may wait.
    pub(crate) fn resume(last: Option<Reading>, longest: Duration) -> Self {
        Self {
            longest_ms: millis(longest),
            last,
            run: None,
            recorded: None,
        }
    }

    /// What it shows now.
    pub(crate) fn read(&mut self, moment: Moment) -> Now {
        let Moment { time, wall_ms } = moment;
        let (last, longest_ms) = (self.last, self.longest_ms);
        let run = self.run.get_or_insert_with(|| Run::begin(last, moment));
        run.observe(moment, longest_ms);
        Now {
            time,
            wall_ms,
            mail_ms: run.mail_ms(time),
        }
    }

    /// A reading to be written down, if it is time.
    pub(crate) fn record(&mut self, moment: Moment) -> Option<Reading> {
        let due = |last| moment.time.since(last) >= RECORDED;
        if !self.recorded.is_none_or(due) {
            return None;
        }
        self.recorded = Some(moment.time);
        self.read(moment);
        self.run.as_ref().map(|run| run.reading(moment))
    }
}

impl Run {
    fn begin(last: Option<Reading>, moment: Moment) -> Self {
        let first = Reading {
            mail_ms: moment.wall_ms,
            wall_ms: moment.wall_ms,
            claimed_ms: 0,
        };
        let last = last.unwrap_or(first);
        let down_ms = moment.wall_ms.saturating_sub(last.wall_ms);
        Self {
            began: moment.time,
            last,
            wall: Wall::new(Moment {
                wall_ms: last.wall_ms.max(moment.wall_ms),
                ..moment
            }),
            believed_ms: down_ms.min(millis(AT_ONCE)),
            claimed_ms: u64::MAX,
        }
    }

    fn reading(&self, moment: Moment) -> Reading {
        Reading {
            mail_ms: self.mail_ms(moment.time),
            wall_ms: self.wall.trusted.expected_ms(moment.time),
            claimed_ms: self.claimed_ms,
        }
    }

    fn mail_ms(&self, time: Time) -> u64 {
        let running_ms = millis(time.since(self.began));
        self.last
            .mail_ms
            .saturating_add(self.believed_ms)
            .saturating_add(running_ms)
    }

    /// Holds what is claimed against what the wall clock says now.
    fn observe(&mut self, moment: Moment, longest_ms: u64) {
        self.wall.observe(moment);
        if self.claimed_ms == 0 {
            return;
        }
        let running = moment.time.since(self.began);
        let expected_ms = self.last.wall_ms.saturating_add(millis(running));
        let down_ms = moment
            .wall_ms
            .saturating_add(self.last.claimed_ms)
            .saturating_sub(expected_ms)
            .min(longest_ms);
        let claimed_ms = down_ms.saturating_sub(self.believed_ms);
        self.claimed_ms = self.claimed_ms.min(claimed_ms);
        if running >= PROBATION {
            self.believed_ms += std::mem::take(&mut self.claimed_ms);
        }
    }
}

/// What the wall clock shows, as far as it can be trusted.
#[derive(Debug)]
struct Wall {
    trusted: Shown,
    /// What it has shown since it went back, and since when.
    doubted: Option<(Shown, Time)>,
}

impl Wall {
    fn new(moment: Moment) -> Self {
        Self {
            trusted: Shown(moment),
            doubted: None,
        }
    }

    fn observe(&mut self, moment: Moment) {
        let since = match self.doubted {
            _ if !self.trusted.is_ahead_of(moment) => return *self = Self::new(moment),
            Some((doubted, since)) if !doubted.is_ahead_of(moment) => since,
            _ => moment.time,
        };
        self.doubted = Some((Shown(moment), since));
        if moment.time.since(since) >= PROBATION {
            *self = Self::new(moment);
        }
    }
}

/// What a wall clock has shown at a time.
#[derive(Clone, Copy, Debug)]
struct Shown(Moment);

impl Shown {
    /// What it is to show at another time.
    fn expected_ms(self, time: Time) -> u64 {
        let passed_ms = millis(time.since(self.0.time));
        self.0.wall_ms.saturating_add(passed_ms)
    }

    /// Whether it went back in between; clocks that are slewed differ by a second at most.
    fn is_ahead_of(self, moment: Moment) -> bool {
        self.expected_ms(moment.time) > moment.wall_ms.saturating_add(1000)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const START_MS: u64 = 1_700_000_000_000;
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

    /// A relay's machine: the wall clock is what somebody makes of it.
    struct Machine {
        clock: MailClock,
        time_ms: u64,
        wall_ms: u64,
        disk: Option<Reading>,
    }

    impl Machine {
        fn new(wall_ms: u64) -> Self {
            let mut machine = Self {
                clock: MailClock::resume(None, LONGEST),
                time_ms: 0,
                wall_ms,
                disk: None,
            };
            machine.read();
            machine
        }

        fn moment(&self) -> Moment {
            Moment {
                time: Time::at(Duration::from_millis(self.time_ms)),
                wall_ms: self.wall_ms,
            }
        }

        fn read(&mut self) -> u64 {
            let moment = self.moment();
            if let Some(reading) = self.clock.record(moment) {
                self.disk = Some(reading);
            }
            self.clock.read(moment).mail_ms
        }

        /// The relay runs, and is looked at each second.
        fn run(&mut self, ms: u64) -> u64 {
            for _ in 0..ms / SECOND {
                self.time_ms += SECOND;
                self.wall_ms += SECOND;
                self.read();
            }
            self.read()
        }

        /// The relay is killed, and starts again; meanwhile the wall clock went on or was set.
        fn restart(&mut self, wall_ms: u64) -> u64 {
            (self.time_ms, self.wall_ms) = (0, wall_ms);
            self.clock = MailClock::resume(self.disk, LONGEST);
            self.read()
        }
    }

    #[test]
    fn it_starts_with_the_wall_clock_and_then_goes_its_own_way() {
        let mut machine = Machine::new(START_MS);
        assert_eq!(machine.run(HOUR), START_MS + HOUR);
        machine.wall_ms += 1000 * DAY;
        assert_eq!(machine.run(HOUR), START_MS + 2 * HOUR);
        machine.wall_ms = 0;
        assert_eq!(machine.run(HOUR), START_MS + 3 * HOUR);
    }

    #[test]
    fn a_reading_is_written_down_each_minute() {
        let mut machine = Machine::new(START_MS);
        let reading = |machine: &Machine| machine.disk.unwrap().mail_ms;
        assert_eq!(reading(&machine), START_MS);
        machine.run(59 * SECOND);
        assert_eq!(reading(&machine), START_MS);
        machine.run(SECOND);
        assert_eq!(reading(&machine), START_MS + MINUTE);
    }

    #[test]
    fn a_short_time_down_is_believed_at_once() {
        let mut machine = Machine::new(START_MS);
        machine.run(90 * SECOND);
        let mail = machine.restart(START_MS + 90 * SECOND + HOUR / 2);
        assert_eq!(mail, START_MS + 90 * SECOND + HOUR / 2);
        assert_eq!(machine.run(HOUR), mail + HOUR);
    }

    #[test]
    fn a_clock_that_went_back_counts_as_no_time_down() {
        let mut machine = Machine::new(START_MS);
        machine.run(10 * MINUTE);
        let mail = machine.restart(START_MS - 300 * DAY);
        assert_eq!(mail, START_MS + 10 * MINUTE);
        machine.wall_ms = START_MS + 10 * MINUTE;
        assert_eq!(machine.run(HOUR), mail + HOUR, "corrected later");
        assert_eq!(
            machine.restart(machine.wall_ms + MINUTE),
            mail + HOUR + MINUTE
        );
    }

    #[test]
    fn a_clock_that_is_wrong_at_each_boot_until_it_is_told_ages_nothing() {
        let mut machine = Machine::new(START_MS);
        machine.run(HOUR);
        machine.restart(0);
        machine.run(2 * MINUTE);
        let mail = machine.restart(START_MS + HOUR + 3 * MINUTE);
        assert_eq!(mail, START_MS + HOUR + 3 * MINUTE);
        assert_eq!(machine.run(HOUR), mail + HOUR);
    }

    #[test]
    fn a_clock_that_stays_back_is_what_the_next_run_begins_with() {
        let mut machine = Machine::new(START_MS);
        let mail = machine.restart(START_MS - DAY);
        assert_eq!(machine.run(10 * MINUTE), mail + 10 * MINUTE);
        assert_eq!(
            machine.restart(machine.wall_ms + MINUTE),
            mail + 11 * MINUTE
        );
    }

    #[test]
    fn a_wall_clock_that_is_slewed_is_not_doubted() {
        let mut machine = Machine::new(START_MS);
        for _ in 0..20 {
            machine.run(MINUTE);
            machine.wall_ms -= 1000;
        }
        machine.run(MINUTE);
        assert_eq!(machine.disk.unwrap().wall_ms, machine.wall_ms);
        machine.wall_ms -= 1002;
        machine.run(MINUTE);
        assert_eq!(machine.disk.unwrap().wall_ms, machine.wall_ms + 1002);
    }

    #[test]
    fn a_long_time_down_is_believed_when_the_wall_clock_has_stayed_with_it() {
        let mut machine = Machine::new(START_MS);
        let mail = machine.restart(START_MS + 2 * DAY);
        assert_eq!(mail, START_MS + HOUR);
        assert_eq!(machine.run(9 * MINUTE), mail + 9 * MINUTE);
        assert_eq!(machine.run(MINUTE), START_MS + 2 * DAY + 10 * MINUTE);
        assert_eq!(machine.run(HOUR), START_MS + 2 * DAY + 70 * MINUTE);
    }

    #[test]
    fn what_the_wall_clock_takes_back_is_not_believed() {
        let mut machine = Machine::new(START_MS);
        machine.restart(START_MS + 400 * DAY);
        machine.run(MINUTE);
        machine.wall_ms -= 400 * DAY - 3 * HOUR;
        machine.run(MINUTE);
        machine.wall_ms += 400 * DAY;
        assert_eq!(machine.run(8 * MINUTE), START_MS + 3 * HOUR + 10 * MINUTE);
    }

    #[test]
    fn no_more_is_believed_than_mail_may_wait() {
        let mut machine = Machine::new(START_MS);
        machine.restart(START_MS + 4000 * DAY);
        assert_eq!(machine.run(HOUR), START_MS + 30 * DAY + HOUR);
        let again = machine.restart(machine.wall_ms + MINUTE);
        assert_eq!(again, START_MS + 30 * DAY + HOUR + MINUTE);
    }

    #[test]
    fn what_is_claimed_is_still_claimed_after_another_restart() {
        let mut machine = Machine::new(START_MS);
        machine.restart(START_MS + DAY);
        machine.run(5 * MINUTE);
        let mail = machine.restart(START_MS + DAY + 6 * MINUTE);
        assert_eq!(mail, START_MS + HOUR + 6 * MINUTE);
        assert_eq!(machine.run(10 * MINUTE), START_MS + DAY + 16 * MINUTE);
    }

    /// Whatever the wall clock does: the clock of mail never goes back, advances while the relay runs
    /// as time does or by what was claimed at boot, and is never ahead of what really passed by more
    /// than an hour a restart, unless a wrong clock was left alone for ten minutes.
    #[test]
    fn whatever_the_wall_clock_does_it_never_goes_back_or_ahead() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut machine = Machine::new(START_MS);
            let (mut shown, mut passed, mut restarts) = (START_MS, 0, 0);
            for _ in 0..60 {
                match rng.random_range(0..4) {
                    0 => machine.wall_ms = START_MS + passed,
                    1 => machine.wall_ms = rng.random_range(0..2 * START_MS),
                    2 => {
                        let down = rng.random_range(0..2 * DAY);
                        passed += down;
                        restarts += 1;
                        // The disk's word may be a minute old.
                        shown = machine.disk.unwrap().mail_ms;
                        machine.restart(machine.wall_ms + down);
                    }
                    _ => {}
                }
                let ran = rng.random_range(0..9 * MINUTE) / SECOND * SECOND;
                passed += ran;
                let before = machine.read();
                assert!(before >= shown, "seed {seed}: went back");
                shown = machine.run(ran);
                assert!(shown >= before + ran, "seed {seed}: stood still");
                machine.wall_ms = START_MS + passed;
                machine.read();
                assert!(
                    shown <= START_MS + passed + restarts * HOUR,
                    "seed {seed}: {shown} after {passed} ms"
                );
            }
        }
    }
}
