//! The task that makes what runs the same as what is stored. Each replica has one, for the servers of its own host; what a host that is
//! gone leaves in the database is ended by whichever replica sees it first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use backend_protocol::rooms::ABANDONED_AFTER_SECONDS;
use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;

use super::records::{self, OpenAllocation, Status, json};
use super::restarts::{Next, Restarts};
use super::settings::AllocationSettings;
use super::{Allocator, CANNOT_BE_STARTED, Sighting, StartError};
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::state::AppState;

/// Time between two looks at the database. A request wakes the task sooner.
const INTERVAL: Duration = Duration::from_millis(200);
/// A host that is there fails its own servers that do not start; its clock may be another one.
const FOREIGN_TOLERANCE_MS: i64 = 15_000;
/// A spare that does not start is followed by the next one after this time.
const SPARE_RETRY: Duration = Duration::from_secs(10);
/// A shorter time without the database is not taken for an outage.
const MIN_OUTAGE: Duration = Duration::from_secs(2);
/// What fails again in the same way is logged again after this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The condition of an allocation for which no request was repeated since `$1`.
const ABANDONED: &str = "ended_at IS NULL AND status IN ('requested', 'starting') AND spare = 0 AND NOT EXISTS \
     (SELECT 1 FROM room_requests WHERE room_requests.allocation_id = allocations.allocation_id AND room_requests.polled_at >= $1)";

/// Runs until the task is aborted.
pub async fn run(state: AppState, allocator: Arc<dyn Allocator>) {
    let Some(settings) = state.allocation.settings() else { return };
    let mut task = Reconciliation {
        state: &state,
        settings,
        allocator,
        restarts: Restarts::default(),
        spares_after: None,
        reached_at: Instant::now(),
        leases_hold_until: None,
    };
    let mut reported = Reported::default();
    loop {
        let _woken = tokio::time::timeout(INTERVAL, state.allocation.requested.notified()).await;
        match task.pass().await {
            Ok(()) => task.reached_at = Instant::now(),
            Err(error) => {
                let failure = format!("{error:#}");
                if reported.is_due(&failure, Instant::now()) {
                    tracing::warn!("rooms on demand: what failed is tried again: {failure}");
                }
            }
        }
    }
}

/// Failures that were logged a short time ago. The task repeats them five times a second.
#[derive(Default)]
struct Reported(HashMap<String, Instant>);

impl Reported {
    fn is_due(&mut self, failure: &str, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < REPORT_INTERVAL);
        let is_due = !self.0.contains_key(failure);
        if is_due {
            self.0.insert(failure.to_owned(), now);
        }
        is_due
    }
}

struct Reconciliation<'a> {
    state: &'a AppState,
    settings: &'a AllocationSettings,
    allocator: Arc<dyn Allocator>,
    restarts: Restarts,
    /// No spare is started before this time.
    spares_after: Option<Instant>,
    /// When the database was reached last.
    reached_at: Instant,
    /// Leases that have expired end no room before this time.
    leases_hold_until: Option<Instant>,
}

fn described(error: crate::http::ApiError) -> anyhow::Error {
    anyhow::anyhow!("{}", error.0.detail)
}

/// What a server has printed, so that no line of it passes for one of the log.
fn quoted(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("\n  | {}", log.replace('\n', "\n  | ")) }
}

