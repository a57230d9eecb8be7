//! Staying logged in, and logging out. Of refresh tokens only hashes are stored (RFC 9700 §4.14.2).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backend_protocol::session::{Logout, Refresh, Session};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use super::issue;
use crate::accounts;
use crate::auth::audit::Event;
use crate::auth::revocations;
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::idempotency;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Time within which the last used refresh token may be replayed: its reply may have been lost.
const REPLAY_MS: i64 = 60_000;

fn session_over() -> ApiError {
    ApiError::new(Code::RefreshTokenInvalid, "the session is over; log in again")
}

/// A refresh token as it is stored, of a session that is not over.
struct StoredToken {
    session_id: String,
    player_id: String,
    used_at: Option<i64>,
}

async fn find(state: &AppState, tx: &mut Transaction, token: &str) -> ApiResult<StoredToken> {
    let select = "SELECT r.session_id, r.expires_at, r.used_at, s.player_id, s.revoked_at FROM refresh_tokens r \
                  JOIN sessions s ON s.session_id = r.session_id WHERE r.token_hash = $1";
    let select = sqlx::AssertSqlSafe(format!("{select}{}", state.database.for_update()));
    let row = sqlx::query(select).bind(sha256(token.as_bytes())).fetch_optional(&mut *tx.conn).await?;
    let row = row.ok_or_else(session_over)?;
    if row.try_get::<Option<i64>, _>("revoked_at")?.is_some() {
        // A ban has ended it, too; the reply shows the player that logging in again is of no use.
        accounts::require_active(tx, &row.try_get::<String, _>("player_id")?).await?;
        return Err(session_over());
    }
    if row.try_get::<i64, _>("expires_at")? <= tx.now {
        return Err(session_over());
    }
    Ok(StoredToken {
        session_id: row.try_get("session_id")?,
        player_id: row.try_get("player_id")?,
        used_at: row.try_get("used_at")?,
    })
}

/// The session of `token`, if it is one of `player_id` and not over.
pub async fn session_of(
    state: &AppState,
    tx: &mut Transaction,
    token: &str,
    player_id: &str,
) -> ApiResult<String> {
    let stored = find(state, tx, token).await?;
    if stored.player_id == player_id { Ok(stored.session_id) } else { Err(session_over()) }
}

/// Whether `token` is the newest of a session that is not over.
pub async fn is_unused(state: &AppState, tx: &mut Transaction, token: &str) -> ApiResult<bool> {
    match find(state, tx, token).await {
        Ok(stored) => Ok(stored.used_at.is_none()),
        Err(error) if error.0.code == Code::RefreshTokenInvalid => Ok(false),
        Err(error) => Err(error),
    }
}

/// Exchanges a refresh token for new tokens of its session.
#[utoipa::path(post, path = "/v1/auth/refresh", operation_id = "auth_refresh", tag = "session", request_body = Refresh,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = "4XX", body = Problem)))]
pub async fn refresh(State(state): State<AppState>, body: JsonBody<Refresh>) -> ApiResult<Json<Session>> {
    let offered = body.value.refresh_token;
    let mut tx = state.database.begin().await?;
    let stored = find(&state, &mut tx, &offered).await?;
    let successor = state.tokens.successor(&offered);
    match stored.used_at {
        None => {
            sqlx::query("UPDATE refresh_tokens SET used_at = $1 WHERE token_hash = $2")
                .bind(tx.now)
                .bind(sha256(offered.as_bytes()))
                .execute(&mut *tx.conn)
                .await?;
            store(&state, &mut tx, &stored.session_id, &successor).await?;
        }
        // The reply was lost: the same successor, as long as that one is unused.
        Some(at) if tx.now - at <= REPLAY_MS && !is_used(&mut tx, &successor).await? => {}
        Some(_) => {
            sqlx::query("UPDATE sessions SET revoked_at = $1 WHERE session_id = $2")
                .bind(tx.now)
                .bind(&stored.session_id)
                .execute(&mut *tx.conn)
                .await?;
            tx.commit().await?;
            Event::new("refresh")
                .player(&stored.player_id)
                .detail("the session was revoked")
                .refused("an old token came back");
            return Err(ApiError::new(
                Code::RefreshTokenReused,
                "the session was ended for safety; log in again",
            ));
        }
    }
    let account = accounts::require_active(&mut tx, &stored.player_id).await?;
    let session = issue(&state, account, &stored.session_id, successor, tx.now)?;
    tx.commit().await?;
    Ok(Json(session))
}

/// Ends a session. The reply is the same if there is none.
#[utoipa::path(post, path = "/v1/auth/logout", operation_id = "auth_logout", tag = "session", request_body = Logout,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub async fn logout(State(state): State<AppState>, body: JsonBody<Logout>) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    let ended = sqlx::query(
        "UPDATE sessions SET revoked_at = $1 WHERE revoked_at IS NULL AND session_id IN \
         (SELECT session_id FROM refresh_tokens WHERE token_hash = $2) RETURNING player_id",
    )
    .bind(tx.now)
    .bind(sha256(body.value.refresh_token.as_bytes()))
    .fetch_optional(&mut *tx.conn)
    .await?;
    let player_id = ended.map(|row| row.try_get::<String, _>("player_id")).transpose()?;
    if let Some(player_id) = &player_id {
        idempotency::invalidate_keys(&mut tx, player_id).await?;
    }
    tx.commit().await?;
    if let Some(player_id) = player_id {
        Event::new("logout").player(&player_id).ok();
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all sessions of the account on all devices. Game servers disconnect the player.
#[utoipa::path(post, path = "/v1/auth/logout-everywhere", operation_id = "auth_logout_everywhere", tag = "session", request_body = Logout,
    responses((status = 204), (status = 401, body = Problem), (status = "4XX", body = Problem)))]
pub async fn logout_everywhere(
    State(state): State<AppState>,
    body: JsonBody<Logout>,
) -> ApiResult<StatusCode> {
    let mut tx = state.database.begin().await?;
    let stored = find(&state, &mut tx, &body.value.refresh_token).await?;
    accounts::end_sessions(&mut tx, &stored.player_id, None).await?;
    revocations::insert(&mut tx, &stored.player_id, revocations::SESSIONS_ENDED).await?;
    tx.commit().await?;
    Event::new("logout_everywhere").player(&stored.player_id).ok();
    Ok(StatusCode::NO_CONTENT)
}

async fn is_used(tx: &mut Transaction, refresh_token: &str) -> ApiResult<bool> {
    let row = sqlx::query("SELECT used_at FROM refresh_tokens WHERE token_hash = $1")
        .bind(sha256(refresh_token.as_bytes()))
        .fetch_optional(&mut *tx.conn)
        .await?;
    Ok(match row {
        Some(row) => row.try_get::<Option<i64>, _>("used_at")?.is_some(),
        None => true,
    })
}

pub async fn store(state: &AppState, tx: &mut Transaction, session_id: &str, token: &str) -> ApiResult<()> {
    let expires_at = tx.now + i64::from(state.config.refresh_token_seconds) * 1000;
    sqlx::query("INSERT INTO refresh_tokens (token_hash, session_id, expires_at) VALUES ($1, $2, $3)")
        .bind(sha256(token.as_bytes()))
        .bind(session_id)
        .bind(expires_at)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
