//! The task that forms matches: on each replica, of which one at a time has the lease of a matchmaker.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use backend_matchmaking::{Match, Player, Pool, Ticket, Work};
use backend_protocol::matchmaking::MatchmakingStatus;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::settings::Matchmaker;
use super::{bots, placement, proposals, tickets};
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// A replica that stops is followed by another after this time.
const LEASE_MS: i64 = 5_000;
/// Texts of former tickets that a pool may hold before it is made anew.
const MAX_FORMER_TEXTS: usize = 100_000;

/// Runs until the task is aborted.
pub async fn run(state: AppState) {
    if state.matchmaking.matchmakers.is_empty() {
        return;
    }
    let holder = Uuid::new_v4().to_string();
    let matchmakers = &state.matchmaking.matchmakers;
    let mut pools: Vec<Option<Pool>> = matchmakers.iter().map(|_matchmaker| None).collect();
    let mut seed = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(state.matchmaking.interval_ms)).await;
        for (matchmaker, pool) in matchmakers.iter().zip(&mut pools) {
            seed += 1;
            if let Err(error) = pass(&state, matchmaker, &holder, pool, seed).await {
                *pool = None;
                let (code, detail) = (error.0.code.as_str(), &error.0.detail);
                tracing::warn!(
                    matchmaker = matchmaker.name,
                    code,
                    detail,
                    "no matches were formed; the next pass follows"
                );
            }
        }
    }
}

async fn pass(
    state: &AppState,
    matchmaker: &Matchmaker,
    holder: &str,
    pool: &mut Option<Pool>,
    seed: u64,
) -> ApiResult<()> {
    if !has_open_tickets(state, matchmaker).await? {
        return Ok(());
    }
    let mut tx = state.database.begin().await?;
    if !take_lease(state, &mut tx, matchmaker, holder).await? {
        *pool = None;
        return Ok(());
    }
    time_out(state, &mut tx, matchmaker).await?;
    proposals::advance(state, &mut tx, matchmaker).await?;
    let now = tx.now;
    tx.commit().await?;
    placement::place_matches(state, matchmaker).await?;
    let waiting = fill(state, matchmaker, pool.take()).await?;
    if waiting.is_empty() {
        *pool = Some(waiting);
        return Ok(());
    }
    let formed = tokio::task::spawn_blocking(move || {
        let pass = waiting.form_matches(now, seed, Work::default());
        (waiting, pass)
    });
    let (mut waiting, pass) = formed.await.context("the matchmaker ended early").map_err(ApiError::from)?;
    metrics::counter!("backend_matchmaking_matches_total", "matchmaker" => matchmaker.name.clone())
        .increment(pass.matches.len() as u64);
    let mut matches = pass.matches;
    if matches.is_empty() {
        matches.extend(bots::fill_up(state, matchmaker, &mut waiting, now).await?);
    }
    if !matches.is_empty() {
        let mut tx = state.database.begin().await?;
        // Another replica may have taken over since.
        if !take_lease(state, &mut tx, matchmaker, holder).await? {
            return Ok(());
        }
        for formed in &matches {
            propose(state, &mut tx, matchmaker, formed).await?;
            for ticket in &formed.tickets {
                waiting.remove(ticket);
            }
        }
        tx.commit().await?;
        if !matchmaker.acceptance_required {
            placement::place_matches(state, matchmaker).await?;
        }
    }
    *pool = Some(waiting);
    Ok(())
}

/// Whether there is anything to do. A backend whose players are elsewhere writes nothing.
async fn has_open_tickets(state: &AppState, matchmaker: &Matchmaker) -> sqlx::Result<bool> {
    let row = sqlx::query(
        "SELECT ticket_id FROM matchmaking_tickets WHERE scope = $1 AND matchmaker = $2 AND ended_at IS NULL LIMIT 1",
    )
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .fetch_optional(state.database.pool())
    .await?;
    Ok(row.is_some())
}

