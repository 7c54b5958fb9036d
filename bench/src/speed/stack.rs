//! A relay and an allocator of the measurement's own, as processes: the same code as the daemons, on
//! free ports, with an authority and a data folder that are gone with them.

use std::{net::SocketAddr, path::Path, time::Duration};

use holdfast_relay::{HandshakeLimits, Limits, Manners};
use holdfast_tests::{
    daemon::Daemon,
    net::LOOPBACK,
    pki::Pki,
    rig::role::{self, Program},
};
use tempfile::TempDir;

use super::{
    Problem,
    server::{Process, Server},
};

/// What a stack is for decides how much its relay takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// How many messages may wait for one device, from one sender, too.
    pub(crate) messages: u64,
    /// How large one is.
    pub(crate) size: u64,
}

/// Both processes.
pub(crate) struct Stack {
    relay: Daemon,
    allocator: Daemon,
    pki: Pki,
    _data: TempDir,
}

impl Stack {
    /// Starts them.
    pub(crate) async fn start(room: Room) -> Result<Self, Problem> {
        let data = tempfile::tempdir().map_err(Problem::io("a temporary folder"))?;
        let pki = Pki::new();
        let mut config = allocator_config(&pki, data.path());
        let mut allocator = Daemon::launch_allocator(role::allocator(), &config);
        config.listen = listening("allocator", &mut allocator).await?;
        let config = relay_config(&pki, data.path(), &config, room);
        let mut relay = Daemon::launch(Program::Own.command(), &config);
        listening("relay", &mut relay).await?;
        Ok(Self {
            relay,
            allocator,
            pki,
            _data: data,
        })
    }

    /// Where clients ask for a relay.
    pub(crate) fn allocator(&self) -> SocketAddr {
        self.allocator.address()
    }

    /// The folder of its authority.
    pub(crate) fn authority(&self) -> &Path {
        self.pki.path()
    }

    /// Its relay.
    pub(crate) fn server(&self) -> Result<Server, Problem> {
        Ok(Server {
            process: self.relay.id().map(Process::new).transpose()?,
            admin: self.relay.admin_address(),
        })
    }

    /// Ends both; nothing of them is wanted any more.
    pub(crate) async fn stop(self) {
        self.relay.kill().await;
        self.allocator.kill().await;
    }
}

async fn listening(name: &'static str, daemon: &mut Daemon) -> Result<SocketAddr, Problem> {
    let listening = daemon.listening().await;
    listening.map_err(|ended| Problem::NotStarted {
        name,
        why: ended.to_string(),
    })
}

fn allocator_config(pki: &Pki, data: &Path) -> holdfast_allocator::Config {
    holdfast_allocator::Config {
        listen: LOOPBACK,
        credentials: pki.allocator(),
        data: data.join("allocator"),
        lease: holdfast_allocator::config::DEFAULT_LEASE,
        retry_after: Duration::from_millis(100),
        requests_per_second: 0,
        requests_burst: 0,
        handshakes: HandshakeLimits {
            rate: 0,
            ..Default::default()
        },
    }
}

/// As it is when nothing is configured, but that it takes whatever comes: the load generator is on its
/// side, and what is to be found out is what it costs, not how it defends itself.
fn relay_config(
    pki: &Pki,
    data: &Path,
    allocator: &holdfast_allocator::Config,
    room: Room,
) -> holdfast_relay::Config {
    let usual = Limits::default();
    let messages = usual.max_messages.max(room.messages as usize);
    let bytes = usual.max_bytes.max(2 * room.messages * (room.size + 512));
    holdfast_relay::Config {
        listen: LOOPBACK,
        advertise: Vec::new(),
        admin: Some(LOOPBACK),
        data: data.join("relay"),
        tickets: None,
        allocators: vec![allocator.listen],
        capacity: 1,
        threads: None,
        credentials: pki.relay("r1"),
        limits: Limits {
            max_messages: messages,
            max_bytes: bytes,
            max_pair_messages: Some(messages),
            max_pair_bytes: Some(bytes),
            max_disk_fill: 1.0,
            ..usual
        },
        sessions: Manners {
            messages_per_second: 0,
            bytes_per_second: 0,
            ..Manners::default()
        },
        handshakes: HandshakeLimits {
            rate: 0,
            ..Default::default()
        },
        store: Default::default(),
    }
}
