//! Allocations as they are stored.
//!
//! ```text
//! requested → starting → ready → ended
//!      └──────────┴→ failed
//! ```
//! Transactions lock an allocation before the server that registered for it.

use backend_protocol::rooms::{RoomOptions, RoomPassword, RoomVisibility};
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::settings::AllocationSettings;
use crate::database::{Database, Transaction};
use crate::digest::sha256;
use crate::http::ApiResult;
use crate::rooms::{changes, invite_codes, seats};

/// How far an allocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// No host has taken it yet.
    Requested,
    /// A host starts it.
    Starting,
    /// Its server has registered.
    Ready,
    /// Its server did not get that far.
    Failed,
    /// Its room is over.
    Ended,
}

impl Status {
    fn of(text: &str) -> Self {
        match text {
            "requested" => Self::Requested,
            "starting" => Self::Starting,
            "ready" => Self::Ready,
            "failed" => Self::Failed,
            _ => Self::Ended,
        }
    }
}

/// An allocation.
#[derive(Debug)]
pub struct StoredAllocation {
    pub allocation_id: String,
    pub status: Status,
    pub is_spare: bool,
    pub creator: Option<String>,
    pub room: RoomOptions,
    pub password_hash: Option<String>,
    pub server_id: Option<String>,
    pub reason: String,
}

/// A column that may be NULL. `Any` tells no NULL from another type by itself.
fn optional(row: &AnyRow, column: &str) -> sqlx::Result<Option<String>> {
    row.try_get::<Option<String>, _>(column)
}

impl StoredAllocation {
    pub fn of(row: &AnyRow) -> ApiResult<Self> {
        let room: String = row.try_get("room")?;
        Ok(Self {
            allocation_id: row.try_get("allocation_id")?,
            status: Status::of(&row.try_get::<String, _>("status")?),
            is_spare: row.try_get::<i64, _>("spare")? != 0,
            creator: optional(row, "creator")?,
            room: serde_json::from_str(&room).map_err(anyhow::Error::from)?,
            password_hash: optional(row, "password_hash")?,
            server_id: optional(row, "server_id")?,
            reason: row.try_get("reason")?,
        })
    }
}

/// A room that is to be created.
pub struct NewRoom<'a> {
    /// The player whose request it is for. None: it is for a match.
    pub creator: Option<&'a str>,
    /// Without its password.
    pub room: &'a RoomOptions,
    pub password_hash: Option<&'a str>,
    pub quick_play_key: Option<&'a str>,
    pub max_players: u32,
}

/// The room as it is stored and as its server receives it.
pub fn redact_password(room: &RoomOptions) -> RoomOptions {
    RoomOptions { password: RoomPassword::default(), ..room.clone() }
}

pub fn json(value: &impl Serialize) -> ApiResult<String> {
    Ok(serde_json::to_string(value).map_err(anyhow::Error::from)?)
}

/// By this, requests that may share a room find each other.
pub fn quick_play_key(request: &impl Serialize) -> ApiResult<String> {
    Ok(sha256(json(request)?.as_bytes()))
}

