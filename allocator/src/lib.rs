//! The Holdfast allocator daemon.
