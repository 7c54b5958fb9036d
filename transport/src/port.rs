//! An accepting endpoint: its socket, its keys, and what may wait at its door.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{
    AsyncTimer, AsyncUdpSocket, Connection, Endpoint, Runtime, ServerConfig, TokioRuntime,
};
use socket2::SockRef;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    endpoint::{CONNECTION_WINDOW, Requests, SEND_WINDOW, transport},
    handshake::ServerTls,
    keys::EndpointKeys,
};

/// How many connections may wait for the accepting side, in its [line](crate::line) or because it did
/// not get round to them yet, before further ones get no answer.
const MAX_INCOMING: usize = 4096;

/// Both windows of a connection whose other side is not known yet, in bytes.
const STRANGERS_WINDOW: u32 = 256 * 1024;

/// Bytes held for one connection that is not accepted yet: some early packets, no payload.
const INCOMING_BUFFER: u64 = 64 * 1024;

/// Bytes held for all connections that are not accepted yet.
const INCOMING_BUFFER_TOTAL: u64 = 16 * 1024 * 1024;

/// Bytes that may wait in the socket for all connections together, on either side, if the system allows
/// as much. With what a system gives by itself (200 KiB on Linux, some hundred packets) a few senders of
/// large bodies have everybody's packets dropped, each of which comes again after tens of milliseconds.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// How long closed connections may take to be gone. Each stays for three probe timeouts (RFC 9000,
/// section 10.2), to say once more that it is closed to whoever did not hear it. A server that is being
/// restarted is missed meanwhile, and says as much with its first words (section 10.3), so it does not
/// wait for long.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// A bound endpoint with the tasks that quinn runs for it.
#[derive(Debug)]
pub struct Port {
    endpoint: Endpoint,
    tasks: Tasks,
}

/// The tasks that quinn runs for an endpoint, and what ends them.
#[derive(Clone, Debug, Default)]
struct Tasks {
    running: TaskTracker,
    end: CancellationToken,
}

impl Port {
    /// The endpoint. Clones keep the socket open.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits until the last packets are out, the tasks have ended, and the address is free for
    /// another. The endpoint was closed, and its clones are gone.
    ///
    /// It takes half a second at most, also because quinn-proto 0.11.19 sets no timer for a connection
    /// whose first packet closes it, which is what arrives of a dial that was given up when all before
    /// was lost, and would keep it until its idle timeout.
    pub async fn release(self) {
        let idle = timeout(GOODBYE_TIMEOUT, self.endpoint.wait_idle()).await;
        if idle.is_err() {
            let connections = self.endpoint.open_connections();
            tracing::debug!(connections, "left without their last packets");
        }
        drop(self.endpoint);
        self.tasks.end.cancel();
        self.tasks.running.close();
        self.tasks.running.wait().await;
    }
}

/// tokio, remembering what quinn runs on it: quinn itself lets its tasks go, and with them the
/// moment at which the socket is closed.
#[derive(Debug)]
struct Tracked {
    runtime: TokioRuntime,
    tasks: Tasks,
}

impl Runtime for Tracked {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.runtime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let ended = self.tasks.end.clone().run_until_cancelled_owned(future);
        self.tasks.running.spawn(ended);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.runtime.wrap_udp_socket(socket)
    }
}

/// Binds an endpoint that accepts connections, and may dial. To be called in a tokio runtime.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(
    address: SocketAddr,
    tls: Arc<ServerTls>,
    requests: Requests,
    keys: &EndpointKeys,
) -> io::Result<Port> {
    let (socket, tasks) = (UdpSocket::bind(address)?, Tasks::default());
    enlarge(&socket);
    let runtime = Arc::new(Tracked {
        runtime: TokioRuntime,
        tasks: tasks.clone(),
    });
    let config = server_config(tls, requests, keys);
    let endpoint = Endpoint::new(keys.endpoint_config(), Some(config), socket, runtime)?;
    Ok(Port { endpoint, tasks })
}

/// A system that allows less gives what it allows, or nothing: then the socket stays as it was.
fn enlarge(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let enlarged = socket
        .set_recv_buffer_size(SOCKET_BUFFER)
        .and_then(|()| socket.set_send_buffer_size(SOCKET_BUFFER));
    if let Err(error) = enlarged {
        tracing::debug!(%error, "the socket's buffers stay as they are");
    }
}

/// What an accepting endpoint is configured with; also to exchange the certificates of a running
/// one ([`Endpoint::set_server_config`]).
pub fn server_config(tls: Arc<ServerTls>, requests: Requests, keys: &EndpointKeys) -> ServerConfig {
    let mut config = ServerConfig::new(tls, keys.token());
    let mut transport = transport(requests);
    transport
        .receive_window(STRANGERS_WINDOW.into())
        .send_window(STRANGERS_WINDOW.into());
    config
        .transport_config(Arc::new(transport))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL)
        .migration(true);
    config
}

