//! The search for a relay: follows the [itinerary](crate::itinerary) until a session is there,
//! resting between its rounds, for ever.

use std::{sync::Arc, time::Duration};

use holdfast_protocol::{
    allocation::Allocation,
    id::Name,
    message::{RelayAddress, Welcome},
};
use holdfast_transport::Ending;
use tokio::time::sleep;

use crate::{
    backoff::Backoff,
    committer::Committer,
    dial::Dialler,
    failure::{Failure, Failures},
    itinerary::{Itinerary, Step, Stop},
    session::Session,
    state::{Board, State},
};

/// A session that lasts as long has shown that its relay works.
const STEADY: Duration = Duration::from_secs(5);

/// The longest rest an allocator can ask for.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// A newer session of the same device has taken this one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded;

/// A new session.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) session: Session,
    pub(crate) relay: Name,
    pub(crate) welcome: Welcome,
}

/// The search for a relay.
pub(crate) struct Search {
    dialler: Dialler,
    itinerary: Itinerary,
    backoff: Backoff,
    board: Arc<Board>,
    committer: Committer,
    /// What went wrong in this round.
    failures: Failures,
    /// Addresses tried since the last session.
    attempts: u32,
    /// Sessions in a row that were lost at once.
    short_sessions: u32,
}

impl Search {
    pub(crate) fn new(
        dialler: Dialler,
        itinerary: Itinerary,
        backoff: Backoff,
        board: Arc<Board>,
        committer: Committer,
    ) -> Self {
        Self {
            dialler,
            itinerary,
            backoff,
            board,
            committer,
            failures: Failures::default(),
            attempts: 0,
            short_sessions: 0,
        }
    }

    /// Looks for a relay until there is a session. It may be dropped at any await, and called again
    /// to go on.
    pub(crate) async fn find(&mut self) -> Result<Found, Superseded> {
        loop {
            let tried = match self.itinerary.next() {
                Step::Relay(stop) => match self.attach(stop).await {
                    Ok(found) => return Ok(found),
                    Err(failure) => Err(failure),
                },
                Step::Allocator(address) => {
                    self.count();
                    let asked = self.dialler.ask(address).await;
                    asked.and_then(|allocation| self.heed(allocation))
                }
                Step::Rest { at_least } => {
                    self.rest(at_least).await;
                    Ok(())
                }
            };
            match tried {
                Ok(()) => {}
                Err(Failure::Superseded) => return Err(Superseded),
                Err(failure) => self.note(failure),
            }
        }
    }

    /// The session has ended by itself.
    pub(crate) fn lost(
        &mut self,
        relay: &Name,
        ending: &Ending,
        age: Duration,
    ) -> Result<(), Superseded> {
        self.itinerary.set_out();
        match Failure::from_ending(&format!("relay {relay}"), ending) {
            Failure::Superseded => return Err(Superseded),
            failure => self.note(failure),
        }
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

    /// Gives up the sockets.
    pub(crate) async fn close(self) {
        self.dialler.close().await;
    }

    async fn attach(&mut self, stop: Stop) -> Result<Found, Failure> {
        self.count();
        let (session, welcome) = self.dialler.attach(&stop).await?;
        self.itinerary.attached(&stop.relay);
        self.failures.clear();
        self.attempts = 0;
        Ok(Found {
            session,
            relay: stop.relay,
            welcome,
        })
    }

    fn heed(&mut self, allocation: Allocation) -> Result<(), Failure> {
        match allocation {
            Allocation::Relays { relays, .. } if !relays.is_empty() => {
                self.itinerary.answered(&relays);
                self.committer.remember(relays);
                Ok(())
            }
            Allocation::Relays { .. } => Err(no_relay()),
            Allocation::NoRelay { retry_after_ms } => {
                let retry_after = Duration::from_millis(retry_after_ms.into());
                self.itinerary.no_relay(retry_after.min(LONGEST_REST));
                Err(no_relay())
            }
            Allocation::Denied => Err(Failure::Refused(
                "the allocator serves no such identity; use a device's or a service's certificate"
                    .to_owned(),
            )),
        }
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

    async fn rest(&mut self, at_least: Duration) {
        let retry_in = match self.failures.refusal() {
            Some(why) => {
                let retry_in = self.backoff.at_cap();
                self.board.publish(State::Refused { retry_in, why });
                retry_in
            }
            None => {
                let retry_in = self.backoff.next().max(at_least);
                let why = self.failures.last();
                self.board.publish(State::Waiting { retry_in, why });
                retry_in
            }
        };
        self.failures.clear();
        sleep(retry_in).await;
    }

    fn note(&mut self, failure: Failure) {
        tracing::info!(?failure, "an attempt to connect failed");
        self.failures.note(failure);
    }

    fn count(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        let attempt = self.attempts;
        self.board.publish(State::Connecting { attempt });
    }
}

fn no_relay() -> Failure {
    Failure::Unreachable("the allocator knows no relay; start one".to_owned())
}
