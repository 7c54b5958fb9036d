//! The TLS half of connections that are accepted: all of rustls while hands are shaken, and of it what
//! a connection needs afterwards.
//!
//! In QUIC a client has nothing more to say through TLS once the handshake is over: neither new keys,
//! which packets bring by themselves (RFC 9001, section 6), nor another certificate (section 4.4). The
//! server's last words are its tickets, and they leave with the end of the handshake. So rustls's session
//! ends there, too. quinn's own adapter keeps it for as long as the connection lives: an eighth of the
//! memory of one on which nothing happens.

use std::{any::Any, io::Cursor, sync::Arc};

use quinn::{
    ConnectionId, Side, TransportErrorCode,
    crypto::{
        self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
        rustls::{HandshakeData, QuicServerConfig},
    },
};
use quinn_proto::{TransportError, transport_parameters::TransportParameters};
use rustls::{
    AlertDescription, CipherSuite,
    quic::{KeyChange, Secrets, ServerConnection, Suite, Version},
};
use rustls_pki_types::CertificateDer;

/// The TLS half of an endpoint that accepts connections.
pub struct ServerTls {
    config: Arc<rustls::ServerConfig>,
    /// What protects first packets (RFC 9001, section 5.2).
    initial: Suite,
    /// What is said without a session.
    quic: QuicServerConfig,
}

impl ServerTls {
    /// For handshakes by a configuration of TLS 1.3.
    ///
    /// # Errors
    /// When it lacks the cipher suite of first packets.
    pub(crate) fn new(config: rustls::ServerConfig) -> Result<Self, rustls::Error> {
        let config = Arc::new(config);
        let missing = || rustls::Error::General("QUIC needs TLS13_AES_128_GCM_SHA256".to_owned());
        let mut suites = config.crypto_provider().cipher_suites.iter();
        let initial = suites
            .find(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256)
            .and_then(|suite| suite.tls13()?.quic_suite())
            .ok_or_else(missing)?;
        let quic =
            QuicServerConfig::with_initial(config.clone(), initial).map_err(|_| missing())?;
        Ok(Self {
            config,
            initial,
            quic,
        })
    }

    fn session(&self, version: u32, params: &TransportParameters) -> Session {
        let (version, mut written) = (tls_version(version), Vec::new());
        params.write(&mut written);
        let connection = ServerConnection::new(self.config.clone(), version, written);
        Session {
            version,
            initial: self.initial,
            stage: match connection {
                Ok(connection) => Stage::Shaking(Box::new(connection)),
                // A configuration that is none for QUIC; the first message will be refused.
                Err(_) => Stage::Settled(Findings::default()),
            },
            has_told: false,
            next: None,
        }
    }
}

impl crypto::ServerConfig for ServerTls {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.quic.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quic.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        Box::new(self.session(version, params))
    }
}

/// The version for rustls, of one that QUIC's first keys were made for.
fn tls_version(quic: u32) -> Version {
    match quic {
        0xff00_001d..=0xff00_0020 => Version::V1Draft,
        _ => Version::V1,
    }
}

/// One connection's TLS.
struct Session {
    version: Version,
    initial: Suite,
    stage: Stage,
    /// Whether quinn has heard that there is handshake data.
    has_told: bool,
    /// What the keys after the present ones are made of.
    next: Option<Secrets>,
}

enum Stage {
    Shaking(Box<ServerConnection>),
    Settled(Findings),
}

/// What a handshake finds out.
#[derive(Clone, Default)]
struct Findings {
    protocol: Option<Vec<u8>>,
    server_name: Option<String>,
    chain: Option<Vec<CertificateDer<'static>>>,
}

impl Findings {
    fn of(connection: &ServerConnection) -> Self {
        let owned = |certificate: &CertificateDer<'_>| certificate.clone().into_owned();
        let chain = connection.peer_certificates();
        Self {
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: connection.server_name().map(str::to_owned),
            chain: chain.map(|chain| chain.iter().map(owned).collect()),
        }
    }
}

impl Session {
    fn findings(&self) -> Findings {
        match &self.stage {
            Stage::Shaking(connection) => Findings::of(connection),
            Stage::Settled(findings) => findings.clone(),
        }
    }

    /// What rustls's session is asked while there is one.
    fn shaking(&self) -> Option<&ServerConnection> {
        match &self.stage {
            Stage::Shaking(connection) => Some(connection),
            Stage::Settled(_) => None,
        }
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        let side = match side {
            Side::Client => rustls::Side::Client,
            Side::Server => rustls::Side::Server,
        };
        keys(self.initial.keys(dst_cid, side, self.version))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        if !self.has_told {
            return None;
        }
        let found = self.findings();
        Some(Box::new(HandshakeData {
            protocol: found.protocol,
            server_name: found.server_name,
        }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.findings().chain?))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        let keys = self.shaking()?.zero_rtt_keys()?;
        Some((Box::new(keys.header), Box::new(keys.packet)))
    }

