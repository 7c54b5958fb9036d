//! The net harness and the integration tests.
