//! What a client does when its path changes or comes into doubt, and when the app goes to the
//! background or comes back.

use std::{mem, time::Duration};

use holdfast_protocol::{
    heartbeat::{Learner, Observation},
    time::Time,
};

use super::{Engine, Phase};
use crate::{
    State,
    core::{failure::Failure, itinerary::Stop, rival::Rival, signal::Output},
};

/// How long new sockets are given before they are exchanged again because nothing can be sent: where
/// there is no network, no socket helps.
const MOVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    /// The app went to the background, or came to the foreground, where whatever happened meanwhile
    /// is to be noticed at once.
    pub(super) fn set_background(&mut self, background: bool, now: Time) {
        let changed = self.surroundings.set_background(background);
        self.radio.set_background(background, now);
        self.with_session(|session| match changed {
            true => session.set_background(background, now),
            false => session.ping_now(now),
        });
        if !background {
            self.doubt_path(now);
            self.hurry_if_idle(now);
        }
    }

    /// Moves everything to a new socket: the old one may belong to a network that is gone.
    pub(super) fn network_changed(&mut self, name: Option<String>, now: Time) {
        let network = self.surroundings.enter(name);
        self.exchange_sockets(network, now);
        self.hurry_if_idle(now);
        self.hurry_rival(now);
    }

    /// The socket is of no use any more: a system may take it away from an app that sleeps. Nothing
    /// says that the network is another one, so nobody is in a hurry who was not.
    pub(super) fn send_failed(&mut self, now: Time) {
        let is_new = self
            .moved
            .is_some_and(|moved| now.since(moved) < MOVE_AGAIN_AFTER);
        if !is_new && !self.surroundings.is_offline() {
            self.exchange_sockets(None, now);
        }
    }

    fn exchange_sockets(&mut self, network: Option<Learner>, now: Time) {
        self.moved = Some(now);
        self.outputs.push_back(Output::Rebind);
        self.with_session(|session| session.rebound(network, now));
        self.doubt_path(now);
    }

    /// Nothing is dialled and nothing is missed until there is a network again. A session stays: it
    /// may go on then as if nothing had happened.
    pub(super) fn network_lost(&mut self) {
        self.surroundings.lose_network();
        match self.phase {
            Phase::Serving { .. } => {
                self.was_offline = true;
                self.outputs.push_back(Output::State(State::Offline));
            }
            Phase::Dialling { .. }
            | Phase::Asking
            | Phase::Resting { .. }
            | Phase::Greeting { .. } => {
                self.end_session();
                self.phase = Phase::Offline;
                self.outputs.push_back(Output::State(State::Offline));
            }
            _ => {}
        }
    }

    /// A ping is under way that tells whether the session still has a path.
    pub(super) fn doubt_path(&mut self, now: Time) {
        let round_trip = self.round_trip;
        if let Phase::Serving { rival, leaving, .. } = &mut self.phase {
            // A device that is to leave sets out when it was to, however good the path.
            let setting_out = rival.due().filter(|_| leaving.is_some());
            rival.doubt(now, round_trip);
            if let Some(due) = setting_out {
                rival.schedule(due);
            }
        }
    }

    /// Who waits for better times tries again at once, for they have come.
    pub(super) fn hurry_if_idle(&mut self, now: Time) {
        let is_idle = match self.phase {
            Phase::Dialling { .. } | Phase::Asking => {
                self.outputs.push_back(Output::Abandon);
                true
            }
            Phase::Resting { .. } | Phase::Offline => true,
            _ => false,
        };
        if is_idle {
            self.search.hurry();
            self.seek(now);
        }
    }

    /// A rival that is being dialled has said its first words in the network before, and repeats them
    /// ever more seldom: it is dialled anew in this one.
    fn hurry_rival(&mut self, now: Time) {
        if let Phase::Serving {
            rival: Rival::Dialling { stop, .. },
            ..
        } = &self.phase
        {
            let stop = stop.clone();
            self.outputs.push_back(Output::Abandon);
            self.dial_rival(stop, now);
        }
    }

    /// The rival is due: the session's path is still in doubt, or the device is to go elsewhere.
    pub(super) fn rival_due(&mut self, now: Time) {
        match &self.phase {
            Phase::Serving {
                leaving: Some(_), ..
            } => self.dial_successor(now),
            Phase::Serving { stop, .. } => self.dial_rival(stop.clone(), now),
            _ => {}
        }
    }

    pub(super) fn dial_rival(&mut self, stop: Stop, now: Time) {
        if let Phase::Serving { session, .. } = &self.phase {
            self.surroundings.keep(session.learner());
        }
        let session = Box::new(self.dial(stop.clone(), now));
        if let Phase::Serving { rival, .. } = &mut self.phase {
            *rival = Rival::Dialling { stop, session };
        }
    }

    /// The session goes on without it: its pings tell when it is lost, and until then there may be
    /// another rival.
    pub(super) fn rival_failed(&mut self, failure: Failure, now: Time) {
        let round_trip = self.round_trip;
        let Phase::Serving { rival, leaving, .. } = &mut self.phase else {
            return;
        };
        *rival = Rival::None;
        match leaving {
            None => {
                let is_busy = matches!(failure, Failure::Busy(_));
                let wait = is_busy.then(|| self.search.queue());
                rival.doubt(now + wait.unwrap_or_default(), round_trip);
            }
            Some(_) => {
                self.search.unanswered(failure);
                self.dial_successor(now);
            }
        }
    }

    /// The relay is there, and the path works.
    pub(super) fn observed(&mut self, observation: Observation) {
        self.round_trip = Some(observation.round_trip);
        let Phase::Serving {
            stop,
            rival,
            leaving,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if leaving.is_none() && rival.answered() {
            self.outputs.push_back(Output::Abandon);
        }
        if mem::take(&mut self.was_offline) {
            let relay = stop.relay.clone();
            self.outputs
                .push_back(Output::State(State::Attached { relay }));
        }
    }
}
