//! What can go wrong where the app sees it, and what the app can do. Trouble with the network is not
//! among it: the client goes on by itself, and tells through [`State`](crate::State).

use std::{path::PathBuf, time::Duration};

use holdfast_protocol::{
    id::InvalidId,
    limits::{MAX_PING_INTERVAL, MAX_TTL},
    message::Refusal,
};
use holdfast_transport::credentials::CredentialError;

/// Why no client can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A file of the credentials is missing or wrong.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The certificate is a daemon's.
    #[error("{identity} is no device and no service; use a certificate of one of these kinds")]
    WrongKind {
        /// Whom the certificate names.
        identity: String,
    },
    /// No allocator was given.
    #[error("no allocator is configured; name at least one address")]
    NoAllocator,
    /// The ping schedule makes no sense.
    #[error(
        "pings need at least one attempt, a timeout above zero, and an interval of at most {} s",
        MAX_PING_INTERVAL.as_secs()
    )]
    BadPings,
    /// What the app says it is cannot be used.
    #[error(transparent)]
    Agent(InvalidId),
    /// Another client uses the directory.
    #[error(
        "{} is in use by another client; close that one first, or give each its own directory",
        directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds the messages of somebody else.
    #[error(
        "{} belongs to {owner}, and the certificate is {identity}'s; give each its own directory",
        directory.display()
    )]
    OtherOwner {
        /// The directory.
        directory: PathBuf,
        /// Whose messages it holds.
        owner: String,
        /// Whose certificate was given.
        identity: String,
    },
    /// The directory cannot be used.
    #[error("{}: {why}; make it writable, or remove what is damaged", directory.display())]
    Storage {
        /// The directory.
        directory: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// Why a message was not taken. It is not in the outbox, and will not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The recipient cannot be read.
    #[error("the recipient: {0}; write ACCOUNT/DEVICE, or ACCOUNT for all its devices")]
    Recipient(InvalidId),
    /// The key cannot be used.
    #[error(transparent)]
    Key(InvalidId),
    /// `retain` without its conditions.
    #[error("a retained message needs a key, and the sender's own account as its recipient")]
    BadRetain,
    /// The time to live is too long.
    #[error("a time to live of {} s is too long; {} s is the most", .0.as_secs(), MAX_TTL.as_secs())]
    Ttl(Duration),
    /// The body is too large.
    #[error("a body of {size} bytes is too large; send it in parts of at most {limit} bytes")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
        /// What the relay takes, in bytes.
        limit: usize,
    },
    /// The outbox cannot be written.
    #[error("the outbox cannot be written: {0}; see to the disk, then make a new client")]
    Storage(String),
    /// The client was closed.
    #[error("the client is closed; make a new one")]
    Closed,
}

/// Why a message that was taken will not arrive, or why its fate is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// The relay did not take it. A later try is a new message.
    #[error("{0}")]
    Refused(Refusal),
    /// It was sent, no last answer came, and now 60 days have passed: the relays may have forgotten
    /// that they have it, and would take another try for a new message. What of it can be known, the
    /// recipient knows.
    #[error(
        "it was sent 60 days ago, and may have arrived or not; it is too old to be tried again safely"
    )]
    TooOld,
    /// The client was closed first. With a directory the message stays in the outbox, and leaves
    /// with the next client.
    #[error(
        "the client was closed before the answer came; a new client on the same directory sends it"
    )]
    Closed,
}

/// The client was closed, or its storage failed, before the request was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is closed; make a new one")]
pub struct Closed;

/// Why a client that is waited for does not attach by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Detached {
    /// A relay or an allocator refuses the client, or the client refuses them all.
    #[error("{0}")]
    Refused(String),
    /// A newer session of the same device has taken this one's place.
    #[error("another program is connected as the same device; close one, or call reconnect")]
    Superseded,
    /// The client was closed, or its storage failed.
    #[error(transparent)]
    Closed(#[from] Closed),
}
