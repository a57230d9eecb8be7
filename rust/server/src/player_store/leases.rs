//! Leases on players: the holder, the end, and the server that waits.
//!
//! Rows of several players are always locked in the order of their ids, so that two requests cannot wait for each other.

use axum::Json;
use axum::extract::State;
use backend_protocol::player_store::{HeldPlayer, ReleasePlayer, ReleasePlayers, ReleasedPlayers};
use backend_protocol::{Code, Problem};
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use crate::auth::extractors::ServerAuth;
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::player_store::epochs::{self, Subject};
use crate::state::AppState;

/// A waiting server repeats its request; one that has not for this long has given up.
const HANDOVER_REQUEST_MS: i64 = 10_000;

/// Refuses a server id that is not one of this key's. Its place in the registry may be lost: what it saves is still due.
pub async fn require_own_server(tx: &mut Transaction, server: &ServerAuth, server_id: &str) -> ApiResult<()> {
    sqlx::query("SELECT server_id FROM servers WHERE server_id = $1 AND key_hash = $2")
        .bind(server_id)
        .bind(&server.key_hash)
        .fetch_optional(&mut *tx.conn)
        .await?
        .map(drop)
        .ok_or_else(|| {
            ApiError::new(Code::ServerUnknown, "no server of this key has this id; register first")
        })
}

/// [`require_own_server`], for who takes something over: only a server that is listed may, and it stays so until `tx` ends. What comes
/// late of one that left, or was forgotten, gives it nothing.
pub async fn require_listed_server(
    state: &AppState,
    tx: &mut Transaction,
    server: &ServerAuth,
    server_id: &str,
) -> ApiResult<()> {
    let share = if state.database.is_sqlite() { "" } else { " FOR SHARE" };
    let sql = format!("SELECT lease_until FROM servers WHERE server_id = $1 AND key_hash = $2{share}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(server_id)
        .bind(&server.key_hash)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let listed = row.map(|row| row.try_get::<i64, _>("lease_until")).transpose()?;
    if listed.is_some_and(|until| until > tx.now) {
        return Ok(());
    }
    Err(ApiError::new(Code::ServerUnknown, "the server is not listed (any more); register first"))
}

/// When a lease ends that is given or renewed by `tx`.
pub fn lease_until(state: &AppState, tx: &Transaction) -> i64 {
    tx.now + i64::from(state.config.lease_seconds) * 1000
}

/// What became of a request for a player.
pub enum Acquisition {
    /// The requesting server holds the player.
    Granted {
        /// Epoch of the lease.
        epoch: i64,
        /// The former holder, if its lease had run out and was not given back.
        taken_from: Option<String>,
    },
    /// Another server does. The reply to its next heartbeat requests the player.
    Held(HeldPlayer),
    /// There is no such player.
    NoSuchPlayer,
}

/// The server that requests players.
pub struct Acquirer<'a> {
    pub state: &'a AppState,
    /// The line of keys that a new lease belongs to.
    pub key_hash: &'a str,
    pub server_id: &'a str,
    /// When a lease that is given or renewed ends.
    pub until: i64,
}

