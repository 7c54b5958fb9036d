//! The relay's side of its conversation with the allocator: when the lease is renewed, and which
//! accounts' homes are asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased},
    id::Name,
    message::RelayAddress,
    time::Time,
};

/// Before something is asked again that was not answered, or not as hoped.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// How many homes are asked for at a time.
const MAX_ASKING: usize = 64;

/// What the allocator is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Keep this relay's lease.
    Lease(Lease),
    /// Where is this account at home?
    Locate(Name),
}

/// Whose turn it is with the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is renewed then.
    Ours(Time),
    /// The allocator has to answer. It was told whether the relay is stopping.
    Theirs { draining: bool },
}

/// What the allocator has to be told and asked.
#[derive(Debug)]
pub(crate) struct Tenancy {
    boot: u64,
    addresses: Vec<SocketAddr>,
    capacity: u32,
    draining: bool,
    lease: Turn,
    /// Accounts to be asked for now.
    next: BTreeSet<Name>,
    /// Asked for, and not answered.
    asked: BTreeSet<Name>,
    /// To be asked for later.
    paused: BTreeMap<Name, Time>,
}

impl Tenancy {
    /// Nothing is leased yet.
    pub(crate) fn new(boot: u64, addresses: Vec<SocketAddr>, capacity: u32) -> Self {
        Self {
            boot,
            addresses,
            capacity,
            draining: false,
            lease: Turn::Ours(Time::ZERO),
            next: BTreeSet::new(),
            asked: BTreeSet::new(),
            paused: BTreeMap::new(),
        }
    }

    /// The homes of these accounts are wanted.
    pub(crate) fn want(&mut self, accounts: Vec<Name>) {
        self.next.extend(accounts);
    }

