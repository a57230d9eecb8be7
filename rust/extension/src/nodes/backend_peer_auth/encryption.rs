//! DTLS for `ENetMultiplayerPeer`: set up before the new peer is polled for the first time, and never half.
//!
//! The engine polls a peer at the beginning of a frame; this runs at the end of the frame in which the game put it in.
//! What cannot be encrypted as it should be is closed.

use backend_client::error::ClientError;
use backend_client::peer_auth::refusal;
use godot::classes::{
    CryptoKey, ENetConnection, ENetMultiplayerPeer, MultiplayerPeer, SceneMultiplayer, TlsOptions,
    X509Certificate,
};
use godot::global::Error;
use godot::prelude::*;

use super::{BackendPeerAuth, api_of, client};
use crate::results::backend_error::Failure;

const CODE: &str = refusal::ENCRYPTION_FAILED;

/// Encrypts the peer that the game has put in, if this end is to be encrypted.
pub fn secure(this: Gd<BackendPeerAuth>) {
    let Some(mut api) = api_of(&this) else { return };
    if !api.is_open() {
        return;
    }
    let serving = api.0.is_server();
    let done =
        if serving { as_server(&this, api.0.get_multiplayer_peer()) } else { as_client(&this, &mut api.0) };
    let Err(why) = done else { return };
    if serving {
        tracing::error!("the server is closed, because its connections cannot be encrypted: {why}");
        api.close();
    } else {
        client::emit_refusal(this, Failure::new(CODE, why));
    }
}

fn as_server(this: &Gd<BackendPeerAuth>, peer: Option<Gd<MultiplayerPeer>>) -> Result<(), String> {
    let identity = match this.bind().registration() {
        Some(registration) => {
            registration.bind().identity().map_err(|error: ClientError| error.to_string())?
        }
        None => None,
    };
    let Some(identity) = identity else { return Ok(()) };
    let mut key = CryptoKey::new_gd();
    check(key.load_from_string(identity.expose_key()), "the private key cannot be read")?;
    let certificate = read(&identity.certificate)?;
    let options = TlsOptions::server(&key, &certificate).ok_or("no options for DTLS")?;
    check(host(peer)?.dtls_server_setup(&options), NOT_BUILT)
}

fn as_client(this: &Gd<BackendPeerAuth>, api: &mut Gd<SceneMultiplayer>) -> Result<(), String> {
    let pinned = this.bind().server_certificate.to_string();
    if pinned.is_empty() {
        return Ok(());
    }
    let certificate = read(&pinned)?;
    // Checks the chain against this one certificate and leaves out the name: whoever has its key is the server.
    let options =
        TlsOptions::client_unsafe_ex().trusted_chain(&certificate).done().ok_or("no options for DTLS")?;
    check(
        host(api.get_multiplayer_peer())?.dtls_client_setup_ex("game-server").client_options(&options).done(),
        NOT_BUILT,
    )
}

const NOT_BUILT: &str = "this build of the engine has no DTLS for ENet";

fn host(peer: Option<Gd<MultiplayerPeer>>) -> Result<Gd<ENetConnection>, String> {
    peer.and_then(|peer| peer.try_cast::<ENetMultiplayerPeer>().ok())
        .and_then(|peer| peer.get_host())
        .ok_or_else(|| "DTLS needs an ENetMultiplayerPeer".to_owned())
}

fn read(pem: &str) -> Result<Gd<X509Certificate>, String> {
    let mut certificate = X509Certificate::new_gd();
    check(certificate.load_from_string(pem), "the certificate cannot be read")?;
    Ok(certificate)
}

fn check(error: Error, why: &str) -> Result<(), String> {
    if error == Error::OK { Ok(()) } else { Err(format!("{why} ({error:?})")) }
}
