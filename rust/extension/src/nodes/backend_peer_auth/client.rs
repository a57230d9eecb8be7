//! The client's side: shows who this is, and takes the server's answer.

use backend_client::error::{ClientError, Fault};
use godot::prelude::*;

use super::{BackendPeerAuth, api_of, node};
use crate::peer_auth::scene_multiplayer::PeerEvent;
use crate::results::backend_error::Failure;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;
use backend_client::peer_auth::protocol::Packet;
use backend_client::peer_auth::server::PeerId;

/// The server's id in Godot's multiplayer.
const SERVER: PeerId = 1;

/// Something happened on a client.
pub fn happened(this: Gd<BackendPeerAuth>, event: PeerEvent) {
    match event {
        PeerEvent::Authenticating(SERVER) => introduce(this),
        PeerEvent::Packet(SERVER, bytes) => match Packet::decode(&bytes) {
            Ok(Packet::Accepted) => {
                if let Some(mut api) = api_of(&this) {
                    api.complete(SERVER);
                }
            }
            Ok(Packet::Refused(reason)) => give_up(this, Failure::new(reason.code, reason.message)),
            Ok(Packet::Credential(_)) | Err(_) => {
                give_up(this, Failure::new("handshake_invalid", "The server does not speak this protocol."));
            }
        },
        PeerEvent::UnexpectedPacket(SERVER, bytes) => {
            if let Ok(Packet::Refused(reason)) = Packet::decode(&bytes) {
                give_up(this, Failure::new(reason.code, reason.message));
            }
        }
        PeerEvent::Connected(SERVER) => {
            this.clone().bind_mut().entering = false;
            this.signals().authenticated().emit();
        }
        PeerEvent::PeerDisconnected(SERVER) => lost(this),
        // Other clients, seen through the server.
        _ => {}
    }
}

/// Shows the server who this is.
fn introduce(mut this: Gd<BackendPeerAuth>) {
    let (ticket, session) = {
        let mut auth = this.bind_mut();
        auth.told = false;
        auth.entering = true;
        let session = if auth.send_access_token { auth.session.clone() } else { None };
        (std::mem::take(&mut auth.ticket), session)
    };
    if !ticket.is_empty() {
        return show(&this, Ok(ticket.to_string()));
    }
    let session = session.filter(Gd::is_instance_valid);
    let connected = match session {
        Some(session) => session.bind().connected(),
        None => Err(ClientError::new(
            Fault::TicketMissing,
            "there is no ticket to show: get one with BackendRooms.request_ticket, and give it to \
             BackendPeerAuth.use_ticket before connecting; each ticket is good for one connection",
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
                show(&this, token);
            }
        });
    });
}

fn show(this: &Gd<BackendPeerAuth>, token: Result<String, ClientError>) {
    match token {
        Ok(token) => {
            if let Some(mut api) = api_of(this) {
                api.send(SERVER, &Packet::Credential(token));
            }
        }
        Err(error) => give_up(this.clone(), error.into()),
    }
}

/// Client: tells why, and closes the connection.
pub fn give_up(mut this: Gd<BackendPeerAuth>, failure: Failure) {
    {
        let mut auth = this.bind_mut();
        if std::mem::replace(&mut auth.told, true) {
            return;
        }
        auth.entering = false;
    }
    if let Some(mut api) = api_of(&this) {
        api.close();
    }
    this.signals().refused().emit(&failure.into_object());
}

/// Client: the connection ended while getting in, without a reason.
pub fn lost(this: Gd<BackendPeerAuth>) {
    let entering = this.bind().entering;
    if entering {
        give_up(
            this,
            Failure::new("auth_timeout", "The server closed the connection before letting this player in."),
        );
    }
}
