//! sled, made durable: a real sync, group commit, a checked open.
