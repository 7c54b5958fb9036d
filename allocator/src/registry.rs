//! Who may ask what, and what they are told: the fleet and the pins together.
//!
//! | asks for | device | relay | service |
//! |---|---|---|---|
//! | nothing by name | its own account | denied | every relay |
//! | an account | its own, no other | any | denied |

use std::{sync::Arc, time::Duration};

use holdfast_durable::Store;
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

/// What the allocator knows. Every answer is given to a closure: at once, or by the store when what
/// it says is durable; if the store closes before, the closure is dropped. A closure must not ask
/// the registry again.
pub struct Registry {
    roster: Roster,
    pins: Pins,
    lease: Duration,
}

/// The relays, and how they are told.
#[derive(Clone)]
struct Roster {
    fleet: Arc<Mutex<Fleet>>,
    retry_after: Duration,
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
    /// Goes on with what earlier runs wrote in the store. A lease lives for `lease`; who finds no
    /// relay is told to ask again after `retry_after`.
    ///
    /// # Errors
    /// When a relay in the store cannot be read.
    pub fn open(
        store: Arc<dyn Store>,
        lease: Duration,
        retry_after: Duration,
    ) -> Result<Self, PinError> {
        let pins = Pins::new(store);
        let fleet = Fleet::new(lease, pins.relays()?);
        let roster = Roster {
            fleet: Arc::new(Mutex::new(fleet)),
            retry_after,
        };
        Ok(Self {
            roster,
            pins,
            lease,
        })
    }

    /// Where `asker` should connect. An account that is seen for the first time is pinned; the
    /// answer is an error when its pin cannot be read.
    pub fn locate(
        &self,
        now: Time,
        asker: &Identity,
        locate: &Locate,
        answer: impl FnOnce(Result<Allocation, PinError>) + Send + 'static,
    ) {
        match Subject::of(asker, locate.account.as_ref()) {
            Some(Subject::Account(account)) => self.locate_account(now, account, answer),
            Some(Subject::Service(name)) => answer(Ok(self.roster.allocation(name, None, now))),
            None => answer(Ok(Allocation::Denied)),
        }
    }

    /// Takes a relay's lease, unless a newer run of the relay holds it.
    pub fn lease(
        &self,
        now: Time,
        relay: &Name,
        lease: &Lease,
        answer: impl FnOnce(Result<Leased, Superseded>) + Send + 'static,
    ) {
        let mut fleet = self.roster.fleet.lock();
        let renewal = match fleet.renew(relay, lease, now) {
            Ok(renewal) => renewal,
            Err(superseded) => return answer(Err(superseded)),
        };
        if renewal.is_news {
            log_lease(relay, lease);
        }
        let leased = Leased {
            valid_ms: milliseconds(self.lease),
            others: fleet.others(relay, now),
        };
        // Queued before the fleet is let go: so no account is pinned to a relay whose row comes
        // later, and the disk learns of changes in the order the fleet did.
        match renewal.learned {
            Some(known) => self
                .pins
                .remember(relay, &known, move || answer(Ok(leased))),
            None => answer(Ok(leased)),
        }
    }

    /// Says whose leases have run out since the last call.
    pub fn expire(&self, now: Time) {
        let expired = self.roster.fleet.lock().expire(now);
        for relay in expired {
            tracing::warn!(%relay, "the lease has run out");
        }
    }

    /// Every relay, by name.
    pub fn report(&self, now: Time) -> Vec<RelayReport> {
        self.roster.fleet.lock().report(now)
    }

    fn locate_account(
        &self,
        now: Time,
        account: &Name,
        answer: impl FnOnce(Result<Allocation, PinError>) + Send + 'static,
    ) {
        let candidate = self.roster.fleet.lock().place(account, now);
        let (roster, subject) = (self.roster.clone(), account.clone());
        self.pins.home(account, candidate, move |home| {
            answer(home.map(|home| match home {
                Some(home) => roster.allocation(&subject, Some(home), now),
                None => roster.no_relay(),
            }));
        });
    }
}

impl Roster {
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
