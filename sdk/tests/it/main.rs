//! The client against a small relay and allocator that do what a test tells them, over real sockets
//! with real certificates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod closing;
mod fake;
mod finding;
mod learning;
mod receiving;
mod sending;
mod world;
