//! Very many devices, each of them the client library as apps have it, with its memory in memory.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use holdfast::{Client, Config, CredentialFiles};
use holdfast_tests::{
    net::{Net, attached},
    pki::{Forgery, Pki, TRUST_DOMAIN},
};
use tokio::task::JoinSet;

use crate::traffic::{Fates, Flow, Load};

/// How many come at a time: the machine has to do both sides of every handshake.
const AT_A_TIME: usize = 250;

/// The certificate of a device. One that is signed by hand: the authority's own syncs each of them to
/// the disk, which takes minutes for thousands.
pub(crate) fn credentials(pki: &Pki, account: &str, device: &str) -> CredentialFiles {
    let uri = format!("spiffe://{TRUST_DOMAIN}/device/{account}/{device}");
    let forgery = Forgery {
        uris: vec![uri],
        ..Forgery::default()
    };
    pki.forge(&format!("{account}-{device}"), &forgery)
}

/// Makes a client of each configuration, and waits until all are attached; in the same order.
pub(crate) async fn gather(configs: Vec<Config>) -> Vec<Client> {
    let mut clients = Vec::new();
    for some in configs.chunks(AT_A_TIME) {
        let mut coming = JoinSet::new();
        for (place, config) in some.iter().cloned().enumerate() {
            coming.spawn(async move { (place, attached(config).await) });
        }
        let mut come = coming.join_all().await;
        come.sort_by_key(|(place, _)| *place);
        clients.extend(come.into_iter().map(|(_, client)| client));
    }
    clients
}

/// Accounts with two devices each, that write to each other.
pub(crate) struct Families {
    clients: Vec<Client>,
    flows: Vec<Flow>,
}

/// When each message of a flow was sent, and how long it took.
pub(crate) type Times = Vec<(Instant, Duration)>;

impl Families {
    /// So many, attached; they write nothing yet.
    pub(crate) async fn gather(net: &Net, accounts: usize) -> Self {
        Self::gather_by(net, ("family", accounts), net.allocator_address()).await
    }

    /// So many of such a name, that go where this allocator sends them.
    pub(crate) async fn gather_by(
        net: &Net,
        (name, accounts): (&str, usize),
        allocator: SocketAddr,
    ) -> Self {
        let names = (0..accounts).flat_map(|number| {
            let account = format!("{name}{number}");
            ["phone", "pc"].map(|device| (account.clone(), device))
        });
        let allocators = vec![allocator];
        let config = |(account, device): (String, &str)| {
            Config::new(credentials(&net.pki, &account, device), allocators.clone())
        };
        Self {
            clients: gather(names.map(config).collect()).await,
            flows: Vec::new(),
        }
    }

    /// So many of them write from now on, no account at the same moment as another.
    pub(crate) fn write(&mut self, accounts: usize, load: Load) {
        let writing = self.clients.chunks_exact(2).take(accounts);
        for (number, pair) in writing.enumerate() {
            let offset = load.every.mul_f64(number as f64 / accounts as f64);
            for (from, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let to = other.identity().to_string();
                let flow = Flow::start_later(from, &to, other, (load, offset));
                self.flows.push(flow);
            }
        }
    }

    /// They write no more, and close. What came of all they wrote, and the times of each flow.
    pub(crate) async fn finish(self) -> (Fates, Vec<Times>) {
        self.flows.iter().for_each(Flow::stop);
        let (mut all, mut times) = (Fates::default(), Vec::new());
        for flow in self.flows {
            let (fates, took) = flow.finish_timed().await;
            all = all + fates;
            times.push(took);
        }
        let mut leaving = JoinSet::new();
        for client in self.clients {
            leaving.spawn(async move { client.close().await });
        }
        leaving.join_all().await;
        (all, times)
    }
}
