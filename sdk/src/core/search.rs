//! The search for a relay: where to next along the [itinerary](super::itinerary), how long to rest
//! between its rounds, and what is worth telling of what went wrong.

use std::{net::SocketAddr, time::Duration};

use holdfast_protocol::{allocation::Allocation, id::Name, message::RelayAddress};
use holdfast_transport::Ending;

use super::{
    backoff::Backoff,
    failure::{Failure, Failures},
    itinerary::{Itinerary, Step, Stop},
};
use crate::State;

/// A session that lasts as long has shown that its relay works.
const STEADY: Duration = Duration::from_secs(5);

/// The longest rest an allocator can ask for.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// A newer session of the same device has taken this one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Try this relay.
    Dial(Stop),
    /// Ask this allocator.
    Ask(SocketAddr),
    /// Wait.
    Rest(Duration),
}

/// The search for a relay.
#[derive(Debug)]
pub(crate) struct Search {
    itinerary: Itinerary,
    backoff: Backoff,
    /// What went wrong in this round.
    failures: Failures,
    /// Addresses tried since the last session.
    attempts: u32,
    /// Sessions in a row that were lost at once.
    short_sessions: u32,
}

impl Search {
    pub(crate) fn new(itinerary: Itinerary, backoff: Backoff) -> Self {
        Self {
            itinerary,
            backoff,
            failures: Failures::default(),
            attempts: 0,
            short_sessions: 0,
        }
    }

    /// What to do now, and what to say of it.
    pub(crate) fn next(&mut self) -> (Errand, State) {
        match self.itinerary.next() {
            Step::Relay(stop) => (Errand::Dial(stop), self.count()),
            Step::Allocator(address) => (Errand::Ask(address), self.count()),
            Step::Rest { at_least } => self.rest(at_least),
        }
    }

    /// There is a session.
    pub(crate) fn attached(&mut self, relay: &Name) {
        self.itinerary.attached(relay);
        self.failures.clear();
        self.attempts = 0;
    }

    /// What was tried has failed.
    pub(crate) fn failed(&mut self, failure: Failure) -> Result<(), Superseded> {
        if failure == Failure::Superseded {
            return Err(Superseded);
        }
        self.note(failure);
        Ok(())
    }

    /// An allocator has answered. Returns the relays that are to be remembered.
    pub(crate) fn allocated(&mut self, allocation: Allocation) -> Option<Vec<RelayAddress>> {
        let failure = match allocation {
            Allocation::Relays { relays, .. } if !relays.is_empty() => {
                self.itinerary.answered(&relays);
                return Some(relays);
            }
            Allocation::Relays { .. } => no_relay(),
            Allocation::NoRelay { retry_after_ms } => {
                let retry_after = Duration::from_millis(retry_after_ms.into());
                self.itinerary.no_relay(retry_after.min(LONGEST_REST));
                no_relay()
            }
            Allocation::Denied => Failure::Refused(
                "the allocator serves no such identity; use a device's or a service's certificate"
                    .to_owned(),
            ),
        };
        self.note(failure);
        None
    }

    /// The session has ended by itself.
    pub(crate) fn lost(
        &mut self,
        relay: &Name,
        ending: &Ending,
        age: Duration,
    ) -> Result<(), Superseded> {
        self.itinerary.set_out();
        self.failed(Failure::from_ending(&format!("relay {relay}"), ending))?;
        self.ended(age);
        Ok(())
    }

    /// The relay of the session is stopping, and has named its successors.
    pub(crate) fn sent_away(&mut self, successors: &[RelayAddress], age: Duration) {
        self.itinerary.go_away(successors);
        self.ended(age);
    }

    /// The app wants a relay now: no rest, and no grudge.
    pub(crate) fn hurry(&mut self) {
        self.backoff.reset();
        self.failures.clear();
        self.short_sessions = 0;
        self.itinerary.set_out();
    }

    /// A relay that takes sessions and loses them at once must not be asked without a pause; one
    /// loss is no pattern.
    fn ended(&mut self, age: Duration) {
        if age >= STEADY {
            self.short_sessions = 0;
            self.backoff.reset();
            return;
        }
        self.short_sessions += 1;
        if self.short_sessions > 1 || self.failures.refusal().is_some() {
            self.itinerary.rest_first();
        }
    }

    fn rest(&mut self, at_least: Duration) -> (Errand, State) {
        let (retry_in, state) = match self.failures.refusal() {
            Some(why) => {
                let retry_in = self.backoff.at_cap();
                (retry_in, State::Refused { retry_in, why })
            }
            None => {
                let retry_in = self.backoff.next().max(at_least);
                let why = self.failures.last();
                (retry_in, State::Waiting { retry_in, why })
            }
        };
        self.failures.clear();
        (Errand::Rest(retry_in), state)
    }

    fn note(&mut self, failure: Failure) {
        tracing::info!(?failure, "an attempt to connect failed");
        self.failures.note(failure);
    }

    fn count(&mut self) -> State {
        self.attempts = self.attempts.saturating_add(1);
        let attempt = self.attempts;
        State::Connecting { attempt }
    }
}

fn no_relay() -> Failure {
    Failure::Unreachable("the allocator knows no relay; start one".to_owned())
}
