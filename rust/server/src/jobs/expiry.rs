//! Removes expired rows, by the database's clock, so that replicas need not agree on one.

use sqlx::{AssertSqlSafe, Row};

use crate::accounts::mail::{RESET_MS, VERIFICATION_MS};
use crate::auth::revocations;
use crate::database::Transaction;
use crate::http::idempotency;
use crate::jobs::served;
use crate::player_store::{conflicts, leases};
use crate::rooms::{changes, of_scope, seats};
use crate::state::AppState;

/// A server's row is kept this long after its lease, so that one that comes back keeps its id.
const SERVER_RETENTION_MS: i64 = 24 * 3_600 * 1_000;
/// The clocks of two replicas' connections, and of a database that failed over, may differ by this much.
const CLOCK_TOLERANCE_MS: i64 = 1_000;
/// Players ask for a ticket's outcome this long after it ended, or should have.
const MATCHMAKING_RETENTION_MS: i64 = 15 * 60 * 1_000;
/// Clients repeat a request for a room, and operators look at what became of it, this long after it ended.
const ALLOCATION_RETENTION_MS: i64 = 60 * 60 * 1_000;
/// Conflicts, whose former epochs were and how far they had come, and addresses of logins are remembered this long, for saves
/// that lie in the journal of a server that is down.
const RETENTION_MS: i64 = 90 * 24 * 3_600 * 1_000;

/// One round, but for the worlds' objects.
pub async fn run_once(state: &AppState) -> sqlx::Result<()> {
    let mut tx = state.database.begin().await?;
    let now = tx.now;
    correct_future_times(state, &mut tx).await?;
    conflicts::drop_older(&mut tx, now - RETENTION_MS).await?;
    for (statement, before) in [
        ("DELETE FROM used_tickets WHERE expires_at < $1", now - 60_000),
        ("DELETE FROM refresh_tokens WHERE expires_at < $1", now),
        ("DELETE FROM idempotency_keys WHERE created_at < $1", now - idempotency::RETENTION_MS),
        // One that left still saves and releases the players it holds.
        (
            "DELETE FROM servers WHERE lease_until < $1 AND created_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM player_leases WHERE player_leases.server_id = servers.server_id)",
            now - SERVER_RETENTION_MS,
        ),
        ("DELETE FROM mail_codes WHERE expires_at < $1", now),
        ("DELETE FROM revocations WHERE revoked_at < $1", now - revocations::RETENTION_MS),
        (
            "DELETE FROM sessions WHERE created_at < $1 AND NOT EXISTS \
             (SELECT 1 FROM refresh_tokens WHERE refresh_tokens.session_id = sessions.session_id)",
            now,
        ),
        ("DELETE FROM familiar_addresses WHERE seen_at < $1", now - RETENTION_MS),
        ("DELETE FROM matchmaking_tickets WHERE ended_at < $1", now - MATCHMAKING_RETENTION_MS),
        ("DELETE FROM matchmaking_matches WHERE deadline < $1", now - MATCHMAKING_RETENTION_MS),
        ("DELETE FROM allocations WHERE ended_at < $1", now - ALLOCATION_RETENTION_MS),
        ("DELETE FROM room_requests WHERE polled_at < $1", now - ALLOCATION_RETENTION_MS),
        // Of a matchmaker that is not configured any more.
        ("DELETE FROM matchmaking_tickets WHERE expires_at < $1", now - MATCHMAKING_RETENTION_MS),
        ("DELETE FROM save_conflicts WHERE resolved_at < $1", now - RETENTION_MS),
        ("DELETE FROM former_epochs WHERE ended_at < $1", now - RETENTION_MS),
        ("DELETE FROM former_leases WHERE ended_at < $1", now - RETENTION_MS),
    ] {
        sqlx::query(statement).bind(before).execute(&mut *tx.conn).await?;
    }
    forget_unbound_epochs(&mut tx).await?;
    changes::remove_old(&mut tx).await?;
    changes::remove_expired_seats(&state.database, &mut tx).await?;
    sqlx::query(
        "DELETE FROM matchmaking_players WHERE NOT EXISTS \
         (SELECT 1 FROM matchmaking_tickets WHERE matchmaking_tickets.ticket_id = matchmaking_players.ticket_id)",
    )
    .execute(&mut *tx.conn)
    .await?;
    tx.commit().await
}