impl Reconciliation<'_> {
    /// One that cannot be looked at holds up none of the others. Returns the first error.
    async fn pass(&mut self) -> anyhow::Result<()> {
        let mut tx = self.state.database.begin().await?;
        let now = tx.now;
        let scope = self.state.config.scope();
        self.give_up_abandoned(&mut tx).await.map_err(described)?;
        let open = records::open(&self.state.database, &mut tx, &scope).await.map_err(described)?;
        tx.commit().await?;
        self.note_reached(Instant::now());
        let pending: HashSet<String> = open
            .iter()
            .filter(|one| matches!(one.status, Status::Requested | Status::Starting))
            .map(|one| one.allocation_id.clone())
            .collect();
        self.restarts.keep(|allocation_id| pending.contains(allocation_id));
        self.state.allocation.look_at(pending);
        let mut outcome = Ok(());
        for allocation in &open {
            let looked_at = match allocation.status {
                Status::Requested => self.start_requested(allocation, now).await,
                Status::Starting => self.look_at_starting(allocation, now).await,
                Status::Ready => self.look_at_ready(allocation, now).await,
                Status::Failed | Status::Ended => Ok(()),
            };
            outcome = outcome.and(looked_at.with_context(|| allocation.allocation_id.clone()));
        }
        let stopped = self.stop_ended(&open).await;
        let spares = self.start_spares(&open).await;
        outcome.and(stopped).and(spares)
    }

    /// Notes that the database was reached. While it was not, no heartbeat was stored: after an outage, servers get one lease to send
    /// one, as after a start of the backend.
    fn note_reached(&mut self, now: Instant) {
        let config = &self.state.config;
        let lease = Duration::from_secs(config.lease_seconds.into());
        // A heartbeat may be late by this much.
        let slack = lease.saturating_sub(Duration::from_secs(config.heartbeat_seconds.into()));
        if now.duration_since(self.reached_at) > (slack / 2).max(MIN_OUTAGE) {
            self.leases_hold_until = Some(now + lease);
        }
        self.reached_at = now;
    }

    fn is_ours(&self, allocation: &OpenAllocation) -> bool {
        allocation.host.as_deref() == Some(self.allocator.host())
    }

    /// Requests whose clients are gone, and allocations that nobody waits for any more.
    async fn give_up_abandoned(&self, tx: &mut Transaction) -> ApiResult<()> {
        let scope = self.state.config.scope();
        let before = tx.now - i64::from(ABANDONED_AFTER_SECONDS) * 1000;
        // Whoever joins one holds its row: it is skipped, and a later pass sees them.
        let skip =
            if self.state.database.is_sqlite() { "" } else { " FOR UPDATE OF allocations SKIP LOCKED" };
        let sql = format!("SELECT allocation_id FROM allocations WHERE {ABANDONED} AND scope = $2{skip}");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(before).bind(&scope).fetch_all(&mut *tx.conn).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let found = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<String>>>()?;
        // A statement of its own also sees who has joined before the rows were locked.
        let sql = format!(
            "UPDATE allocations SET status = 'failed', reason = 'nobody waits for it any more', ended_at = $2 \
             WHERE {ABANDONED} AND allocation_id {}",
            self.state.database.is_in("$3")
        );
        let ended = sqlx::query(AssertSqlSafe(sql))
            .bind(before)
            .bind(tx.now)
            .bind(json(&found)?)
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

    async fn start_requested(&mut self, allocation: &OpenAllocation, now: i64) -> anyhow::Result<()> {
        let is_late = now >= allocation.deadline;
        // What was left of an attempt that failed has its place already.
        let others = |owned: Vec<String>| owned.iter().filter(|id| **id != allocation.allocation_id).count();
        if !is_late && others(self.allocator.owned().await?) >= self.settings.max_servers {
            return Ok(());
        }
        let mut tx = self.state.database.begin().await?;
        if is_late {
            let reason = "no host had a place for it in time: all of their servers run, or what starts them does not answer";
            records::fail(&mut tx, &allocation.allocation_id, reason).await.map_err(described)?;
            tx.commit().await?;
            self.state.allocation.note_settled(&allocation.allocation_id);
            return Ok(());
        }
        let host = self.allocator.host();
        let taken = records::take_on(&mut tx, &allocation.allocation_id, host).await.map_err(described)?;
        // Before anything is started: what is started is always found again.
        tx.commit().await?;
        if taken { self.start(allocation).await } else { Ok(()) }
    }

    async fn start(&mut self, allocation: &OpenAllocation) -> anyhow::Result<()> {
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
            // It stays ours until it registers or its time is over.
            Err(StartError::NoAnswer(reason)) => Err(anyhow::anyhow!(reason)),
            Err(StartError::Misconfigured(reason)) => self.fail(allocation, CANNOT_BE_STARTED, &reason).await,
        }
    }

    async fn fail(&mut self, allocation: &OpenAllocation, reason: &str, log: &str) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        let mut tx = self.state.database.begin().await?;
        let shown = if self.settings.log_in_errors && !log.is_empty() {
            format!("{reason}:\n{log}")
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
            tracing::error!(allocation_id, "a server did not start: {reason}{}", quoted(log));
            self.state.allocation.note_settled(allocation_id);
        }
        Ok(())
    }

    async fn look_at_starting(&mut self, allocation: &OpenAllocation, now: i64) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        if !self.is_ours(allocation) {
            if now >= allocation.deadline + FOREIGN_TOLERANCE_MS {
                self.fail(allocation, "the host that started it is gone", "").await?;
            }
            return Ok(());
        }
        match self.allocator.look(allocation_id).await {
            Ok(Sighting::Ended { reason, log }) => self.start_again(allocation, now, &reason, &log).await,
            seen if now >= allocation.deadline => {
                let seconds = self.settings.start_timeout.as_secs();
                let late = format!("it did not register within {seconds} s");
                let log = self.allocator.last_lines(allocation_id).await;
                self.fail(allocation, &late, &log).await?;
                seen.map(drop)
            }
            // The backend ended between the two.
            Ok(Sighting::Unknown) => self.start(allocation).await,
            seen => seen.map(drop),
        }
    }

    /// A server has ended before it registered. Until it is started again, it keeps its place and its port.
    async fn start_again(
        &mut self,
        allocation: &OpenAllocation,
        now: i64,
        reason: &str,
        log: &str,
    ) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        // Spares are followed by others.
        let most = if allocation.is_spare { 1 } else { self.settings.start_attempts };
        let left = Duration::from_millis(u64::try_from(allocation.deadline - now).unwrap_or_default());
        let instant = Instant::now();
        match self.restarts.ended(allocation_id, most, instant, instant + left) {
            Next::Wait => Ok(()),
            Next::Pause(pause) => {
                let log = quoted(log);
                tracing::warn!(allocation_id, "a server is started again in {pause:?}: {reason}{log}");
                Ok(())
            }
            Next::Start => {
                // What is kept of the earlier one is released first.
                self.allocator.stop(allocation_id).await?;
                self.restarts.begin(allocation_id);
                self.start(allocation).await
            }
            Next::Fail { attempts: 1 } => self.fail(allocation, reason, log).await,
            Next::Fail { attempts } => {
                self.fail(allocation, &format!("{reason}, at the last of {attempts} attempts"), log).await
            }
        }
    }

    async fn look_at_ready(&mut self, allocation: &OpenAllocation, now: i64) -> anyhow::Result<()> {
        let Some(server_id) = &allocation.server_id else { return Ok(()) };
        let is_ours = self.is_ours(allocation);
        let seen = if is_ours {
            self.allocator.look(&allocation.allocation_id).await
        } else {
            Ok(Sighting::Unknown)
        };
        if let Ok(Sighting::Ended { reason, log }) = &seen {
            return self.end(allocation, server_id, reason, Some(log)).await;
        }
        let hold =
            allocation.lease_until > 0 && self.leases_hold_until.is_some_and(|until| Instant::now() < until);
        if allocation.lease_until <= now && !hold {
            let reason =
                if allocation.lease_until == 0 { "it left the room list" } else { "its lease has expired" };
            self.end(allocation, server_id, reason, None).await?;
        } else if is_ours {
            self.look_at_empty(allocation, server_id, now).await?;
        }
        seen.map(drop)
    }

    async fn end(
        &mut self,
        allocation: &OpenAllocation,
        server_id: &str,
        reason: &str,
        log: Option<&str>,
    ) -> anyhow::Result<()> {
        let allocation_id = &allocation.allocation_id;
        let database = &self.state.database;
        let mut tx = database.begin().await?;
        if !records::lock_ready(database, &mut tx, allocation_id, server_id).await.map_err(described)? {
            return Ok(());
        }
        records::end(&mut tx, allocation_id, reason).await.map_err(described)?;
        if log.is_some() {
            records::unlist(database, &mut tx, server_id).await.map_err(described)?;
        }
        tx.commit().await?;
        if allocation.is_spare {
            // One that registers and then ends is not started over and over either.
            self.spares_after = Some(Instant::now() + SPARE_RETRY);
        }
        self.state.rooms.rooms_changed();
        let log = quoted(log.unwrap_or_default());
        tracing::info!(allocation_id, server_id, "a room has ended: {reason}{log}");
        Ok(())
    }

    /// Ends a room that was empty long enough. Others change it meanwhile, so that what was seen is looked at again under a lock; as
    /// long as nothing is to be changed, there is none.
    async fn look_at_empty(
        &self,
        allocation: &OpenAllocation,
        server_id: &str,
        now: i64,
    ) -> anyhow::Result<()> {
        let Some(timeout) = self.settings.empty_timeout.filter(|_| !allocation.is_spare) else {
            return Ok(());
        };
        let since = allocation.empty_since;
        let is_due = since.is_some_and(|since| since + timeout.as_millis() as i64 <= now);
        if allocation.is_empty == since.is_some() && !(allocation.is_empty && is_due) {
            return Ok(());
        }
        let (database, allocation_id) = (&self.state.database, &allocation.allocation_id);
        let mut tx = database.begin().await?;
        if !records::lock_ready(database, &mut tx, allocation_id, server_id).await.map_err(described)? {
            return Ok(());
        }
        let is_empty = records::is_empty(database, &mut tx, server_id, is_due).await.map_err(described)?;
        if is_empty && is_due {
            records::end(&mut tx, allocation_id, "nobody was in the room").await.map_err(described)?;
            tx.commit().await?;
            tracing::info!(allocation_id, server_id, "a room has ended: nobody was in it");
            self.state.rooms.rooms_changed();
        } else if is_empty != since.is_some() {
            sqlx::query("UPDATE allocations SET empty_since = $1 WHERE allocation_id = $2")
                .bind(is_empty.then_some(tx.now))
                .bind(allocation_id)
                .execute(&mut *tx.conn)
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Servers of this host that nobody needs any more, also those that an earlier run of the backend has started.
    async fn stop_ended(&self, open: &[OpenAllocation]) -> anyhow::Result<()> {
        let needed: HashSet<&str> = open
            .iter()
            .filter(|allocation| self.is_ours(allocation))
            .map(|allocation| allocation.allocation_id.as_str())
            .collect();
        let mut outcome = Ok(());
        for allocation_id in self.allocator.owned().await? {
            if !needed.contains(allocation_id.as_str()) {
                let stopped = self.stop_unless_open(&allocation_id).await;
                outcome = outcome.and(stopped.with_context(|| allocation_id.clone()));
            }
        }
        outcome
    }

    /// It may have been taken on since.
    async fn stop_unless_open(&self, allocation_id: &str) -> anyhow::Result<()> {
        if self.is_open(allocation_id).await? { Ok(()) } else { self.allocator.stop(allocation_id).await }
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

    async fn start_spares(&mut self, open: &[OpenAllocation]) -> anyhow::Result<()> {
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{REPORT_INTERVAL, Reported};

    #[test]
    fn a_failure_is_logged_once_a_minute() {
        let (mut reported, first) = (Reported::default(), Instant::now());
        assert!(reported.is_due("a", first));
        assert!(reported.is_due("b", first));
        // Also when others came between.
        assert!(!reported.is_due("a", first + REPORT_INTERVAL / 2));
        assert!(reported.is_due("a", first + REPORT_INTERVAL));
        assert!(!reported.is_due("a", first + REPORT_INTERVAL * 3 / 2));
    }

    #[test]
    fn no_line_of_a_server_passes_for_one_of_the_log() {
        let printed = "loading\n2026-01-01T00:00:00Z ERROR forged";
        assert_eq!(super::quoted(printed), "\n  | loading\n  | 2026-01-01T00:00:00Z ERROR forged");
        assert_eq!(super::quoted(""), "");
    }
}
