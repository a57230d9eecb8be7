//! Hosting a room: an entry in the list, a place at the relay, and the host's ticket.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use backend_protocol::registration::RegisterServer;
use backend_protocol::relay::{CloseReason, DEFAULT_ROOM_PLAYERS, HostRoom};
use backend_protocol::rooms::{JoinTicket, RequestTicket};
use backend_protocol::{Code, Problem};

use super::Relay;
use super::listing::{self, Listing};
use super::room::Room;
use crate::auth::extractors::PlayerAuth;
use crate::auth::server_keys;
use crate::auth::tokens::Tokens;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::registration;
use crate::rooms::live::live;
use crate::rooms::tickets;
use crate::state::AppState;

/// Most rooms that one player hosts at a time. One whose host does not come lasts a minute or so: there is another try.
const MAX_ROOMS_PER_PLAYER: usize = 3;

/// Creates a room that the caller hosts through the relay, and reserves a seat in it. The ticket is the host's: the room is over
/// when they leave, or if they do not connect.
#[utoipa::path(post, path = "/v1/relay/rooms", operation_id = "relay_host_room", tag = "rooms", request_body = HostRoom, security(("access_token" = [])),
    responses((status = 200, body = JoinTicket), (status = 403, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn host(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<HostRoom>,
) -> ApiResult<Json<JoinTicket>> {
    let no_relay = || ApiError::new(Code::RoomCreationRefused, "this backend has no relay");
    let relay = state.relay.as_ref().ok_or_else(no_relay)?;
    let key_hash = server_keys::of_relay(&state.database, &state.config).await?.ok_or_else(no_relay)?;
    let host_player_id = player.0.sub.clone();
    check_number(relay, &host_player_id)?;
    let entry = entry(relay, body.value);
    let (password, max_players) = (entry.password.clone(), entry.max_players);
    let lease = registration::enter(&state, &key_hash, None, entry.clone()).await?;
    let room = Arc::new(Room::new(lease.server_id, host_player_id, max_players));
    relay.rooms().insert(room.id.clone(), Arc::clone(&room));
    relay.tasks.spawn(listing::keep(state.clone(), Listing { key_hash, entry, room: Arc::clone(&room) }));
    let issued = async {
        let live = live(&state, room.id.clone()).await?;
        tickets::issue(&state, &player, &live, &RequestTicket { password, ..RequestTicket::default() }).await
    };
    let mut ticket = issued.await.inspect_err(|_| {
        // Nobody can come.
        room.end(CloseReason::RoomEnded);
    })?;
    ticket.invite_code = lease.invite_code;
    Ok(ticket)
}

fn check_number(relay: &Relay, player_id: &str) -> ApiResult<()> {
    if relay.rooms().len() >= relay.most_rooms {
        return Err(ApiError::later(Code::RoomLimitReached, 10, "the relay has as many rooms as it takes"));
    }
    let hosted = relay.rooms().values().filter(|room| room.is_hosted_by(player_id)).count();
    if hosted < MAX_ROOMS_PER_PLAYER {
        return Ok(());
    }
    let detail = format!("the player hosts {hosted} rooms already; end one of them");
    Err(ApiError::new(Code::RoomLimitReached, detail))
}

fn entry(relay: &Relay, wanted: HostRoom) -> RegisterServer {
    let HostRoom { room, version } = wanted;
    RegisterServer {
        instance_id: Tokens::new_id(),
        name: if room.name.trim().is_empty() { "Room".to_owned() } else { room.name },
        address: relay.public_address.clone(),
        port: relay.local_address.port(),
        query_port: None,
        map: room.map,
        mode: room.mode,
        region: String::new(),
        version,
        tags: room.tags,
        players: 0,
        max_players: room.max_players.unwrap_or(DEFAULT_ROOM_PLAYERS),
        certificate: Some(relay.certificate.clone()),
        visibility: room.visibility,
        password: room.password,
        attributes: room.attributes,
        allocation_id: None,
        relay: true,
    }
}