/// Whether this replica forms the matches: by compare and swap, and the database's clock. The row stays locked until the
/// transaction ends.
async fn take_lease(
    state: &AppState,
    tx: &mut Transaction,
    matchmaker: &Matchmaker,
    holder: &str,
) -> sqlx::Result<bool> {
    let queue = format!("{}/{}", state.config.scope(), matchmaker.name);
    let taken = sqlx::query(
        "INSERT INTO matchmaking_leases (queue, holder, lease_until) VALUES ($1, $2, $3) \
         ON CONFLICT (queue) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until \
         WHERE matchmaking_leases.holder = excluded.holder OR matchmaking_leases.lease_until < $4 \
         OR matchmaking_leases.lease_until > $5",
    )
    .bind(queue)
    .bind(holder)
    .bind(tx.now + LEASE_MS)
    .bind(tx.now)
    // The clock was set back.
    .bind(tx.now + 2 * LEASE_MS)
    .execute(&mut *tx.conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Ends tickets that waited too long.
async fn time_out(state: &AppState, tx: &mut Transaction, matchmaker: &Matchmaker) -> ApiResult<()> {
    let lock = state.database.for_update();
    let sql = format!(
        "SELECT ticket_id FROM matchmaking_tickets WHERE scope = $1 AND matchmaker = $2 AND ended_at IS NULL \
         AND status IN ('queued', 'searching') AND expires_at <= $3 ORDER BY ticket_id{lock}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(state.config.scope())
        .bind(&matchmaker.name)
        .bind(tx.now)
        .fetch_all(&mut *tx.conn)
        .await?;
    for row in rows {
        let ticket_id: String = row.try_get("ticket_id")?;
        tickets::end(tx, &ticket_id, MatchmakingStatus::TimedOut, "timed_out").await?;
    }
    Ok(())
}

/// The pool with the tickets that wait now.
async fn fill(state: &AppState, matchmaker: &Matchmaker, pool: Option<Pool>) -> ApiResult<Pool> {
    let fresh = || Pool::new(Arc::clone(&matchmaker.rule_set));
    let mut pool =
        pool.filter(|pool| pool.text_count() < MAX_FORMER_TEXTS + 50 * pool.len()).unwrap_or_else(fresh);
    let rows = sqlx::query(
        "SELECT ticket_id FROM matchmaking_tickets \
         WHERE scope = $1 AND matchmaker = $2 AND status = 'searching' AND ended_at IS NULL",
    )
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .fetch_all(state.database.pool())
    .await?;
    let searching: HashSet<String> =
        rows.iter().map(|row| row.try_get("ticket_id")).collect::<sqlx::Result<_>>()?;
    let gone: Vec<String> = pool.ids().filter(|id| !searching.contains(*id)).map(str::to_owned).collect();
    for ticket_id in gone {
        pool.remove(&ticket_id);
    }
    let new: Vec<&String> = searching.iter().filter(|id| !pool.contains(id)).collect();
    if new.is_empty() {
        return Ok(pool);
    }
    let sql = format!(
        "SELECT ticket_id, players, backfill_server_id, created_at FROM matchmaking_tickets WHERE ticket_id {} \
         ORDER BY created_at, ticket_id",
        state.database.is_in("$1")
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(serde_json::to_string(&new).map_err(anyhow::Error::from)?)
        .fetch_all(state.database.pool())
        .await?;
    for row in rows {
        let players: String = row.try_get("players")?;
        let players: Vec<Player> = serde_json::from_str(&players).map_err(anyhow::Error::from)?;
        let backfill: Option<String> = row.try_get("backfill_server_id")?;
        let id: String = row.try_get("ticket_id")?;
        let ticket =
            Ticket { id, created_at_ms: row.try_get("created_at")?, players, backfill: backfill.is_some() };
        if let Err(error) = pool.add(&ticket) {
            // The rule set was changed since the ticket was made.
            tracing::info!(ticket_id = ticket.id, %error, "a ticket does not fit the rule set any more");
            let mut tx = state.database.begin().await?;
            tickets::end(&mut tx, &ticket.id, MatchmakingStatus::Failed, "invalid").await?;
            tx.commit().await?;
        }
    }
    Ok(pool)
}

/// Stores a match, unless one of its tickets was cancelled meanwhile.
async fn propose(
    state: &AppState,
    tx: &mut Transaction,
    matchmaker: &Matchmaker,
    formed: &Match,
) -> ApiResult<()> {
    let lock = state.database.for_update();
    let sql = format!(
        "SELECT ticket_id FROM matchmaking_tickets WHERE ticket_id {} AND status = 'searching' AND ended_at IS NULL \
         ORDER BY ticket_id{lock}",
        state.database.is_in("$1")
    );
    let ids = serde_json::to_string(&formed.tickets).map_err(anyhow::Error::from)?;
    let found = sqlx::query(AssertSqlSafe(sql)).bind(&ids).fetch_all(&mut *tx.conn).await?;
    if found.len() != formed.tickets.len() {
        return Ok(());
    }
    let match_id = Uuid::now_v7().to_string();
    let (status, timeout) = if matchmaker.acceptance_required {
        ("requires_acceptance", matchmaker.acceptance_timeout_ms())
    } else {
        ("placing", matchmaker.placement_timeout_ms())
    };
    sqlx::query(
        "INSERT INTO matchmaking_matches (match_id, scope, matchmaker, status, details, tickets, seats, deadline) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&match_id)
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .bind(status)
    .bind(serde_json::to_string(formed).map_err(anyhow::Error::from)?)
    .bind(formed.tickets.len() as i64)
    .bind(formed.players.len() as i64 + i64::from(matchmaker.additional_player_count))
    .bind(tx.now + timeout)
    .execute(&mut *tx.conn)
    .await?;
    let sql = format!(
        "UPDATE matchmaking_tickets SET status = $2, match_id = $3, matched_at = $4 WHERE ticket_id {}",
        state.database.is_in("$1")
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(&ids)
        .bind(status)
        .bind(&match_id)
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
