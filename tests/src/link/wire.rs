//! The sockets of a link and the tasks that read and write them. A packet's way: read, sent
//! through the address translation and a lane under one short lock, and written by the lane's
//! courier when it is due.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::lane::{Lane, Packet};
use super::nat::{MappingId, Nat};

/// Above the largest UDP payload there is, so that nothing is ever cut short.
const LARGEST_DATAGRAM: usize = 1 << 16;

/// What all tasks of a link share.
pub(super) struct Wire {
    front: UdpSocket,
    state: Mutex<State>,
    up_changed: Notify,
    down_changed: Notify,
    /// Tells those who watch the counts.
    counted: Notify,
}

/// Everything that decides about packets.
pub(super) struct State {
    pub(super) up: Lane<Arc<UdpSocket>>,
    pub(super) down: Lane<Inward>,
    pub(super) nat: Nat<WayOut>,
    upstream: SocketAddr,
}

/// Where a packet from upstream came in, and whom it is for.
#[derive(Clone)]
pub(super) struct Inward {
    client: SocketAddr,
    mapping: MappingId,
}

/// A client's socket towards upstream, with the task that reads it.
pub(super) struct WayOut {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for WayOut {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl State {
    /// What is sent from now on, and what is on its way, goes there.
    pub(super) fn set_upstream(&mut self, upstream: SocketAddr) {
        let upstream = dialable(upstream);
        if upstream.is_ipv4() != self.upstream.is_ipv4() {
            self.nat.forget_all();
        }
        self.upstream = upstream;
    }
}

impl Wire {
    pub(super) async fn bind(seed: u64, upstream: SocketAddr) -> io::Result<Self> {
        let mut seeds = StdRng::seed_from_u64(seed);
        let state = State {
            up: Lane::new(StdRng::from_rng(&mut seeds)),
            down: Lane::new(StdRng::from_rng(&mut seeds)),
            nat: Nat::new(),
            upstream: dialable(upstream),
        };
        Ok(Self {
            front: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            state: Mutex::new(state),
            up_changed: Notify::new(),
            down_changed: Notify::new(),
            counted: Notify::new(),
        })
    }

    pub(super) fn addr(&self) -> io::Result<SocketAddr> {
        self.front.local_addr()
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Changes what decides about packets; the tasks act on it at once.
    pub(super) fn change(&self, apply: impl FnOnce(&mut State)) {
        apply(&mut self.state.lock());
        self.up_changed.notify_one();
        self.down_changed.notify_one();
        self.counted.notify_waiters();
    }

    /// Returns once the state meets the condition.
    pub(super) async fn until(&self, met: impl Fn(&State) -> bool) {
        loop {
            let counted = self.counted.notified();
            if self.read(&met) {
                return;
            }
            counted.await;
        }
    }

    /// Reads what clients send, and owns all other tasks; ends them, and itself, when the other
    /// end of `stop` is dropped.
    pub(super) async fn run(self: Arc<Self>, mut stop: oneshot::Receiver<()>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().carry_up());
        tasks.spawn(self.clone().carry_down());
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        loop {
            tokio::select! {
                _ = &mut stop => break,
                Some(_) = tasks.join_next() => {}
                Some((length, client)) = receive(&self.front, &mut buffer) => {
                    self.take_from(client, Bytes::copy_from_slice(&buffer[..length]), &mut tasks);
                }
            }
        }
        tasks.shutdown().await;
    }

    fn take_from(self: &Arc<Self>, client: SocketAddr, payload: Bytes, tasks: &mut JoinSet<()>) {
        let now = Instant::now();
        self.change(|state| {
            let upstream = state.upstream;
            let open = |mapping| self.open(upstream, Inward { client, mapping }, tasks);
            match state.nat.way_out(client, now, open) {
                Ok(way_out) => {
                    let route = way_out.socket.clone();
                    state.up.admit(now, Packet { payload, route });
                }
                Err(_) => state.up.refuse(),
            }
        });
    }

    fn open(
        self: &Arc<Self>,
        upstream: SocketAddr,
        inward: Inward,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<WayOut> {
        let socket = Arc::new(bind_towards(upstream)?);
        let reader = tasks.spawn(self.clone().take_for(inward, socket.clone()));
        Ok(WayOut { socket, reader })
    }

    /// Reads what upstream sends to one mapping; what a stranger sends there is not let in.
    async fn take_for(self: Arc<Self>, inward: Inward, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        while let Some((length, from)) = receive(&socket, &mut buffer).await {
            let payload = Bytes::copy_from_slice(&buffer[..length]);
            self.change(|state| {
                if from == state.upstream {
                    let packet = Packet {
                        payload,
                        route: inward.clone(),
                    };
                    state.down.admit(Instant::now(), packet);
                }
            });
        }
    }

    async fn carry_up(self: Arc<Self>) {
        loop {
            let packet = self.next_due(|state| &mut state.up, &self.up_changed).await;
            let upstream = self.read(|state| state.upstream);
            let sent = packet
                .route
                .send_to(&packet.payload, upstream)
                .await
                .is_ok();
            self.state.lock().up.departed(sent);
            self.counted.notify_waiters();
        }
    }

    /// A packet passes the address translation, which stands next to the client, last.
    async fn carry_down(self: Arc<Self>) {
        loop {
            let packet = self
                .next_due(|state| &mut state.down, &self.down_changed)
                .await;
            let Inward { client, mapping } = packet.route;
            let let_in = self.read(|state| state.nat.lets_in(client, mapping, Instant::now()));
            let sent = let_in && self.front.send_to(&packet.payload, client).await.is_ok();
            self.state.lock().down.departed(sent);
            self.counted.notify_waiters();
        }
    }

    async fn next_due<R: Clone>(
        &self,
        lane: fn(&mut State) -> &mut Lane<R>,
        changed: &Notify,
    ) -> Packet<R> {
        loop {
            let due = {
                let mut state = self.state.lock();
                let lane = lane(&mut state);
                if let Some(packet) = lane.depart(Instant::now()) {
                    return packet;
                }
                lane.next_due()
            };
            match due {
                None => changed.notified().await,
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = changed.notified() => {}
                },
            }
        }
    }
}

/// The next datagram and its sender. An error that an earlier datagram brought back (ICMP) says
/// nothing about the next one; after any other the socket is of no more use.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer).await {
            Ok(datagram) => return Some(datagram),
            Err(error) if is_about_an_earlier_datagram(&error) => {}
            Err(_) => return None,
        }
    }
}

fn is_about_an_earlier_datagram(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable
    )
}

/// A daemon that listens on every address of the machine is reached on the loopback one, and
/// answers from there.
fn dialable(mut addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    addr
}

/// Bound without waiting, as the mapping is made under the lock.
fn bind_towards(upstream: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_icmp_error_is_passed_over() {
        let gone = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = gone.local_addr().unwrap();
        drop(gone);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(peer).await.unwrap();
        socket.send(b"refused").await.unwrap();
        // Connected sockets alone are told, so only one shows that the answer is no obstacle.
        let back = UdpSocket::bind(peer).await.unwrap();
        back.send_to(b"hello", socket.local_addr().unwrap())
            .await
            .unwrap();
        let mut buffer = [0; 16];
        assert_eq!(receive(&socket, &mut buffer).await, Some((5, peer)));
    }
}
