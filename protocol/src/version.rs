//! The version of each conversation is its ALPN protocol name (RFC 7301): two peers that share no
//! name never exchange a frame.

/// Device (or service) to relay.
pub const SESSION: &[u8] = b"holdfast/1";

/// Anyone to the allocator.
pub const ALLOCATION: &[u8] = b"holdfast-alloc/1";

/// Relay to relay.
pub const PEER: &[u8] = b"holdfast-peer/1";
