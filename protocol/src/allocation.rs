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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;

    fn relay(name: &str, address: &str) -> RelayAddress {
        RelayAddress {
            name: name.parse().unwrap(),
            addresses: vec![address.parse().unwrap()],
        }
    }

    #[test]
    fn locate() {
        golden(&Locate { account: None }, "", "200100");
        let account = Some("alice".parse().unwrap());
        golden(&Locate { account }, "", "20070105616c696365");
    }

    #[test]
    fn allocation() {
        let home = Some("r1".parse().unwrap());
        let relays = vec![relay("r1", "192.0.2.1:4433"), relay("r2", "192.0.2.2:4433")];
        golden(
            &Allocation::Relays { home, relays },
            "",
            "211c0001027231020272310100c0000201d1220272320100c0000202d122",
        );
        let home = None;
        let relays = vec![relay("r1", "[2001:db8::1]:4433")];
        golden(
            &Allocation::Relays { home, relays },
            "",
            "211a000001027231010120010db8000000000000000000000001d122",
        );
        let retry_after_ms = 2000;
        golden(&Allocation::NoRelay { retry_after_ms }, "", "210301d00f");
        golden(&Allocation::Denied, "", "210102");
    }

    #[test]
    fn lease_and_leased() {
        let lease = Lease {
            boot: 7,
            addresses: vec![
                "192.0.2.1:4433".parse().unwrap(),
                "[2001:db8::1]:4433".parse().unwrap(),
            ],
            capacity: 1000,
            sessions: 12,
            draining: false,
        };
        golden(
            &lease,
            "",
            "2220070200c0000201d1220120010db8000000000000000000000001d122e8070c00",
        );
        let leased = Leased {
            valid_ms: 10_000,
            others: vec![relay("r2", "192.0.2.2:4433")],
        };
        golden(&leased, "", "230e904e010272320100c0000202d122");
    }

    #[test]
    fn a_lease_that_nobody_can_use_is_malformed() {
        let usable = Lease {
            boot: 7,
            addresses: vec!["192.0.2.1:4433".parse().unwrap()],
            capacity: 1,
            sessions: 0,
            draining: false,
        };
        assert_eq!(usable.check(), Ok(()));
        let unreachable = Lease {
            addresses: Vec::new(),
            ..usable.clone()
        };
        assert!(unreachable.check().is_err());
        let powerless = Lease {
            capacity: 0,
            ..usable
        };
        assert!(powerless.check().is_err());
    }
}
