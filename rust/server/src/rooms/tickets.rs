//! Tickets: what lets one player into one room, once.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{JoinByCode, JoinTicket, RequestTicket};
use backend_protocol::{Code, Problem};

use super::caches::LiveRoom;
use super::live::{live, shown};
use super::{invite_codes, password};
use crate::auth::extractors::PlayerAuth;
use crate::auth::tokens::Subject;
use crate::http::idempotency::IdempotencyKey;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Creates a ticket for one join of a room, which must not be private. The body may be left out.
#[utoipa::path(post, path = "/v1/rooms/{room_id}/ticket", operation_id = "rooms_create_ticket", tag = "rooms", params(("room_id" = String, Path)),
    request_body = Option<RequestTicket>, security(("access_token" = [])),
    responses((status = 200, body = JoinTicket), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    player: PlayerAuth,
    _key: IdempotencyKey,
    Path(room_id): Path<String>,
    body: Option<JsonBody<RequestTicket>>,
) -> ApiResult<Json<JoinTicket>> {
    let request = body.map(|body| body.value).unwrap_or_default();
    let (live, now) = live(&state, &player.1, room_id).await?;
    issue(&state, &player, shown(live)?, now, &request).await
}

/// Creates a ticket for one join of the room with an invite code.
#[utoipa::path(post, path = "/v1/rooms/by-code/ticket", operation_id = "rooms_create_ticket_by_code", tag = "rooms",
    request_body = JoinByCode, security(("access_token" = [])),
    responses((status = 200, body = JoinTicket), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn by_code(
    State(state): State<AppState>,
    player: PlayerAuth,
    _key: IdempotencyKey,
    body: JsonBody<JoinByCode>,
) -> ApiResult<Json<JoinTicket>> {
    let JoinByCode { invite_code, password } = body.value;
    let room_id = invite_codes::room_id(&state, &player.0.sub, &invite_code).await?;
    let (live, now) = live(&state, &player.1, room_id).await?;
    issue(&state, &player, live, now, &RequestTicket { password }).await
}

async fn issue(
    state: &AppState,
    player: &PlayerAuth,
    live: Arc<LiveRoom>,
    now: i64,
    request: &RequestTicket,
) -> ApiResult<Json<JoinTicket>> {
    let (claims, room) = (&player.0, &live.room);
    if room.status == ServerStatus::Draining {
        return Err(ApiError::new(Code::RoomDraining, "the room takes nobody in any more"));
    }
    password::check(state, &live, &claims.sub, &request.password).await?;
    if room.players >= room.max_players {
        return Err(ApiError::new(Code::RoomFull, "the room is full"));
    }
    let expires_in = state.config.ticket_seconds;
    // Never older than the token it was got with, which may be younger than the clock says; see `session`.
    let issued_at = now.max(claims.iat as i64 * 1000);
    let subject = Subject { player_id: &claims.sub, name: &claims.name, session_id: claims.sid.as_deref() };
    let ticket = state.tokens.sign(&subject, Some(&room.room_id), expires_in, issued_at)?;
    Ok(Json(JoinTicket { ticket, expires_in, room: room.clone(), certificate: live.certificate.clone() }))
}
