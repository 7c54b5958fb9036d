//! Fuzzing: whatever arrives from a network or lies on a disk, no decoder and no half of a session
//! panics, hoards memory, or ends without saying who erred.
//!
//! - [`target`]: what is fuzzed; one function of bytes each, in `targets`;
//! - [`script`]: bytes read as the steps of a conversation;
//! - [`mutation`]: how an input is made, from a seed and the corpus;
//! - [`runner`]: the targets side by side, for a time or a number of inputs;
//! - [`corpus`]: the inputs kept in the repository, and how they are made anew.
//!
//! The runner needs no instrumented build, so it runs wherever the tests do, and its inputs are a
//! function of a seed: what it finds can be repeated. `cargo-fuzz/` beside this package wraps the
//! same targets for libFuzzer, which finds by coverage what blind mutation does not; what it found
//! worth keeping is in the corpus. (bolero's engine for the stable toolchain makes random bytes
//! only, of which one in a million is a frame.)
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a target fails by panicking"
)]

pub mod corpus;
pub mod mutation;
pub mod runner;
pub mod script;
pub mod target;

mod seeds;
mod targets;
