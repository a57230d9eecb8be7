//! Requests that make an account are repeated under the same key without making a second one.
//!
//! What is recorded is which account the key made, not the reply: a reply holds tokens, and those are never stored. A
//! repetition gets a new session of the same account. Requests that are harmless twice by themselves (a server under
//! its instance id, a device under its id, a ticket) need no record.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use backend_protocol::{Code, IDEMPOTENCY_KEY};
use sqlx::Row;

use crate::database::Work;
use crate::problem::{Outcome, Refusal};
use crate::tokens::sha256;

/// Keys are remembered for a day.
pub const KEPT_MS: i64 = 24 * 3_600 * 1_000;

/// The caller's key, if it sent one.
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Outcome<Self> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default();
        uuid::Uuid::parse_str(text)
            .map(|key| Self(Some(key.to_string())))
            .map_err(|_| Refusal::field(IDEMPOTENCY_KEY, "must be a UUID"))
    }
}

/// The account that `key` made before. Refuses the key when it came with another body.
pub async fn recorded(work: &mut Work, key: &IdempotencyKey, request_hash: &str) -> Outcome<Option<String>> {
    let Some(key) = &key.0 else { return Ok(None) };
    let row = sqlx::query("SELECT request_hash, player_id FROM idempotency_keys WHERE key_hash = $1")
        .bind(sha256(key.as_bytes()))
        .fetch_optional(&mut *work.tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let before: String = row.try_get("request_hash")?;
    if before != request_hash {
        return Err(Refusal::new(Code::IdempotencyKeyReused, "this key came with another request before"));
    }
    Ok(Some(row.try_get("player_id")?))
}

/// Records which account `key` makes, in the transaction that makes it.
pub async fn record(
    work: &mut Work,
    key: &IdempotencyKey,
    request_hash: &str,
    player_id: &str,
) -> Outcome<()> {
    let Some(key) = &key.0 else { return Ok(()) };
    sqlx::query(
        "INSERT INTO idempotency_keys (key_hash, request_hash, player_id, created_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(sha256(key.as_bytes()))
    .bind(request_hash)
    .bind(player_id)
    .bind(work.now)
    .execute(&mut *work.tx)
    .await?;
    Ok(())
}
