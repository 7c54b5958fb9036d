//! One relay, and devices that reach it over a link of their own each, which is where their networks
//! are delayed, cut off and exchanged.

use std::{net::SocketAddr, time::Duration};

use holdfast::{Client, Config, Retry};
use holdfast_relay::Limits;
use holdfast_tests::{
    daemon::Daemon,
    net::{Net, attached},
    pki::Pki,
    rig::role::Program,
    scrape,
    way::Way,
};

/// The only relay.
pub(crate) const RELAY: &str = "r1";

/// A relay and an allocator in this process, as they are when nothing is configured.
pub(crate) async fn relay() -> Net {
    Net::start_with(1, limits()).await
}

/// This program again, as a relay that the allocator knows.
async fn started(net: &Net, name: &str, config: &holdfast_relay::Config) -> Daemon {
    let mut relay = Daemon::launch(Program::Own.command(), config);
    relay.listening().await.expect("it listens");
    net.leased(name).await;
    relay
}

/// A device that stays where it is, beside the relay.
pub(crate) async fn at_home(net: &Net, name: &str) -> Client {
    let allocators = vec![net.allocator_address()];
    attached(Config::new(net.pki.sender(name), allocators)).await
}

/// The relay's own, but how full this machine's disk is does not matter.
pub(crate) fn limits() -> Limits {
    Limits {
        max_disk_fill: 1.0,
        ..Limits::default()
    }
}

/// A relay's process, and what it is started with.
pub(crate) struct Post {
    name: &'static str,
    config: holdfast_relay::Config,
    /// Unless it was stopped.
    daemon: Option<Daemon>,
}

impl Post {
    pub(crate) async fn start(net: &Net, name: &'static str, limits: Limits) -> Self {
        let mut config = net.relay_config(name, limits);
        let daemon = started(net, name, &config).await;
        config.listen = daemon.address();
        Self {
            name,
            config,
            daemon: Some(daemon),
        }
    }

    /// Where it was before.
    pub(crate) async fn start_again(&mut self, net: &Net) {
        self.daemon = Some(started(net, self.name, &self.config).await);
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn terminate(&mut self) {
        let daemon = self.daemon.take().expect("a relay that runs");
        assert!(daemon.terminate().await, "an orderly stop");
    }

    /// Kills it without a chance to say anything.
    pub(crate) async fn kill(&mut self) {
        let daemon = self.daemon.take().expect("a relay that runs");
        daemon.kill().await;
    }

    /// Where its metrics are.
    pub(crate) fn admin(&self) -> SocketAddr {
        let daemon = self.daemon.as_ref().expect("a relay that runs");
        daemon.admin_address().expect("an admin port")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.config.listen
    }
}

/// A device that moves about.
pub(crate) struct Mobile {
    pub(crate) client: Client,
    pub(crate) way: Way,
}

impl Mobile {
    /// A device at such a place, attached.
    pub(crate) async fn start(pki: &Pki, name: &str, relay: SocketAddr, place: &Place) -> Self {
        let way = Way::open(pki, (RELAY, relay), (place.round_trip, place.seed)).await;
        let mut config = Config::new(pki.sender(name), vec![way.allocator()]);
        config.retry = Retry {
            seed: Some(place.seed),
            ..config.retry
        };
        (place.change)(&mut config);
        Self {
            client: attached(config).await,
            way,
        }
    }

    /// The device is in another network: its packets come from another address, what was on its way
    /// is lost, and the app has said so.
    pub(crate) fn change_network(&self) {
        self.way.link.rebind();
        self.client.network_changed(None);
    }

    pub(crate) async fn stop(self) {
        self.client.close().await;
        self.way.close().await;
    }
}

/// Where a device is.
pub(crate) struct Place {
    pub(crate) round_trip: Duration,
    /// Names the whole run.
    pub(crate) seed: u64,
    /// What is different about the device's configuration.
    pub(crate) change: fn(&mut Config),
}

impl Place {
    /// A device as it is when nothing is configured.
    pub(crate) fn away(round_trip: Duration, seed: u64) -> Self {
        Self {
            round_trip,
            seed,
            change: |_| {},
        }
    }
}

/// How many connections a relay has shaken hands for, whatever came of them.
pub(crate) async fn handshakes(admin: SocketAddr) -> f64 {
    let (_, text) = scrape::get(admin, "/metrics").await;
    text.lines().filter_map(connections).sum()
}

/// What a line of the metrics adds: sessions that are open, that have ended, and those that were none.
fn connections(line: &str) -> Option<f64> {
    let line = line.strip_prefix("holdfast_relay_")?;
    let counted = [
        "sessions ",
        "sessions_ended_total{",
        "handshakes_failed_total{",
    ];
    let counts = counted.iter().any(|name| line.starts_with(name));
    let value = line.rsplit(' ').next().filter(|_| counts)?;
    value.parse().ok()
}

/// In milliseconds.
pub(crate) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_counted_once() {
        let text = "holdfast_relay_sessions 3\n\
                    holdfast_relay_sessions_ended_total{reason=\"lost\"} 4\n\
                    holdfast_relay_handshakes_failed_total{reason=\"Revoked\"} 5\n\
                    holdfast_relay_handshakes 6\n\
                    # HELP holdfast_relay_sessions Open sessions\n";
        let all: f64 = text.lines().filter_map(connections).sum();
        assert_eq!(all, 12.0);
    }
}
