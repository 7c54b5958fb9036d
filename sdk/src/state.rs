//! Where a client stands, for an app that wants to show it.

use std::{net::SocketAddr, time::Duration};

use holdfast_protocol::{
    heartbeat::Observation,
    id::Name,
    limits::DEFAULT_BULK_BODY,
    radio::{RadioAccount, RadioUses},
    time::Time,
};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::error::{Closed, Detached};

/// Where a client stands with its relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It looks for a relay.
    Connecting {
        /// Which address this is since it was last attached, counted from 1.
        attempt: u32,
    },
    /// It has a session.
    Attached {
        /// With this relay.
        relay: Name,
    },
    /// Every relay and every allocator has failed; it tries again.
    Waiting {
        /// After this long.
        retry_in: Duration,
        /// What went wrong last.
        why: String,
    },
    /// The app has said that there is no network. It tries again as soon as the app says otherwise.
    Offline,
    /// It will not be served as it is: `why` says what a person has to do. It tries again all the
    /// same, rarely.
    Refused {
        /// After this long.
        retry_in: Duration,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A newer session of the same device has taken this one's place. The client stays away until
    /// [`Client::reconnect`](crate::Client::reconnect): two that fought would both be useless.
    Superseded,
    /// Its storage failed, and it has stopped: see to the disk, then make a new client.
    Failed {
        /// What went wrong.
        why: String,
    },
    /// It was closed.
    Closed,
}

impl State {
    fn outcome(&self) -> Option<Result<Name, Detached>> {
        match self {
            Self::Attached { relay } => Some(Ok(relay.clone())),
            Self::Refused { why, .. } => Some(Err(Detached::Refused(why.clone()))),
            Self::Superseded => Some(Err(Detached::Superseded)),
            Self::Failed { .. } | Self::Closed => Some(Err(Closed.into())),
            Self::Connecting { .. } | Self::Waiting { .. } | Self::Offline => None,
        }
    }
}

/// Follows a client's [`State`]. States that pass faster than they are asked for are left out.
#[derive(Clone, Debug)]
pub struct States(watch::Receiver<State>);

impl States {
    /// The state now.
    pub fn current(&mut self) -> State {
        self.0.borrow_and_update().clone()
    }

    /// Waits for a state other than the one last seen; `None` when no other will come.
    pub async fn changed(&mut self) -> Option<State> {
        self.0.changed().await.ok()?;
        Some(self.current())
    }

    pub(crate) async fn attached(&mut self) -> Result<Name, Detached> {
        loop {
            if let Some(outcome) = self.current().outcome() {
                return outcome;
            }
            self.0.changed().await.map_err(|_| Closed)?;
        }
    }
}

/// What the driver tells and every handle reads.
#[derive(Debug)]
pub(crate) struct Board {
    /// The engine's time starts here.
    origin: Instant,
    state: watch::Sender<State>,
    facts: Mutex<Facts>,
}

#[derive(Clone, Copy, Debug)]
struct Facts {
    max_body: usize,
    address: Option<SocketAddr>,
    round_trip: Option<Duration>,
    radio: RadioAccount,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            state: watch::Sender::new(State::Connecting { attempt: 1 }),
            facts: Mutex::new(Facts {
                max_body: DEFAULT_BULK_BODY,
                address: None,
                round_trip: None,
                radio: RadioAccount::new(Time::ZERO),
            }),
        }
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    pub(crate) fn set_radio(&self, radio: RadioAccount) {
        self.facts.lock().radio = radio;
    }

    pub(crate) fn radio_use(&self) -> RadioUses {
        let radio = self.facts.lock().radio;
        radio.used(Time::at(self.origin.elapsed()))
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn states(&self) -> States {
        States(self.state.subscribe())
    }

    pub(crate) fn publish(&self, state: State) {
        tracing::debug!(?state, "the connection's state");
        self.state.send_replace(state);
    }

    /// The app wants a relay now: what stood in the way no longer counts.
    pub(crate) fn hurry(&self) {
        self.state.send_if_modified(|state| {
            let stuck = matches!(state, State::Superseded | State::Refused { .. });
            if stuck {
                *state = State::Connecting { attempt: 1 };
            }
            stuck
        });
    }

    /// What the relay takes, as the last welcome said.
    pub(crate) fn set_max_body(&self, bytes: usize) {
        self.facts.lock().max_body = bytes;
    }

    pub(crate) fn max_body(&self) -> usize {
        self.facts.lock().max_body
    }

    pub(crate) fn observe(&self, observation: Observation) {
        let mut facts = self.facts.lock();
        facts.address = Some(observation.address);
        facts.round_trip = Some(observation.round_trip);
    }

    pub(crate) fn observed_address(&self) -> Option<SocketAddr> {
        self.facts.lock().address
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.facts.lock().round_trip
    }
}