/// Opens the windows of an accepted connection to what bulk bodies need, once it is known whose it is.
pub fn widen(connection: &Connection) {
    connection.set_receive_window(CONNECTION_WINDOW.into());
    connection.set_send_window(SEND_WINDOW);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use holdfast_certs::{Authority, Identity, KeyType, Overwrite, PairPaths, Terms, write_pair};
    use holdfast_protocol::id::TrustDomain;
    use quinn::{Connecting, crypto::rustls::QuicClientConfig};
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        Ending,
        credentials::{CredentialFiles, Credentials},
        endpoint::{bind_client, dial, dial_watched},
    };

    const ALPN: &[u8] = b"test";

    type Dial = fn(
        &Endpoint,
        Arc<QuicClientConfig>,
        SocketAddr,
        &TrustDomain,
    ) -> Result<Connecting, Ending>;

    #[test]
    fn a_socket_gets_larger_buffers_than_it_had() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = SockRef::from(&socket).recv_buffer_size().unwrap();
        enlarge(&socket);
        let after = SockRef::from(&socket).recv_buffer_size().unwrap();
        assert!(after > before, "{before}, then {after}");
    }

    /// A relay's, of an authority of its own.
    pub(crate) fn credentials(dir: &Path) -> Credentials {
        let (domain, now) = ("holdfast.test".parse().unwrap(), OffsetDateTime::now_utc());
        let authority = Authority::create(dir, &domain, KeyType::P256, now, Overwrite::Never);
        let authority = authority.unwrap();
        let identity = Identity::relay("r1").unwrap();
        let issued = authority.issue(&identity, &Terms::default(), now).unwrap();
        let paths = PairPaths::of(dir, &identity);
        write_pair(&paths, &issued, Overwrite::Never).unwrap();
        Credentials::load(&CredentialFiles {
            certificate: paths.certificate,
            key: paths.key,
            authority: authority.certificate_path(),
            revoked: None,
        })
        .unwrap()
    }

    /// Sends something back and forth a few times.
    async fn talk([one, another]: [&Connection; 2]) {
        for (from, to) in [(one, another), (another, one)].repeat(3) {
            let mut send = from.open_uni().await.unwrap();
            send.write_all(b"word").await.unwrap();
            send.finish().unwrap();
            let mut recv = to.accept_uni().await.unwrap();
            assert_eq!(recv.read_to_end(4).await.unwrap(), b"word");
        }
    }

    /// What was left of the handshake is all that the next keys need.
    #[tokio::test]
    async fn both_ends_may_change_their_keys_as_often_as_they_like() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials(dir.path());
        let (server, client) = (credentials.server(&[ALPN]), credentials.client(ALPN));
        let keys = EndpointKeys::ephemeral().unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let port = bind(local, server.unwrap(), Requests::Control, &keys).unwrap();
        let (address, endpoint) = (port.endpoint().local_addr(), bind_client(local).unwrap());
        let domain = credentials.trust_domain();
        let connecting = dial(&endpoint, client.unwrap(), address.unwrap(), domain).unwrap();
        let accepted = async { port.endpoint().accept().await.unwrap().await.unwrap() };
        let (dialled, accepted) = tokio::join!(connecting, accepted);
        let ends = [&dialled.unwrap(), &accepted];
        for end in ends.repeat(2) {
            talk(ends).await;
            end.force_key_update();
        }
        talk(ends).await;
    }

    #[tokio::test]
    async fn only_links_between_servers_learn_how_large_packets_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials(dir.path());
        let server = credentials.server(&[ALPN]).unwrap();
        let keys = EndpointKeys::ephemeral().unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let port = bind(local, server, Requests::Control, &keys).unwrap();
        let (address, endpoint) = (port.endpoint().local_addr(), bind_client(local).unwrap());
        for (dial, learns) in [(dial as Dial, false), (dial_watched, true)] {
            let (tls, domain) = (credentials.client(ALPN), credentials.trust_domain());
            let connecting = dial(&endpoint, tls.unwrap(), *address.as_ref().unwrap(), domain);
            let accepted = async { port.endpoint().accept().await.unwrap().await.unwrap() };
            let (dialled, accepted) = tokio::join!(connecting.unwrap(), accepted);
            let dialled = dialled.unwrap();
            talk([&dialled, &accepted]).await;
            let probes = [&dialled, &accepted].map(|end| end.stats().path.sent_plpmtud_probes);
            assert_eq!(probes.map(|probes| probes > 0), [learns, false]);
        }
    }
}
