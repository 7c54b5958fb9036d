//! What a message costs that is handed on at once, in instructions of the relay's own code: from the
//! sender's frame to its answer, with the delivery and the application's acknowledgement between them,
//! and without sockets, encryption or a disk.
//!
//! Valgrind counts them, so the figure is the same in every run, however busy the machine is. It does
//! depend on the compiler, and on the optimisation, of which tests have none: what it tells is by how
//! much a change makes the way longer.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails in a test should end it"
)]

mod world;

use std::{env, fs, io::ErrorKind, process::Command};

use world::World;

/// Instructions for a message when this was last looked at.
const RECORDED: u64 = 98_500;

/// By how much a change may exceed that, in percent, before it has to say why.
const TOLERATED: u64 = 10;

/// Tells the process that Valgrind watches how many bursts to pass on.
const BURSTS: &str = "HOLDFAST_FORWARDING_BURSTS";

/// Set where Valgrind has to be there.
const REQUIRED: &str = "HOLDFAST_REQUIRE_VALGRIND";

/// Messages that a device sends before it waits for its answers.
const BURST: u64 = 16;

/// Devices that write, each to one of its own.
const PAIRS: u64 = 2;

#[test]
fn every_message_is_answered() {
    let bursts = env::var(BURSTS).map_or(4, |bursts| bursts.parse().unwrap());
    let mut world = World::of_pairs(PAIRS);
    for _ in 0..bursts {
        assert_eq!(world.burst(BURST), PAIRS * BURST);
    }
}

#[test]
fn a_message_takes_no_more_instructions_than_recorded() {
    if !has_valgrind() {
        assert!(env::var_os(REQUIRED).is_none(), "install valgrind");
        return println!("skipped: valgrind is not installed, so nobody counts");
    }
    let each = (instructions(20) - instructions(10)) / (10 * PAIRS * BURST);
    println!("{each} instructions for a message; {RECORDED} were recorded");
    assert!(
        each * 100 <= RECORDED * (100 + TOLERATED),
        "{each} instructions for a message where {RECORDED} were recorded: find out what takes them \
         (PERFORMANCE.md says how), or record the new figure and say why"
    );
}

fn has_valgrind() -> bool {
    match Command::new("valgrind").arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        version => version.unwrap().status.success(),
    }
}

/// Instructions that the relay's own code takes for so many bursts.
fn instructions(bursts: u64) -> u64 {
    let place = tempfile::tempdir().unwrap();
    let counts = place.path().join("counts");
    let valgrind = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg("--toggle-collect=holdfast_relay::core::relay::Relay::control")
        .arg("--toggle-collect=holdfast_relay::core::relay::Relay::poll")
        .arg(env::current_exe().unwrap())
        .args(["--exact", "every_message_is_answered", "--test-threads=1"])
        .env(BURSTS, bursts.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&valgrind.stderr);
    assert!(valgrind.status.success(), "{said}");
    let counts = fs::read_to_string(&counts).unwrap();
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    total.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}
