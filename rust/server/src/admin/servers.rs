//! Game servers, for the operator's tools: who is on them, draining, the end of a room.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::admin::{AdminServerPlayer, AdminServerPlayers};
use backend_protocol::{Code, Problem, limits};
use sqlx::{AssertSqlSafe, Row};

use crate::accounts;
use crate::auth::audit::Event;
use crate::auth::extractors::AdminAuth;
use crate::auth::revocations;
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};
use crate::rooms;
use crate::state::AppState;

/// Players that are returned.
const MAX_PLAYERS: u32 = 500;

/// Sets or removes the request to drain; fails if the server is not live.
async fn set_drain(
    state: &AppState,
    tx: &mut Transaction,
    server_id: &str,
    requested_at: Option<i64>,
) -> ApiResult<()> {
    limits::identifier("server_id", server_id, 64)?;
    let sql = format!(
        "UPDATE servers SET drain_requested_at = $3 WHERE server_id = $4 AND lease_until > $5 AND {}",
        rooms::of_scope(&state.database, "$1", "$2"),
    );
    let changed = sqlx::query(AssertSqlSafe(sql))
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .bind(requested_at)
        .bind(server_id)
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
    if changed.rows_affected() == 0 {
        return Err(ApiError::new(Code::ServerUnknown, "there is no live server with this id"));
    }
    Ok(())
}

async fn held_players(tx: &mut Transaction, server_id: &str) -> sqlx::Result<Vec<AdminServerPlayer>> {
    let sql = format!(
        "SELECT players.player_id AS player_id, display_name FROM player_leases \
         JOIN players ON players.player_id = player_leases.player_id \
         WHERE server_id = $1 AND lease_until > $2 ORDER BY display_name, players.player_id LIMIT {MAX_PLAYERS}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(server_id).bind(tx.now).fetch_all(&mut *tx.conn).await?;
    let player = |row: &sqlx::any::AnyRow| {
        Ok(AdminServerPlayer {
            player_id: row.try_get("player_id")?,
            display_name: row.try_get("display_name")?,
        })
    };
    rows.iter().map(player).collect()
}

/// Lists the players whose documents a server holds.
#[utoipa::path(get, path = "/v1/admin/servers/{server_id}/players", operation_id = "admin_server_players", tag = "admin",
    params(("server_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 200, body = AdminServerPlayers), (status = "4XX", body = Problem)))]
pub async fn players(
    State(state): State<AppState>,
    _admin: AdminAuth,
    Path(server_id): Path<String>,
) -> ApiResult<Json<AdminServerPlayers>> {
    limits::identifier("server_id", &server_id, 64)?;
    let mut tx = state.database.begin().await?;
    Ok(Json(AdminServerPlayers { players: held_players(&mut tx, &server_id).await? }))
}

/// Asks a server to drain and leave, with its next heartbeat.
#[utoipa::path(put, path = "/v1/admin/servers/{server_id}/drain", operation_id = "admin_server_drain", tag = "admin",
    params(("server_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn drain(
    State(state): State<AppState>,
    admin: AdminAuth,
    Path(server_id): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    let now = tx.now;
    set_drain(&state, &mut tx, &server_id, Some(now)).await?;
    tx.commit().await?;
    Event::new("server_drain_requested").server(&server_id).key(&admin.key_id).ok();
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the request to drain back. A server that has received it already leaves all the same.
#[utoipa::path(delete, path = "/v1/admin/servers/{server_id}/drain", operation_id = "admin_server_drain_cancel", tag = "admin",
    params(("server_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn cancel_drain(
    State(state): State<AppState>,
    admin: AdminAuth,
    Path(server_id): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    set_drain(&state, &mut tx, &server_id, None).await?;
    tx.commit().await?;
    Event::new("server_drain_cancelled").server(&server_id).key(&admin.key_id).ok();
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a room: no player gets in any more, those whose documents its server holds are disconnected, and the server leaves with
/// its next heartbeat. They may log in again.
#[utoipa::path(delete, path = "/v1/admin/servers/{server_id}/room", operation_id = "admin_server_end_room", tag = "admin",
    params(("server_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn end_room(
    State(state): State<AppState>,
    admin: AdminAuth,
    Path(server_id): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    let now = tx.now;
    set_drain(&state, &mut tx, &server_id, Some(now)).await?;
    // Until its next heartbeat, which repeats it as the server drains.
    sqlx::query("UPDATE servers SET status = 'draining' WHERE server_id = $1")
        .bind(&server_id)
        .execute(&mut *tx.conn)
        .await?;
    for player in held_players(&mut tx, &server_id).await? {
        accounts::end_sessions(&mut tx, &player.player_id, None).await?;
        revocations::insert(&mut tx, &player.player_id, revocations::SESSIONS_ENDED).await?;
    }
    rooms::changes::record(&state.database, &mut tx, std::slice::from_ref(&server_id)).await?;
    tx.commit().await?;
    state.rooms.rooms_changed();
    Event::new("room_ended").server(&server_id).key(&admin.key_id).ok();
    Ok(StatusCode::NO_CONTENT)
}
