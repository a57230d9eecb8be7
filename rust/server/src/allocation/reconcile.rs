//! The task that makes what runs the same as what is stored. Each replica has one, for the servers of its own host; what a host that is
//! gone leaves in the database is ended by whichever replica sees it first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::rooms::ABANDONED_AFTER_SECONDS;
use sqlx::Row;
use tokio::time::Instant;

use super::records::{self, Status, StoredAllocation};
use super::settings::AllocationSettings;
use super::{Allocator, Sighting, StartError};
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::state::AppState;

/// Time between two looks at the database. A request wakes the task sooner.
const INTERVAL: Duration = Duration::from_millis(200);
/// A host that is there fails its own servers that do not start; its clock may be another one.
const FOREIGN_TOLERANCE_MS: i64 = 15_000;
/// A spare that does not start is followed by the next one after this time.
const SPARE_RETRY: Duration = Duration::from_secs(10);

/// Runs until the task is aborted.
pub async fn run(state: AppState, allocator: Arc<dyn Allocator>) {
    let Some(settings) = state.allocation.settings() else { return };
    let mut task = Reconciliation { state: &state, settings, allocator, spares_after: None };
    let mut reported: Option<String> = None;
    loop {
        let _woken = tokio::time::timeout(INTERVAL, state.allocation.requested.notified()).await;
        let failure = task.pass().await.err().map(|error| format!("{error:#}"));
        // It is repeated five times a second: each kind of failure is logged once.
        if failure != reported
            && let Some(failure) = &failure
        {
            tracing::warn!("rooms on demand wait, and go on when this has passed: {failure}");
        }
        reported = failure;
    }
}

struct Reconciliation<'a> {
    state: &'a AppState,
    settings: &'a AllocationSettings,
    allocator: Arc<dyn Allocator>,
    /// No spare is started before this time.
    spares_after: Option<Instant>,
}

fn described(error: crate::http::ApiError) -> anyhow::Error {
    anyhow::anyhow!("{}", error.0.detail)
}