/// Stores a request for a server. Nothing is started yet.
pub async fn insert(
    tx: &mut Transaction,
    scope: &str,
    settings: &AllocationSettings,
    new: &NewRoom<'_>,
) -> ApiResult<String> {
    let allocation_id = Uuid::now_v7().simple().to_string();
    sqlx::query(
        "INSERT INTO allocations (allocation_id, scope, status, spare, creator, room, password_hash, quick_play_key, \
         max_players, created_at, deadline) VALUES ($1, $2, 'requested', 0, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&allocation_id)
    .bind(scope)
    .bind(new.creator)
    .bind(json(&redact_password(new.room))?)
    .bind(new.password_hash)
    .bind(new.quick_play_key)
    .bind(i64::from(new.max_players))
    .bind(tx.now)
    .bind(tx.now + settings.start_timeout.as_millis() as i64)
    .execute(&mut *tx.conn)
    .await?;
    Ok(allocation_id)
}

/// Stores a spare that `host` is about to start.
pub async fn insert_spare(
    tx: &mut Transaction,
    scope: &str,
    settings: &AllocationSettings,
    host: &str,
) -> ApiResult<String> {
    let allocation_id = Uuid::now_v7().simple().to_string();
    // Until it is somebody's, only its key shows that it is there.
    let room = RoomOptions { visibility: RoomVisibility::Private, ..RoomOptions::default() };
    sqlx::query(
        "INSERT INTO allocations (allocation_id, scope, status, spare, room, max_players, host, created_at, deadline) \
         VALUES ($1, $2, 'starting', 1, $3, $4, $5, $6, $7)",
    )
    .bind(&allocation_id)
    .bind(scope)
    .bind(json(&room)?)
    .bind(i64::from(settings.max_players))
    .bind(host)
    .bind(tx.now)
    .bind(tx.now + settings.start_timeout.as_millis() as i64)
    .execute(&mut *tx.conn)
    .await?;
    Ok(allocation_id)
}

/// The allocation, which nobody else changes until the transaction ends.
pub async fn find_for_update(
    database: &Database,
    tx: &mut Transaction,
    scope: &str,
    allocation_id: &str,
) -> ApiResult<Option<StoredAllocation>> {
    let sql =
        format!("SELECT * FROM allocations WHERE allocation_id = $1 AND scope = $2{}", database.for_update());
    let row =
        sqlx::query(AssertSqlSafe(sql)).bind(allocation_id).bind(scope).fetch_optional(&mut *tx.conn).await?;
    row.map(|row| StoredAllocation::of(&row)).transpose()
}

/// An allocation that has not ended, as far as it concerns the task that starts servers. Not the room: a replica of a newer version may
/// have stored one that this one cannot read.
pub struct OpenAllocation {
    pub allocation_id: String,
    pub status: Status,
    pub is_spare: bool,
    pub host: Option<String>,
    pub server_id: Option<String>,
    pub deadline: i64,
    pub empty_since: Option<i64>,
    /// Until when its server is on the list. 0: it is not.
    pub lease_until: i64,
    /// Nobody is in the room or on the way to it.
    pub is_empty: bool,
}

/// All allocations that have not ended.
pub async fn open(database: &Database, tx: &mut Transaction, scope: &str) -> ApiResult<Vec<OpenAllocation>> {
    let sql = format!(
        "SELECT allocations.allocation_id, allocations.status, spare, host, allocations.server_id, deadline, empty_since, \
         COALESCE(servers.lease_until, 0) AS lease_until, \
         CAST(CASE WHEN servers.players = 0 AND {} = 0 THEN 1 ELSE 0 END AS BIGINT) AS is_empty \
         FROM allocations LEFT JOIN servers ON servers.server_id = allocations.server_id \
         WHERE allocations.scope = $1 AND ended_at IS NULL ORDER BY allocations.created_at, allocation_id",
        seats::reserved(database)
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(scope).fetch_all(&mut *tx.conn).await?;
    let read = |row: &AnyRow| {
        Ok(OpenAllocation {
            allocation_id: row.try_get("allocation_id")?,
            status: Status::of(&row.try_get::<String, _>("status")?),
            is_spare: row.try_get::<i64, _>("spare")? != 0,
            host: optional(row, "host")?,
            server_id: optional(row, "server_id")?,
            deadline: row.try_get("deadline")?,
            empty_since: row.try_get("empty_since")?,
            lease_until: row.try_get("lease_until")?,
            is_empty: row.try_get::<i64, _>("is_empty")? != 0,
        })
    };
    rows.iter().map(read).collect()
}

/// Whether the allocation is ready, with this server. If so, nobody else changes it until the transaction ends.
pub async fn lock_ready(
    database: &Database,
    tx: &mut Transaction,
    allocation_id: &str,
    server_id: &str,
) -> ApiResult<bool> {
    let sql = format!(
        "SELECT 1 FROM allocations WHERE allocation_id = $1 AND server_id = $2 AND status = 'ready'{}",
        database.for_update()
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(allocation_id).bind(server_id);
    Ok(query.fetch_optional(&mut *tx.conn).await?.is_some())
}

/// The host takes a request on. Another one may have been faster.
pub async fn take_on(tx: &mut Transaction, allocation_id: &str, host: &str) -> ApiResult<bool> {
    let taken = sqlx::query(
        "UPDATE allocations SET status = 'starting', host = $1 WHERE allocation_id = $2 AND status = 'requested'",
    )
    .bind(host)
    .bind(allocation_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// The host has no place for it after all.
pub async fn give_back(tx: &mut Transaction, allocation_id: &str, host: &str) -> ApiResult<()> {
    sqlx::query(
        "UPDATE allocations SET status = 'requested', host = NULL WHERE allocation_id = $1 AND host = $2 \
         AND status = 'starting' AND spare = 0",
    )
    .bind(allocation_id)
    .bind(host)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// The server did not get as far as to register, and never does.
pub async fn fail(tx: &mut Transaction, allocation_id: &str, reason: &str) -> ApiResult<bool> {
    let failed = sqlx::query(
        "UPDATE allocations SET status = 'failed', reason = $1, ended_at = $2 WHERE allocation_id = $3 \
         AND status IN ('requested', 'starting')",
    )
    .bind(reason)
    .bind(tx.now)
    .bind(allocation_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(failed.rows_affected() > 0)
}

/// The room is over. Its server, if it runs, is about to be stopped.
pub async fn end(tx: &mut Transaction, allocation_id: &str, reason: &str) -> ApiResult<bool> {
    let ended = sqlx::query(
        "UPDATE allocations SET status = 'ended', reason = $1, ended_at = $2 WHERE allocation_id = $3 \
         AND status = 'ready'",
    )
    .bind(reason)
    .bind(tx.now)
    .bind(allocation_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// A server that is not there any more leaves the list. What it holds of players and worlds stays its own until the leases of
/// these expire: its journal may have saves that were not sent.
pub async fn unlist(database: &Database, tx: &mut Transaction, server_id: &str) -> ApiResult<()> {
    sqlx::query("UPDATE servers SET lease_until = 0 WHERE server_id = $1 AND lease_until > 0")
        .bind(server_id)
        .execute(&mut *tx.conn)
        .await?;
    invite_codes::remove(tx, server_id).await?;
    seats::end_all(database, tx, server_id).await?;
    changes::record(database, tx, &[server_id.to_owned()]).await?;
    Ok(())
}

/// Whether a room has neither players nor anybody on the way to it. It takes none any more from then on if `close`.
pub async fn is_empty(
    database: &Database,
    tx: &mut Transaction,
    server_id: &str,
    close: bool,
) -> ApiResult<bool> {
    let sql = format!(
        "SELECT players, {} AS reserved FROM servers WHERE server_id = $1{}",
        seats::reserved(database),
        database.for_update()
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(server_id).fetch_optional(&mut *tx.conn).await?;
    let Some(row) = row else { return Ok(true) };
    let is_empty = row.try_get::<i64, _>("players")? == 0 && row.try_get::<i64, _>("reserved")? == 0;
    if is_empty && close {
        sqlx::query("UPDATE servers SET status = 'draining' WHERE server_id = $1")
            .bind(server_id)
            .execute(&mut *tx.conn)
            .await?;
        changes::record(database, tx, &[server_id.to_owned()]).await?;
    }
    Ok(is_empty)
}
