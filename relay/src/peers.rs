//! Carries the links that this relay dials: one task for each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{Identity, Name},
};
use holdfast_transport::{
    Ending, endpoint,
    identity::peer_identity,
    live::{Admission, ClientTls, LiveCredentials},
    wire::Wire,
};
use quinn::Endpoint;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    clock::Clock,
    core::{
        end::Tide,
        link::{MAX_BULK_STREAM, edge::Edge},
        links::Links,
    },
    metrics::Metrics,
    pump::Pump,
};

/// How long one address is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// What it takes to dial other relays.
#[derive(Clone)]
pub(crate) struct Dialler {
    /// The socket.
    pub(crate) endpoint: Endpoint,
    /// Our credentials, for the relay–relay protocol.
    pub(crate) tls: ClientTls,
    /// Whose certificates we take, and which were revoked.
    pub(crate) credentials: Arc<LiveCredentials>,
    /// For the pauses, and the age of sessions.
    pub(crate) clock: Clock,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
}

impl Dialler {
    /// Carries every link there is and will be, until the relay stops.
    pub(crate) async fn run(self, links: Links, mut tide: watch::Receiver<Tide>) {
        let (bell, mut carriers) = (links.bell(), JoinSet::new());
        loop {
            for edge in links.take_fresh() {
                carriers.spawn(self.clone().carry(edge));
            }
            tokio::select! {
                () = bell.rung() => {}
                // It ends when the relay does, or was dropped.
                _ = tide.wait_for(|tide| *tide == Tide::Stopping) => break,
            }
        }
        carriers.shutdown().await;
    }

    /// Keeps one link up for ever.
    async fn carry(self, edge: Edge) {
        loop {
            if let Some(rest) = edge.rests_until() {
                tokio::time::sleep_until(self.clock.instant(rest)).await;
            }
            let peer = edge.name();
            match self.connect(peer, edge.dial()).await {
                Ok((wire, _admission)) => {
                    tracing::info!(%peer, "linked to a relay");
                    edge.linked(self.clock.now());
                    self.metrics.links.inc();
                    let ending = Pump::new(wire, edge.clone(), self.clock).run().await;
                    self.metrics.links.dec();
                    tracing::info!(%peer, %ending, "the link to a relay broke");
                }
                Err(ending) => {
                    tracing::debug!(%peer, %ending, "a relay cannot be reached");
                    edge.unlinked(self.clock.now());
                }
            }
        }
    }

    async fn connect(
        &self,
        name: &Name,
        addresses: Vec<SocketAddr>,
    ) -> Result<(Wire, Admission), Ending> {
        let mut last = Ending::Lost("it has no address".to_owned());
        for address in addresses {
            match self.dial(name, address).await {
                Ok(linked) => return Ok(linked),
                Err(ending) => last = ending,
            }
        }
        Err(last)
    }

    /// Dials a relay, and makes sure that it is the one that was meant.
    async fn dial(&self, name: &Name, address: SocketAddr) -> Result<(Wire, Admission), Ending> {
        let trust_domain = self.credentials.trust_domain();
        let connecting =
            endpoint::dial_watched(&self.endpoint, self.tls.now(), address, trust_domain)?;
        let connection = tokio::time::timeout(DIAL_TIMEOUT, connecting)
            .await
            .map_err(|_| Ending::Lost(format!("{address} did not answer")))??;
        let admitted = match peer_identity(&connection, trust_domain) {
            Ok(Identity::Relay(relay)) if relay == *name => self.credentials.admit(&connection),
            Ok(other) => {
                let what = format!("{other} answers where relay/{name} should");
                Err(Violation::new(CloseCode::WrongKind, what))
            }
            Err(violation) => Err(violation),
        };
        let wire = Wire::open(connection, MAX_BULK_STREAM).await?;
        match admitted {
            Ok(admission) => Ok((wire, admission)),
            Err(violation) => {
                wire.close(&violation);
                Err(Ending::Lost(violation.what))
            }
        }
    }
}
