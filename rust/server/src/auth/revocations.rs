//! Revocations of players' tokens, sent to game servers in the replies to their heartbeats.
//!
//! A server requests what is newer than the last reply it received. A transaction may commit after one that began later, so a
//! reply goes back a little further than requested: the same revocation twice does no harm, a missed one would.

use backend_protocol::limits::MAX_REVOCATIONS;
use backend_protocol::registration::{Revocation, RevocationReason};
use backend_protocol::validation::MAX_ACCESS_TOKEN_SECONDS;
use sqlx::Row;
use uuid::Uuid;

use crate::database::Transaction;
use crate::http::ApiResult;

pub const BANNED: &str = "banned";
pub const SESSIONS_ENDED: &str = "sessions_ended";

/// Longest time between a transaction's clock and its commit that is reckoned with.
const MAX_COMMIT_LAG_MS: i64 = 30_000;
/// Older revocations concern nobody: tokens of their time have expired, and the servers of that time have received them.
pub const RETENTION_MS: i64 = MAX_ACCESS_TOKEN_SECONDS as i64 * 1000 + MAX_COMMIT_LAG_MS;

/// Revokes the tokens of `player_id` that were issued until now.
pub async fn insert(tx: &mut Transaction, player_id: &str, reason: &str) -> ApiResult<()> {
    sqlx::query(
        "INSERT INTO revocations (revocation_id, player_id, reason, revoked_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(player_id)
    .bind(reason)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// The revocations that a server has not received yet, and the value to send next time. `after` is that value of an earlier
/// reply.
pub async fn since(tx: &mut Transaction, after: Option<u64>) -> ApiResult<(Vec<Revocation>, u64)> {
    let oldest = tx.now - RETENTION_MS;
    let acknowledged = after.and_then(|after| i64::try_from(after).ok()).unwrap_or_default();
    // The clock was set back since: what is revoked now would count as acknowledged.
    let acknowledged = if acknowledged > tx.now { 0 } else { acknowledged };
    let rows = sqlx::query(
        "SELECT player_id, reason, revoked_at FROM revocations WHERE revoked_at > $1 \
         ORDER BY revoked_at, revocation_id LIMIT $2",
    )
    .bind(acknowledged.max(oldest))
    .bind(MAX_REVOCATIONS as i64)
    .fetch_all(&mut *tx.conn)
    .await?;
    let mut as_of = tx.now - MAX_COMMIT_LAG_MS;
    let mut revocations = Vec::with_capacity(rows.len());
    for row in &rows {
        let at: i64 = row.try_get("revoked_at")?;
        if rows.len() == MAX_REVOCATIONS {
            // More are waiting. The last millisecond may be cut in two: it is sent again.
            as_of = (at - 1).min(tx.now - MAX_COMMIT_LAG_MS);
        }
        revocations.push(Revocation {
            player_id: row.try_get("player_id")?,
            reason: match row.try_get::<String, _>("reason")?.as_str() {
                BANNED => RevocationReason::Banned,
                SESSIONS_ENDED => RevocationReason::SessionsEnded,
                _ => RevocationReason::Unknown,
            },
            before: u64::try_from(at / 1000).unwrap_or_default(),
        });
    }
    Ok((revocations, u64::try_from(as_of.max(acknowledged)).unwrap_or_default()))
}
