//! Links between relays. A relay dials those that it needs (it is their *edge*); each link carries
//! the messages, and serves the devices, of accounts that are at home on the other side.
//!
//! - [`edge`]: this side passes on, and serves devices for, another relay;
//! - [`home`]: this side is the home, another relay passes on to it.

mod edge;
pub(crate) mod home;

use std::{collections::HashMap, sync::Arc};

use holdfast_protocol::{
    id::Name,
    message::{Ack, RelayAddress},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

pub(crate) use edge::Dialler;
use edge::Edge;

use crate::{
    mail::outlet::{Outlet, SessionId},
    metrics::Metrics,
    request::Request,
};

/// Every relay that this one passes on to; a clone is another handle on the same links.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    dialler: Dialler,
    metrics: Arc<Metrics>,
    edges: Mutex<HashMap<Name, Arc<Edge>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Peers {
    /// No links yet.
    pub(crate) fn new(dialler: Dialler, metrics: Arc<Metrics>) -> Self {
        let (edges, tasks) = Default::default();
        Self(Arc::new(Inner {
            dialler,
            metrics,
            edges,
            tasks,
        }))
    }

    /// Tells where a relay can be reached, and begins a link to it unless there is one.
    pub(crate) fn introduce(&self, relay: &RelayAddress) {
        let mut edges = self.0.edges.lock();
        if let Some(edge) = edges.get(&relay.name) {
            return edge.set_addresses(relay.addresses.clone());
        }
        let edge = Arc::new(Edge::new(relay.clone()));
        edges.insert(relay.name.clone(), edge.clone());
        let (dialler, metrics) = (self.0.dialler.clone(), self.0.metrics.clone());
        self.0
            .tasks
            .lock()
            .spawn(async move { edge.run(&dialler, &metrics).await });
    }

    /// Tells where a relay can be reached, if there is a link to it.
    pub(crate) fn update(&self, relay: &RelayAddress) {
        if let Some(edge) = self.edge(&relay.name) {
            edge.set_addresses(relay.addresses.clone());
        }
    }

    /// Passes a request on to the home of its account.
    pub(crate) fn request(&self, relay: &Name, request: Request) {
        if let Some(edge) = self.edge(relay) {
            edge.request(request);
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
        let edges: Vec<Arc<Edge>> = self.0.edges.lock().values().cloned().collect();
        edges.iter().for_each(|edge| edge.forget(outlet));
    }

    /// Ends every link.
    pub(crate) async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock());
        tasks.shutdown().await;
    }

    fn edge(&self, relay: &Name) -> Option<Arc<Edge>> {
        self.0.edges.lock().get(relay).cloned()
    }
}
