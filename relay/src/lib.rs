//! The Holdfast relay daemon.
