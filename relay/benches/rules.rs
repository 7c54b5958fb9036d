//! What a message costs the relay without sockets and a disk: its frames are read and written, and the
//! rules are applied. `cargo bench -p holdfast-relay`.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails in a measurement should end it"
)]

#[path = "../tests/forwarding/world.rs"]
mod world;

use divan::{Bencher, counter::ItemsCount};
use world::World;

/// Messages that each device sends at once.
const BURST: u64 = 16;

fn main() {
    divan::main();
}

/// To devices that are there and acknowledge it, each of an account of its own.
#[divan::bench(args = [1, 64], sample_count = 50, sample_size = 10)]
fn router(bencher: Bencher<'_, '_>, pairs: u64) {
    let mut world = World::of_pairs(pairs);
    bencher
        .counter(ItemsCount::new(pairs * BURST))
        .bench_local(|| assert_eq!(world.burst(BURST), pairs * BURST));
}

/// To devices that are away.
#[divan::bench(args = [1, 64], sample_count = 50, sample_size = 10)]
fn mailbox(bencher: Bencher<'_, '_>, mailboxes: u64) {
    bencher
        .counter(ItemsCount::new(mailboxes * BURST))
        .with_inputs(|| World::of_writers(mailboxes))
        .bench_local_values(|mut world| {
            assert_eq!(world.burst(BURST), mailboxes * BURST);
            world
        });
}
