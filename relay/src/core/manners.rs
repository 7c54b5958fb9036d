//! What is asked of those who have a session, whoever they are: an authenticated device can be broken
//! into, or simply broken.

use std::time::Duration;

use holdfast_protocol::{
    id::Sender,
    pace::{Pace, Rate},
};
use serde::Deserialize;

/// What a device may take of the relay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manners {
    /// Messages a second that are taken from one sender, on average; 0 for no limit. Past it they
    /// wait, and the sender with them.
    pub messages_per_second: u64,
    /// Messages that are taken at once.
    pub messages_burst: u64,
    /// Bytes of messages a second, on average; 0 for no limit.
    pub bytes_per_second: u64,
    /// Bytes of messages that are taken at once.
    pub bytes_burst: u64,
    /// Whether these four hold for services, too, which may speak for many.
    pub limit_services: bool,
    /// Datagrams a second, on average. What is over it is dropped.
    pub datagrams_per_second: u64,
    /// Datagrams at once.
    pub datagrams_burst: u64,
    /// How long a device may read nothing of what is to be sent to it, or send nothing of a body that
    /// it has begun.
    #[serde(with = "humantime_serde")]
    pub stall: Duration,
    /// Bytes a second that it has to read and to send on average, once `stall` is used up.
    pub slowest: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            messages_per_second: 1_000,
            messages_burst: 5_000,
            bytes_per_second: 4 * 1024 * 1024,
            bytes_burst: 32 * 1024 * 1024,
            limit_services: false,
            datagrams_per_second: 20,
            datagrams_burst: 200,
            stall: Duration::from_secs(60),
            slowest: 1024,
        }
    }
}

impl Manners {
    /// How many messages, and how many bytes of them, are taken from a sender.
    pub(crate) fn rates(&self, sender: &Sender) -> (Rate, Rate) {
        if matches!(sender, Sender::Service(_)) && !self.limit_services {
            return (Rate::UNLIMITED, Rate::UNLIMITED);
        }
        let rate = |per_second, burst| Rate { per_second, burst };
        (
            rate(self.messages_per_second, self.messages_burst),
            rate(self.bytes_per_second, self.bytes_burst),
        )
    }

    /// How many datagrams are looked at.
    pub(crate) fn datagrams(&self) -> Rate {
        Rate {
            per_second: self.datagrams_per_second,
            burst: self.datagrams_burst,
        }
    }

    /// How slow a device may be.
    pub(crate) fn pace(&self) -> Pace {
        Pace {
            grace: self.stall,
            bytes_per_second: self.slowest,
        }
    }
}
