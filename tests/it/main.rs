//! The integration tests: one binary, through real sockets, with real certificates and a real disk.

mod fleet;
mod identity;
mod mailbox;
mod session;
mod silence;
mod story;
mod support;
mod wire;
