//! The daemons, in this process: one allocator and its relays, each with its own socket, store and
//! certificate, as on machines of their own.

use std::{net::SocketAddr, time::Duration};

use holdfast_allocator::{Allocator, Standing, config};
use holdfast_certs::Identity;
use holdfast_relay::{Limits, Relay};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};

use crate::{
    failure::Failure,
    layout::Layout,
    plan::{ANY, Plan, Post},
};

/// The allocator's name.
const ALLOCATOR: &str = "a1";

/// How long a relay may take to get its lease.
const LEASE_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether a relay has its lease.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The daemons.
pub(crate) struct Fleet {
    layout: Layout,
    limits: Limits,
    allocator: Allocator,
    relays: Vec<Berth>,
}

/// A relay's place, and the relay while it runs.
struct Berth {
    post: Post,
    relay: Option<Relay>,
}

/// Whose certificates the daemons of a plan need.
pub(crate) fn identities(plan: &Plan) -> Result<Vec<Identity>, Failure> {
    let mut identities = vec![Identity::allocator(ALLOCATOR)?];
    for post in &plan.relays {
        identities.push(Identity::relay(&post.name)?);
    }
    Ok(identities)
}

impl Fleet {
    /// Starts the allocator, and then the relays.
    pub(crate) async fn start(
        layout: &Layout,
        plan: &Plan,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let allocator = Allocator::bind(config::Config {
            listen: plan.allocator,
            credentials: layout.credentials(&Identity::allocator(ALLOCATOR)?),
            data: layout.allocator_data(),
            lease: config::DEFAULT_LEASE,
            retry_after: config::DEFAULT_RETRY_AFTER,
            requests_per_second: config::DEFAULT_REQUESTS_PER_SECOND,
            requests_burst: config::DEFAULT_REQUESTS_BURST,
            handshakes: Default::default(),
        });
        let mut fleet = Self {
            layout: layout.clone(),
            limits,
            allocator: allocator.await?,
            relays: Vec::new(),
        };
        for post in &plan.relays {
            let post = post.clone();
            fleet.relays.push(Berth { post, relay: None });
        }
        for post in &plan.relays {
            fleet.start_relay(&post.name).await?;
        }
        Ok(fleet)
    }

    /// Where everything listens now.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            allocator: self.allocator.address(),
            relays: self.relays.iter().map(|berth| berth.post.clone()).collect(),
        }
    }

    /// A relay's place.
    pub(crate) fn post(&self, name: &str) -> Option<&Post> {
        let berth = self.relays.iter().find(|berth| berth.post.name == name);
        berth.map(|berth| &berth.post)
    }

    /// Gives a relay that does not run another place: a port of its own, which only `advertise`
    /// leads to.
    pub(crate) fn move_relay(&mut self, name: &str, advertise: SocketAddr) {
        let berth = self.relays.iter_mut().find(|berth| berth.post.name == name);
        if let Some(Berth { post, .. }) = berth {
            post.listen = ANY;
            post.advertise = Some(advertise);
        }
    }

    /// Starts a relay that does not run, at its place; where it listens is its place from then on.
    pub(crate) async fn start_relay(&mut self, name: &str) -> Result<(), Failure> {
        let (layout, limits) = (self.layout.clone(), self.limits.clone());
        let allocator = self.allocator.address();
        let berth = self.relays.iter_mut().find(|berth| berth.post.name == name);
        let Some(Berth { post, relay }) = berth else {
            return Ok(());
        };
        let bound = Relay::bind(holdfast_relay::Config {
            listen: post.listen,
            advertise: post.advertise.into_iter().collect(),
            admin: Some(post.admin),
            data: layout.mail(name),
            tickets: Some(layout.tickets()),
            allocators: vec![allocator],
            capacity: 1,
            threads: None,
            credentials: layout.credentials(&Identity::relay(name)?),
            limits,
            sessions: Default::default(),
            handshakes: Default::default(),
            store: Default::default(),
        });
        let bound = bound.await.map_err(|source| Failure::Relay {
            name: name.to_owned(),
            source,
        })?;
        post.listen = bound.address();
        post.admin = bound.admin_address().unwrap_or(post.admin);
        *relay = Some(bound);
        Ok(())
    }

    /// Stops a relay; it can be started again.
    pub(crate) async fn stop_relay(&mut self, name: &str) {
        let berth = self.relays.iter_mut().find(|berth| berth.post.name == name);
        if let Some(relay) = berth.and_then(|berth| berth.relay.take()) {
            stop(relay).await;
        }
    }

    /// Waits until the allocator knows of every relay that runs.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let leased = async {
            let mut look = interval(LOOK_EVERY);
            while self.without_lease().is_some() {
                look.tick().await;
            }
        };
        // What counts is who has none now.
        let _ = timeout(LEASE_WITHIN, leased).await;
        match self.without_lease() {
            None => Ok(()),
            Some(name) => Err(Failure::NoLease {
                name,
                after: LEASE_WITHIN,
            }),
        }
    }

    fn without_lease(&self) -> Option<String> {
        let known = self.allocator.relays();
        let is_live = |name: &str| {
            known.iter().any(|report| {
                report.relay.name.as_str() == name && report.standing == Standing::Live
            })
        };
        let running = self.relays.iter().filter(|berth| berth.relay.is_some());
        let mut names = running.map(|berth| &berth.post.name);
        names.find(|name| !is_live(name)).cloned()
    }

    /// Waits until the allocator is of no use any more.
    pub(crate) async fn failed(&mut self) {
        self.allocator.failed().await;
    }

    /// Stops everything, the relays at the same time.
    pub(crate) async fn shutdown(self) {
        let mut stopping = JoinSet::new();
        for relay in self.relays.into_iter().filter_map(|berth| berth.relay) {
            stopping.spawn(stop(relay));
        }
        while stopping.join_next().await.is_some() {}
        self.allocator.shutdown().await;
    }
}

async fn stop(relay: Relay) {
    let name = relay.name().clone();
    if let Err(error) = relay.shutdown().await {
        crate::output::warning(&format!("{name}: {error}"));
    }
}
