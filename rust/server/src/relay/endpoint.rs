//! The UDP port, and what is agreed on with whoever connects to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::relay::{ALPN, CloseReason, MAX_CHANNELS};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::rustls::crypto::aws_lc_rs;
use quinn::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use quinn::rustls::{self, version};
use quinn::{Endpoint, IdleTimeout, ServerConfig, TransportConfig, VarInt};

/// A player who says nothing for so long is gone. Players' clients send something every few seconds.
const IDLE_TIMEOUT_MS: u32 = 15_000;
/// Datagrams that wait for a player: what is older is dropped for what is newer.
const DATAGRAM_SEND_BUFFER: usize = 64 * 1024;
/// Datagrams of a player that wait to be passed on.
const DATAGRAM_RECEIVE_BUFFER: usize = 256 * 1024;
/// Bytes of one stream, and of all streams of a player, that arrive before they are passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that were sent to a player and may have to be sent again.
const SEND_WINDOW: u64 = 1024 * 1024;

/// The error code with which a connection is closed.
pub fn code(reason: CloseReason) -> VarInt {
    u32::from(reason.number()).into()
}

/// Listens with a certificate that is made now. Returns it as PEM: tickets carry it, so no authority has to know it.
pub fn bind(listen: SocketAddr, public_address: &str) -> anyhow::Result<(Endpoint, String)> {
    let made = rcgen::generate_simple_self_signed([public_address.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport()));
    Ok((Endpoint::server(config, listen)?, made.cert.pem()))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        // Of each channel but the first, which is on the other stream.
        .max_concurrent_uni_streams(VarInt::from_u32(u32::from(MAX_CHANNELS) - 1))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(Duration::from_millis(u64::from(IDLE_TIMEOUT_MS) / 3)))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER);
    transport
}
