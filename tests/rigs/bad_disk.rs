//! Disks that fail, and disks that are full.

use std::path::Path;

use holdfast_tests::rig::{
    bad_disk::{self, Full},
    disk,
};

use crate::MACHINE;

/// The errors that are tried.
const FAULTS: usize = 14;

const BAD: &str = env!("CARGO_BIN_EXE_relay-on-bad-disk");
const GOOD: &str = env!("CARGO_BIN_EXE_relay-under-test");

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(future)
}

#[test]
fn a_disk_that_fails_loses_nothing_that_was_answered_and_the_relay_says_so() {
    let _machine = MACHINE.lock();
    let (mut met, mut met_moving) = (0, 0);
    for (fault, seed) in bad_disk::faults(1, FAULTS).into_iter().zip(1..) {
        let outcome = block_on(bad_disk::run(fault, Path::new(BAD), Path::new(GOOD), seed));
        let Some(said) = outcome.said else {
            continue;
        };
        eprintln!("{fault}");
        met += 1;
        met_moving += usize::from(fault.is_in_a_move());
        let verdict = outcome.verdict;
        assert!(outcome.named, "{fault}: {said:#?}");
        assert!(verdict.is_clean(), "{fault}: {verdict:#?} {said:#?}");
        assert!(verdict.answered > 50, "{fault}: {verdict:?}");
    }
    assert!(met * 2 >= FAULTS, "only {met} of {FAULTS} came about");
    assert!(met_moving * 5 >= FAULTS, "only {met_moving} met a move");
}

fn keeps_its_word_when_full(full: Full) {
    let _machine = MACHINE.lock();
    if let Err(error) = disk::seclude() {
        eprintln!("skipped: {error}");
        return;
    }
    match block_on(bad_disk::fill(Path::new(GOOD), full, 1)) {
        Ok((said, verdict)) => {
            let said = said.join("\n");
            let words = ["No space left on device", "DiskFull"];
            assert!(words.iter().any(|word| said.contains(word)), "{said}");
            assert!(verdict.is_clean(), "{verdict:#?}");
        }
        Err(error) => eprintln!("skipped: {error}"),
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_answered_and_somebody_says_so() {
    keeps_its_word_when_full(Full::AtLast);
}

#[test]
fn a_disk_that_is_full_while_the_store_moves_loses_nothing_either() {
    keeps_its_word_when_full(Full::InAMove);
}
