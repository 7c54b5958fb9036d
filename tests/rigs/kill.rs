//! Kills.

use crate::{Ended, run};

fn keeps_its_word(target: &str, kills: u64) -> Ended {
    let kills_said = kills.to_string();
    let ended = run(
        env!("CARGO_BIN_EXE_kill"),
        &["--target", target, "--kills", &kills_said, "--seed", "1"],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for word in ["lost", "twice", "disordered"] {
        assert_eq!(ended.figure(word), 0, "{}", ended.said);
    }
    assert_eq!(ended.figure("kills"), kills);
    assert!(ended.figure("answered") > 10 * kills, "{}", ended.said);
    ended
}

#[test]
fn a_killed_relay_keeps_its_word() {
    let ended = keeps_its_word("relay", 50);
    assert!(
        ended.aside() > 0,
        "no kill met a compaction: {}",
        ended.said
    );
}

#[test]
fn a_killed_device_keeps_its_word() {
    keeps_its_word("device", 20);
}

#[test]
fn a_killed_allocator_keeps_its_word() {
    keeps_its_word("allocator", 20);
}
