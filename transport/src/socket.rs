//! A device's UDP socket: one that says when packets cannot be sent.
//!
//! A phone's socket may die under it: the system takes it away while the app is suspended, or the
//! network that it is bound to goes. Every send then fails, with EPIPE or ENETUNREACH for example, and
//! quinn's own socket takes that for the loss of a packet, to be noticed when no answer comes. Here it
//! counts as lost, too, but rings a bell, so that the device can take another socket at once.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::{io::Interest, sync::Notify};

/// A socket that rings when it cannot send.
#[derive(Debug)]
pub(crate) struct DeviceSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    failed: Arc<Notify>,
}

impl DeviceSocket {
    /// Binds one that rings `failed`. To be called in a tokio runtime with I/O.
    ///
    /// # Errors
    /// When no socket can be had.
    pub(crate) fn bind(address: SocketAddr, failed: Arc<Notify>) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            failed,
        }))
    }

    /// The packet is lost. The bell rings if the socket or its network is to blame, which neither is
    /// for a probe that was too large, nor for what the system does not offload after all: quinn
    /// learns from both.
    fn lose(&self, error: &io::Error, segments_before: usize) {
        let is_lesson = self.state.max_gso_segments() != segments_before;
        if !is_lesson && !is_too_large(error) {
            self.failed.notify_one();
        }
    }
}

impl AsyncUdpSocket for DeviceSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segments = self.state.max_gso_segments();
        let sent = self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), transmit)
        });
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.lose(&error, segments);
                Ok(())
            }
            sent => sent,
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(context))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), buffers, metas)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// A wait for room, as often as one is needed.
struct Writable {
    socket: Arc<DeviceSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let writable = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(writable)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

/// EMSGSIZE, of which the standard library's kinds know nothing.
fn is_too_large(error: &io::Error) -> bool {
    const EMSGSIZE: &[i32] = if cfg!(windows) {
        &[10_040]
    } else if cfg!(any(target_os = "linux", target_os = "android")) {
        &[90]
    } else {
        &[40]
    };
    error
        .raw_os_error()
        .is_some_and(|code| EMSGSIZE.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LOOPBACK_V4: &str = "127.0.0.1:0";

    fn socket() -> (Arc<DeviceSocket>, Arc<Notify>) {
        let failed = Arc::new(Notify::new());
        let address = LOOPBACK_V4.parse().unwrap();
        let socket = DeviceSocket::bind(address, failed.clone()).unwrap();
        (socket, failed)
    }

    async fn send(socket: &Arc<DeviceSocket>, to: &str, size: usize) {
        let mut room = socket.clone().create_io_poller();
        std::future::poll_fn(|context| room.as_mut().poll_writable(context))
            .await
            .unwrap();
        let contents = vec![0; size];
        let transmit = Transmit {
            destination: to.parse().unwrap(),
            ecn: None,
            contents: &contents,
            segment_size: None,
            src_ip: None,
        };
        socket.try_send(&transmit).unwrap();
    }

    /// What was rung before is heard at once, or never.
    async fn rang(failed: &Notify) -> bool {
        timeout(Duration::ZERO, failed.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_lost_and_rings() {
        let (socket, failed) = socket();
        // An address of the other family.
        send(&socket, "[::1]:9", 1).await;
        assert!(rang(&failed).await);
        assert!(!rang(&failed).await, "once");
    }

    #[tokio::test]
    async fn what_was_sent_arrives_and_rings_nothing() {
        let (socket, failed) = socket();
        let receiver = tokio::net::UdpSocket::bind(LOOPBACK_V4).await.unwrap();
        send(&socket, &receiver.local_addr().unwrap().to_string(), 7).await;
        let mut buffer = [0; 16];
        assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 7);
        assert!(!rang(&failed).await);
    }

    #[tokio::test]
    async fn a_probe_that_is_too_large_is_no_failure_of_the_socket() {
        let (socket, failed) = socket();
        send(&socket, "127.0.0.1:9", 70_000).await;
        assert!(!rang(&failed).await);
    }
}
