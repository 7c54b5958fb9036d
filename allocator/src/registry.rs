//! Who may ask what, and what they are told: the fleet and the pins together.
//!
//! | asks for | device | relay | service |
//! |---|---|---|---|
//! | nothing by name | its own account | denied | every relay |
//! | an account | its own, no other | any | denied |

use std::{path::Path, time::Duration};

use holdfast_durable::{CloseError, Closed};
use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased, Locate},
    id::{Identity, Name},
    time::Time,
};
use parking_lot::Mutex;

use crate::{
    fleet::{Fleet, RelayReport, Superseded},
    pins::{PinError, Pins},
};

/// What the allocator knows.
pub(crate) struct Registry {
    fleet: Mutex<Fleet>,
    pins: Pins,
    lease: Duration,
    retry_after: Duration,
}

/// Why a lease is not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    /// A newer run of the relay holds it.
    #[error(transparent)]
    Superseded(#[from] Superseded),
    /// The relay could not be remembered.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Whom a question is about.
#[derive(Debug, PartialEq, Eq)]
enum Subject<'a> {
    Account(&'a Name),
    Service(&'a Name),
}

impl<'a> Subject<'a> {
    /// Whom `asker` asks about; none when it may not.
    fn of(asker: &'a Identity, account: Option<&'a Name>) -> Option<Self> {
        match (asker, account) {
            (Identity::Device(device), None) => Some(Self::Account(&device.account)),
            (Identity::Device(device), Some(account)) => {
                (*account == device.account).then_some(Self::Account(account))
            }
            (Identity::Relay(_), Some(account)) => Some(Self::Account(account)),
            (Identity::Service(name), None) => Some(Self::Service(name)),
            _ => None,
        }
    }
}

impl Registry {
    /// Opens what earlier runs wrote in the directory `data`. Blocks.
    ///
    /// # Errors
    /// When the store cannot be opened, or a relay in it not be read.
    pub(crate) fn open(
        data: &Path,
        lease: Duration,
        retry_after: Duration,
    ) -> Result<Self, PinError> {
        let pins = Pins::open(data)?;
        let fleet = Mutex::new(Fleet::new(lease, pins.relays()?));
        Ok(Self {
            fleet,
            pins,
            lease,
            retry_after,
        })
    }

    /// Where `asker` should connect. An account that is seen for the first time is pinned.
    ///
    /// # Errors
    /// When its pin cannot be read, or the store closes before it is durable.
    pub(crate) async fn locate(
        &self,
        asker: &Identity,
        locate: &Locate,
        now: Time,
    ) -> Result<Allocation, PinError> {
        match Subject::of(asker, locate.account.as_ref()) {
            Some(Subject::Account(account)) => self.locate_account(account, now).await,
            Some(Subject::Service(name)) => Ok(self.allocation(name, None, now)),
            None => Ok(Allocation::Denied),
        }
    }

    /// Takes a relay's lease.
    ///
    /// # Errors
    /// [`LeaseError`], when a newer run of the relay holds it, or the store closes.
    pub(crate) async fn lease(
        &self,
        relay: &Name,
        lease: &Lease,
        now: Time,
    ) -> Result<Leased, LeaseError> {
        let (remembered, others) = {
            let mut fleet = self.fleet.lock();
            let renewal = fleet.renew(relay, lease, now)?;
            if renewal.is_news {
                log_lease(relay, lease);
            }
            // Queued before the fleet is let go: so no account is pinned to a relay whose row comes
            // later, and the disk learns of changes in the order the fleet did.
            let remembered = renewal
                .learned
                .map(|known| self.pins.remember(relay, &known));
            (remembered, fleet.others(relay, now))
        };
        if let Some(remembered) = remembered {
            remembered.await.map_err(|_| Closed)?;
        }
        Ok(Leased {
            valid_ms: milliseconds(self.lease),
            others,
        })
    }

    /// Says whose leases have run out since the last call.
    pub(crate) fn expire(&self, now: Time) {
        let expired = self.fleet.lock().expire(now);
        for relay in expired {
            tracing::warn!(%relay, "the lease has run out");
        }
    }

    /// Every relay, by name.
    pub(crate) fn report(&self, now: Time) -> Vec<RelayReport> {
        self.fleet.lock().report(now)
    }

    /// Closes the store. Blocks.
    ///
    /// # Errors
    /// As [`Pins::close`].
    pub(crate) fn close(&self) -> Result<(), CloseError> {
        self.pins.close()
    }

    async fn locate_account(&self, account: &Name, now: Time) -> Result<Allocation, PinError> {
        let candidate = self.fleet.lock().place(account, now);
        match self.pins.home(account, candidate).await? {
            Some(home) => Ok(self.allocation(account, Some(home), now)),
            None => Ok(self.no_relay()),
        }
    }

    fn allocation(&self, subject: &Name, home: Option<Name>, now: Time) -> Allocation {
        let relays = self.fleet.lock().order(subject, home.as_ref(), now);
        if relays.is_empty() {
            return self.no_relay();
        }
        Allocation::Relays { home, relays }
    }

    fn no_relay(&self) -> Allocation {
        Allocation::NoRelay {
            retry_after_ms: milliseconds(self.retry_after),
        }
    }
}

fn log_lease(relay: &Name, lease: &Lease) {
    let Lease {
        boot,
        addresses,
        capacity,
        sessions,
        draining,
    } = lease;
    tracing::info!(%relay, boot, ?addresses, capacity, sessions, draining, "leased");
}

/// A span as the wire has it; the configuration keeps it far below what fits.
fn milliseconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
