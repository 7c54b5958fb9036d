//! What anyone says to the allocator.
//!
//! Each request is one frame on a bidirectional stream of its own, which the asker then finishes;
//! the answer is one frame back. Who asks is what their certificate says.
//!
//! | request | from | answer |
//! |---|---|---|
//! | [`Locate`] | device: its own account; service: itself; relay: any account | [`Allocation`] |
//! | [`Lease`] | relay | [`Leased`] |

use serde::{Deserialize, Serialize};

use crate::{
    close::Violation,
    frame::{FrameType, Header},
    id::Name,
    limits::MAX_ADDRESSES,
    message::{RelayAddress, check_relays},
};
use std::net::SocketAddr;

/// Which relays are there for an account?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locate {
    /// The account; `None` is the asker's own. A service has none, and is told every live relay.
    pub account: Option<Name>,
}

impl Header for Locate {
    const TYPE: FrameType = FrameType::Locate;
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocation {
    /// At least one relay. The account's home comes first while it lives, then the other live ones,
    /// then those whose lease has run out.
    Relays {
        /// The relay that keeps the account's mailboxes; `None` for a service.
        home: Option<Name>,
        /// Where to connect, best first.
        relays: Vec<RelayAddress>,
    },
    /// No relay is known that could take the account. Ask again.
    NoRelay {
        /// Not before this many milliseconds have passed.
        retry_after_ms: u32,
    },
    /// The asker may not ask this.
    Denied,
}

impl Header for Allocation {
    const TYPE: FrameType = FrameType::Allocation;

    fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Relays { relays, .. } => check_relays(relays),
            Self::NoRelay { .. } | Self::Denied => Ok(()),
        }
    }
}

/// This relay is there, and takes devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which run of the relay this is.
    pub boot: u64,
    /// Where devices and relays reach it, best first.
    pub addresses: Vec<SocketAddr>,
    /// How many accounts it takes, in proportion to the other relays' figures. At least 1.
    pub capacity: u32,
    /// How many sessions it serves now.
    pub sessions: u32,
    /// It is stopping: no new account, and no device that has another choice.
    pub draining: bool,
}

impl Header for Lease {
    const TYPE: FrameType = FrameType::Lease;

    fn check(&self) -> Result<(), Violation> {
        if self.addresses.is_empty() || self.capacity == 0 {
            return Err(Violation::malformed(
                "a lease needs an address and a capacity",
            ));
        }
        if self.addresses.len() > MAX_ADDRESSES {
            return Err(Violation::oversized("too many addresses"));
        }
        Ok(())
    }
}

/// The lease is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// It runs out after this many milliseconds, unless renewed.
    pub valid_ms: u32,
    /// The other live relays, for `GoAway`.
    pub others: Vec<RelayAddress>,
}

impl Header for Leased {
    const TYPE: FrameType = FrameType::Leased;

    fn check(&self) -> Result<(), Violation> {
        check_relays(&self.others)
    }
}
