//! What interval a device settles at behind translations of every kind, how soon, and for how long
//! nobody can reach it meanwhile.

use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest time for which the relay could not have reached it, in these silences.
fn longest_forgotten(silences: &[Silence]) -> Duration {
    let forgotten = silences.iter().map(|silence| silence.forgotten);
    forgotten.max().unwrap_or_default()
}

fn settled(sleeper: &mut Sleeper) -> usize {
    sleeper.settle(WEEK).expect("it settles")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn behind_any_translation_it_settles_within_twelve_silences_at_three_quarters_of_what_holds() {
    for timeout in (38..=540).map(secs) {
        for keeps_port in [false, true] {
            let mut sleeper = Sleeper::new(timeout, keeps_port);
            let silences = settled(&mut sleeper);
            let ratio = sleeper.interval().div_duration_f64(timeout);
            assert!(
                (0.75..=1.0).contains(&ratio),
                "{timeout:?} {keeps_port}: {ratio}"
            );
            assert!(silences <= 12, "{timeout:?} {keeps_port}: {silences}");
        }
    }
}

#[test]
fn while_it_learns_it_is_out_of_reach_for_less_than_an_interval() {
    for timeout in [60, 120, 300].map(secs) {
        let mut sleeper = Sleeper::new(timeout, true);
        settled(&mut sleeper);
        let forgotten = longest_forgotten(sleeper.silences());
        assert!(forgotten < timeout, "{forgotten:?}");
        let learning = sleeper.silences().len();
        sleeper.run(secs(24 * 3600));
        let since = &sleeper.silences()[learning - 1..];
        assert_eq!(
            longest_forgotten(since),
            Duration::ZERO,
            "what has settled holds"
        );
    }
}

#[test]
fn behind_a_patient_translation_it_pings_a_fifth_as_often_as_every_thirty_seconds() {
    let mut sleeper = Sleeper::new(secs(300), false);
    let day = secs(24 * 3600);
    let pings = sleeper.run(day);
    assert!(pings * 5 < 24 * 120, "{pings} with the learning");
}

#[test]
fn where_nothing_is_ever_forgotten_it_stops_at_the_longest() {
    let mut sleeper = Sleeper::new(10 * WEEK, false);
    let silences = settled(&mut sleeper);
    assert_eq!(silences, 10);
    assert_eq!(sleeper.interval(), secs(540).mul_f64(0.8));
}

#[test]
fn an_impatient_translation_is_met_below_where_it_began() {
    let mut sleeper = Sleeper::new(secs(15), false);
    settled(&mut sleeper);
    let ratio = sleeper.interval().div_duration_f64(secs(15));
    assert!((0.7..=1.0).contains(&ratio), "{ratio}");
}

#[test]
fn what_is_remembered_is_used_from_the_first_silence_on() {
    let mut sleeper = Sleeper::new(secs(300), false);
    settled(&mut sleeper);
    let learned = sleeper.learned();
    let mut again = Sleeper::remembering(secs(300), false, learned);
    let (interval, settled) = (again.interval(), sleeper.interval());
    assert_eq!(interval.as_millis(), settled.as_millis());
    again.run(secs(3600));
    assert_eq!(again.interval(), interval);
    assert_eq!(longest_forgotten(again.silences()), Duration::ZERO);
}

#[test]
fn after_a_week_longer_ones_are_tried_again() {
    let mut sleeper = Sleeper::new(secs(60), false);
    settled(&mut sleeper);
    sleeper.nat.timeout = secs(300);
    sleeper.run(WEEK - secs(3600));
    assert!(sleeper.interval() < secs(60));
    sleeper.run(secs(2 * 3600));
    let ratio = sleeper.interval().div_duration_f64(secs(300));
    assert!((0.75..=1.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_translation_that_has_grown_impatient_is_noticed_at_once() {
    for keeps_port in [false, true] {
        let mut sleeper = Sleeper::new(secs(300), keeps_port);
        settled(&mut sleeper);
        sleeper.nat.timeout = secs(100);
        sleeper.run(secs(3600));
        let ratio = sleeper.interval().div_duration_f64(secs(100));
        assert!((0.75..=1.0).contains(&ratio), "{keeps_port} {ratio}");
    }
}

#[test]
fn lost_answers_do_not_shorten_what_has_settled() {
    let mut sleeper = Sleeper::new(secs(300), true);
    settled(&mut sleeper);
    let interval = sleeper.interval();
    sleeper.down.clear();
    let mut lost = 0;
    while lost < 10 {
        sleeper.step();
        // Every other late answer is lost, with its repetition.
        if sleeper.wakes.is_multiple_of(2) {
            let before = sleeper.down.len();
            sleeper.down.retain(|(_, pong)| !pong.late);
            lost += before - sleeper.down.len();
        }
    }
    assert_eq!(sleeper.interval(), interval);
}
