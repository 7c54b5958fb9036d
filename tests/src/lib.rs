//! The net harness and the integration tests.

pub mod link;
