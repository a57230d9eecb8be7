//! `BackendRelay`: rooms that players host themselves.

use std::sync::Arc;

use backend_client::api::backend::Backend;
use backend_client::error::ClientError;
use backend_client::protocol::relay::HostRoom;
use backend_client::relay::{RelayConnection, host_room};
use backend_client::session::Session;
use godot::prelude::*;

use crate::config;
use crate::nodes::backend_session::BackendSession;
use crate::nodes::calls::Calls;
use crate::resources::backend_config::BackendConfig;
use crate::resources::backend_room_options::BackendRoomOptions;
use crate::results::backend_error::not_configured;
use crate::results::backend_relay_result::BackendRelayResult;
use crate::results::backend_request::BackendRequest;
use crate::results::backend_room::BackendJoinTicket;
use crate::runtime::main_thread_queue;

const NO_SESSION: &str = "assign \"Session\": a logged-in player hosts the room";

/// Lets a player host a room, and others join it, through the backend's relay.
///
/// No player needs an open port or a dedicated server: everybody connects to the relay, encrypted and over UDP. The relay admits
/// players who have a ticket for the room, so seats, passwords and invite codes work as in other rooms, and it verifies who sends what.
/// RPCs, [MultiplayerSpawner] and [MultiplayerSynchronizer] work unchanged; the host is peer 1.
///
/// ```gdscript
/// # The host:
/// var options := BackendRoomOptions.new()
/// options.visibility = BackendServerRegistration.VISIBILITY_PRIVATE
/// var hosted: BackendRelayResult = await $BackendRelay.host_room(options).wait()
/// if hosted.ok():
///     multiplayer.multiplayer_peer = hosted.peer
///     status.text = hosted.ticket.invite_code
/// ```
/// ```gdscript
/// # The others:
/// var ticket: BackendJoinTicket = await $BackendRooms.join_by_code(code_field.text).wait()
/// var joined: BackendRelayResult = await $BackendRelay.join(ticket).wait()
/// if joined.ok():
///     multiplayer.multiplayer_peer = joined.peer
/// ```
///
/// See "Rooms that players host" in the guide: [code]docs/src/relay.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendRelay {
    /// Connection settings. If unset, those of [member session] are used.
    #[export]
    config: Option<Gd<BackendConfig>>,
    /// The logged-in player. Required by [method host_room].
    #[export]
    #[var(set = set_session)]
    session: Option<Gd<BackendSession>>,
    /// Version of the game in the room list, at most 64 characters.
    #[export]
    version: GString,
    calls: Calls,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendRelay {
    fn exit_tree(&mut self) {
        let owner = self.calls.owner();
        // Open to handlers that call back into this node.
        let _reentrant = self.base_mut();
        main_thread_queue::cancel_all_now(owner);
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let warning = self
            .session
            .is_none()
            .then(|| GString::from("Assign \"Session\": a logged-in player hosts the room."));
        warning.into_iter().collect()
    }
}

#[godot_api]
impl BackendRelay {
    /// Creates a room that this player hosts, and connects to the relay. [param options] may be [code]null[/code].
    /// [member BackendRoomOptions.max_players] includes the host and is at most 128; if it is 0, the room has 16 places. The room ends
    /// when the host leaves. Returns a [BackendRequest] that completes with a [BackendRelayResult]. It fails with
    /// [code]room_creation_refused[/code] if the backend has no relay, and with [code]room_limit_reached[/code] if the player hosts too
    /// many rooms.
    #[func]
    fn host_room(&self, options: Option<Gd<BackendRoomOptions>>) -> Gd<BackendRequest> {
        let version = self.version.to_string();
        let work = BackendRoomOptions::to_wire(options.as_ref()).and_then(|room| {
            let (backend, session) = self.connected()?;
            let wanted = HostRoom { room, version };
            Ok(async move {
                let ticket = host_room(&*backend, &session, &wanted).await?;
                Ok((RelayConnection::join(&ticket).await?, ticket))
            })
        });
        self.calls.try_start(work, BackendRelayResult::joined)
    }

    /// Joins the room of a ticket from [BackendRooms]. The ticket is used once. Returns a [BackendRequest] that completes with a
    /// [BackendRelayResult]. It fails with [code]relay_refused[/code] if the relay does not admit the player, and with
    /// [code]timeout[/code] if the relay cannot be reached.
    #[func]
    fn join(&self, ticket: Option<Gd<BackendJoinTicket>>) -> Gd<BackendRequest> {
        let ticket = ticket.ok_or_else(|| ClientError::field("ticket", "must not be null"));
        let ticket = ticket.and_then(|ticket| {
            ticket.bind().to_wire().map_err(|_| ClientError::field("ticket", "its call failed"))
        });
        let work = ticket.map(|ticket| async move { Ok((RelayConnection::join(&ticket).await?, ticket)) });
        self.calls.try_start(work, BackendRelayResult::joined)
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_session(&mut self, session: Option<Gd<BackendSession>>) {
        self.session = session;
        self.base_mut().update_configuration_warnings();
    }

    fn connected(&self) -> Result<(Arc<dyn Backend>, Session), ClientError> {
        let session = self.session.as_ref().filter(|session| session.is_instance_valid());
        let connected = session.ok_or_else(|| not_configured(NO_SESSION))?.bind().connected()?;
        let backend = match &self.config {
            Some(config) => config::connect(config::resolve(Some(config))?)?,
            None => connected.backend,
        };
        Ok((backend, connected.session))
    }
}
