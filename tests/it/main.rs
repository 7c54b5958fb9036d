//! The integration tests: one binary, through real sockets, with real certificates and a real disk.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails loudly"
)]

mod abuse;
mod fleet;
mod identity;
mod mailbox;
mod mobility;
mod session;
mod silence;
mod story;
mod support;
mod wire;
