//! `BackendRelayResult`: a place in a room at the relay.

use backend_client::protocol::rooms::JoinTicket;
use backend_client::relay::RelayConnection;
use godot::prelude::*;

use crate::results::backend_error::Failure;
use crate::results::backend_relay_peer::BackendRelayPeer;
use crate::results::backend_room::BackendJoinTicket;
use crate::results::result_class::result_class;

/// A place in a room.
pub struct RelayPlace {
    peer: Gd<BackendRelayPeer>,
    ticket: JoinTicket,
}

result_class! {
    /// The result of [method BackendRelay.host_room] and [method BackendRelay.join].
    BackendRelayResult(RelayPlace) {
        /// The connected peer, for [member MultiplayerAPI.multiplayer_peer], or [code]null[/code] if the call failed.
        peer (get_peer): Option<Gd<BackendRelayPeer>> = |place| Some(place.peer.clone());
        /// The ticket that was used: [member BackendJoinTicket.room] is the room, and [member BackendJoinTicket.invite_code] its code for
        /// others. It is [code]null[/code] if the call failed.
        ticket (get_ticket): Option<Gd<BackendJoinTicket>> =
            |place| Some(BackendJoinTicket::object(Ok(place.ticket.clone())));
    }
}

impl BackendRelayResult {
    /// Main thread. The object as a script receives it.
    pub fn joined(outcome: Result<(RelayConnection, JoinTicket), Failure>) -> Variant {
        Self::answer(
            outcome.map(|(connection, ticket)| RelayPlace {
                peer: BackendRelayPeer::connected(connection),
                ticket,
            }),
        )
    }
}
