//! Power cuts.

use crate::run;

const POWERCUT: &str = env!("CARGO_BIN_EXE_powercut");

#[test]
fn what_was_answered_survives_a_power_cut() {
    let ended = run(POWERCUT, &["--cuts", "30", "--seed", "1"]);
    if ended.was_skipped() {
        return;
    }
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for word in ["lost", "twice", "unopened"] {
        assert_eq!(ended.figure(word), 0, "{}", ended.said);
    }
    assert_eq!(ended.figure("cuts"), 30);
    assert!(ended.figure("answered") > 1000, "{}", ended.said);
    assert!(ended.aside() > 0, "no cut met a compaction: {}", ended.said);
}

/// The negative control: the rig finds what it is for.
#[test]
fn without_the_barrier_something_is_lost() {
    let relay = env!("CARGO_BIN_EXE_relay-without-barrier");
    let ended = run(
        POWERCUT,
        &["--cuts", "40", "--without-barrier", "--relay", relay],
    );
    if ended.was_skipped() {
        return;
    }
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let losses = ended.figure("lost") + ended.figure("unopened");
    assert!(losses > 0, "{}", ended.said);
}
