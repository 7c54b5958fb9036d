//! The network between a device and a relay, made to order: a UDP proxy that loses, delays,
//! duplicates and reorders packets from a seed, swallows or holds them, and translates addresses
//! as a home router does. The kernel's own emulation needs rights and a module that few test
//! machines give; this needs a loopback address.
//!
//! A client dials [`Link::addr`] in place of the upstream. Its packets pass the address translation
//! first and the weather second, those of the other direction the weather first:
//!
//! ```text
//! client ── address translation ── weather ── upstream
//! ```
//!
//! Memory is bounded: 4 MiB of packets on their way in each direction (128 bytes of overhead
//! counted in for each), and 512 mappings with a read buffer of 64 KiB each. What exceeds the first
//! is dropped and counted; past the second the idlest mapping ends. Packets that the system drops
//! before they are read, in a burst above its receive buffer, are not seen here. Congestion marks
//! (ECN) are not carried over; QUIC notices and does without.

mod lane;
mod nat;
#[cfg(test)]
mod tests;
mod weather;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use self::lane::Passage;
pub use self::weather::{Fate, Weather};
use self::wire::{State, Wire};

/// What a link has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// From the clients to the upstream.
    pub up: Passage,
    /// From the upstream to the clients.
    pub down: Passage,
    /// How many times a client got a source port towards the upstream.
    pub mappings: u64,
}

/// A running link. Every change holds for whatever the link reads or writes after the call. Its
/// tasks and sockets end soon after it is dropped, and before [`Link::close`] returns.
pub struct Link {
    wire: Arc<Wire>,
    addr: SocketAddr,
    /// Never sent on: dropping it is what ends the tasks.
    stop: oneshot::Sender<()>,
    tasks: JoinHandle<()>,
}

impl Link {
    /// Starts a link to `upstream` with a clear sky. The seed decides the fates, per direction:
    /// the same packets in the same weather meet the same ones.
    ///
    /// # Errors
    /// When no port on the loopback address is to be had.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn start(seed: u64, upstream: SocketAddr) -> io::Result<Self> {
        let wire = Arc::new(Wire::bind(seed, upstream).await?);
        let addr = wire.addr()?;
        let (stop, stopped) = oneshot::channel();
        let tasks = tokio::spawn(wire.clone().run(stopped));
        Ok(Self {
            wire,
            addr,
            stop,
            tasks,
        })
    }

    /// Where clients dial: a port of 127.0.0.1, the same for the link's whole life.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the weather for the packets that come from now on. Those on their way keep their time,
    /// and the later ones stay behind them.
    pub fn set_weather(&self, weather: Weather) {
        self.wire.change(|state| {
            state.up.set_weather(weather);
            state.down.set_weather(weather);
        });
    }

    /// Swallows everything, in both directions, with what is on its way; or ends that.
    pub fn black_hole(&self, on: bool) {
        self.black_hole_up(on);
        self.black_hole_down(on);
    }

    /// Swallows what goes to the upstream, or ends that.
    pub fn black_hole_up(&self, on: bool) {
        self.wire.change(|state| state.up.set_dark(on));
    }

    /// Swallows what goes to the clients, or ends that.
    pub fn black_hole_down(&self, on: bool) {
        self.wire.change(|state| state.down.set_dark(on));
    }

    /// Holds every packet, of both directions, until [`Link::thaw`]: 4 MiB each way, the rest is
    /// dropped.
    pub fn freeze(&self) {
        self.set_frozen(true);
    }

    /// Releases what was held, in order: at once, or when its delay is over.
    pub fn thaw(&self) {
        self.set_frozen(false);
    }

    /// Forgets every mapping, as a router does that restarts: each client's next packet comes from
    /// a new port, and what is sent to the old one, or was on its way from there, is dropped.
    pub fn rebind(&self) {
        self.wire.change(|state| state.nat.forget_all());
    }

    /// Forgets a mapping when its client has sent nothing for that long; `None`, as at the start,
    /// is never. What is sent to it then is dropped, and the client's next packet comes from a new
    /// port. Holds for the mappings there are, too.
    pub fn set_nat_timeout(&self, timeout: Option<Duration>) {
        self.wire.change(|state| state.nat.set_timeout(timeout));
    }

    /// Sends on to another address; packets from the previous one are let in no more.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.wire.change(|state| state.set_upstream(upstream));
    }

    /// What the link has done so far.
    pub fn counts(&self) -> Counts {
        self.wire.read(counts)
    }

    /// Returns once the counts meet a condition: how a test waits for a packet that will not
    /// arrive to have been dropped.
    pub async fn until(&self, met: impl Fn(&Counts) -> bool) {
        self.wire.until(|state| met(&counts(state))).await;
    }

    /// Ends the link; its port is free, and its tasks are gone, when this returns.
    pub async fn close(self) {
        drop(self.stop);
        // The only error is a runtime that shuts down, which ends the task as well.
        let _ = self.tasks.await;
    }

    fn set_frozen(&self, frozen: bool) {
        self.wire.change(|state| {
            state.up.set_frozen(frozen);
            state.down.set_frozen(frozen);
        });
    }
}

fn counts(state: &State) -> Counts {
    Counts {
        up: state.up.passage(),
        down: state.down.passage(),
        mappings: state.nat.opened(),
    }
}
