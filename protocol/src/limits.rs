//! Every maximum on the wire, in one place. A peer that goes past one is at fault, and is told so
//! with a [close code](crate::close).

use std::time::Duration;

/// Longest name of an account, device, service, relay or allocator, in bytes.
pub const MAX_NAME: usize = 64;

/// Longest trust domain, in bytes (SPIFFE-ID, section 2.1).
pub const MAX_TRUST_DOMAIN: usize = 255;

/// Longest collapse key, in bytes.
pub const MAX_KEY: usize = 64;

/// Longest text a peer says about itself ([`Hello::agent`](crate::message::Hello)), in bytes.
pub const MAX_AGENT: usize = 64;

/// Largest header of any frame, in bytes: everything between the length and the body.
pub const MAX_HEADER: usize = 4 * 1024;

/// Largest body on the `message` lane, in bytes. What is larger travels on the `bulk` lane.
pub const MAX_MESSAGE_BODY: usize = 16 * 1024;

/// Largest body on the `bulk` lane that a relay takes unless configured otherwise, in bytes.
pub const DEFAULT_BULK_BODY: usize = 1024 * 1024;

/// Largest body on the `bulk` lane that a relay can be configured to take, in bytes.
pub const MAX_BULK_BODY: usize = 16 * 1024 * 1024;

/// Largest payload (header and body) of a frame on a session's control stream, in bytes.
pub const MAX_CONTROL_PAYLOAD: usize = MAX_HEADER + MAX_MESSAGE_BODY;

/// Largest payload of an allocation request or answer, in bytes.
pub const MAX_ALLOCATION_PAYLOAD: usize = 64 * 1024;

/// Largest datagram we send, in bytes: below the 1,200 that every QUIC path carries (RFC 9000,
/// section 14), with room for the packet's own header.
pub const MAX_DATAGRAM: usize = 256;

/// How many messages a device may have sent without an answer, `message` lane. The numbers of those
/// messages must also lie this close together, so that a relay that remembers its refusals over
/// this span answers every retry exactly.
pub const WINDOW: u64 = 256;

/// The same, `bulk` lane: fewer, as each may be a thousand times as large.
pub const BULK_WINDOW: u64 = 8;

/// How many messages may be on their way to a device without its acknowledgement, `message` lane.
pub const DELIVERY_WINDOW: usize = 256;

/// How many bodies may be on their way to a device without its acknowledgement, `bulk` lane.
pub const BULK_DELIVERY_WINDOW: usize = 4;

/// How many bytes may be on their way to a device without its acknowledgement, per lane; one
/// message is always let through, however large.
pub const DELIVERY_WINDOW_BYTES: usize = 1024 * 1024;

/// Relays in one allocation or in one `GoAway`.
pub const MAX_RELAYS: usize = 16;

/// Addresses of one relay.
pub const MAX_ADDRESSES: usize = 8;

/// Longest time a device may announce between two pings: above the 540 s to which the interval
/// grows. Both sides' QUIC idle timeouts lie above its deadline.
pub const MAX_PING_INTERVAL: Duration = Duration::from_secs(600);

/// How long a relay waits for the first frame of a session.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a device waits for the answer to its first frame.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time to live a message may ask for, and longest time a relay may let mail wait.
pub const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long after a message was submitted first a device may submit it again. Past it, the relays may
/// have forgotten that they have it.
pub const MAX_RETRY_AGE: Duration = Duration::from_secs(60 * 24 * 3600);

/// How long a relay remembers how far a source of messages has come, at least, after the last one.
/// The difference to [`MAX_RETRY_AGE`] is for clocks that disagree.
pub const SOURCE_MEMORY: Duration = Duration::from_secs(90 * 24 * 3600);
