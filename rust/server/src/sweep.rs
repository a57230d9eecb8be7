//! Takes out what is past its time, by the database's clock, so that replicas need not agree on one.

use std::time::Duration;

use crate::idempotency;
use crate::state::AppState;

const EVERY: Duration = Duration::from_secs(60);
/// A server's row is kept this long after its lease, so that one that comes back keeps its id.
const SERVER_KEPT_MS: i64 = 24 * 3_600 * 1_000;

/// Runs until the task is aborted. Expired servers are not listed even before they are swept.
pub async fn run(state: AppState) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = once(&state).await {
            tracing::warn!(%error, "the sweep failed; the next one follows");
        }
    }
}

async fn once(state: &AppState) -> sqlx::Result<()> {
    let mut work = state.database.begin().await?;
    let now = work.now;
    for (statement, before) in [
        ("DELETE FROM used_tickets WHERE expires_at < $1", now - 60_000),
        ("DELETE FROM refresh_tokens WHERE expires_at < $1", now),
        ("DELETE FROM idempotency_keys WHERE created_at < $1", now - idempotency::KEPT_MS),
        ("DELETE FROM servers WHERE lease_until < $1 AND created_at < $1", now - SERVER_KEPT_MS),
    ] {
        sqlx::query(statement).bind(before).execute(&mut *work.tx).await?;
    }
    work.commit().await
}

/// A backend that was away could not hear heartbeats: servers listed when it stopped get one lease to be heard again.
pub async fn grace_after_start(state: &AppState) -> sqlx::Result<()> {
    let mut work = state.database.begin().await?;
    let lease = i64::from(state.config.lease_seconds) * 1000;
    // Only those that would have lived had the backend been there: deregistered ones are at 0.
    sqlx::query(
        "UPDATE servers SET lease_until = $1 WHERE lease_until > 0 AND lease_until < $1 AND lease_until > $2",
    )
    .bind(work.now + lease)
    .bind(work.now - SERVER_KEPT_MS)
    .execute(&mut *work.tx)
    .await?;
    work.commit().await
}
