//! The allocator as others see it: real sockets, real certificates, and the daemon itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod daemon;
mod intruder;
mod lifetime;
mod question;
mod site;

use std::net::SocketAddr;

use holdfast_allocator::{Allocator, Config, config};
use holdfast_protocol::{
    allocation::{Allocation, Lease},
    message::RelayAddress,
};
use site::{Asker, Site};

/// What the allocator of a site is started with.
fn config(site: &Site) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        credentials: site.files("allocator:a1"),
        data: site.path().join("data"),
        lease: config::DEFAULT_LEASE,
        retry_after: config::DEFAULT_RETRY_AFTER,
        requests_per_second: config::DEFAULT_REQUESTS_PER_SECOND,
        requests_burst: config::DEFAULT_REQUESTS_BURST,
        handshakes: Default::default(),
    }
}

async fn start(site: &Site) -> Allocator {
    Allocator::bind(config(site)).await.unwrap()
}

/// The lease of the relay `r0`, `r1` …, whose addresses follow from its number.
fn lease(number: u16) -> Lease {
    Lease {
        boot: 1,
        addresses: vec![([127, 0, 0, 1], 7000 + number).into()],
        capacity: 1,
        sessions: 0,
        draining: false,
    }
}

/// The relay with this number takes its first lease, or another.
async fn relay(site: &Site, allocator: &Allocator, number: u16) -> Asker {
    let identity = format!("relay:r{number}");
    let relay = site.asker(&identity, allocator.address()).await;
    relay.lease(&lease(number)).await.unwrap();
    relay
}

/// What an answer says: the home and the relays by name. Every address is the relay's own.
fn told(allocation: &Allocation) -> (Option<String>, Vec<String>) {
    let Allocation::Relays { home, relays } = allocation else {
        panic!("{allocation:?}");
    };
    let home = home.as_ref().map(ToString::to_string);
    (home, relays.iter().map(named).collect())
}

fn named(relay: &RelayAddress) -> String {
    let number = relay.name.as_str()[1..].parse().unwrap();
    assert_eq!(relay.addresses, lease(number).addresses);
    relay.name.to_string()
}
