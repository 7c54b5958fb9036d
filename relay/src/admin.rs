//! `/health` and `/metrics`, on a loopback port of their own.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router as Routes,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use holdfast_protocol::id::Name;
use holdfast_transport::{gate::Gate, live::LiveCredentials};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinHandle},
};

use crate::{clock::Clock, core::end::Tide, metrics::Metrics, store::MailboxStore};

/// What is told.
#[derive(Clone)]
pub(crate) struct Office {
    /// The relay's name.
    pub(crate) relay: Name,
    /// Which run of it this is.
    pub(crate) boot: u64,
    /// Until when devices have spent time here.
    pub(crate) clock: Clock,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The store's own figures.
    pub(crate) store: Arc<dyn MailboxStore>,
    /// Who was sent away.
    pub(crate) gate: Arc<Gate>,
    /// How the credentials stand.
    pub(crate) credentials: Arc<LiveCredentials>,
    /// Whether the relay goes on.
    pub(crate) tide: watch::Receiver<Tide>,
}

/// The listening side.
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    /// Binds, and serves until the shutdown.
    pub(crate) async fn bind(address: SocketAddr, office: Office) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let routes = Routes::new()
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .with_state(office);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the admin port failed");
            }
        });
        Ok(Self { address, task })
    }

    /// Stops serving.
    pub(crate) async fn shutdown(self) {
        self.task.abort();
        let ended: Result<(), JoinError> = self.task.await;
        if let Err(error) = ended.or_else(|error| {
            if error.is_cancelled() {
                Ok(())
            } else {
                Err(error)
            }
        }) {
            tracing::error!(%error, "the admin port failed");
        }
    }
}

/// 200 while devices are taken, 503 while the relay is stopping.
async fn health(State(office): State<Office>) -> impl IntoResponse {
    let (code, status) = match *office.tide.borrow() {
        Tide::Running => (StatusCode::OK, "ok"),
        Tide::Draining(_) | Tide::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    let body = serde_json::json!({
        "status": status,
        "relay": office.relay.as_str(),
        "boot": office.boot,
        "sessions": office.metrics.sessions.get(),
    });
    (code, Json(body))
}

async fn metrics(State(office): State<Office>) -> impl IntoResponse {
    let (gate, credentials) = (office.gate.figures(), office.credentials.figures());
    let now = office.clock.time();
    let text = office
        .metrics
        .render(now, &*office.store, gate, credentials);
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
}