    /// The relay is stopping: the allocator is to know at once.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        if let Turn::Ours(_) = self.lease {
            self.lease = Turn::Ours(Time::ZERO);
        }
    }

    /// The allocator is another one: what was asked of the last is asked anew.
    pub(crate) fn reconnected(&mut self) {
        self.next.append(&mut self.asked);
        self.lease = Turn::Ours(Time::ZERO);
    }

    /// The next question; so many `sessions` are open.
    pub(crate) fn poll(&mut self, now: Time, sessions: u32) -> Option<Question> {
        if matches!(self.lease, Turn::Ours(at) if at <= now) {
            self.lease = Turn::Theirs {
                draining: self.draining,
            };
            return Some(Question::Lease(self.say(sessions)));
        }
        self.resume(now);
        if self.asked.len() >= MAX_ASKING {
            return None;
        }
        let account = self.next.pop_first()?;
        self.asked.insert(account.clone());
        Some(Question::Locate(account))
    }

    /// When there will be another question, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let renewal = match self.lease {
            Turn::Ours(at) => Some(at),
            Turn::Theirs { .. } => None,
        };
        self.paused.values().copied().chain(renewal).min()
    }

    /// The lease is kept; it is renewed at a third of its term. Tells whether the allocator knows
    /// that the relay is stopping.
    pub(crate) fn leased(&mut self, now: Time, leased: &Leased) -> bool {
        let told = self.lease == Turn::Theirs { draining: true };
        let is_late_news = self.draining && !told;
        let third = Duration::from_millis(leased.valid_ms.into()) / 3;
        let rest = if is_late_news { Duration::ZERO } else { third };
        self.lease = Turn::Ours(now + rest);
        told
    }

    /// The allocator did not answer.
    pub(crate) fn not_leased(&mut self, now: Time) {
        self.lease = Turn::Ours(now + PAUSE);
    }

    /// Where an account is at home, if the answer tells; else it is asked for again, later.
    pub(crate) fn located(
        &mut self,
        now: Time,
        account: &Name,
        answer: Option<Allocation>,
    ) -> Option<RelayAddress> {
        self.asked.remove(account);
        match answer {
            Some(Allocation::Relays {
                home: Some(home),
                relays,
            }) => {
                let known = relays.into_iter().find(|relay| relay.name == home);
                return Some(known.unwrap_or(RelayAddress {
                    name: home,
                    addresses: Vec::new(),
                }));
            }
            Some(Allocation::NoRelay { retry_after_ms }) => {
                self.pause(now, account, Duration::from_millis(retry_after_ms.into()));
            }
            Some(Allocation::Relays { home: None, .. } | Allocation::Denied) => {
                tracing::error!(%account, "the allocator does not tell where an account is");
                self.pause(now, account, PAUSE);
            }
            None => self.pause(now, account, PAUSE),
        }
        None
    }

    fn say(&self, sessions: u32) -> Lease {
        Lease {
            boot: self.boot,
            addresses: self.addresses.clone(),
            capacity: self.capacity,
            sessions,
            draining: self.draining,
        }
    }

    fn pause(&mut self, now: Time, account: &Name, span: Duration) {
        self.paused.insert(account.clone(), now + span);
    }

    fn resume(&mut self, now: Time) {
        self.paused.retain(|account, at| {
            let is_over = *at <= now;
            if is_over {
                self.next.insert(account.clone());
            }
            !is_over
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Leased = Leased {
        valid_ms: 15_000,
        others: Vec::new(),
    };

    fn tenancy() -> Tenancy {
        Tenancy::new(7, vec![([127, 0, 0, 1], 4433).into()], 1)
    }

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn draining(question: Option<Question>) -> bool {
        match question {
            Some(Question::Lease(lease)) => lease.draining,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lease_is_renewed_at_a_third_of_its_term() {
        let mut tenancy = tenancy();
        assert!(!draining(tenancy.poll(at(0), 3)));
        assert_eq!(tenancy.poll(at(0), 3), None, "one at a time");
        assert!(!tenancy.leased(at(100), &TERM));
        assert_eq!(tenancy.deadline(), Some(at(5100)));
        assert_eq!(tenancy.poll(at(5099), 3), None);
        assert!(tenancy.poll(at(5100), 3).is_some());
        tenancy.not_leased(at(6000));
        assert_eq!(tenancy.deadline(), Some(at(6000) + PAUSE));
    }

    #[test]
    fn a_stop_is_told_at_once_even_while_a_renewal_is_on_its_way() {
        let mut tenancy = tenancy();
        tenancy.poll(at(0), 0);
        tenancy.drain();
        assert_eq!(tenancy.poll(at(1), 0), None);
        assert!(!tenancy.leased(at(2), &TERM), "that one said nothing of it");
        assert!(draining(tenancy.poll(at(2), 0)));
        assert!(tenancy.leased(at(3), &TERM));
        tenancy.drain();
        assert!(draining(tenancy.poll(at(4), 0)));
    }

    #[test]
    fn what_is_not_told_is_asked_again_and_another_allocator_is_asked_everything() {
        let mut tenancy = tenancy();
        tenancy.poll(at(0), 0);
        tenancy.leased(at(0), &TERM);
        tenancy.want(vec![name("alice"), name("bob")]);
        let locate = |account| Some(Question::Locate(name(account)));
        assert_eq!(tenancy.poll(at(0), 0), locate("alice"));
        assert_eq!(tenancy.poll(at(0), 0), locate("bob"));
        let wait = Allocation::NoRelay {
            retry_after_ms: 1000,
        };
        assert_eq!(tenancy.located(at(0), &name("alice"), Some(wait)), None);
        assert_eq!(tenancy.deadline(), Some(at(1000)));
        assert_eq!(tenancy.poll(at(999), 0), None);
        assert_eq!(tenancy.poll(at(1000), 0), locate("alice"));
        tenancy.reconnected();
        assert!(matches!(
            tenancy.poll(at(1000), 0),
            Some(Question::Lease(_))
        ));
        assert_eq!(tenancy.poll(at(1000), 0), locate("alice"));
        assert_eq!(tenancy.poll(at(1000), 0), locate("bob"));
        let home = Allocation::Relays {
            home: Some(name("r9")),
            relays: Vec::new(),
        };
        let found = tenancy.located(at(1000), &name("bob"), Some(home)).unwrap();
        assert_eq!((found.name, found.addresses), (name("r9"), Vec::new()));
    }

    #[test]
    fn only_so_many_homes_are_asked_for_at_a_time() {
        let mut tenancy = tenancy();
        tenancy.want((0..100).map(|n| name(&format!("a{n}"))).collect());
        let asked = std::iter::from_fn(|| tenancy.poll(at(0), 0)).count();
        assert_eq!(asked, 1 + MAX_ASKING);
    }
}
