//! Takes out what is past its time, by the database's clock, so that replicas need not agree on one.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::health;
use crate::idempotency;
use crate::player_store::leases;
use crate::revocations;
use crate::state::AppState;
use crate::world_store;

const EVERY: Duration = Duration::from_secs(60);
/// Nobody may ever ask for the metrics.
const FOLD_EVERY: Duration = Duration::from_secs(5);
/// A server's row is kept this long after its lease, so that one that comes back keeps its id.
const SERVER_KEPT_MS: i64 = 24 * 3_600 * 1_000;
/// Resolved conflicts, former epochs and addresses of logins are remembered this long, for saves that lie in the journal of a server that is down.
const REMEMBERED_MS: i64 = 90 * 24 * 3_600 * 1_000;

/// Runs until the task is aborted. Expired servers are not listed even before they are swept.
pub async fn run(state: AppState) {
    for round in 0.. {
        for _ in 0..EVERY.as_secs() / FOLD_EVERY.as_secs() {
            tokio::time::sleep(FOLD_EVERY).await;
            health::fold_metrics();
        }
        if let Err(error) = world_store::sweep::once(&state, round).await {
            tracing::warn!("worlds were not swept; the next round follows: {error:#}");
        }
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
        // One that left still saves and releases the players it holds.
        (
            "DELETE FROM servers WHERE lease_until < $1 AND created_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM player_leases WHERE player_leases.server_id = servers.server_id)",
            now - SERVER_KEPT_MS,
        ),
        ("DELETE FROM mail_codes WHERE expires_at < $1", now),
        ("DELETE FROM revocations WHERE revoked_at < $1", now - revocations::KEPT_MS),
        (
            "DELETE FROM sessions WHERE created_at < $1 AND NOT EXISTS \
             (SELECT 1 FROM refresh_tokens WHERE refresh_tokens.session_id = sessions.session_id)",
            now,
        ),
        ("DELETE FROM familiar_addresses WHERE seen_at < $1", now - REMEMBERED_MS),
        ("DELETE FROM save_conflicts WHERE resolved_at < $1", now - REMEMBERED_MS),
        ("DELETE FROM former_epochs WHERE ended_at < $1", now - REMEMBERED_MS),
    ] {
        sqlx::query(statement).bind(before).execute(&mut *work.tx).await?;
    }
    work.commit().await
}

/// A backend that was away could not hear heartbeats: servers listed when it stopped, and the holders of players, get one
/// lease to be heard again.
pub async fn grace_after_start(state: &AppState) -> sqlx::Result<()> {
    let mut work = state.database.begin().await?;
    let lease_until = leases::lease_until(state, &work);
    // Only those that would have lived had the backend been there: deregistered and released ones are at 0.
    for table in ["servers", "player_leases", "worlds"] {
        let sql = format!(
            "UPDATE {table} SET lease_until = $1 WHERE lease_until > 0 AND lease_until < $1 AND lease_until > $2"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(lease_until)
            .bind(work.now - SERVER_KEPT_MS)
            .execute(&mut *work.tx)
            .await?;
    }
    work.commit().await
}
