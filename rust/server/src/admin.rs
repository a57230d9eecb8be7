//! Players, for the operator's tools: details, bans, sessions.

pub mod allocations;
pub mod overview;
pub mod page;
pub mod server_keys;
pub mod servers;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::admin::{AdminPlayer, Ban, BanPlayer};
use backend_protocol::{Code, Problem, limits};
use sqlx::Row;

use crate::accounts;
use crate::auth::audit::Event;
use crate::auth::authorization::is_banned;
use crate::auth::extractors::AdminAuth;
use crate::auth::revocations;
use crate::database::{Transaction, rfc3339};
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

async fn known(tx: &mut Transaction, player_id: &str) -> ApiResult<sqlx::any::AnyRow> {
    limits::identifier("player_id", player_id, 64)?;
    sqlx::query("SELECT created_at, banned_at, banned_until, ban_reason FROM players WHERE player_id = $1")
        .bind(player_id)
        .fetch_optional(&mut *tx.conn)
        .await?
        .ok_or_else(|| ApiError::new(Code::PlayerNotFound, "there is no such player"))
}

/// Returns a player with its ban and its number of sessions.
#[utoipa::path(get, path = "/v1/admin/players/{player_id}", operation_id = "admin_player_get", tag = "admin", params(("player_id" = String, Path)),
    security(("admin_key" = [])),
    responses((status = 200, body = AdminPlayer), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn player(
    State(state): State<AppState>,
    _admin: AdminAuth,
    Path(player_id): Path<String>,
) -> ApiResult<Json<AdminPlayer>> {
    let mut tx = state.database.begin().await?;
    let row = known(&mut tx, &player_id).await?;
    let since: Option<i64> = row.try_get("banned_at")?;
    let until: Option<i64> = row.try_get("banned_until")?;
    let ban = if is_banned(since, until, tx.now) {
        Some(Ban {
            since: since.map(rfc3339).unwrap_or_default(),
            until: until.map(rfc3339),
            reason: row.try_get::<Option<String>, _>("ban_reason")?.unwrap_or_default(),
        })
    } else {
        None
    };
    let sessions = sqlx::query(
        "SELECT COUNT(*) FROM sessions s WHERE s.player_id = $1 AND s.revoked_at IS NULL AND EXISTS \
         (SELECT 1 FROM refresh_tokens r WHERE r.session_id = s.session_id AND r.used_at IS NULL AND r.expires_at > $2)",
    )
    .bind(&player_id)
    .bind(tx.now)
    .fetch_one(&mut *tx.conn)
    .await?
    .try_get::<i64, _>(0)?;
    Ok(Json(AdminPlayer {
        account: accounts::details(&mut tx.conn, &player_id).await?,
        created_at: rfc3339(row.try_get("created_at")?),
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        ban,
    }))
}

/// Bans a player immediately, on all servers.
#[utoipa::path(put, path = "/v1/admin/players/{player_id}/ban", operation_id = "admin_player_ban", tag = "admin", params(("player_id" = String, Path)),
    request_body = BanPlayer, security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn ban(
    State(state): State<AppState>,
    admin: AdminAuth,
    Path(player_id): Path<String>,
    body: JsonBody<BanPlayer>,
) -> ApiResult<StatusCode> {
    let BanPlayer { reason, seconds } = body.value;
    let mut tx = state.database.begin().await?;
    known(&mut tx, &player_id).await?;
    sqlx::query("UPDATE players SET banned_at = $1, banned_until = $2, ban_reason = $3 WHERE player_id = $4")
        .bind(tx.now)
        .bind(seconds.map(|seconds| tx.now + i64::from(seconds) * 1000))
        .bind(&reason)
        .bind(&player_id)
        .execute(&mut *tx.conn)
        .await?;
    accounts::end_sessions(&mut tx, &player_id, None).await?;
    revocations::insert(&mut tx, &player_id, revocations::BANNED).await?;
    tx.commit().await?;
    Event::new("player_banned").player(&player_id).key(&admin.key_id).detail(reason).ok();
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a ban. The player has to log in again.
#[utoipa::path(delete, path = "/v1/admin/players/{player_id}/ban", operation_id = "admin_player_unban", tag = "admin", params(("player_id" = String, Path)),
    security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn unban(
    State(state): State<AppState>,
    admin: AdminAuth,
    Path(player_id): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    known(&mut tx, &player_id).await?;
    sqlx::query(
        "UPDATE players SET banned_at = NULL, banned_until = NULL, ban_reason = NULL WHERE player_id = $1",
    )
    .bind(&player_id)
    .execute(&mut *tx.conn)
    .await?;
    tx.commit().await?;
    Event::new("player_unbanned").player(&player_id).key(&admin.key_id).ok();
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all sessions of a player, who may log in again.
#[utoipa::path(delete, path = "/v1/admin/players/{player_id}/sessions", operation_id = "admin_player_end_sessions", tag = "admin",
    params(("player_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn end_sessions(
    State(state): State<AppState>,
    admin: AdminAuth,
    Path(player_id): Path<String>,
) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    known(&mut tx, &player_id).await?;
    accounts::end_sessions(&mut tx, &player_id, None).await?;
    revocations::insert(&mut tx, &player_id, revocations::SESSIONS_ENDED).await?;
    tx.commit().await?;
    Event::new("sessions_ended").player(&player_id).key(&admin.key_id).ok();
    Ok(StatusCode::NO_CONTENT)
}
