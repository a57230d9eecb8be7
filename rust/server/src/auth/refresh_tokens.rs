//! Refresh tokens as they are stored: only their hashes (RFC 9700 §4.14.2).

use backend_protocol::Code;
use sqlx::Row;

use super::active_account::require_active;
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

fn session_over() -> ApiError {
    ApiError::new(Code::RefreshTokenInvalid, "the session is over; log in again")
}

/// A refresh token as it is stored, of a session that is not over.
pub struct StoredToken {
    pub session_id: String,
    pub player_id: String,
    pub used_at: Option<i64>,
}

pub async fn find(state: &AppState, tx: &mut Transaction, token: &str) -> ApiResult<StoredToken> {
    let select = "SELECT r.session_id, r.expires_at, r.used_at, s.player_id, s.revoked_at FROM refresh_tokens r \
                  JOIN sessions s ON s.session_id = r.session_id WHERE r.token_hash = $1";
    let select = sqlx::AssertSqlSafe(format!("{select}{}", state.database.for_update()));
    let row = sqlx::query(select).bind(sha256(token.as_bytes())).fetch_optional(&mut *tx.conn).await?;
    let row = row.ok_or_else(session_over)?;
    if row.try_get::<Option<i64>, _>("revoked_at")?.is_some() {
        // A ban has ended it, too; the reply shows the player that logging in again is of no use.
        require_active(tx, &row.try_get::<String, _>("player_id")?).await?;
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

pub async fn is_used(tx: &mut Transaction, refresh_token: &str) -> ApiResult<bool> {
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