/// Makes the acquirer the holder if there is none, it is already, or the holder's lease has run out.
pub async fn acquire(
    tx: &mut Transaction,
    acquirer: &Acquirer<'_>,
    player_id: &str,
) -> ApiResult<Acquisition> {
    let Acquirer { state, key_hash, server_id, until } = *acquirer;
    let subject = Subject::Player(player_id);
    let fresh = state.epochs.at(&subject, key_hash, tx.now);
    let given = sqlx::query(
        "INSERT INTO player_leases (player_id, server_id, key_hash, epoch, lease_until) \
         SELECT player_id, $2, $5, $6, $3 FROM players WHERE player_id = $1 AND (scope = $7 OR scope IS NULL) \
         ON CONFLICT (player_id) DO UPDATE SET \
         former_epoch = CASE WHEN player_leases.server_id = excluded.server_id THEN 0 ELSE player_leases.epoch END, \
         former_key_hash = player_leases.key_hash, \
         epoch = CASE WHEN player_leases.server_id = excluded.server_id THEN player_leases.epoch \
         WHEN player_leases.epoch < excluded.epoch THEN excluded.epoch ELSE player_leases.epoch + 1 END, \
         taken_from = CASE WHEN player_leases.server_id = excluded.server_id THEN NULL ELSE player_leases.server_id END, \
         server_id = excluded.server_id, key_hash = excluded.key_hash, lease_until = excluded.lease_until, \
         wanted_by = NULL, wanted_at = NULL \
         WHERE player_leases.server_id IS NULL OR player_leases.server_id = excluded.server_id \
         OR player_leases.lease_until <= $4 \
         RETURNING epoch, taken_from, former_epoch, former_key_hash",
    )
    .bind(player_id)
    .bind(server_id)
    .bind(until)
    .bind(tx.now)
    .bind(key_hash)
    .bind(fresh)
    .bind(state.config.scope())
    .fetch_optional(&mut *tx.conn)
    .await?;
    if let Some(row) = given {
        let mut epoch: i64 = row.try_get("epoch")?;
        let former: i64 = row.try_get("former_epoch")?;
        if former > 0 {
            if let Some(owner) = row.try_get::<Option<String>, _>("former_key_hash")? {
                record_former_epoch(tx, player_id, former, &owner).await?;
            }
            if epoch != fresh {
                // The clock was set back, or the former lease is not a millisecond old.
                epoch = state.epochs.after(&subject, key_hash, former);
                sqlx::query("UPDATE player_leases SET epoch = $1 WHERE player_id = $2")
                    .bind(epoch)
                    .bind(player_id)
                    .execute(&mut *tx.conn)
                    .await?;
            }
        }
        return Ok(Acquisition::Granted { epoch, taken_from: row.try_get("taken_from")? });
    }
    let held = sqlx::query(
        "UPDATE player_leases SET wanted_by = $2, wanted_at = $3, \
         lease_until = CASE WHEN lease_until > $5 THEN $5 ELSE lease_until END WHERE player_id = $1 AND EXISTS \
         (SELECT 1 FROM players p WHERE p.player_id = $1 AND (p.scope = $4 OR p.scope IS NULL)) \
         RETURNING server_id, lease_until",
    )
    .bind(player_id)
    .bind(server_id)
    .bind(tx.now)
    .bind(state.config.scope())
    // The clock may have been set back since: from the first that waits on, the lease lasts no longer than one given now.
    .bind(until)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = held else { return Ok(Acquisition::NoSuchPlayer) };
    let ends: i64 = row.try_get("lease_until")?;
    Ok(Acquisition::Held(HeldPlayer {
        player_id: player_id.to_owned(),
        server_id: row.try_get("server_id")?,
        expires_in_ms: ends - tx.now,
    }))
}

