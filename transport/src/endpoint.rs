//! Sockets, windows and timeouts.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use holdfast_protocol::id::TrustDomain;
use quinn::{
    ClientConfig, Connecting, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime,
    TransportConfig, VarInt, crypto::rustls::QuicClientConfig,
};

use tokio::sync::Notify;

use crate::{Ending, socket::DeviceSocket};

/// QUIC's own idle timeout. Above the deadline of a device at the longest ping interval
/// (1.5 × 600 s + 10 s), so that the protocol's heartbeat decides, and not QUIC.
const IDLE_TIMEOUT_MS: u32 = 960_000;

/// How long the other end of a watched connection may be silent.
pub const WATCHED_TIMEOUT_MS: u32 = 10_000;

/// The first guess at a watched connection's round trip: it decides how soon a first packet that was
/// lost is repeated.
const WATCHED_ROUND_TRIP: Duration = Duration::from_millis(50);

/// How often a watched connection asks.
const WATCHED_INTERVAL: Duration = Duration::from_secs(3);

/// Received and not yet read, one stream: a bandwidth of 3.2 MB/s at a round trip of 80 ms.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Received and not yet read, one connection: a bulk body never blocks the control stream.
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Sent and not yet acknowledged, one connection.
pub(crate) const SEND_WINDOW: u64 = 1024 * 1024;

/// Streams of its own that a peer may have open: bulk bodies in flight.
const BULK_STREAMS: u32 = 4;

/// Bytes of datagrams held: pings and pongs, of which one at a time matters.
const DATAGRAM_BUFFER: usize = 8 * 1024;

/// Exchanges that one asker may have with an allocator at a time: a relay to which thousands of devices
/// come at once asks where each of their accounts is at home, and no message for one moves before it
/// knows.
const EXCHANGES: u32 = 64;

/// How many bidirectional streams the other side may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// One: the control stream of a session or of a link between relays.
    Control,
    /// Many short ones: exchanges with the allocator.
    Exchanges,
}

/// Binds an endpoint that only dials.
///
/// # Errors
/// When no socket can be had.
pub fn bind_client(address: SocketAddr) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    Endpoint::new(EndpointConfig::default(), None, socket, runtime()?)
}

fn runtime() -> io::Result<Arc<dyn Runtime>> {
    quinn::default_runtime()
        .ok_or_else(|| io::Error::other("an endpoint needs a running tokio runtime"))
}

/// Binds an endpoint that only dials, for a device: `failed` rings when a packet cannot be sent.
///
/// # Errors
/// When no socket can be had.
pub fn bind_device(address: SocketAddr, failed: Arc<Notify>) -> io::Result<Endpoint> {
    let runtime = runtime()?;
    let socket = DeviceSocket::bind(address, failed)?;
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
}

/// Moves a device's endpoint, and every connection of it, to a new socket.
///
/// # Errors
/// When no socket can be had; the old one goes on.
pub fn move_device(
    endpoint: &Endpoint,
    address: SocketAddr,
    failed: Arc<Notify>,
) -> io::Result<()> {
    endpoint.rebind_abstract(DeviceSocket::bind(address, failed)?)
}

/// Dials one address. Every relay and allocator answers to the trust domain as its TLS name.
///
/// # Errors
/// [`Ending::Lost`] when the address cannot be dialled from this endpoint.
pub fn dial(
    endpoint: &Endpoint,
    tls: Arc<QuicClientConfig>,
    address: SocketAddr,
    trust_domain: &TrustDomain,
) -> Result<Connecting, Ending> {
    connect(
        endpoint,
        tls,
        transport(Requests::Control),
        address,
        trust_domain,
    )
}

/// Dials one address, and watches the connection from below: for links between servers, which have
/// no battery to spare and no heartbeat of their own. A silent other side is noticed after
/// [`WATCHED_TIMEOUT_MS`].
///
/// # Errors
/// As [`dial`].
pub fn dial_watched(
    endpoint: &Endpoint,
    tls: Arc<QuicClientConfig>,
    address: SocketAddr,
    trust_domain: &TrustDomain,
) -> Result<Connecting, Ending> {
    let mut watched = transport(Requests::Control);
    watched
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(
            WATCHED_TIMEOUT_MS,
        ))))
        .keep_alive_interval(Some(WATCHED_INTERVAL))
        // It stays for long, and carries the messages of many.
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
        // A server that is being started again is to be found as soon as it is there, by the next of
        // the first packets.
        .initial_rtt(WATCHED_ROUND_TRIP);
    connect(endpoint, tls, watched, address, trust_domain)
}

fn connect(
    endpoint: &Endpoint,
    tls: Arc<QuicClientConfig>,
    transport: TransportConfig,
    address: SocketAddr,
    trust_domain: &TrustDomain,
) -> Result<Connecting, Ending> {
    let mut config = ClientConfig::new(tls);
    config.transport_config(Arc::new(transport));
    endpoint
        .connect_with(config, address, trust_domain.as_str())
        .map_err(|error| Ending::Lost(format!("cannot dial {address}: {error}")))
}

pub(crate) fn transport(requests: Requests) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(match requests {
            Requests::Control => 1,
            Requests::Exchanges => EXCHANGES,
        }))
        .max_concurrent_uni_streams(VarInt::from_u32(BULK_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        // A device connects anew and changes its network all day, and each time four packets of full size
        // would go either way to learn that all may be a fifth larger (RFC 8899): a third of what a
        // handshake costs a relay, and 10 KiB of a phone's radio, for a session of small messages.
        .mtu_discovery_config(None)
        // The first guess at the round trip decides how soon a lost first packet is repeated.
        .initial_rtt(Duration::from_millis(200));
    config
}
