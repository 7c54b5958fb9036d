//! An allocator that says what a test tells it to.

use std::{net::SocketAddr, sync::Arc};

use holdfast_protocol::{
    allocation::{Allocation, Leased},
    frame::FrameType,
    message::RelayAddress,
    version,
};
use holdfast_transport::{
    credentials::Credentials, endpoint::Requests, exchange, keys::EndpointKeys, port,
};
use parking_lot::Mutex;
use quinn::{Endpoint, RecvStream, SendStream};
use tokio::{sync::watch, task::JoinSet};

use crate::{net::LOOPBACK, pki::Pki};

/// How long a lease lasts that a relay gets of it.
const LEASE_MS: u32 = 30_000;

/// An allocator that always gives the same answer, and takes any relay's lease.
pub struct Guide {
    endpoint: Endpoint,
    answer: Arc<Mutex<Allocation>>,
    asked: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Guide {
    /// Names these relays, in this order; the first is the home.
    pub async fn start(pki: &Pki, relays: &[(&str, SocketAddr)]) -> Self {
        let credentials = Credentials::load(&pki.allocator()).expect("credentials");
        let tls = credentials
            .server(&[version::ALLOCATION])
            .expect("a configuration");
        let keys = EndpointKeys::ephemeral().expect("keys");
        let port = port::bind(LOOPBACK, tls, Requests::Exchanges, &keys).expect("a free port");
        let endpoint = port.endpoint().clone();
        let answer = Arc::new(Mutex::new(answer(relays)));
        let (count, asked) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(endpoint.clone(), answer.clone(), count));
        Self {
            endpoint,
            answer,
            asked,
            _tasks: tasks,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("an address")
    }

    /// Names other relays from now on; none stands for «no relay, ask again».
    pub fn name(&self, relays: &[(&str, SocketAddr)]) {
        *self.answer.lock() = answer(relays);
    }

    /// Waits until it has been asked so often.
    pub async fn was_asked(&mut self, times: usize) {
        self.asked
            .wait_for(|asked| *asked >= times)
            .await
            .expect("it runs");
    }
}

fn answer(relays: &[(&str, SocketAddr)]) -> Allocation {
    let Some((home, _)) = relays.first() else {
        return Allocation::NoRelay { retry_after_ms: 20 };
    };
    let address = |(name, address): &(&str, SocketAddr)| RelayAddress {
        name: name.parse().expect("a name"),
        addresses: vec![*address],
    };
    let home = Some(home.parse().expect("a name"));
    Allocation::Relays {
        home,
        relays: relays.iter().map(address).collect(),
    }
}

async fn serve(endpoint: Endpoint, answer: Arc<Mutex<Allocation>>, count: watch::Sender<usize>) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let (answer, count) = (answer.clone(), count.clone());
        connections.spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            while let Ok((send, recv)) = connection.accept_bi().await {
                say(send, recv, &answer).await;
                count.send_modify(|asked| *asked += 1);
            }
        });
    }
}

async fn say(mut send: SendStream, recv: RecvStream, answer: &Mutex<Allocation>) {
    let question = exchange::read(recv).await;
    if question.is_ok_and(|question| question.kind == FrameType::Lease) {
        let leased = Leased {
            valid_ms: LEASE_MS,
            others: Vec::new(),
        };
        let _ = exchange::reply(&mut send, &leased).await;
        return;
    }
    let said = answer.lock().clone();
    let _ = exchange::reply(&mut send, &said).await;
}
