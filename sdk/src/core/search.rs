//! The search for a relay: where to next along the [itinerary](super::itinerary), how long to rest
//! between its rounds, and what is worth telling of what went wrong.

use std::{mem, net::SocketAddr, time::Duration};

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
    /// How long all devices of the last relay need to come back, as it said.
    redial: Duration,
    /// All of them have to: rest for a random part of that before the next step.
    crowded: bool,
}

impl Search {
    pub(crate) fn new(itinerary: Itinerary, backoff: Backoff) -> Self {
        Self {
            itinerary,
            backoff,
            failures: Failures::default(),
            attempts: 0,
            short_sessions: 0,
            redial: Duration::ZERO,
            crowded: false,
        }
    }

    /// What to do now, and what to say of it.
    pub(crate) fn next(&mut self) -> (Errand, State) {
        if mem::take(&mut self.crowded) {
            let retry_in = self.backoff.within(self.redial);
            return self.wait(retry_in);
        }
        match self.itinerary.next() {
            Step::Relay(stop) => (Errand::Dial(stop), self.count()),
            Step::Allocator(address) => (Errand::Ask(address), self.count()),
            Step::Rest { at_least } => self.rest(at_least),
            Step::Queue => {
                let retry_in = self.backoff.next_of(self.redial);
                self.wait(retry_in)
            }
        }
    }

    /// There is a session with a relay, all of whose devices need so long to come back.
    pub(crate) fn attached(&mut self, relay: &Name, redial: Duration) {
        self.itinerary.attached(relay);
        self.failures.clear();
        self.attempts = 0;
        self.redial = redial.min(LONGEST_REST);
    }

    /// The relay that was tried has failed.
    pub(crate) fn failed(&mut self, failure: Failure) -> Result<(), Superseded> {
        if failure == Failure::Superseded {
            return Err(Superseded);
        }
        if let Failure::Busy(_) = failure {
            self.itinerary.busy();
        }
        self.note(failure);
        Ok(())
    }

    /// The allocator that was asked has failed.
    pub(crate) fn unanswered(&mut self, failure: Failure) {
        self.note(failure);
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

    /// The session has ended by itself, perhaps while the device was to go to a successor. What has
    /// ended it for everybody brings everybody back: then there is a rest first.
    pub(crate) fn lost(
        &mut self,
        relay: &Name,
        successors: Option<&[RelayAddress]>,
        (ending, age): (&Ending, Duration),
    ) -> Result<(), Superseded> {
        let failure = Failure::from_ending(&format!("relay {relay}"), ending);
        if failure == Failure::Superseded {
            return Err(Superseded);
        }
        match successors {
            Some(successors) => self.itinerary.go_away(successors),
            None => self.itinerary.set_out(),
        }
        self.note(failure);
        self.ended(age);
        self.crowded = ending.is_everybodys() && !self.redial.is_zero();
        Ok(())
    }

    /// The relay of the session is stopping, and has named its successors.
    pub(crate) fn sent_away(&mut self, successors: &[RelayAddress], age: Duration) {
        self.itinerary.go_away(successors);
        self.ended(age);
    }

    /// When to set out for a successor, if all who do have so long. Relays that send away whom they
    /// have just welcomed are not followed without a pause.
    pub(crate) fn setting_out(&mut self, spread: Duration) -> Duration {
        let moment = self.backoff.within(spread);
        match self.itinerary.take_rest() {
            true => moment.max(self.backoff.next()),
            false => moment,
        }
    }

    /// The next of the successors, as long as one is left.
    pub(crate) fn successor(&mut self) -> Option<Stop> {
        self.itinerary.next_stop()
    }

    /// None of the successors could be reached: how long to wait before all are tried again, if they
    /// need so long to take in everybody.
    pub(crate) fn again(&mut self, successors: &[RelayAddress], spread: Duration) -> Duration {
        self.itinerary.go_away(successors);
        self.backoff.next_of(spread)
    }

    /// How long to wait beside a session before a relay that has no room is dialled again.
    pub(crate) fn queue(&mut self) -> Duration {
        self.backoff.within(self.redial)
    }

    /// The app wants a relay now: no rest, and no grudge.
    pub(crate) fn hurry(&mut self) {
        self.crowded = false;
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
                return self.wait(retry_in);
            }
        };
        self.failures.clear();
        (Errand::Rest(retry_in), state)
    }

    fn wait(&mut self, retry_in: Duration) -> (Errand, State) {
        let why = self.failures.last();
        self.failures.clear();
        (Errand::Rest(retry_in), State::Waiting { retry_in, why })
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
