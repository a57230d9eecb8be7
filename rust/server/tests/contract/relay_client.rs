//! A client of the relay that is not ours: it writes the bytes of the documented frames by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::rustls::crypto::aws_lc_rs;
use quinn::rustls::pki_types::CertificateDer;
use quinn::rustls::pki_types::pem::PemObject;
use quinn::rustls::{ClientConfig, RootCertStore};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use serde_json::Value;

use crate::harness::text;

pub const TICKET_INVALID: u64 = 11;
pub const TICKET_USED: u64 = 12;

/// A connection whose first stream is open.
pub struct RelayClient {
    pub connection: Connection,
    pub send: SendStream,
    receive: RecvStream,
    pub endpoint: Endpoint,
}

/// A message as it was received.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub kind: u8,
    pub channel: u8,
    pub sender: i32,
    pub payload: Vec<u8>,
}

/// A message frame.
pub fn message(kind: u8, channel: u8, target: i32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, channel];
    frame.extend_from_slice(&target.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A frame behind its length.
pub fn framed(frame: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(frame.len()).expect("short").to_be_bytes().to_vec();
    out.extend_from_slice(frame);
    out
}

/// The first frame of a connection.
pub fn join(room_id: &str, ticket: &str) -> Vec<u8> {
    let mut frame = vec![0x10, 1, u8::try_from(room_id.len()).expect("short")];
    frame.extend_from_slice(room_id.as_bytes());
    frame.extend_from_slice(ticket.as_bytes());
    framed(&frame)
}

impl RelayClient {
    /// Connects to the relay of a ticket without showing it.
    pub async fn connect(ticket: &Value) -> Self {
        let room = &ticket["room"];
        let host = text(&room["address"]);
        let port = u16::try_from(room["port"].as_u64().expect("a port")).expect("a port");
        let address = SocketAddr::new(host.parse().expect("an address"), port);
        let mut roots = RootCertStore::empty();
        let certificate = text(&ticket["certificate"]);
        roots
            .add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM"))
            .expect("a certificate");
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"backend-relay/1".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")));
        let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
        let connecting = endpoint.connect_with(config, address, &host).expect("an address");
        let connection = connecting.await.expect("connected");
        let (send, receive) = connection.open_bi().await.expect("a stream");
        Self { connection, send, receive, endpoint }
    }

    /// Connects and shows the ticket. Returns the own number as well.
    pub async fn enter(ticket: &Value) -> (Self, i32) {
        let mut client = Self::connect(ticket).await;
        client.show(ticket).await;
        let welcome = client.frame().await;
        assert_eq!(welcome[..2], [0x20, 1], "{welcome:?}");
        let peer = i32::from_be_bytes(welcome[2..].try_into().expect("a number"));
        (client, peer)
    }

    /// Shows the ticket.
    pub async fn show(&mut self, ticket: &Value) {
        let first = join(&text(&ticket["room"]["room_id"]), &text(&ticket["ticket"]));
        self.write(&first).await;
    }

    /// Writes to the first stream; whether it arrives shows elsewhere.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _written = self.send.write_all(bytes).await;
    }

    /// The next frame of the first stream.
    pub async fn frame(&mut self) -> Vec<u8> {
        read(&mut self.receive).await
    }

    /// The next message of the first stream, behind what is not one.
    pub async fn message(&mut self) -> Received {
        loop {
            let frame = self.frame().await;
            if frame[0] < 0x10 {
                return received(&frame);
            }
        }
    }

    /// The next datagram.
    pub async fn datagram(&self) -> Received {
        received(&self.connection.read_datagram().await.expect("a datagram"))
    }

    /// The number of the reason for which the relay closes.
    pub async fn closed(&self) -> u64 {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("closed otherwise: {other}"),
        }
    }
}

/// The next frame of a stream.
pub async fn read(stream: &mut RecvStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.expect("a length");
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).await.expect("a frame");
    frame
}

pub fn received(frame: &[u8]) -> Received {
    let sender = i32::from_be_bytes(frame[2..6].try_into().expect("a number"));
    let from = if frame[0] == 2 { 8 } else { 6 };
    Received { kind: frame[0], channel: frame[1], sender, payload: frame[from..].to_vec() }
}
