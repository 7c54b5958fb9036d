//! The relays: who holds a lease, who drains, who is gone; where a new account goes, and in which
//! order an asker should try them. Pure: `now` is passed in, nothing is read or written.
//!
//! A relay is known from its first lease on, for ever: an account's home stays its home while it is
//! away, and an asker can still try it.

use std::{cmp::Ordering, collections::BTreeMap, net::SocketAddr, time::Duration};

use holdfast_protocol::{
    allocation::Lease, id::Name, limits::MAX_RELAYS, message::RelayAddress, time::Time,
};
use serde::{Deserialize, Serialize};

use crate::placement;

/// What a relay's lease says of it that outlives the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Where it was reached last, best first.
    pub(crate) addresses: Vec<SocketAddr>,
    /// How many accounts it takes, in proportion to the others.
    pub(crate) capacity: u32,
}

/// How a relay stands: the order in which to try them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its lease lives.
    Live,
    /// Its lease lives, but it is stopping.
    Draining,
    /// Its lease has run out, or none came since the allocator started.
    Dead,
}

/// One relay, as the allocator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayReport {
    /// Its name, and where it was reached last.
    pub relay: RelayAddress,
    /// How it stands.
    pub standing: Standing,
    /// How many accounts it takes, in proportion to the others.
    pub capacity: u32,
    /// How many sessions it said it serves; 0 when it is dead.
    pub sessions: u32,
}

/// What a lease that was taken changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// Whether it says anything but "still here".
    pub(crate) is_news: bool,
    /// What to remember of the relay from now on, if that is not what was known.
    pub(crate) learned: Option<Known>,
}

/// A newer run of the relay holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {newer} of this relay holds the lease; this one has to stop")]
pub struct Superseded {
    /// The boot of the newer run.
    pub newer: u64,
}

/// All relays.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// How long a lease lives.
    lease: Duration,
    relays: BTreeMap<Name, Relay>,
}

#[derive(Debug)]
struct Relay {
    known: Known,
    lease: Option<Held>,
}

/// A lease that was given; it may have run out.
#[derive(Debug)]
struct Held {
    boot: u64,
    sessions: u32,
    draining: bool,
    /// From this moment on the relay counts as dead.
    until: Time,
}

impl Fleet {
    /// Relays that are known from an earlier run of the allocator, and dead until they renew.
    pub(crate) fn new(lease: Duration, known: impl IntoIterator<Item = (Name, Known)>) -> Self {
        let unheard = |(name, known)| (name, Relay { known, lease: None });
        Self {
            lease,
            relays: known.into_iter().map(unheard).collect(),
        }
    }

    /// Takes a relay's lease.
    ///
    /// # Errors
    /// [`Superseded`] while the lease of a later run lives. Boots grow from run to run, so a frame
    /// that an old run sends late, or an old process that nobody stopped, never displaces the new
    /// one. Once that lease has run out any boot is taken, so a clock set back costs one lease.
    pub(crate) fn renew(
        &mut self,
        name: &Name,
        lease: &Lease,
        now: Time,
    ) -> Result<Renewal, Superseded> {
        let until = now + self.lease;
        let held = Held::new(lease, until);
        let known = Known::from(lease);
        let Some(relay) = self.relays.get_mut(name) else {
            let learned = Some(known.clone());
            let lease = Some(held);
            self.relays.insert(name.clone(), Relay { known, lease });
            return Ok(Renewal {
                is_news: true,
                learned,
            });
        };
        relay.renew(known, held, now)
    }

    /// The relay that a new account should call its home: of those that are live, the one that
    /// suits it best.
    pub(crate) fn place(&self, account: &Name, now: Time) -> Option<Name> {
        let best = self.ranked(account, None, now).into_iter().next()?;
        (best.standing == Standing::Live).then(|| best.name.clone())
    }

    /// Whom to try for `subject`, best first: the live, the draining, the dead; among these the
    /// home first, then by how well they suit. At most [`MAX_RELAYS`], and the home is always one
    /// of them.
    pub(crate) fn order(
        &self,
        subject: &Name,
        home: Option<&Name>,
        now: Time,
    ) -> Vec<RelayAddress> {
        let mut ranked = self.ranked(subject, home, now);
        let place_of_home = ranked.iter().position(|rank| rank.is_home);
        if let Some(place) = place_of_home.filter(|place| *place >= MAX_RELAYS) {
            ranked.swap(place, MAX_RELAYS - 1);
        }
        ranked.iter().take(MAX_RELAYS).map(Rank::address).collect()
    }

