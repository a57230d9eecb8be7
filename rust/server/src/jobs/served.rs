//! Records until when heartbeats could be stored. A server whose lease ended before that was gone while a backend was there; one
//! whose lease ended later could not renew it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Row;

use crate::config::Config;
use crate::database::Transaction;
use crate::state::AppState;

const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Checks between two records: each is a commit.
const CHECKS_PER_RECORD: u32 = 3;
/// A shorter time without the database is not taken for an outage. Checks that are late are not, either.
const SHORTEST_OUTAGE_MS: i64 = 12_000;
/// Longest wait for the last record when the backend stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// When this process last reached the database, by the database's clock.
#[derive(Default)]
pub struct Served(Mutex<Reached>);

#[derive(Default)]
struct Reached {
    at: i64,
    /// After an outage, nothing is recorded for one lease: until then, servers may not have sent a heartbeat again.
    held_until: i64,
}

impl Served {
    /// Notes that the process begins to serve.
    fn begin(&self, now: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Reached { at: now, held_until: 0 };
    }

    /// Notes that the database was reached. Returns whether it may be recorded.
    fn reach(&self, config: &Config, now: i64) -> bool {
        let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = i64::from(config.lease_seconds) * 1_000;
        // A heartbeat may be late by this much.
        let slack = lease - i64::from(config.heartbeat_seconds) * 1_000;
        if now - reached.at > (slack / 2).max(SHORTEST_OUTAGE_MS) {
            reached.held_until = now + lease;
        }
        reached.at = now;
        // The clock may have been set back.
        reached.held_until = reached.held_until.min(now + lease);
        if now >= reached.held_until {
            reached.held_until = 0;
        }
        reached.held_until == 0
    }
}

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

async fn reach(state: &AppState, record: bool) -> sqlx::Result<()> {
    if !record {
        let now = state.database.now().await?;
        state.served.reach(&state.config, now);
        return Ok(());
    }
    let mut tx = state.database.begin().await?;
    if state.served.reach(&state.config, tx.now) {
        store(&mut tx).await?;
    }
    tx.commit().await
}

/// Until when heartbeats were stored before this start, `None` if no backend has recorded it yet. From now on they are again.
pub async fn begin(state: &AppState, tx: &mut Transaction) -> sqlx::Result<Option<i64>> {
    let row = sqlx::query("SELECT served_at FROM backend_served WHERE id = 1")
        .fetch_optional(&mut *tx.conn)
        .await?;
    let served_at = row.map(|row| row.try_get("served_at")).transpose()?;
    store(tx).await?;
    state.served.begin(tx.now);
    Ok(served_at)
}

async fn store(tx: &mut Transaction) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO backend_served (id, served_at) VALUES (1, $1) \
         ON CONFLICT (id) DO UPDATE SET served_at = excluded.served_at",
    )
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_for_a_lease_after_an_outage() {
        let config = Config { lease_seconds: 60, heartbeat_seconds: 30, ..Config::default() };
        let served = Served::default();
        let start = 1_800_000_000_000;
        served.begin(start);
        let reach = |seconds: i64| served.reach(&config, start + seconds * 1_000);
        assert!(reach(5) && reach(20), "a check may be late");
        assert!(!reach(36) && !reach(51) && !reach(66) && !reach(81) && !reach(95), "servers have until 96");
        assert!(reach(96) && reach(101));
        assert!(!reach(200), "the next outage");
        assert!(!reach(100) && !reach(115) && !reach(130) && !reach(145), "the clock was set back");
        assert!(reach(160));
        assert!(reach(90), "and once more");
    }
}
