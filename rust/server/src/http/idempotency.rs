//! Requests that make an account are repeated under the same key without making a second one.
//!
//! What is recorded is the session that the request began, not the reply: a reply holds tokens, and those are never stored. A
//! repetition gets the same session, whose first refresh token is derived from the key. It is a way to get a reply that was
//! lost, and never a credential: it is bound to the request's body, lasts for minutes, and ends as soon as the session is
//! refreshed or ended, or a credential of the account changes.
//!
//! Written here because the record is part of the transaction that makes the account: a middleware in front of the handler could
//! commit only one of the two.
//!
//! Requests that are harmless twice by themselves (a server under its instance id, a device under its id, a ticket) need no
//! record.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use backend_protocol::{Code, IDEMPOTENCY_KEY};
use sqlx::Row;

use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::error::{ApiError, ApiResult};

/// How long a key can be repeated: the longest deadline a client can be configured with, retries included.
pub const RETENTION_MS: i64 = 10 * 60 * 1_000;

/// The caller's key, if it sent one.
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default();
        uuid::Uuid::parse_str(text)
            .map(|key| Self(Some(key.to_string())))
            .map_err(|_| ApiError::field(IDEMPOTENCY_KEY, "must be a UUID"))
    }
}

/// What a request under the same key did before.
pub struct PreviousResult {
    pub player_id: String,
    pub session_id: String,
}

/// The error for a key that cannot be repeated (any more).
pub fn key_spent() -> ApiError {
    ApiError::new(
        Code::IdempotencyKeyReused,
        "the session that this key began was refreshed or ended since; log in, or send a new key",
    )
}

/// Claims `key` for this request. Returns what an earlier request under it did. Rejects the key when that one had another body,
/// or when what it began is over. Of requests under one key that come at once, one waits here for the other.
pub async fn claim(
    tx: &mut Transaction,
    key: &IdempotencyKey,
    request_hash: &str,
) -> ApiResult<Option<PreviousResult>> {
    let Some(key) = &key.0 else { return Ok(None) };
    let key_hash = sha256(key.as_bytes());
    sqlx::query("DELETE FROM idempotency_keys WHERE key_hash = $1 AND created_at < $2")
        .bind(&key_hash)
        .bind(tx.now - RETENTION_MS)
        .execute(&mut *tx.conn)
        .await?;
    let claimed = sqlx::query(
        "INSERT INTO idempotency_keys (key_hash, request_hash, player_id, created_at) VALUES ($1, $2, '', $3) \
         ON CONFLICT (key_hash) DO NOTHING",
    )
    .bind(&key_hash)
    .bind(request_hash)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    if claimed.rows_affected() > 0 {
        return Ok(None);
    }
    let row = sqlx::query(
        "SELECT request_hash, player_id, session_id, ended_at FROM idempotency_keys WHERE key_hash = $1",
    )
    .bind(&key_hash)
    .fetch_optional(&mut *tx.conn)
    .await?
    .ok_or_else(key_spent)?;
    if row.try_get::<String, _>("request_hash")? != request_hash {
        return Err(ApiError::new(Code::IdempotencyKeyReused, "this key came with another request before"));
    }
    if row.try_get::<Option<i64>, _>("ended_at")?.is_some() {
        return Err(key_spent());
    }
    Ok(Some(PreviousResult { player_id: row.try_get("player_id")?, session_id: row.try_get("session_id")? }))
}

/// Records what the request that claimed `key` did, in the transaction that did it.
pub async fn complete(
    tx: &mut Transaction,
    key: &IdempotencyKey,
    player_id: &str,
    session_id: &str,
) -> ApiResult<()> {
    let Some(key) = &key.0 else { return Ok(()) };
    sqlx::query("UPDATE idempotency_keys SET player_id = $1, session_id = $2 WHERE key_hash = $3")
        .bind(player_id)
        .bind(session_id)
        .bind(sha256(key.as_bytes()))
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Invalidates all keys of an account, with every change of its credentials.
pub async fn invalidate_keys(tx: &mut Transaction, player_id: &str) -> ApiResult<()> {
    sqlx::query("UPDATE idempotency_keys SET ended_at = $1 WHERE player_id = $2 AND ended_at IS NULL")
        .bind(tx.now)
        .bind(player_id)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