    /// Where the devices of `relay` can go when it stops: the others whose lease lives, those that
    /// don't drain first. Each relay is told another order, so that not all go to the same.
    pub(crate) fn others(&self, relay: &Name, now: Time) -> Vec<RelayAddress> {
        self.ranked(relay, None, now)
            .iter()
            .filter(|rank| rank.name != relay && rank.standing != Standing::Dead)
            .take(MAX_RELAYS)
            .map(Rank::address)
            .collect()
    }

    /// Every relay, by name.
    pub(crate) fn report(&self, now: Time) -> Vec<RelayReport> {
        self.relays
            .iter()
            .map(|(name, relay)| relay.report(name, now))
            .collect()
    }

    /// Forgets the leases that have run out, and names whose they were.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Name> {
        let mut expired = Vec::new();
        for (name, relay) in &mut self.relays {
            if relay.lease.take_if(|held| !held.lives(now)).is_some() {
                expired.push(name.clone());
            }
        }
        expired
    }

    fn ranked<'a>(&'a self, subject: &Name, home: Option<&Name>, now: Time) -> Vec<Rank<'a>> {
        let rank = |(name, relay): (&'a Name, &'a Relay)| Rank {
            name,
            relay,
            standing: relay.standing(now),
            is_home: home == Some(name),
            draw: placement::draw(subject, name, relay.known.capacity),
        };
        let mut ranked: Vec<_> = self.relays.iter().map(rank).collect();
        ranked.sort_by(Rank::compare);
        ranked
    }
}

impl Relay {
    fn renew(&mut self, known: Known, held: Held, now: Time) -> Result<Renewal, Superseded> {
        let current = self.lease.as_ref().filter(|current| current.lives(now));
        if let Some(newer) = current.map(|c| c.boot).filter(|boot| *boot > held.boot) {
            return Err(Superseded { newer });
        }
        let same = current.is_some_and(|c| (c.boot, c.draining) == (held.boot, held.draining));
        let learned = (self.known != known).then(|| known.clone());
        self.known = known;
        self.lease = Some(held);
        Ok(Renewal {
            is_news: !same || learned.is_some(),
            learned,
        })
    }

    fn standing(&self, now: Time) -> Standing {
        match self.lease.as_ref().filter(|held| held.lives(now)) {
            None => Standing::Dead,
            Some(held) if held.draining => Standing::Draining,
            Some(_) => Standing::Live,
        }
    }

    fn report(&self, name: &Name, now: Time) -> RelayReport {
        let held = self.lease.as_ref().filter(|held| held.lives(now));
        RelayReport {
            relay: self.address(name),
            standing: self.standing(now),
            capacity: self.known.capacity,
            sessions: held.map_or(0, |held| held.sessions),
        }
    }

    fn address(&self, name: &Name) -> RelayAddress {
        RelayAddress {
            name: name.clone(),
            addresses: self.known.addresses.clone(),
        }
    }
}

impl Held {
    fn new(lease: &Lease, until: Time) -> Self {
        Self {
            boot: lease.boot,
            sessions: lease.sessions,
            draining: lease.draining,
            until,
        }
    }

    fn lives(&self, now: Time) -> bool {
        now < self.until
    }
}

impl From<&Lease> for Known {
    fn from(lease: &Lease) -> Self {
        Self {
            addresses: lease.addresses.clone(),
            capacity: lease.capacity,
        }
    }
}

/// One relay in the order for one subject.
struct Rank<'a> {
    name: &'a Name,
    relay: &'a Relay,
    standing: Standing,
    is_home: bool,
    draw: f64,
}

impl Rank<'_> {
    fn address(&self) -> RelayAddress {
        self.relay.address(self.name)
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.standing
            .cmp(&other.standing)
            .then_with(|| other.is_home.cmp(&self.is_home))
            .then_with(|| other.draw.total_cmp(&self.draw))
            .then_with(|| self.name.cmp(other.name))
    }
}

#[cfg(test)]
mod tests;