    /// A question for clients.
    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.shaking().is_some_and(|tls| tls.is_handshaking())
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Stage::Shaking(connection) = &mut self.stage else {
            let what = "a TLS message after the handshake".to_owned();
            return Err(refused(Some(AlertDescription::UnexpectedMessage), what));
        };
        let read = connection.read_hs(buf);
        read.map_err(|error| refused(connection.alert(), error.to_string()))?;
        let has_data = connection.alpn_protocol().is_some()
            || connection.server_name().is_some()
            || !connection.is_handshaking();
        let is_news = has_data && !self.has_told;
        self.has_told |= has_data;
        Ok(is_news)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let connection = self.shaking();
        let written = connection.and_then(|tls| tls.quic_transport_parameters());
        let read = |written| TransportParameters::read(Side::Server, &mut Cursor::new(written));
        Ok(written.map(read).transpose()?)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Stage::Shaking(connection) = &mut self.stage else {
            return None;
        };
        let written = buf.len();
        match connection.write_hs(buf) {
            Some(KeyChange::Handshake { keys: now }) => Some(keys(now)),
            Some(KeyChange::OneRtt { keys: now, next }) => {
                self.next = Some(next);
                Some(keys(now))
            }
            None => {
                if !connection.is_handshaking() && buf.len() == written {
                    self.stage = Stage::Settled(Findings::of(connection));
                }
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair {
            local: Box::new(keys.local),
            remote: Box::new(keys.remote),
        })
    }

    /// A question for clients.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    /// Nothing of ours wants such material.
    fn export_keying_material(
        &self,
        _: &mut [u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn refused(alert: Option<AlertDescription>, reason: String) -> TransportError {
    let code = alert.map(|alert| TransportErrorCode::crypto(alert.into()));
    TransportError {
        code: code.unwrap_or(TransportErrorCode::PROTOCOL_VIOLATION),
        frame: None,
        reason,
    }
}

fn keys(keys: rustls::quic::Keys) -> Keys {
    Keys {
        header: KeyPair {
            local: Box::new(keys.local.header),
            remote: Box::new(keys.remote.header),
        },
        packet: KeyPair {
            local: Box::new(keys.local.packet),
            remote: Box::new(keys.remote.packet),
        },
    }
}

#[cfg(test)]
mod tests {
    use quinn::crypto::Session as _;
    use rustls::quic::ClientConnection;
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::{credentials::Credentials, port::tests::credentials};

    const ALPN: &[u8] = b"test";

    /// Both ends of a handshake, which were handed each other's words until neither had one left.
    fn shake_hands(credentials: &Credentials) -> (Session, ClientConnection) {
        let tls = credentials.server(&[ALPN]).unwrap();
        let none = TransportParameters::read(Side::Client, &mut Cursor::new([])).unwrap();
        let mut server = tls.session(1, &none);
        let name = ServerName::try_from(credentials.trust_domain().as_str().to_owned()).unwrap();
        let config = Arc::new(credentials.dialling(ALPN).unwrap());
        let mut client = ClientConnection::new(config, Version::V1, name, Vec::new()).unwrap();
        loop {
            let asked = words(|buf| client.write_hs(buf).is_some());
            for word in &asked {
                server.read_handshake(word).unwrap();
            }
            let answered = words(|buf| server.write_handshake(buf).is_some());
            for word in &answered {
                client.read_hs(word).unwrap();
            }
            if asked.is_empty() && answered.is_empty() {
                return (server, client);
            }
        }
    }

    /// What one end has to say, in pieces, as what stands under different keys is read apart. `write`
    /// tells whether the keys have changed.
    fn words(mut write: impl FnMut(&mut Vec<u8>) -> bool) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        loop {
            let mut word = Vec::new();
            let goes_on = write(&mut word);
            match (word.is_empty(), goes_on) {
                (false, _) => words.push(word),
                (true, true) => {}
                (true, false) => return words,
            }
        }
    }

    #[test]
    fn rustls_ends_with_the_handshake_and_what_was_found_out_stays() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials(dir.path());
        let (mut server, client) = shake_hands(&credentials);
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert!(matches!(server.stage, Stage::Settled(_)));
        let identity = server.peer_identity().unwrap();
        let chain: Box<Vec<CertificateDer<'static>>> = identity.downcast().unwrap();
        assert_eq!(*chain, credentials.chain());
        let data = server.handshake_data().unwrap();
        let data: Box<HandshakeData> = data.downcast().unwrap();
        assert_eq!(data.protocol.as_deref(), Some(ALPN));
        let name = credentials.trust_domain().as_str();
        assert_eq!(data.server_name.as_deref(), Some(name));
        assert!(server.next_1rtt_keys().is_some());
    }

    #[test]
    fn whatever_a_client_says_afterwards_is_refused_as_rustls_would() {
        let dir = tempfile::tempdir().unwrap();
        let (mut server, _) = shake_hands(&credentials(dir.path()));
        // A key update that asks for another (RFC 8446, section 4.6.3).
        let refused = server.read_handshake(&[24, 0, 0, 1, 1]).unwrap_err();
        let unexpected = AlertDescription::UnexpectedMessage.into();
        assert_eq!(refused.code, TransportErrorCode::crypto(unexpected));
    }
}
