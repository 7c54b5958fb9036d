//! A wire between devices and a relay that can be pulled out: a UDP forwarder. Like a home router
//! it has an address of its own towards the relay for every device.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    net::UdpSocket,
    task::{JoinHandle, JoinSet},
};

use crate::plan::ANY;

/// The largest UDP payload.
const LARGEST: usize = 65_535;

/// A running cable. It ends when it is dropped.
pub(crate) struct Cable {
    address: SocketAddr,
    wire: Arc<Wire>,
    forwarding: JoinHandle<io::Result<()>>,
}

struct Wire {
    front: UdpSocket,
    pulled: AtomicBool,
    /// Where it leads, and the addresses it has there.
    far: Mutex<Far>,
}

#[derive(Default)]
struct Far {
    end: Option<SocketAddr>,
    seen: Vec<SocketAddr>,
}

impl Cable {
    /// Lays a cable that leads nowhere yet.
    pub(crate) async fn lay() -> io::Result<Self> {
        let front = UdpSocket::bind(ANY).await?;
        let address = front.local_addr()?;
        let wire = Arc::new(Wire {
            front,
            pulled: AtomicBool::new(false),
            far: Mutex::default(),
        });
        let forwarding = tokio::spawn(wire.clone().forward());
        Ok(Self {
            address,
            wire,
            forwarding,
        })
    }

    /// Its near end.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Plugs its far end in.
    pub(crate) fn lead_to(&self, end: SocketAddr) {
        self.wire.far(|far| far.end = Some(end));
    }

    /// Pulls it out, or plugs it in again. Nobody at either end is told.
    pub(crate) fn pull(&self, pulled: bool) {
        self.wire.pulled.store(pulled, Ordering::Relaxed);
    }

    /// Whether the relay sees a device at `address`.
    pub(crate) fn is_seen_at(&self, address: SocketAddr) -> bool {
        self.wire.far(|far| far.seen.contains(&address))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

impl Wire {
    fn far<T>(&self, look: impl FnOnce(&mut Far) -> T) -> T {
        look(&mut self.far.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_pulled(&self) -> bool {
        self.pulled.load(Ordering::Relaxed)
    }

    /// From the devices to the relay. It owns the tasks of the other direction.
    async fn forward(self: Arc<Self>) -> io::Result<()> {
        let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut returning = JoinSet::new();
        let mut packet = vec![0; LARGEST];
        loop {
            let (size, device) = self.front.recv_from(&mut packet).await?;
            let Some(end) = self.far(|far| far.end) else {
                continue;
            };
            let back = match backs.entry(device) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let back = self.connect(end).await?;
                    returning.spawn(self.clone().bring_back(back.clone(), device));
                    new.insert(back)
                }
            };
            if !self.is_pulled() {
                // A packet that cannot be sent is a lost packet.
                let _ = back.send(&packet[..size]).await;
            }
        }
    }

    async fn connect(&self, end: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        let back = UdpSocket::bind(ANY).await?;
        back.connect(end).await?;
        let address = back.local_addr()?;
        self.far(|far| far.seen.push(address));
        Ok(Arc::new(back))
    }

    /// From the relay to one device.
    async fn bring_back(self: Arc<Self>, back: Arc<UdpSocket>, device: SocketAddr) {
        let mut packet = vec![0; LARGEST];
        loop {
            // A relay that is down shows as an error of the packet before: nothing is lost by it.
            let Ok(size) = back.recv(&mut packet).await else {
                continue;
            };
            if !self.is_pulled() {
                // As above.
                let _ = self.front.send_to(&packet[..size], device).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut packet = [0; 64];
        let (size, from) = socket.recv_from(&mut packet).await.unwrap();
        (packet[..size].to_vec(), from)
    }

    #[tokio::test]
    async fn it_carries_both_ways_until_it_is_pulled() {
        let relay = UdpSocket::bind(ANY).await.unwrap();
        let device = UdpSocket::bind(ANY).await.unwrap();
        let cable = Cable::lay().await.unwrap();
        cable.lead_to(relay.local_addr().unwrap());

        device.send_to(b"ping", cable.address()).await.unwrap();
        let (ping, seen) = received(&relay).await;
        assert_eq!(ping, b"ping");
        assert!(cable.is_seen_at(seen));
        assert!(!cable.is_seen_at(device.local_addr().unwrap()));
        relay.send_to(b"pong", seen).await.unwrap();
        assert_eq!(received(&device).await.0, b"pong");

        cable.pull(true);
        device.send_to(b"lost", cable.address()).await.unwrap();
        relay.send_to(b"lost", seen).await.unwrap();
        // What was sent first is read first, so it was dropped when the next one comes.
        tokio::task::yield_now().await;
        while cable.wire.front.try_recv_from(&mut [0; 64]).is_ok() {}
        cable.pull(false);
        device.send_to(b"again", cable.address()).await.unwrap();
        assert_ne!(received(&relay).await.0, b"lost");
    }
}
