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
    dial::{Dialler, Failure},
    itinerary::{Itinerary, Step, Stop},
    session::Session,
    state::{Board, State},
};

/// A session that lasts as long has shown that its relay works.
const STEADY: Duration = Duration::from_secs(5);

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
    failures: Vec<Failure>,
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
            failures: Vec::new(),
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
            Allocation::Relays { relays, .. } => {
                self.itinerary.answered(&relays);
                self.committer.remember(relays);
                Ok(())
            }
            Allocation::NoRelay { retry_after_ms } => {
                let retry_after = Duration::from_millis(retry_after_ms.into());
                self.itinerary.no_relay(retry_after);
                let why = "the allocator knows no relay; start one";
                Err(Failure::Unreachable(why.to_owned()))
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
        if self.short_sessions > 1 || self.refusal().is_some() {
            self.itinerary.rest_first();
        }
    }

    async fn rest(&mut self, at_least: Duration) {
        let refusal = self.refusal();
        let last = self.failures.pop();
        self.failures.clear();
        let state = match (refusal, last) {
            (Some(why), _) => State::Refused {
                retry_in: self.backoff.at_cap(),
                why,
            },
            (None, last) => State::Waiting {
                retry_in: self.backoff.next().max(at_least),
                why: last.map(words).unwrap_or_default(),
            },
        };
        if let State::Refused { retry_in, .. } | State::Waiting { retry_in, .. } = state {
            self.board.publish(state);
            sleep(retry_in).await;
        }
    }

    /// The refusal among the failures, if nothing else explains them: one by the other side, or our
    /// own of everybody who answered, when nobody was unreachable.
    fn refusal(&self) -> Option<String> {
        let refused = |failure: &&Failure| matches!(failure, Failure::Refused(_));
        let untrusted = |failure: &Failure| matches!(failure, Failure::Untrusted(_));
        let refusal = self.failures.iter().find(refused);
        let distrust = self.failures.iter().all(untrusted);
        refusal
            .or_else(|| self.failures.last().filter(|_| distrust))
            .cloned()
            .map(words)
    }

    fn note(&mut self, failure: Failure) {
        tracing::info!(?failure, "an attempt to connect failed");
        self.failures.push(failure);
    }

    fn count(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        let attempt = self.attempts;
        self.board.publish(State::Connecting { attempt });
    }
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Unreachable(why) | Failure::Untrusted(why) | Failure::Refused(why) => why,
        Failure::Superseded => Superseded.to_string(),
    }
}

impl std::fmt::Display for Superseded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a newer session of the same device has taken its place")
    }
}
