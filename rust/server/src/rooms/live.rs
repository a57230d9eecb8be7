//! Single rooms: requests that come at the same time share a statement.

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

use super::loaders::LiveRoom;
use super::{columns, live_rooms, of_scope, room};
use crate::auth::extractors::PlayerOrServer;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// Returns a live room, unless it is private.
#[utoipa::path(get, path = "/v1/rooms/{room_id}", operation_id = "rooms_get", tag = "rooms", params(("room_id" = String, Path)),
    security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = Room), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn get(
    State(state): State<AppState>,
    _auth: PlayerOrServer,
    Path(room_id): Path<String>,
) -> ApiResult<Response> {
    let live = shown(live(&state, room_id).await?)?;
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

/// The room as it is now.
pub async fn live(state: &AppState, room_id: String) -> ApiResult<Arc<LiveRoom>> {
    limits::identifier("room_id", &room_id, 64)?;
    let app = state.clone();
    let read = move |(), room_ids| {
        let state = app.clone();
        async move { read_live(&state, room_ids).await }
    };
    let live = state.rooms.room_loader.load((), room_id, read).await?;
    live.ok_or_else(not_found)
}

async fn read_live(state: &AppState, room_ids: Vec<String>) -> ApiResult<Vec<Option<Arc<LiveRoom>>>> {
    let sql = format!(
        "SELECT {}, certificate, invite_code, password_hash, relay, {} AS now FROM servers WHERE server_id {} AND {} AND status <> 'unhealthy' AND {}",
        columns(&state.database),
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
            relay: row.try_get::<i64, _>("relay")? != 0,
            invite_code: row.try_get("invite_code")?,
            password_hash: row.try_get("password_hash")?,
            read_at: row.try_get("now")?,
            room,
        };
        live.insert(one.room.room_id.clone(), Arc::new(one));
    }
    Ok(room_ids.iter().map(|room_id| live.get(room_id).cloned()).collect())
}
