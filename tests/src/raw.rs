//! A device that speaks the wire by hand: what it sends need not make sense.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use holdfast::CredentialFiles;
use holdfast_protocol::{
    close::CloseCode,
    frame::{self, Encoded, FrameReader, FrameType, Header, RawFrame},
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD},
    message::Hello,
    version,
};
use holdfast_transport::{
    Ending, credentials::Credentials, endpoint, identity::peer_identity, wire::Incoming, wire::Wire,
};

use quinn::crypto::rustls::QuicClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    net::{LOOPBACK, within},
    pki::TRUST_DOMAIN,
};

fn hello(next_within_ms: u32) -> Hello {
    Hello {
        agent: "by-hand".parse().expect("an agent"),
        outbox: 1,
        inbox: 1,
        next_within_ms,
        background: false,
    }
}

fn checked(files: &CredentialFiles, alpn: &[u8]) -> Arc<QuicClientConfig> {
    let credentials = Credentials::load(files).expect("credentials");
    credentials.client(alpn).expect("a configuration")
}

fn unchecked(files: &CredentialFiles) -> Arc<QuicClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(&files.authority).expect("an authority");
    roots.add(authority).expect("an authority");
    let certificate = CertificateDer::from_pem_file(&files.certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![version::SESSION.to_vec()];
    Arc::new(QuicClientConfig::try_from(config).expect("a configuration"))
}

/// A connection to a relay without an SDK.
pub struct Raw {
    wire: Wire,
    reader: FrameReader,
    /// The socket, which has to outlive its connection.
    _endpoint: quinn::Endpoint,
}

impl Raw {
    /// Completes a handshake and opens the control stream.
    ///
    /// # Errors
    /// When the relay does not want us.
    pub async fn dial(files: &CredentialFiles, relay: SocketAddr) -> Result<Self, Ending> {
        Self::dial_as(files, relay, version::SESSION).await
    }

    /// The same, for another protocol.
    ///
    /// # Errors
    /// As [`dial`](Self::dial).
    pub async fn dial_as(
        files: &CredentialFiles,
        relay: SocketAddr,
        alpn: &[u8],
    ) -> Result<Self, Ending> {
        Self::connect(LOOPBACK, checked(files, alpn), relay).await
    }

    /// The same as [`dial`](Self::dial), from an address of our choice.
    ///
    /// # Errors
    /// As [`dial`](Self::dial).
    pub async fn dial_from(
        local: SocketAddr,
        files: &CredentialFiles,
        relay: SocketAddr,
    ) -> Result<Self, Ending> {
        Self::connect(local, checked(files, version::SESSION), relay).await
    }

    /// The same, with a certificate that says no identity of ours. Our own credentials would not
    /// load it; a forger has no such scruples.
    ///
    /// # Errors
    /// As [`dial`](Self::dial).
    pub async fn dial_as_nobody(
        files: &CredentialFiles,
        relay: SocketAddr,
    ) -> Result<Self, Ending> {
        Self::connect(LOOPBACK, unchecked(files), relay).await
    }

    async fn connect(
        local: SocketAddr,
        tls: Arc<QuicClientConfig>,
        relay: SocketAddr,
    ) -> Result<Self, Ending> {
        let socket = endpoint::bind_client(local).expect("a socket");
        let trust_domain = TRUST_DOMAIN.parse().expect("a trust domain");
        let connecting = endpoint::dial(&socket, tls, relay, &trust_domain)?;
        let connection = within("a handshake", connecting).await?;
        peer_identity(&connection, &trust_domain).expect("a relay's identity");
        let wire = within("a stream", Wire::open(connection, MAX_BULK_BODY)).await?;
        let reader = FrameReader::new(MAX_CONTROL_PAYLOAD);
        Ok(Self {
            wire,
            reader,
            _endpoint: socket,
        })
    }

    /// Opens a session that announces its first ping within a minute.
    pub async fn greet(&mut self) {
        self.send(&hello(60_000));
        assert_eq!(self.frame().await.kind, FrameType::Welcome);
    }

    /// Asks for a session, in which the first ping is to come within ten seconds; whether there is one.
    pub async fn is_welcome(&mut self) -> bool {
        self.send(&hello(10_000));
        loop {
            match within("a welcome", self.wire.next()).await {
                Ok(Incoming::Control(_)) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// The connection, to be used in ways that no device would.
    pub fn connection(&self) -> &quinn::Connection {
        self.wire.connection()
    }

    /// The code the relay ended it with, without reading a byte until then.
    pub async fn closed_unread(&self) -> CloseCode {
        match within("an ending", self.connection().closed()).await.into() {
            Ending::Closed { code, .. } => code,
            other => panic!("{other}"),
        }
    }

    /// The relay's certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let identity = self.wire.connection().peer_identity();
        let chain = identity.and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
        chain.expect("a chain").swap_remove(0)
    }

    /// Sends a frame on the control stream.
    pub fn send<H: Header>(&mut self, header: &H) {
        self.bytes(frame::encode(header));
    }

    /// Sends any bytes on the control stream.
    pub fn bytes(&mut self, bytes: Bytes) {
        self.wire.control(bytes);
    }

    /// Sends any bytes on a stream of their own.
    pub fn bulk(&mut self, bytes: Bytes) {
        self.wire.bulk(Encoded {
            head: bytes,
            body: Bytes::new(),
        });
    }

    /// Sends any bytes in a datagram.
    pub fn datagram(&self, bytes: Bytes) {
        self.wire.datagram(bytes).expect("datagrams are taken");
    }

    /// Sends any bytes in a datagram, if there is still a connection.
    pub fn try_datagram(&self, bytes: Bytes) -> bool {
        self.wire.datagram(bytes).is_ok()
    }

    /// The next frame, from wherever it comes.
    pub async fn frame(&mut self) -> RawFrame {
        let frame = within("a frame", self.next_frame()).await;
        frame.expect("a connection")
    }

    /// The next frame, whenever it comes.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn next_frame(&mut self) -> Result<RawFrame, Ending> {
        loop {
            if let Some(frame) = self.reader.next().expect("well-formed frames") {
                return Ok(frame);
            }
            match self.wire.next().await? {
                Incoming::Control(bytes) => self.reader.push(bytes),
                Incoming::Bulk(bytes) | Incoming::Datagram(bytes) => {
                    let frame = RawFrame::whole(bytes, MAX_BULK_BODY);
                    return Ok(frame.expect("well-formed frames"));
                }
            }
        }
    }

    /// Why the relay ended it.
    pub async fn ending(&mut self) -> Ending {
        loop {
            if let Err(ending) = within("an ending", self.wire.next()).await {
                return ending;
            }
        }
    }

    /// The code the relay ended it with.
    pub async fn close_code(&mut self) -> CloseCode {
        match self.ending().await {
            Ending::Closed { code, .. } => code,
            other => panic!("{other}"),
        }
    }
}
