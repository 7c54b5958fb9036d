//! Some hours of the simulator: the same seed brings the same run, the fleet keeps its promises, and
//! bugs that are planted are found. Many more hours, and every bug: `cargo run --release -p
//! holdfast-tests --bin sim`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use holdfast_tests::sim::{Hour, Planted};

fn hour(seed: u64) -> Hour {
    Hour {
        seed,
        hour: 0,
        planted: None,
    }
}

#[test]
fn the_same_seed_brings_the_same_run_byte_for_byte() {
    let (first, second) = (hour(4).run(), hour(4).run());
    assert_eq!(first, second);
    assert_ne!(
        first.digest,
        hour(7).run().digest,
        "another seed, another run"
    );
}

#[test]
fn a_fleet_keeps_its_promises_whatever_fails() {
    for seed in [6, 8] {
        let report = hour(seed).run();
        let told = report
            .breaches
            .first()
            .map(|breach| hour(seed).tell(breach).to_string());
        assert!(
            told.is_none(),
            "seed {seed}: {:?}\n{}",
            report.breaches,
            told.unwrap()
        );
        assert!(report.messages > 500, "{report:?}");
        assert!(report.fault_count() > 5, "{report:?}");
    }
}

/// Plants a bug, and lives at most so many hours until it is found.
fn is_found(planted: Planted, hours: u64) -> bool {
    (0..hours).any(|hour| {
        let hour = Hour {
            seed: 1,
            hour,
            planted: Some(planted),
        };
        !hour.run().breaches.is_empty()
    })
}

#[test]
fn planted_bugs_are_found() {
    for planted in [
        Planted::BytesChanged,
        Planted::OrderSwapped,
        Planted::DedupForgotten,
        Planted::NumbersReset,
        Planted::AcknowledgeBeforeFlush,
    ] {
        assert!(is_found(planted, 3), "{planted}");
    }
}
