//! Records until when heartbeats could be stored. A server whose lease ended before that was gone while a backend was there; one
//! whose lease ended later could not renew it.

use std::time::Duration;

use sqlx::Row;

use crate::database::Transaction;
use crate::state::AppState;

const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Checks between two records. Each check is a commit, and so is each record.
const CHECKS_PER_RECORD: u32 = 3;
/// Longest wait for the last record when the backend stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs until the task is aborted.
pub async fn run(state: AppState) {
    for check in 1.. {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Err(error) = reach(&state, check % CHECKS_PER_RECORD == 0).await {
            tracing::debug!(%error, "the database was not reached");
        }
    }
}

/// Records that heartbeats were stored until now. Called when the last request of a process has ended.
pub async fn finish(state: &AppState) {
    match tokio::time::timeout(STOP_TIMEOUT, reach(state, true)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the end was not recorded"),
        Err(_) => tracing::debug!("the end was not recorded in time"),
    }
}

/// A database that can be read and not written stores no heartbeats: it counts as reached once a commit has succeeded.
async fn reach(state: &AppState, record: bool) -> sqlx::Result<()> {
    let mut tx = state.database.begin().await?;
    let now = tx.now;
    sqlx::query("UPDATE backend_served SET checked_at = $1 WHERE scope = $2")
        .bind(now)
        .bind(state.config.scope())
        .execute(&mut *tx.conn)
        .await?;
    tx.commit().await?;
    if state.served.reach(&state.config, now) && record {
        let mut tx = state.database.begin().await?;
        store(state, &mut tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Until when heartbeats were stored before this start, `None` if no backend has recorded it yet. From now on they are again.
pub async fn begin(state: &AppState, tx: &mut Transaction) -> sqlx::Result<Option<i64>> {
    let row = sqlx::query("SELECT served_at FROM backend_served WHERE scope = $1")
        .bind(state.config.scope())
        .fetch_optional(&mut *tx.conn)
        .await?;
    let served_at = row.map(|row| row.try_get("served_at")).transpose()?;
    store(state, tx).await?;
    state.served.begin(tx.now);
    Ok(served_at)
}

async fn store(state: &AppState, tx: &mut Transaction) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO backend_served (scope, served_at, checked_at) VALUES ($1, $2, $2) \
         ON CONFLICT (scope) DO UPDATE SET served_at = excluded.served_at",
    )
    .bind(state.config.scope())
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}
