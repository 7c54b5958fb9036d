//! The accounts that are in memory, and when each is to be looked after.

use std::collections::{BTreeSet, VecDeque};

use ahash::HashMap;
use holdfast_protocol::{id::Name, time::Time};

use crate::mail::account::Account;

/// An account in memory.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) account: Account,
    /// When it is looked after.
    alarm: Option<Time>,
    /// The number of its last write.
    written: u64,
}

/// All accounts in memory.
#[derive(Debug, Default)]
pub(super) struct Residents {
    /// Boxed, as up to half of the map is empty.
    accounts: HashMap<Name, Box<Resident>>,
    alarms: BTreeSet<(Time, Name)>,
    /// The order in which they are swept.
    round: VecDeque<Name>,
}

impl Residents {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether an account is in memory.
    pub(super) fn contains(&self, name: &Name) -> bool {
        self.accounts.contains_key(name)
    }

    /// An account that is in memory.
    pub(super) fn get_mut(&mut self, name: &Name) -> Option<&mut Account> {
        Some(&mut self.accounts.get_mut(name)?.account)
    }

    /// An account has come into memory.
    pub(super) fn insert(&mut self, name: Name, account: Account) {
        self.round.push_back(name.clone());
        let resident = Resident {
            account,
            alarm: None,
            written: 0,
        };
        self.accounts.insert(name, Box::new(resident));
    }

    /// Something was done with an account, and the write of this number came of it, if any. Tells
    /// whether an alarm comes sooner now than any that was set.
    pub(super) fn touched(&mut self, name: &Name, written: Option<u64>) -> bool {
        let Some(resident) = self.accounts.get_mut(name) else {
            return false;
        };
        resident.written = written.unwrap_or(resident.written);
        // An alarm that is too early does no harm, and most are: what was held is delivered.
        let Some(due) = resident.account.due() else {
            return false;
        };
        if resident.alarm.is_some_and(|alarm| alarm <= due) {
            return false;
        }
        if let Some(later) = resident.alarm.replace(due) {
            self.alarms.remove(&(later, name.clone()));
        }
        let is_first = self.first_alarm().is_none_or(|first| due < first);
        self.alarms.insert((due, name.clone()));
        is_first
    }

    /// When the first alarm comes.
    pub(super) fn first_alarm(&self) -> Option<Time> {
        self.alarms.first().map(|(alarm, _)| *alarm)
    }

    /// The next account whose alarm has come.
    pub(super) fn next_due(&mut self, now: Time) -> Option<Name> {
        if self.alarms.first()?.0 > now {
            return None;
        }
        let (_, name) = self.alarms.pop_first()?;
        if let Some(resident) = self.accounts.get_mut(&name) {
            resident.alarm = None;
        }
        Some(name)
    }

    /// The next account to sweep; it goes to the end of the round.
    pub(super) fn next_in_round(&mut self) -> Option<Name> {
        let name = self.round.pop_front()?;
        self.round.push_back(name.clone());
        Some(name)
    }

    /// Drops the account that was swept last, if the store knows everything about it: all writes up
    /// to the number `durable` are.
    pub(super) fn unload(&mut self, name: &Name, durable: u64) -> Option<Account> {
        let resident = self.accounts.get(name)?;
        if resident.written > durable || !resident.account.is_settled() {
            return None;
        }
        let resident = self.accounts.remove(name)?;
        if let Some(alarm) = resident.alarm {
            self.alarms.remove(&(alarm, name.clone()));
        }
        self.round.pop_back();
        Some(resident.account)
    }
}
