//! Requests for accounts whose homes are not known yet, in the order in which they came.

use std::{collections::BTreeMap, mem};

use holdfast_protocol::id::Name;

use super::From;
use crate::{
    core::request::Request,
    mail::outlet::{Outlet, SessionId},
};

/// What may wait, in bytes. Past it, senders are turned away.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a request takes besides its body, in bytes.
const OVERHEAD: usize = 512;

/// Where a request has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is the first for its account: somebody has to ask for the home.
    First,
    /// Others wait for the same account.
    Behind,
    /// Nowhere: its outlet was shut.
    TurnedAway,
}

/// Requests that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: BTreeMap<Name, Vec<(From, Request)>>,
    bytes: usize,
}

impl Waiting {
    /// Whether the home of an account is being asked for.
    pub(super) fn is_asked(&self, account: &Name) -> bool {
        self.requests.contains_key(account)
    }

    /// Appends a request, or turns its sender away: what it sends later must not overtake it.
    pub(super) fn push(&mut self, from: From, request: Request) -> Kept {
        if self.bytes > MAX_BYTES {
            request.outlet().shut();
            return Kept::TurnedAway;
        }
        self.bytes += cost(&request);
        let account = request.account().clone();
        let is_asked = self.is_asked(&account);
        self.requests
            .entry(account)
            .or_default()
            .push((from, request));
        if is_asked { Kept::Behind } else { Kept::First }
    }

    /// Takes what waits for an account.
    pub(super) fn take(&mut self, account: &Name) -> Vec<(From, Request)> {
        let taken = self.requests.remove(account).unwrap_or_default();
        self.bytes -= taken
            .iter()
            .map(|(_, request)| cost(request))
            .sum::<usize>();
        taken
    }

    /// A session has ended before its account's home was known.
    pub(super) fn detach(&mut self, account: &Name, session: SessionId) {
        let attaches = |request: &Request| matches!(request, Request::Attach(attachment) if attachment.session.id == session);
        self.retain_of(account, |request| !attaches(request));
    }

    /// Nobody is there any more at this outlet.
    pub(super) fn forget(&mut self, outlet: &Outlet) {
        let accounts: Vec<Name> = self.requests.keys().cloned().collect();
        for account in accounts {
            self.retain_of(&account, |request| request.outlet() != outlet);
        }
    }

    /// The account stays asked for, even if nothing waits any more.
    fn retain_of(&mut self, account: &Name, keep: impl Fn(&Request) -> bool) {
        let Some(requests) = self.requests.get_mut(account) else {
            return;
        };
        let (kept, dropped) = mem::take(requests)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, request)| keep(request));
        *requests = kept;
        self.bytes -= dropped
            .iter()
            .map(|(_, request)| cost(request))
            .sum::<usize>();
    }
}

fn cost(request: &Request) -> usize {
    match request {
        Request::Submit { message, .. } => OVERHEAD + message.body.len(),
        Request::Attach(_) | Request::Allow { .. } => OVERHEAD,
    }
}