/// Notes whose an epoch was that is over.
async fn record_former_epoch(
    tx: &mut Transaction,
    player_id: &str,
    epoch: i64,
    key_hash: &str,
) -> ApiResult<()> {
    sqlx::query(
        "INSERT INTO former_leases (player_id, epoch, key_hash, ended_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(player_id)
    .bind(epoch)
    .bind(key_hash)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// What an epoch is to a line of keys that saves under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochStatus {
    /// There is no such player.
    NoPlayer,
    /// The epoch was never given to this line of keys.
    Foreign,
    /// The player's lease has this epoch, and is this line's.
    Current,
    /// The epoch was this line's, and is over.
    Former,
    /// The epoch is over. An earlier build gave it, and did not note to whom: it may have been this line's.
    Unbound,
    /// The epoch was this line's, by its seal, and the database has never seen it, or not for 90 days: it went back.
    Unrecorded,
}

/// What `epoch` of a player is to the line of keys `key_hash`.
pub async fn epoch_status(
    state: &AppState,
    tx: &mut Transaction,
    key_hash: &str,
    player_id: &str,
    epoch: i64,
) -> ApiResult<EpochStatus> {
    let row = sqlx::query(
        "SELECT l.epoch, l.key_hash, l.unbound_until, f.key_hash AS former_key_hash FROM players p \
         LEFT JOIN player_leases l ON l.player_id = p.player_id \
         LEFT JOIN former_leases f ON f.player_id = p.player_id AND f.epoch = $2 \
         WHERE p.player_id = $1 AND (p.scope = $3 OR p.scope IS NULL)",
    )
    .bind(player_id)
    .bind(epoch)
    .bind(state.config.scope())
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else { return Ok(EpochStatus::NoPlayer) };
    let owner = |column: &str| row.try_get::<Option<String>, _>(column);
    if row.try_get::<Option<i64>, _>("epoch")? == Some(epoch) {
        let ours = owner("key_hash")?.is_none_or(|owner| owner == key_hash);
        return Ok(if ours { EpochStatus::Current } else { EpochStatus::Foreign });
    }
    let subject = Subject::Player(player_id);
    let is_sealed = || {
        let is_right = || state.epochs.is_sealed_for(&subject, key_hash, epoch, tx.now);
        epochs::may_have_seal(epoch, tx.now) && state.rate_limits.verify_epoch(key_hash, player_id, is_right)
    };
    Ok(match owner("former_key_hash")? {
        Some(owner) if owner == key_hash => EpochStatus::Former,
        None if row.try_get::<Option<i64>, _>("unbound_until")?.is_some_and(|last| epoch <= last) => {
            EpochStatus::Unbound
        }
        None if is_sealed() => EpochStatus::Unrecorded,
        Some(_) | None => EpochStatus::Foreign,
    })
}

/// `$first, $second, …`, one for each of `count` values.
pub fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// Keeps the leases of `player_ids` as they are until `tx` ends, and returns the players that `server_id` holds.
/// Without it, a player could be taken over and read between the check of an epoch and the commit of what was saved
/// under it.
pub async fn lock(
    state: &AppState,
    tx: &mut Transaction,
    server_id: &str,
    player_ids: &[&str],
) -> ApiResult<Vec<String>> {
    let sql = format!(
        "SELECT player_id, server_id FROM player_leases WHERE player_id IN ({}) ORDER BY player_id{}",
        placeholders(1, player_ids.len()),
        state.database.for_update()
    );
    // Not persistent: a statement for each number of players would crowd the others out of the cache.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for player_id in player_ids {
        query = query.bind(*player_id);
    }
    let mut held = Vec::new();
    for row in query.fetch_all(&mut *tx.conn).await? {
        if row.try_get::<Option<String>, _>("server_id")?.as_deref() == Some(server_id) {
            held.push(row.try_get("player_id")?);
        }
    }
    Ok(held)
}

/// Renews the leases of `player_ids`, which `server_id` holds according to [`lock`].
pub async fn renew(tx: &mut Transaction, player_ids: &[String], until: i64) -> ApiResult<()> {
    if player_ids.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE player_leases SET lease_until = $1 WHERE player_id IN ({})",
        placeholders(2, player_ids.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(until);
    for player_id in player_ids {
        query = query.bind(player_id);
    }
    query.execute(&mut *tx.conn).await?;
    Ok(())
}

/// Renews all leases of `server_id`, for it is alive. Returns how many players it holds.
pub async fn renew_all(state: &AppState, tx: &mut Transaction, server_id: &str) -> ApiResult<u64> {
    let sql = format!(
        "UPDATE player_leases SET lease_until = $2 WHERE player_id IN \
         (SELECT player_id FROM player_leases WHERE server_id = $1 ORDER BY player_id{}) AND server_id = $1",
        state.database.for_update()
    );
    let renewed = sqlx::query(AssertSqlSafe(sql))
        .bind(server_id)
        .bind(lease_until(state, tx))
        .execute(&mut *tx.conn)
        .await?;
    Ok(renewed.rows_affected())
}

/// Players of `server_id` that others wait for, the longest unheard of first, at most 100.
pub async fn handover_requested<'c>(
    executor: impl Executor<'c, Database = Any>,
    server_id: &str,
    now: i64,
) -> ApiResult<Vec<String>> {
    let rows = sqlx::query(
        "SELECT player_id FROM player_leases WHERE server_id = $1 AND wanted_at > $2 \
         ORDER BY wanted_at, player_id LIMIT 100",
    )
    .bind(server_id)
    .bind(now - HANDOVER_REQUEST_MS)
    .fetch_all(executor)
    .await?;
    Ok(rows.iter().map(|row| row.try_get("player_id")).collect::<sqlx::Result<_>>()?)
}

