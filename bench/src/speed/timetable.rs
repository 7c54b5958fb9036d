//! When messages are due, at a fixed rate, whatever became of those before.
//!
//! A load generator that waits for a slow answer before it sends on asks least when the server is
//! slowest, and so leaves out the worst of what users would have seen ("coordinated omission", Gil
//! Tene). So each message is sent when it is due, answered or not, and what it took is counted from
//! then, however late the load generator itself came to send it.

use std::time::{Duration, Instant};

/// So many messages a second, evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timetable {
    start: Instant,
    rate: f64,
}

impl Timetable {
    /// The first message is due at `start`, and then `rate` a second.
    pub(crate) fn new(start: Instant, rate: u32) -> Self {
        let rate = f64::from(rate);
        Self { start, rate }
    }

    /// When a message is due; the first has the number 0.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many are due before so much time has passed.
    pub(crate) fn due_within(&self, span: Duration) -> u64 {
        (span.as_secs_f64() * self.rate).ceil() as u64
    }

    /// How long a message took of which the answer came then.
    pub(crate) fn took(&self, number: u64, answered: Instant) -> Duration {
        answered.saturating_duration_since(self.due(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed::latency::Latencies;

    const RATE: u32 = 1_000;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn messages_are_due_evenly() {
        let table = Timetable::new(Instant::now(), RATE);
        assert_eq!(table.due(0), table.start);
        assert_eq!(table.due(2_500) - table.start, ms(2_500));
        assert_eq!(table.due_within(ms(2_500)), 2_500);
        assert_eq!(table.due_within(Duration::ZERO), 0);
        let seldom = Timetable::new(table.start, 3);
        assert_eq!(seldom.due_within(ms(1_000)), 3);
        assert_eq!(seldom.due_within(ms(1_001)), 4);
    }

    /// A server that answers in a millisecond, but not from the first second to the second one.
    fn answered(sent: Duration) -> Duration {
        let stall = ms(1_000)..ms(2_000);
        match stall.contains(&sent) {
            true => stall.end + ms(1),
            false => sent + ms(1),
        }
    }

    #[test]
    fn a_stall_is_felt_by_all_that_was_due_in_it_whenever_it_was_sent() {
        let table = Timetable::new(Instant::now(), RATE);
        let (mut prompt, mut coordinated) = (Latencies::new(), Latencies::new());
        let mut free = Duration::ZERO;
        for number in 0..table.due_within(ms(10_000)) {
            let due = table.due(number) - table.start;
            prompt.note(table.took(number, table.start + answered(due)));
            // One that waits for an answer before it sends again is late after the stall.
            let sent = due.max(free);
            free = answered(sent);
            coordinated.note(free - sent);
        }
        assert_eq!(prompt.within(0.5), 1_000.0);
        let tenth = prompt.within(0.95);
        assert!((480_000.0..520_000.0).contains(&tenth), "{tenth}");
        assert!(prompt.within(0.99) > 850_000.0);
        assert_eq!(coordinated.within(0.99), 1_000.0, "what would be missed");
    }

    #[test]
    fn the_load_generators_own_lateness_counts() {
        let table = Timetable::new(Instant::now(), RATE);
        let sent = table.due(7) + ms(30);
        assert_eq!(table.took(7, sent + ms(1)), ms(31));
        assert_eq!(table.took(7, table.start), Duration::ZERO);
    }
}
