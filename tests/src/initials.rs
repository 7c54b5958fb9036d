//! First packets of clients that will not go on, each of a connection of its own.

use std::collections::BTreeMap;

use holdfast_protocol::version;
use holdfast_transport::{credentials::Credentials, endpoint};
use tokio::net::UdpSocket;

use crate::{
    net::{LOOPBACK, within},
    pki::Pki,
};

/// So many, made by a real client that dials somebody who never answers.
pub async fn first_packets(pki: &Pki, count: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let address = sink.local_addr().expect("an address");
    let client = endpoint::bind_client(LOOPBACK).expect("a socket");
    let credentials = Credentials::load(&pki.sender("mallory/pc")).expect("credentials");
    let tls = credentials
        .client(version::SESSION)
        .expect("a configuration");
    let (mut attempts, mut packets) = (Vec::new(), BTreeMap::new());
    let mut buffer = [0; 2048];
    while packets.len() < count {
        let domain = credentials.trust_domain();
        attempts.push(endpoint::dial(&client, tls.clone(), address, domain).expect("dialled"));
        let received = within("a packet", sink.recv_from(&mut buffer)).await;
        let (size, _) = received.expect("a packet");
        let packet = &buffer[..size];
        // A long header, and in it the connection id of the client's choice (RFC 9000, section 17.2).
        let id = packet[6..6 + usize::from(packet[5])].to_vec();
        packets.insert(id, packet.to_vec());
    }
    packets.into_values().collect()
}
