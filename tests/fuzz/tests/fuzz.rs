//! Every target, side by side: without a word for a fixed number of inputs from a fixed seed, and with
//! `HOLDFAST_FUZZ_SECONDS=60`, as `.ci/run` sets it, for so long from a seed that is drawn anew.

#![allow(clippy::expect_used, reason = "a test fails loudly")]

use std::{env, time::Duration};

use holdfast_fuzz::{
    corpus,
    runner::{self, Budget},
    target::Target,
};

/// Inputs over all targets when nobody says how long: a few seconds' worth.
const INPUTS: u64 = 100_000;

const SEED: u64 = 1;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn every_target_holds() {
    let seconds = number("HOLDFAST_FUZZ_SECONDS").map(Duration::from_secs);
    let budget = seconds.map_or(Budget::Inputs(INPUTS), Budget::Time);
    let drawn = seconds.map_or(SEED, |_| rand::random());
    let seed = number("HOLDFAST_FUZZ_SEED").unwrap_or(drawn);
    println!("HOLDFAST_FUZZ_SEED={seed}");
    let targets: Vec<_> = Target::ALL.iter().collect();
    let mut failures = Vec::new();
    runner::run(&targets, seed, budget, |outcome| {
        println!("{outcome}");
        failures.extend(outcome.failure.map(|failure| failure.to_string()));
    })
    .unwrap();
    assert!(failures.is_empty(), "seed {seed}\n{}", failures.join("\n"));
}

/// Seeds that mean nothing would leave a target trying the first byte for ever.
#[test]
fn most_seeds_mean_something() {
    for target in Target::ALL {
        let corpus = corpus::read(target).unwrap();
        let meaningful = corpus.iter().filter(|input| (target.check)(input)).count();
        assert!(
            meaningful * 3 >= corpus.len() && meaningful > 0,
            "{}: {meaningful} of {}",
            target.name,
            corpus.len()
        );
    }
}

#[test]
fn a_failure_is_told_with_its_input() {
    const PICKY: Target = Target {
        name: "frame",
        check: |input| {
            assert!(!input.contains(&0xfe), "it holds a 0xfe");
            true
        },
        memory: (u64::MAX, 0),
        longest: 64,
        share: 1,
    };
    let mut told = String::new();
    runner::run(&[&PICKY], SEED, Budget::Inputs(1_000_000), |outcome| {
        told = outcome.to_string();
    })
    .unwrap();
    assert!(
        told.contains("frame failed: it holds a 0xfe\ninput: "),
        "{told}"
    );
    assert!(
        told.contains("cargo run -p holdfast-fuzz -- try frame "),
        "{told}"
    );
}

#[test]
fn an_input_that_takes_too_much_memory_is_a_failure() {
    let hoard = Target {
        check: |input| !std::hint::black_box(vec![0u8; 1000 * input.len()]).is_empty(),
        memory: (1000, 10),
        ..*Target::named("frame").unwrap()
    };
    assert!(runner::attempt(&hoard, &[1]).is_ok());
    let error = runner::attempt(&hoard, &[1; 3]).unwrap_err();
    assert_eq!(error, "it took 3000 bytes, 1030 at most");
}