impl Reconciliation<'_> {
    async fn pass(&mut self) -> anyhow::Result<()> {
        let mut tx = self.state.database.begin().await?;
        let scope = self.state.config.scope();
        self.give_up_abandoned(&mut tx).await.map_err(described)?;
        let open = records::open(&mut tx, &scope).await.map_err(described)?;
        tx.commit().await?;
        let pending = open
            .iter()
            .filter(|one| matches!(one.status, Status::Requested | Status::Starting))
            .map(|one| one.allocation_id.clone());
        self.state.allocation.look_at(pending.collect());
        for allocation in &open {
            match allocation.status {
                Status::Requested => self.start_requested(allocation).await?,
                Status::Starting => self.look_at_starting(allocation).await?,
                Status::Ready => self.look_at_ready(allocation).await?,
                Status::Failed | Status::Ended => {}
            }
        }
        self.stop_ended(&open).await?;
        self.start_spares(&open).await
    }

    fn is_ours(&self, allocation: &StoredAllocation) -> bool {
        allocation.host.as_deref() == Some(self.allocator.host())
    }

    /// Requests whose clients are gone, and allocations that nobody waits for any more.
    async fn give_up_abandoned(&self, tx: &mut Transaction) -> ApiResult<()> {
        let scope = self.state.config.scope();
        let before = tx.now - i64::from(ABANDONED_AFTER_SECONDS) * 1000;
        let ended = sqlx::query(
            "UPDATE allocations SET status = 'failed', reason = 'nobody waits for it any more', ended_at = $1 \
             WHERE scope = $2 AND ended_at IS NULL AND status IN ('requested', 'starting') AND spare = 0 \
             AND NOT EXISTS (SELECT 1 FROM room_requests WHERE room_requests.allocation_id = allocations.allocation_id \
             AND room_requests.polled_at >= $3)",
        )
        .bind(tx.now)
        .bind(&scope)
        .bind(before)
        .execute(&mut *tx.conn)
        .await?;
        if ended.rows_affected() > 0 {
            tracing::info!(
                count = ended.rows_affected(),
                "rooms that nobody waited for any more were given up"
            );
        }
        Ok(())
    }

    async fn start_requested(&mut self, allocation: &StoredAllocation) -> anyhow::Result<()> {
        let mut tx = self.state.database.begin().await?;
        if tx.now >= allocation.deadline {
            let reason = "no host had a place for it in time: all of their servers run";
            records::fail(&mut tx, &allocation.allocation_id, reason).await.map_err(described)?;
            tx.commit().await?;
            self.state.allocation.note_settled(&allocation.allocation_id);
            return Ok(());
        }
        if self.allocator.owned().await?.len() >= self.settings.max_servers {
            return Ok(());
        }
        let host = self.allocator.host();
        let taken = records::take_on(&mut tx, &allocation.allocation_id, host).await.map_err(described)?;
        // Before anything is started: what is started is always found again.
        tx.commit().await?;
        if taken { self.start(allocation).await } else { Ok(()) }
    }

    async fn start(&mut self, allocation: &StoredAllocation) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        match self.allocator.start(allocation_id).await {
            Ok(()) => {
                tracing::info!(allocation_id, "a server is started");
                Ok(())
            }
            Err(StartError::NoCapacity(reason)) => {
                tracing::debug!(allocation_id, "not started yet: {reason}");
                let mut tx = self.state.database.begin().await?;
                records::give_back(&mut tx, allocation_id, self.allocator.host()).await.map_err(described)?;
                Ok(tx.commit().await?)
            }
            Err(StartError::Misconfigured(reason)) => self.fail(allocation, &reason, "").await,
        }
    }

    async fn fail(&mut self, allocation: &StoredAllocation, reason: &str, log: &str) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        let mut tx = self.state.database.begin().await?;
        let shown = if self.settings.log_in_errors && !log.is_empty() {
            format!("{reason}; its last lines:\n{log}")
        } else {
            reason.to_owned()
        };
        let failed = records::fail(&mut tx, allocation_id, &shown).await.map_err(described)?;
        tx.commit().await?;
        if failed {
            if allocation.is_spare {
                // Those that fail at once are not started over and over.
                self.spares_after = Some(Instant::now() + SPARE_RETRY);
            }
            tracing::error!(allocation_id, "a server did not start: {reason}; its last lines:\n{log}");
            self.state.allocation.note_settled(allocation_id);
        }
        Ok(())
    }

    async fn look_at_starting(&mut self, allocation: &StoredAllocation) -> anyhow::Result<()> {
        let now = self.state.database.now().await?;
        let seconds = self.settings.start_timeout.as_secs();
        let late = format!("it did not register within {seconds} s");
        if !self.is_ours(allocation) {
            if now >= allocation.deadline + FOREIGN_TOLERANCE_MS {
                self.fail(allocation, "the host that started it is gone", "").await?;
            }
            return Ok(());
        }
        match self.allocator.look(&allocation.allocation_id).await? {
            Sighting::Ended { reason, log } => self.fail(allocation, &reason, &log).await,
            Sighting::Running if now >= allocation.deadline => {
                let log = self.allocator.last_lines(&allocation.allocation_id);
                self.fail(allocation, &late, &log).await
            }
            Sighting::Running => Ok(()),
            // The backend ended between the two.
            Sighting::Unknown if now >= allocation.deadline => self.fail(allocation, &late, "").await,
            Sighting::Unknown => self.start(allocation).await,
        }
    }

    async fn look_at_ready(&self, allocation: &StoredAllocation) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        let Some(server_id) = &allocation.server_id else { return Ok(()) };
        if self.is_ours(allocation)
            && let Sighting::Ended { reason, log } = self.allocator.look(allocation_id).await?
        {
            return self.end(allocation, server_id, &reason, Some(&log)).await;
        }
        let row = sqlx::query("SELECT lease_until FROM servers WHERE server_id = $1")
            .bind(server_id)
            .fetch_optional(self.state.database.pool())
            .await?;
        let lease_until = row.map(|row| row.try_get::<i64, _>("lease_until")).transpose()?.unwrap_or(0);
        let now = self.state.database.now().await?;
        if lease_until <= now {
            let reason = if lease_until == 0 { "it left the room list" } else { "its lease has expired" };
            return self.end(allocation, server_id, reason, None).await;
        }
        self.look_at_empty(allocation, server_id, now).await
    }

    async fn end(
        &self,
        allocation: &StoredAllocation,
        server_id: &str,
        reason: &str,
        log: Option<&str>,
    ) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        let mut tx = self.state.database.begin().await?;
        if !records::end(&mut tx, allocation_id, reason).await.map_err(described)? {
            return Ok(());
        }
        if log.is_some() {
            records::unlist(&self.state.database, &mut tx, server_id).await.map_err(described)?;
        }
        tx.commit().await?;
        self.state.rooms.rooms_changed();
        let log = log.unwrap_or_default();
        tracing::info!(
            allocation_id,
            server_id,
            "a room has ended: {reason}{}{log}",
            if log.is_empty() { "" } else { "\n" }
        );
        Ok(())
    }

    async fn look_at_empty(
        &self,
        allocation: &StoredAllocation,
        server_id: &str,
        now: i64,
    ) -> anyhow::Result<()> {
        let Some(timeout) = self.settings.empty_timeout.filter(|_| !allocation.is_spare) else {
            return Ok(());
        };
        let due = allocation.empty_since.is_some_and(|since| since + timeout.as_millis() as i64 <= now);
        let mut tx = self.state.database.begin().await?;
        let is_empty =
            records::is_empty(&self.state.database, &mut tx, server_id, due).await.map_err(described)?;
        let allocation_id = &allocation.allocation_id;
        if is_empty && due {
            records::end(&mut tx, allocation_id, "nobody was in the room").await.map_err(described)?;
            tracing::info!(allocation_id, server_id, "a room has ended: nobody was in it");
        } else if is_empty != allocation.empty_since.is_some() {
            sqlx::query("UPDATE allocations SET empty_since = $1 WHERE allocation_id = $2")
                .bind(is_empty.then_some(now))
                .bind(allocation_id)
                .execute(&mut *tx.conn)
                .await?;
        } else {
            return Ok(());
        }
        tx.commit().await?;
        self.state.rooms.rooms_changed();
        Ok(())
    }

    /// Servers of this host that nobody needs any more, also those that an earlier run of the backend has started.
    async fn stop_ended(&self, open: &[StoredAllocation]) -> anyhow::Result<()> {
        let needed: HashSet<&str> = open
            .iter()
            .filter(|allocation| self.is_ours(allocation))
            .map(|allocation| allocation.allocation_id.as_str())
            .collect();
        for allocation_id in self.allocator.owned().await? {
            if !needed.contains(allocation_id.as_str())
                // It may have been taken on since.
                && !self.is_open(&allocation_id).await?
            {
                self.allocator.stop(&allocation_id).await?;
            }
        }
        Ok(())
    }

    async fn is_open(&self, allocation_id: &str) -> anyhow::Result<bool> {
        let row = sqlx::query(
            "SELECT 1 FROM allocations WHERE allocation_id = $1 AND scope = $2 AND ended_at IS NULL",
        )
        .bind(allocation_id)
        .bind(self.state.config.scope())
        .fetch_optional(self.state.database.pool())
        .await?;
        Ok(row.is_some())
    }

    async fn start_spares(&mut self, open: &[StoredAllocation]) -> anyhow::Result<()> {
        let spares: Vec<_> =
            open.iter().filter(|allocation| allocation.is_spare && self.is_ours(allocation)).collect();
        let running = self.allocator.owned().await?.len();
        let missing = self.settings.spare_servers.saturating_sub(spares.len());
        let places = self.settings.max_servers.saturating_sub(running);
        let now = Instant::now();
        if missing.min(places) == 0 || self.spares_after.is_some_and(|after| now < after) {
            return Ok(());
        }
        for _ in 0..missing.min(places) {
            let mut tx = self.state.database.begin().await?;
            let (scope, host) = (self.state.config.scope(), self.allocator.host());
            let allocation_id =
                records::insert_spare(&mut tx, &scope, self.settings, host).await.map_err(described)?;
            tx.commit().await?;
            tracing::info!(allocation_id, "a spare server is started");
            if let Err(error) = self.allocator.start(&allocation_id).await {
                self.spares_after = Some(now + SPARE_RETRY);
                let mut tx = self.state.database.begin().await?;
                records::fail(&mut tx, &allocation_id, &error.to_string()).await.map_err(described)?;
                tx.commit().await?;
                tracing::warn!(allocation_id, "a spare server was not started: {error}");
            }
        }
        Ok(())
    }
}
