//! Every relay that this one passes on to, by name.

use std::{collections::BTreeMap, mem, sync::Arc};

use holdfast_protocol::{
    id::Name,
    message::{Ack, RelayAddress},
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{link::edge::Edge, request::Request};
use crate::{
    bell::Bell,
    mail::{
        desk::Moment,
        outlet::{Outlet, SessionId},
    },
};

/// The edges of a relay; a clone is another handle on the same ones.
#[derive(Clone)]
pub(crate) struct Links(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// There are edges that nobody carries yet.
    bell: Bell,
}

struct State {
    edges: BTreeMap<Name, Edge>,
    fresh: Vec<Edge>,
    /// For the seeds of the edges.
    rng: StdRng,
}

impl Links {
    /// No links yet. Their pauses follow from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            edges: BTreeMap::new(),
            fresh: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            bell: Bell::default(),
        }))
    }

    /// Tells where a relay can be reached, and begins a link to it unless there is one.
    pub(crate) fn introduce(&self, relay: &RelayAddress) {
        let mut state = self.0.state.lock();
        if let Some(edge) = state.edges.get(&relay.name) {
            return edge.set_addresses(relay.addresses.clone());
        }
        let edge = Edge::new(relay.clone(), state.rng.random());
        state.edges.insert(relay.name.clone(), edge.clone());
        state.fresh.push(edge);
        self.0.bell.ring();
    }

    /// Rings when there is something to [`take_fresh`](Self::take_fresh).
    pub(crate) fn bell(&self) -> Bell {
        self.0.bell.clone()
    }

    /// The edges that have come since this was last asked; somebody is to carry each.
    pub(crate) fn take_fresh(&self) -> Vec<Edge> {
        mem::take(&mut self.0.state.lock().fresh)
    }

    /// Tells where a relay can be reached, if there is a link to it.
    pub(crate) fn update(&self, relay: &RelayAddress) {
        if let Some(edge) = self.edge(&relay.name) {
            edge.set_addresses(relay.addresses.clone());
        }
    }

    /// Passes a request on to the home of its account.
    pub(crate) fn request(&self, now: Moment, relay: &Name, request: Request) {
        if let Some(edge) = self.edge(relay) {
            edge.request(now, request);
        }
    }

    /// Passes on what a device acknowledged.
    pub(crate) fn ack(&self, relay: &Name, session: SessionId, ack: Ack) {
        if let Some(edge) = self.edge(relay) {
            edge.ack(session, ack);
        }
    }

    /// Passes on that a session has ended.
    pub(crate) fn detach(&self, relay: &Name, session: SessionId) {
        if let Some(edge) = self.edge(relay) {
            edge.detach(session);
        }
    }

    /// Drops what waits to be passed on for an outlet that is gone.
    pub(crate) fn forget(&self, outlet: &Outlet) {
        let edges: Vec<Edge> = self.0.state.lock().edges.values().cloned().collect();
        edges.iter().for_each(|edge| edge.forget(outlet));
    }

    /// The link to a relay, if there is one.
    pub(crate) fn edge(&self, relay: &Name) -> Option<Edge> {
        self.0.state.lock().edges.get(relay).cloned()
    }
}
