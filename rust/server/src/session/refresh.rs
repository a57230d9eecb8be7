//! Staying logged in, and logging out.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backend_protocol::session::{Logout, Refresh, Session};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use super::issue;
use crate::accounts;
use crate::auth::active_account::require_active;
use crate::auth::audit::Event;
use crate::auth::refresh_tokens::{find, is_used, store};
use crate::auth::revocations;
use crate::digest::sha256;
use crate::http::idempotency;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Time within which the last used refresh token may be replayed: its reply may have been lost.
const REPLAY_MS: i64 = 60_000;

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
    let account = require_active(&mut tx, &stored.player_id).await?;
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
