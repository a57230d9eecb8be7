//! The client's side: sends the credential and handles the server's reply.

use backend_client::error::{ClientError, Fault};
use godot::prelude::*;

use super::{BackendPeerAuth, api_of, node};
use crate::peer_auth::scene_multiplayer::PeerEvent;
use crate::results::backend_error::Failure;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;
use backend_client::peer_auth::protocol::Packet;
use backend_client::peer_auth::refusal;
use backend_client::peer_auth::server::PeerId;

/// The server's id in Godot's multiplayer.
const SERVER: PeerId = 1;

/// Handles an event on a client.
pub fn handle_event(this: Gd<BackendPeerAuth>, event: PeerEvent) {
    match event {
        PeerEvent::Authenticating(SERVER) => send_credential(this),
        PeerEvent::Packet(SERVER, bytes) => match Packet::decode(&bytes) {
            Ok(Packet::Accepted) => {
                if let Some(mut api) = api_of(&this) {
                    api.complete(SERVER);
                }
            }
            Ok(Packet::Refused(reason)) => emit_refusal(this, Failure::new(reason.code, reason.message)),
            Ok(Packet::Credential(_)) | Err(_) => {
                emit_refusal(
                    this,
                    Failure::new(refusal::HANDSHAKE_INVALID, "The server does not support this protocol."),
                );
            }
        },
        PeerEvent::UnexpectedPacket(SERVER, bytes) => {
            if let Ok(Packet::Refused(reason)) = Packet::decode(&bytes) {
                emit_refusal(this, Failure::new(reason.code, reason.message));
            }
        }
        PeerEvent::Connected(SERVER) => {
            this.clone().bind_mut().authenticating = false;
            this.signals().authenticated().emit();
        }
        PeerEvent::PeerDisconnected(SERVER) => connection_closed(this),
        // Other clients, seen through the server.
        _ => {}
    }
}

/// Sends the ticket or the access token.
fn send_credential(mut this: Gd<BackendPeerAuth>) {
    let (ticket, session) = {
        let mut auth = this.bind_mut();
        auth.refusal_emitted = false;
        auth.authenticating = true;
        let session = if auth.send_access_token { auth.session.clone() } else { None };
        (std::mem::take(&mut auth.ticket), session)
    };
    if !ticket.is_empty() {
        return send_token(&this, Ok(ticket.to_string()));
    }
    let session = session.filter(Gd::is_instance_valid);
    let connected = match session {
        Some(session) => session.bind().connected(),
        None => Err(ClientError::new(
            Fault::TicketMissing,
            "no ticket: request one with BackendRooms.request_ticket and pass it to \
             BackendPeerAuth.use_ticket before connecting; each ticket is valid for one connection",
        )),
    };
    let id = this.instance_id();
    worker_threads::spawn(async move {
        let token = match connected {
            Ok(connected) => connected.session.authorized(async |token| Ok(token)).await,
            Err(error) => Err(error),
        };
        main_thread_queue::enqueue(move || {
            if let Some(this) = node(id) {
                send_token(&this, token);
            }
        });
    });
}

fn send_token(this: &Gd<BackendPeerAuth>, token: Result<String, ClientError>) {
    match token {
        Ok(token) => {
            if let Some(mut api) = api_of(this) {
                api.send(SERVER, &Packet::Credential(token));
            }
        }
        Err(error) => emit_refusal(this.clone(), error.into()),
    }
}

/// Closes the connection and emits the reason, once per connection.
pub fn emit_refusal(mut this: Gd<BackendPeerAuth>, failure: Failure) {
    {
        let mut auth = this.bind_mut();
        if std::mem::replace(&mut auth.refusal_emitted, true) {
            return;
        }
        auth.authenticating = false;
    }
    if let Some(mut api) = api_of(&this) {
        api.close();
    }
    this.signals().refused().emit(&failure.into_object());
}

/// The connection was closed without a reason. Emits one if authentication was under way.
pub fn connection_closed(this: Gd<BackendPeerAuth>) {
    let authenticating = this.bind().authenticating;
    if authenticating {
        emit_refusal(
            this,
            Failure::new(
                refusal::AUTH_TIMEOUT,
                "The server closed the connection before it accepted this player.",
            ),
        );
    }
}