const RELEASE: &str = "UPDATE player_leases SET server_id = NULL, lease_until = 0, taken_from = NULL, wanted_by = NULL, \
     wanted_at = NULL WHERE server_id = $1 AND ";

/// Releases players, except those of whom the database lacks saves that it had confirmed. What was saved before counts; saves
/// under the same epoch still do until another server loads them.
#[utoipa::path(post, path = "/v1/players/release", operation_id = "players_release", tag = "player store", request_body = ReleasePlayers, security(("server_key" = [])),
    responses((status = 200, body = ReleasedPlayers), (status = "4XX", body = Problem)))]
pub async fn release(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<ReleasePlayers>,
) -> ApiResult<Json<ReleasedPlayers>> {
    let ReleasePlayers { server_id, players } = body.value;
    let mut tx = state.database.begin().await?;
    require_own_server(&mut tx, &server, &server_id).await?;
    let mut released = ReleasedPlayers::default();
    if let Some(mut players) = players {
        players.sort_by(|one, other| one.player_id.cmp(&other.player_id));
        let sql = format!("{RELEASE}player_id = $2 AND epoch = $3");
        for player in players {
            if is_behind(&state, &mut tx, &server.key_hash, &player).await? {
                let ReleasePlayer { player_id, epoch, saved_sequences, .. } = player;
                tracing::warn!(
                    player_id,
                    epoch,
                    saved_sequences,
                    server_id,
                    "confirmed saves are missing: not released"
                );
                released.behind.push(player_id);
                continue;
            }
            sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(&server_id)
                .bind(player.player_id)
                .bind(player.epoch)
                .execute(&mut *tx.conn)
                .await?;
        }
    } else {
        release_all(&state, &mut tx, &server_id).await?;
    }
    tx.commit().await?;
    Ok(Json(released))
}

/// Whether the database lacks saves of `player` that it had confirmed, or has never seen the lease: it went back.
async fn is_behind(
    state: &AppState,
    tx: &mut Transaction,
    key_hash: &str,
    player: &ReleasePlayer,
) -> ApiResult<bool> {
    let ReleasePlayer { player_id, epoch, saved_sequences: Some(saved), saved_versions } = player else {
        return Ok(false);
    };
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM player_leases WHERE player_id = $1 AND epoch = $2) \
         + (SELECT COUNT(*) FROM former_leases WHERE player_id = $1 AND epoch = $2) AS leases, \
         CAST(COALESCE((SELECT SUM(newest) FROM (SELECT MAX(sequence) AS newest FROM (\
         SELECT document_key, sequence FROM documents WHERE player_id = $1 AND epoch = $2 \
         UNION ALL SELECT document_key, sequence FROM former_epochs WHERE player_id = $1 AND epoch = $2) AS saved \
         GROUP BY document_key) AS documents), 0) AS BIGINT) AS sequences, \
         CAST(COALESCE((SELECT SUM(version) FROM documents WHERE player_id = $1), 0) AS BIGINT) AS versions",
    )
    .bind(player_id)
    .bind(epoch)
    .fetch_one(&mut *tx.conn)
    .await?;
    if row.try_get::<i64, _>("leases")? > 0 {
        return Ok(row.try_get::<i64, _>("sequences")? < *saved
            || row.try_get::<i64, _>("versions")? < saved_versions.unwrap_or(0));
    }
    // A lease that no row knows was given after the copy was made from which this database was restored.
    let status = epoch_status(state, tx, key_hash, player_id, *epoch).await?;
    Ok(status == EpochStatus::Unrecorded)
}

/// Releases all players of a server.
pub async fn release_all(state: &AppState, tx: &mut Transaction, server_id: &str) -> ApiResult<()> {
    let sql = format!(
        "{RELEASE}player_id IN (SELECT player_id FROM player_leases WHERE server_id = $1 ORDER BY player_id{})",
        state.database.for_update()
    );
    sqlx::query(AssertSqlSafe(sql)).bind(server_id).execute(&mut *tx.conn).await?;
    Ok(())
}