/// Shortens what would last longer than if it began now: the clock was set back since, or the setting was changed.
async fn correct_future_times(state: &AppState, tx: &mut Transaction) -> sqlx::Result<()> {
    let now = tx.now;
    let seen =
        sqlx::query("SELECT seen_at FROM clock_seen WHERE id = 1").fetch_optional(&mut *tx.conn).await?;
    let seen = seen.map(|row| row.try_get::<i64, _>("seen_at")).transpose()?;
    let lease_until = leases::lease_until(state, tx);
    let ticket_ms = i64::from(state.config.ticket_seconds) * 1000;
    let refresh_until = now + i64::from(state.config.refresh_token_seconds) * 1000;
    let mut statements = vec![
        ("UPDATE servers SET lease_until = $1 WHERE lease_until > $1", lease_until),
        (
            "UPDATE player_leases SET lease_until = $1 WHERE server_id IS NOT NULL AND lease_until > $1",
            lease_until,
        ),
        ("UPDATE worlds SET lease_until = $1 WHERE server_id IS NOT NULL AND lease_until > $1", lease_until),
    ];
    if seen.is_some_and(|seen| seen > now + CLOCK_TOLERANCE_MS) {
        tracing::warn!(
            back_ms = seen.unwrap_or_default() - now,
            "the database's clock was set back; times that lie ahead of it are corrected"
        );
        statements.extend([
            ("UPDATE player_leases SET wanted_at = $1 WHERE server_id IS NOT NULL AND wanted_at > $1", now),
            ("UPDATE idempotency_keys SET created_at = $1 WHERE created_at > $1", now),
            // A token that was traded may be traded again within a minute.
            ("UPDATE refresh_tokens SET used_at = $1 WHERE used_at > $1", now),
            ("UPDATE refresh_tokens SET expires_at = $1 WHERE expires_at > $1", refresh_until),
            (
                "UPDATE mail_codes SET expires_at = $1 WHERE expires_at > $1 AND purpose = 'reset'",
                now + RESET_MS,
            ),
            ("UPDATE mail_codes SET expires_at = $1 WHERE expires_at > $1", now + VERIFICATION_MS),
            (
                "UPDATE allocations SET deadline = deadline - (created_at - $1), created_at = $1 WHERE created_at > $1",
                now,
            ),
            ("UPDATE allocations SET empty_since = $1 WHERE empty_since > $1", now),
            ("UPDATE allocations SET ended_at = $1 WHERE ended_at > $1", now),
            ("UPDATE room_requests SET polled_at = $1 WHERE polled_at > $1", now),
            ("UPDATE seats SET expires_at = $1 WHERE expires_at > $1", now + ticket_ms + seats::GRACE_MS),
            (
                "UPDATE matchmaking_tickets SET expires_at = expires_at - (created_at - $1), created_at = $1 \
                 WHERE created_at > $1",
                now,
            ),
            ("UPDATE matchmaking_tickets SET matched_at = $1 WHERE matched_at > $1", now),
            ("UPDATE matchmaking_tickets SET ended_at = $1 WHERE ended_at > $1", now),
            (
                "UPDATE matchmaking_matches SET deadline = $1 WHERE deadline > $1",
                now + state.matchmaking.longest_match_ms(),
            ),
            // Not `used_tickets`: a ticket's own times stay ahead of the clock, and it is good again when they are reached.
        ]);
    }
    statements.push((
        "INSERT INTO clock_seen (id, seen_at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        now,
    ));
    for (statement, value) in statements {
        sqlx::query(statement).bind(value).execute(&mut *tx.conn).await?;
    }
    Ok(())
}

/// Takes epochs that a build before migration 17 gave, whose line of keys nobody knows, from everybody who has not used them by now.
async fn forget_unbound_epochs(tx: &mut Transaction) -> sqlx::Result<()> {
    let now = tx.now;
    let row = sqlx::query("SELECT since, done FROM epochs_bound WHERE id = 1");
    let Some(row) = row.fetch_optional(&mut *tx.conn).await? else {
        let first = sqlx::query("INSERT INTO epochs_bound (id, since) VALUES (1, $1) ON CONFLICT DO NOTHING");
        return first.bind(now).execute(&mut *tx.conn).await.map(drop);
    };
    let (since, done): (i64, i64) = (row.try_get("since")?, row.try_get("done")?);
    if done != 0 || (since <= now && since > now - RETENTION_MS) {
        return Ok(());
    }
    if since > now {
        // The clock was set back.
        let corrected = sqlx::query("UPDATE epochs_bound SET since = $1 WHERE id = 1");
        return corrected.bind(now).execute(&mut *tx.conn).await.map(drop);
    }
    for statement in [
        "UPDATE player_leases SET unbound_until = 0 WHERE unbound_until > 0",
        // A hash that no key has.
        "UPDATE player_leases SET key_hash = '' WHERE key_hash IS NULL",
        "UPDATE worlds SET key_hash = '' WHERE key_hash IS NULL",
        "UPDATE epochs_bound SET done = 1 WHERE id = 1",
    ] {
        sqlx::query(statement).execute(&mut *tx.conn).await?;
    }
    Ok(())
}

/// Extends leases after a start. While no backend was there, or none reached the database, no heartbeat was stored: servers that had
/// a lease until then, and the holders of players and worlds, get one lease to send one again.
pub async fn extend_leases_after_start(state: &AppState) -> sqlx::Result<()> {
    let mut tx = state.database.begin().await?;
    let lease_until = leases::lease_until(state, &tx);
    let served_at = served::begin(state, &mut tx).await?.unwrap_or_default();
    let before = served_at.max(tx.now - SERVER_RETENTION_MS);
    // Only those that would have lived had the backend been there: deregistered and released ones are at 0.
    // Backends of other games and environments may have been there all the time.
    let own = of_scope(&state.database, "$3", "$4");
    let held = format!("server_id IN (SELECT server_id FROM servers WHERE {own})");
    for (table, whose) in [("servers", &own), ("player_leases", &held), ("worlds", &held)] {
        let sql = format!(
            "UPDATE {table} SET lease_until = $1 WHERE lease_until > 0 AND lease_until < $1 AND lease_until > $2 AND {whose}"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(lease_until)
            .bind(before)
            .bind(&state.config.game)
            .bind(&state.config.environment)
            .execute(&mut *tx.conn)
            .await?;
    }
    changes::renumber_foreign(&state.database, &mut tx).await?;
    changes::record_revived(&state.database, &mut tx).await?;
    tx.commit().await
}
