//! Tickets: what lets one player into one room, once, and keeps a seat until then.

use axum::Json;
use axum::extract::{Path, State};
use backend_protocol::Problem;
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{JoinByCode, JoinTicket, RequestTicket, normal_invite_code};
use backend_protocol::validation::Claims;

use super::live::{live, shown};
use super::loaders::LiveRoom;
use super::seats::{self, Arrival};
use super::{attempt_limits, invite_codes, password};
use crate::auth::extractors::PlayerAuth;
use crate::auth::tokens::{Subject, Tokens};
use crate::http::idempotency::IdempotencyKey;
use crate::http::{ApiResult, JsonBody};
use crate::state::AppState;

/// Creates a ticket for one join of a room, and reserves a seat in it. A private room is joined by its invite code, or with a
/// party's. The body may be left out.
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
    let live = live(&state, room_id).await?;
    let live = if request.party_code.is_some() { live } else { shown(live)? };
    issue(&state, &player, &live, &request).await
}

/// Creates a ticket for one join of the room with an invite code, and reserves a seat in it.
#[utoipa::path(post, path = "/v1/rooms/by-code/ticket", operation_id = "rooms_create_ticket_by_code", tag = "rooms",
    request_body = JoinByCode, security(("access_token" = [])),
    responses((status = 200, body = JoinTicket), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn by_code(
    State(state): State<AppState>,
    player: PlayerAuth,
    _key: IdempotencyKey,
    body: JsonBody<JoinByCode>,
) -> ApiResult<Json<JoinTicket>> {
    let JoinByCode { invite_code, password, seats } = body.value;
    let room_id = invite_codes::room_id(&state, &player.0.sub, &invite_code).await?;
    let live = live(&state, room_id).await?;
    if live.invite_code.as_deref() != Some(&*normal_invite_code("invite_code", &invite_code)?) {
        // It got another one in this moment, which is not for those who had this one.
        return Err(invite_codes::unknown());
    }
    let mut ticket =
        issue(&state, &player, &live, &RequestTicket { password, seats, party_code: None }).await?;
    ticket.invite_code.clone_from(&live.invite_code);
    Ok(ticket)
}

/// A ticket for whoever shows what the room asks for, with a seat reserved.
pub async fn issue(
    state: &AppState,
    player: &PlayerAuth,
    live: &LiveRoom,
    request: &RequestTicket,
) -> ApiResult<Json<JoinTicket>> {
    let (claims, room) = (&player.0, &live.room);
    if room.status == ServerStatus::Draining {
        return Err(seats::draining());
    }
    // Who reserved for the party has shown the password.
    if request.party_code.is_none() {
        password::check(state, live, &claims.sub, &request.password).await?;
    }
    let ticket_id = Tokens::new_id();
    let mut ticket = signed(state, claims, live, &ticket_id, None)?;
    let (player_id, ticket_ms) = (claims.sub.as_str(), i64::from(ticket.expires_in) * 1000);
    let arrival = Arrival { player_id, ticket_id: &ticket_id, ticket_ms };
    let mut tx = state.database.begin().await?;
    ticket.party_code = match &request.party_code {
        Some(code) => {
            seats::claim(&state.database, &mut tx, &room.room_id, &arrival, code).await?;
            None
        }
        None => {
            let seats = request.seats.unwrap_or(1);
            let counted = attempt_limits::reserve_seats(&state.rate_limits, seats)?;
            let reserved = seats::reserve(&state.database, &mut tx, &room.room_id, &arrival, seats).await;
            reserved.inspect_err(|_| counted.give_back())?
        }
    };
    tx.commit().await?;
    state.rooms.rooms_changed();
    Ok(Json(ticket))
}

/// The ticket of a player for a room in which a seat is reserved for it.
pub fn signed(
    state: &AppState,
    claims: &Claims,
    live: &LiveRoom,
    ticket_id: &str,
    party_code: Option<String>,
) -> ApiResult<JoinTicket> {
    let expires_in = state.config.ticket_seconds;
    // Never older than the token it was got with, which may be younger than the clock says; see `session`.
    let issued_at = live.read_at.max(claims.iat as i64 * 1000);
    let subject = Subject { player_id: &claims.sub, name: &claims.name, session_id: claims.sid.as_deref() };
    let room = live.room.clone();
    let ticket = state.tokens.sign(&subject, Some((&room.room_id, ticket_id)), expires_in, issued_at)?;
    let certificate = live.certificate.clone();
    Ok(JoinTicket { ticket, expires_in, room, certificate, party_code, invite_code: None, relay: live.relay })
}
