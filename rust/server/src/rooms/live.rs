//! Single rooms: looked up together, and kept while nothing was committed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use backend_protocol::rooms::{Room, RoomVisibility};
use backend_protocol::{Code, Problem, limits};
use sqlx::{AssertSqlSafe, Row};

use super::caches::LiveRoom;
use super::{COLUMNS, live_rooms, of_scope, room};
use crate::auth::authorization::AuthSnapshot;
use crate::auth::extractors::PlayerOrServer;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// Returns a live room, unless it is private.
#[utoipa::path(get, path = "/v1/rooms/{room_id}", operation_id = "rooms_get", tag = "rooms", params(("room_id" = String, Path)),
    security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = Room), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn get(
    State(state): State<AppState>,
    PlayerOrServer(caller): PlayerOrServer,
    Path(room_id): Path<String>,
) -> ApiResult<Response> {
    let (live, _now) = live(&state, &caller, room_id).await?;
    let live = shown(live)?;
    let mut response = Response::new(Body::from(live.json.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

pub fn not_found() -> ApiError {
    ApiError::new(Code::RoomNotFound, "there is no such room (any more)")
}

/// The room, if its id is enough to see it: a private one looks as if it was not there.
pub fn shown(live: Arc<LiveRoom>) -> ApiResult<Arc<LiveRoom>> {
    if live.room.visibility == RoomVisibility::Private { Err(not_found()) } else { Ok(live) }
}

/// The room, and the time by the database's clock. `caller` is what was found when the request came.
pub async fn live(
    state: &AppState,
    caller: &AuthSnapshot,
    room_id: String,
) -> ApiResult<(Arc<LiveRoom>, i64)> {
    limits::identifier("room_id", &room_id, 64)?;
    if let Some(version) = caller.version
        && let Some(live) = state.rooms.room_cache.get(version, &room_id)
        && live.lease_until > caller.now
    {
        return Ok((live, caller.now));
    }
    let app = state.clone();
    let read = move |(), room_ids| {
        let state = app.clone();
        async move { read_live(&state, room_ids).await }
    };
    let live = state.rooms.room_loader.load((), room_id.clone(), read).await?;
    let live = live.ok_or_else(not_found)?;
    if let Some(version) = caller.version {
        state.rooms.room_cache.insert(version, room_id, Arc::clone(&live));
    }
    let now = live.read_at;
    Ok((live, now))
}

async fn read_live(state: &AppState, room_ids: Vec<String>) -> ApiResult<Vec<Option<Arc<LiveRoom>>>> {
    let sql = format!(
        "SELECT {COLUMNS}, certificate, password_hash, lease_until, {} AS now FROM servers WHERE server_id {} AND {} AND status <> 'unhealthy' AND {}",
        state.database.clock(),
        state.database.is_in("$1"),
        live_rooms(&state.database),
        of_scope(&state.database, "$2", "$3"),
    );
    let unique: HashSet<&str> = room_ids.iter().map(String::as_str).collect();
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(serde_json::to_string(&unique).map_err(anyhow::Error::from)?)
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .fetch_all(state.database.pool())
        .await?;
    let mut live = HashMap::with_capacity(rows.len());
    for row in &rows {
        let room = room(row)?;
        let json = serde_json::to_vec(&room).map_err(anyhow::Error::from)?.into();
        let one = LiveRoom {
            json,
            certificate: row.try_get("certificate")?,
            password_hash: row.try_get("password_hash")?,
            lease_until: row.try_get("lease_until")?,
            read_at: row.try_get("now")?,
            room,
        };
        live.insert(one.room.room_id.clone(), Arc::new(one));
    }
    Ok(room_ids.iter().map(|room_id| live.get(room_id).cloned()).collect())
}
