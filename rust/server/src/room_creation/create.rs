//! Rooms on demand.

use axum::Json;
use axum::extract::State;
use backend_protocol::rooms::{CreateRoom, RoomCreation, RoomCreationStatus, RoomOptions};
use backend_protocol::{Code, Problem};
use tokio::sync::OnceCell;

use super::requests::{self, Progress, RoomRequest};
use crate::allocation::records::{NewRoom, Status, json, redact_password};
use crate::allocation::settings::{AllocationSettings, Creators};
use crate::auth::extractors::PlayerAuth;
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::rooms::password;
use crate::state::AppState;

/// Creates a room on a server of its own, reserves a seat in it, and waits until it is ready. Repeat the request until the reply has a
/// ticket: a request that is not repeated for 30 seconds is given up.
#[utoipa::path(post, path = "/v1/rooms", operation_id = "rooms_create", tag = "rooms", request_body = CreateRoom, security(("access_token" = [])),
    responses((status = 200, body = RoomCreation), (status = 403, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<CreateRoom>,
) -> ApiResult<Json<RoomCreation>> {
    let settings = state.allocation.required()?;
    let wanted = &body.value;
    if settings.creators == Creators::Nobody {
        return Err(ApiError::new(Code::RoomCreationRefused, "players create no rooms here; use quick play"));
    }
    let room = requests::resolved(settings, &wanted.room)?;
    let seats = wanted.seats.unwrap_or(1);
    if room.max_players.is_some_and(|most| seats > most) {
        return Err(ApiError::field("seats", "must not be more than the room's max_players"));
    }
    let request = RoomRequest {
        claims: &player.0,
        request_id: &wanted.request_id,
        // Without the password: a plain hash of it would be easy to guess.
        hash: &sha256(json(&(redact_password(&wanted.room), seats))?.as_bytes()),
        seats,
        is_creation: true,
    };
    // Computed when it is needed, and once for all repetitions.
    let password_hash = OnceCell::new_with(room.password.is_empty().then_some(None));
    let reply = requests::wait(&state, &request, wanted.wait_seconds, |has_arrived| {
        attempt(&state, settings, &request, &room, &password_hash, has_arrived)
    });
    reply.await.map(Json)
}

async fn attempt(
    state: &AppState,
    settings: &AllocationSettings,
    request: &RoomRequest<'_>,
    room: &RoomOptions,
    password_hash: &OnceCell<Option<String>>,
    has_arrived: bool,
) -> ApiResult<Progress> {
    let stored = requests::find(state, request).await?;
    let allocation = stored.as_ref().and_then(|stored| stored.allocation.as_ref());
    if let Some(pending) = allocation.and_then(requests::pending) {
        requests::note_repeated(state, request, stored.as_ref(), has_arrived).await?;
        return Ok(pending);
    }
    let progress = loop {
        let mut tx = state.database.begin().await?;
        let progress = match requests::enter(state, &mut tx, request).await? {
            None => {
                requests::check_creator(state, &mut tx, settings, &request.claims.sub).await?;
                let Some(password_hash) = password_hash.get() else {
                    // For those who may create a room only, and not while others wait for this transaction.
                    drop(tx);
                    password_hash.get_or_try_init(|| password::stored(state, &room.password)).await?;
                    continue;
                };
                let new = NewRoom {
                    creator: Some(&request.claims.sub),
                    room,
                    password_hash: password_hash.as_deref(),
                    quick_play_key: None,
                    max_players: room.max_players.unwrap_or(settings.max_players),
                };
                let (allocation_id, ready) = requests::allocate(state, &mut tx, settings, &new).await?;
                requests::wait_for(state, &mut tx, request, Some(&allocation_id)).await?;
                match ready {
                    Some(room_id) => requests::reserve(state, &mut tx, request, &room_id).await?,
                    None => Progress::Pending(RoomCreationStatus::Requested, Some(allocation_id)),
                }
            }
            Some(allocation) => match (requests::pending(&allocation), &allocation.server_id) {
                (Some(pending), _) => pending,
                (None, Some(room_id)) if allocation.status == Status::Ready => {
                    requests::reserve(state, &mut tx, request, room_id).await?
                }
                _ => {
                    tx.commit().await?;
                    return Err(requests::start_failed(&allocation.reason));
                }
            },
        };
        tx.commit().await?;
        break progress;
    };
    state.allocation.wake();
    if matches!(progress, Progress::Seated { .. }) {
        state.rooms.rooms_changed();
    }
    Ok(progress)
}
