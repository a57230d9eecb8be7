//! The order of changes to rooms, by which lists are followed.
//!
//! Each change of what lists show is recorded in the transaction that makes it, under a number that grows. A position is a
//! number below which all changes are there to be read: whoever has read a position goes on with the changes from it on, and
//! misses none. On SQLite, which has one writer, the numbers are in the order of the commits. On PostgreSQL they are ids of
//! transactions, and a position is the oldest one that may still be running: a change from it on may be read twice.

use sqlx::{AssertSqlSafe, Row};

use super::{live_rooms, of_scope};
use crate::database::{Database, Transaction};
use crate::state::AppState;

/// A room that is gone is remembered this long.
pub const RETENTION_MS: i64 = 60 * 60 * 1_000;
/// Most rooms whose expiry is recorded in one transaction.
const MAX_EXPIRED: i64 = 1_000;

/// The number of the changes that a transaction makes.
const fn next_change(database: &Database) -> &'static str {
    if database.is_sqlite() {
        "(SELECT COALESCE(MAX(change), 0) + 1 FROM room_changes)"
    } else {
        "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"
    }
}

/// The position up to which everything can be read now.
pub async fn position(database: &Database) -> sqlx::Result<i64> {
    let sql = if database.is_sqlite() {
        "SELECT COALESCE(MAX(change), 0) + 1 FROM room_changes"
    } else {
        "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)"
    };
    sqlx::query(sql).fetch_one(database.pool()).await?.try_get(0)
}

/// Records that lists show these rooms differently from now on. Called last in a transaction, once. A room that was never public
/// leaves no trace.
pub async fn record(database: &Database, tx: &mut Transaction, room_ids: &[String]) -> sqlx::Result<()> {
    if room_ids.is_empty() {
        return Ok(());
    }
    let room_ids = serde_json::to_string(room_ids).unwrap_or_default();
    lock(database, tx, &room_ids).await?;
    // In one order, so that no two transactions wait for each other.
    let sql = format!(
        "INSERT INTO room_changes (room_id, key_hash, change, changed_at, listed) \
         SELECT server_id, key_hash, {}, $1, CASE WHEN visibility = 'public' AND lease_until > $1 THEN 1 ELSE 0 END \
         FROM servers WHERE server_id {} AND (visibility = 'public' OR EXISTS \
         (SELECT 1 FROM room_changes known WHERE known.room_id = server_id AND known.listed = 1)) ORDER BY server_id \
         ON CONFLICT (room_id) DO UPDATE SET change = excluded.change, changed_at = excluded.changed_at, listed = excluded.listed",
        next_change(database),
        database.is_in("$2"),
    );
    sqlx::query(AssertSqlSafe(sql)).bind(tx.now).bind(room_ids).execute(&mut *tx.conn).await?;
    Ok(())
}

/// Locks what is recorded of rooms, which are a list as JSON, in the order of their ids. A statement after this one sees what the
/// transactions have done that had recorded them before; one that had to wait itself would record the rooms as they were.
async fn lock(database: &Database, tx: &mut Transaction, room_ids: &str) -> sqlx::Result<()> {
    // SQLite has one writer.
    if !database.is_sqlite() {
        let sql = format!(
            "SELECT room_id FROM room_changes WHERE room_id {} ORDER BY room_id FOR UPDATE",
            database.is_in("$1")
        );
        sqlx::query(AssertSqlSafe(sql)).bind(room_ids).fetch_all(&mut *tx.conn).await?;
    }
    Ok(())
}

/// Records the rooms whose leases and seats have ended by themselves. Returns whether there may be more.
pub async fn record_expired(database: &Database) -> sqlx::Result<bool> {
    let expired_rooms = format!(
        "SELECT room_id FROM room_changes LEFT JOIN servers ON server_id = room_id \
         WHERE listed = 1 AND (server_id IS NULL OR lease_until <= {}) ORDER BY room_id LIMIT $1",
        database.clock()
    );
    let rows = sqlx::query(AssertSqlSafe(expired_rooms)).bind(MAX_EXPIRED).fetch_all(database.pool()).await?;
    let room_ids = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<String>>>()?;
    if !room_ids.is_empty() {
        let ids = serde_json::to_string(&room_ids).unwrap_or_default();
        let mut tx = database.begin().await?;
        // A room that comes back at this moment is seen by the next statement, or recorded after it.
        lock(database, &mut tx, &ids).await?;
        let sql = format!(
            "UPDATE room_changes SET change = {}, changed_at = $1, listed = 0 WHERE listed = 1 AND room_id {} \
             AND NOT EXISTS (SELECT 1 FROM servers WHERE server_id = room_id AND lease_until > $1)",
            next_change(database),
            database.is_in("$2"),
        );
        sqlx::query(AssertSqlSafe(sql)).bind(tx.now).bind(ids).execute(&mut *tx.conn).await?;
        tx.commit().await?;
    }
    let expired_seats = format!("SELECT 1 FROM seats WHERE expires_at <= {} LIMIT 1", database.clock());
    if sqlx::query(AssertSqlSafe(expired_seats)).fetch_optional(database.pool()).await?.is_some() {
        let mut tx = database.begin().await?;
        remove_expired_seats(database, &mut tx).await?;
        tx.commit().await?;
    }
    Ok(i64::try_from(room_ids.len()).unwrap_or(MAX_EXPIRED) >= MAX_EXPIRED)
}

/// Removes seats whose tickets have expired. Lists count them no more since then. One that another transaction is about to end is
/// left to it, or to the next time.
pub async fn remove_expired_seats(database: &Database, tx: &mut Transaction) -> sqlx::Result<()> {
    let skip = if database.is_sqlite() { "" } else { " FOR UPDATE SKIP LOCKED" };
    let sql = format!(
        "DELETE FROM seats WHERE seat_id IN (SELECT seat_id FROM seats WHERE expires_at <= $1{skip}) RETURNING server_id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(tx.now).fetch_all(&mut *tx.conn).await?;
    let mut room_ids = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<String>>>()?;
    room_ids.sort_unstable();
    room_ids.dedup();
    record(database, tx, &room_ids).await
}

/// Records the rooms that have a lease again without having sent a heartbeat.
pub async fn record_revived(database: &Database, tx: &mut Transaction) -> sqlx::Result<()> {
    let rows = sqlx::query(
        "SELECT server_id FROM servers JOIN room_changes ON room_id = server_id \
         WHERE listed = 0 AND lease_until > $1 AND visibility = 'public'",
    )
    .bind(tx.now)
    .fetch_all(&mut *tx.conn)
    .await?;
    let room_ids = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<String>>>()?;
    record(database, tx, &room_ids).await
}

/// Removes the memory of rooms that are long gone. Never the last change, from which numbers go on.
pub async fn remove_old(tx: &mut Transaction) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM room_changes WHERE listed = 0 AND changed_at < $1 AND change < (SELECT MAX(change) FROM room_changes)",
    )
    .bind(tx.now - RETENTION_MS)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Gives changes a number of this database that were recorded in another one, from which it was copied: ids of transactions
/// begin anew there.
pub async fn renumber_foreign(database: &Database, tx: &mut Transaction) -> sqlx::Result<()> {
    if database.is_sqlite() {
        return Ok(());
    }
    let next = next_change(database);
    let sql = format!("UPDATE room_changes SET change = {next} WHERE change > {next}");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx.conn).await?;
    Ok(())
}

/// A recorded change of a room.
pub struct Change {
    pub room_id: String,
    pub number: i64,
}

/// The changes of this game from a position on, of each room the last.
pub async fn since(state: &AppState, position: i64) -> sqlx::Result<Vec<Change>> {
    let sql = format!(
        "SELECT room_id, change FROM room_changes WHERE change >= $1 AND {}",
        of_scope(&state.database, "$2", "$3")
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(position)
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .fetch_all(state.database.pool())
        .await?;
    rows.iter()
        .map(|row| Ok(Change { room_id: row.try_get("room_id")?, number: row.try_get("change")? }))
        .collect()
}

/// The condition that a room is on the list of all, as it is recorded. Of a lease that ends by itself, the end is a change like any
/// other: not the clock, but its record takes the room off the list.
pub fn listed(database: &Database) -> String {
    format!(
        "(listed = 1 AND lease_until > 0 OR {}) AND visibility = 'public' AND status <> 'unhealthy'",
        live_rooms(database)
    )
}

#[cfg(test)]
mod tests;
