//! Save conflicts: saves under an epoch that is over are stored, reported to the holder, and merged by it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::player_store::{Conflict, PlayerConflicts, ResolveConflicts, SaveItem, SaveOutcome};
use backend_protocol::{Code, Problem, limits};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};
use uuid::Uuid;

use super::{Sender, leases, object};
use crate::auth::extractors::ServerAuth;
use crate::config::Config;
use crate::database::{Transaction, rfc3339};
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Unresolved conflicts that are kept of one player, or as many as it may have documents: what a server had of a player when it died
/// is delivered at once. Beyond it, the oldest goes; see [`store`] for who displaces none.
const MAX_CONFLICTS: u32 = 256;

/// [`MAX_CONFLICTS`] with these settings.
pub fn max_conflicts(config: &Config) -> i64 {
    config.max_documents_per_player.max(MAX_CONFLICTS).into()
}

/// Keeps a save that cannot be applied, or gives the code with which it is refused. It replaces an older one of the same
/// document and epoch, which it covers. One of which no row says that its line of keys had the epoch (`is_unproven`) displaces
/// nobody's.
pub async fn store(
    tx: &mut Transaction,
    sender: &Sender<'_>,
    item: &SaveItem,
    value: &str,
    is_unproven: bool,
) -> ApiResult<Result<SaveOutcome, Code>> {
    if is_unproven && has_no_place_for(tx, sender, item).await? {
        return Ok(match kept_sequence(tx, sender, item).await? {
            // A repetition gets the first answer again.
            Some(Ok(sequence)) if item.sequence <= sequence => Ok(outcome_beside(sequence, item)),
            Some(Err(code)) => Err(code),
            Some(Ok(_)) | None => Err(Code::TooManyConflicts),
        });
    }
    let server_id = sender.server_id;
    let kept = sqlx::query(
        "INSERT INTO save_conflicts (conflict_id, player_id, document_key, epoch, sequence, server_id, value, received_at, \
         key_hash, unrecorded) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (player_id, document_key, epoch) DO UPDATE SET \
         conflict_id = excluded.conflict_id, sequence = excluded.sequence, server_id = excluded.server_id, \
         value = excluded.value, received_at = excluded.received_at, resolved_at = NULL, \
         key_hash = excluded.key_hash, unrecorded = excluded.unrecorded \
         WHERE save_conflicts.sequence < excluded.sequence \
         AND (save_conflicts.key_hash = excluded.key_hash OR save_conflicts.key_hash IS NULL) RETURNING conflict_id",
    )
    // A new id for each content: a server that has merged the former one has not seen this.
    .bind(Uuid::now_v7().to_string())
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(item.epoch)
    .bind(item.sequence)
    .bind(server_id)
    .bind(value)
    .bind(tx.now)
    .bind(sender.key_hash)
    .bind(i64::from(is_unproven))
    .fetch_optional(&mut *tx.conn)
    .await?;
    if kept.is_some() {
        let SaveItem { player_id, key, epoch, sequence, .. } = item;
        tracing::warn!(player_id, key, epoch, sequence, server_id, "a save came too late and was kept");
        metrics::counter!("backend_save_conflicts_total").increment(1);
        drop_oldest(tx, sender, player_id).await?;
        return Ok(Ok(SaveOutcome::Conflicted));
    }
    let kept = kept_sequence(tx, sender, item).await?;
    let kept = kept.ok_or_else(|| anyhow::anyhow!("a conflict was not kept, and there is none"))?;
    Ok(kept.map(|sequence| outcome_beside(sequence, item)))
}

/// The outcome of a save beside a kept one of this sequence. A repetition gets the first answer again, also after the conflict
/// was resolved.
fn outcome_beside(sequence: i64, item: &SaveItem) -> SaveOutcome {
    if sequence == item.sequence { SaveOutcome::Conflicted } else { SaveOutcome::Superseded }
}

/// Whether the player has as many unresolved conflicts as are kept, beside one of the item's document and epoch.
async fn has_no_place_for(tx: &mut Transaction, sender: &Sender<'_>, item: &SaveItem) -> ApiResult<bool> {
    let others: i64 = sqlx::query(
        "SELECT COUNT(*) FROM save_conflicts WHERE player_id = $1 AND resolved_at IS NULL \
         AND NOT (document_key = $2 AND epoch = $3)",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(item.epoch)
    .fetch_one(&mut *tx.conn)
    .await?
    .try_get(0)?;
    Ok(others >= sender.max_conflicts)
}

/// The sequence of what was kept of the item's document and epoch, also if it was resolved. A code: another line of keys sent it.
async fn kept_sequence(
    tx: &mut Transaction,
    sender: &Sender<'_>,
    item: &SaveItem,
) -> ApiResult<Option<Result<i64, Code>>> {
    let row = sqlx::query(
        "SELECT sequence, key_hash FROM save_conflicts WHERE player_id = $1 AND document_key = $2 AND epoch = $3",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(item.epoch)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let owner: Option<String> = row.try_get("key_hash")?;
    let is_ours = owner.is_none_or(|owner| owner == sender.key_hash);
    Ok(Some(if is_ours { Ok(row.try_get("sequence")?) } else { Err(Code::EpochUnknown) }))
}

/// Makes room for the newest of a player. Those of unproven epochs go first.
async fn drop_oldest(tx: &mut Transaction, sender: &Sender<'_>, player_id: &str) -> sqlx::Result<()> {
    let dropped = sqlx::query(
        "DELETE FROM save_conflicts WHERE conflict_id IN (SELECT conflict_id FROM save_conflicts \
         WHERE player_id = $1 AND resolved_at IS NULL ORDER BY unrecorded, received_at DESC, conflict_id DESC LIMIT 1000 OFFSET $2) \
         RETURNING player_id, document_key, epoch, sequence",
    )
    .bind(player_id)
    .bind(sender.max_conflicts)
    .fetch_all(&mut *tx.conn)
    .await?;
    log_dropped(&dropped, "the player has too many unresolved ones")
}

/// Deletes and logs the conflicts that are unresolved since `before`.
pub async fn drop_older(tx: &mut Transaction, before: i64) -> sqlx::Result<()> {
    let dropped = sqlx::query(
        "DELETE FROM save_conflicts WHERE resolved_at IS NULL AND received_at < $1 \
         RETURNING player_id, document_key, epoch, sequence",
    )
    .bind(before)
    .fetch_all(&mut *tx.conn)
    .await?;
    log_dropped(&dropped, "it was not resolved in time")
}

fn log_dropped(dropped: &[AnyRow], why: &str) -> sqlx::Result<()> {
    for row in dropped {
        tracing::error!(
            player_id = row.try_get::<String, _>("player_id")?,
            key = row.try_get::<String, _>("document_key")?,
            epoch = row.try_get::<i64, _>("epoch")?,
            sequence = row.try_get::<i64, _>("sequence")?,
            "a conflict was deleted with the save it held: {why}"
        );
    }
    metrics::counter!("backend_save_conflicts_dropped_total").increment(dropped.len() as u64);
    Ok(())
}

/// The unresolved conflicts of a player, the oldest first, at most 100.
pub async fn of_player<'c>(
    executor: impl Executor<'c, Database = Any>,
    player_id: &str,
) -> ApiResult<Vec<Conflict>> {
    let rows = sqlx::query(
        "SELECT conflict_id, player_id, document_key, server_id, epoch, sequence, value, received_at \
         FROM save_conflicts WHERE player_id = $1 AND resolved_at IS NULL \
         ORDER BY received_at, conflict_id LIMIT 100",
    )
    .bind(player_id)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Conflict {
                conflict_id: row.try_get("conflict_id")?,
                player_id: row.try_get("player_id")?,
                key: row.try_get("document_key")?,
                server_id: row.try_get("server_id")?,
                epoch: row.try_get("epoch")?,
                sequence: row.try_get("sequence")?,
                value: object(&row.try_get::<String, _>("value")?)?,
                received_at: rfc3339(row.try_get("received_at")?),
            })
        })
        .collect()
}

/// Players that `server_id` holds and that have unresolved conflicts, at most 100.
pub async fn of_server<'c>(
    executor: impl Executor<'c, Database = Any>,
    server_id: &str,
) -> ApiResult<Vec<String>> {
    let rows = sqlx::query(
        "SELECT player_id FROM player_leases WHERE server_id = $1 AND EXISTS \
         (SELECT 1 FROM save_conflicts WHERE save_conflicts.player_id = player_leases.player_id \
         AND resolved_at IS NULL) ORDER BY player_id LIMIT 100",
    )
    .bind(server_id)
    .fetch_all(executor)
    .await?;
    Ok(rows.iter().map(|row| row.try_get("player_id")).collect::<sqlx::Result<_>>()?)
}

/// Lists a player's unresolved conflicts, for a server of the line of keys that the player's lease belongs to.
#[utoipa::path(get, path = "/v1/players/{player_id}/conflicts", operation_id = "players_list_conflicts", tag = "player store", security(("server_key" = [])),
    params(("player_id" = String, Path)),
    responses((status = 200, body = PlayerConflicts), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn player_conflicts(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(player_id): Path<String>,
) -> ApiResult<Json<PlayerConflicts>> {
    limits::identifier("player_id", &player_id, 64)?;
    sqlx::query(
        "SELECT player_id FROM player_leases WHERE player_id = $1 AND server_id IS NOT NULL AND key_hash = $2",
    )
    .bind(&player_id)
    .bind(&server.key_hash)
    .fetch_optional(state.database.pool())
    .await?
    .ok_or_else(|| ApiError::new(Code::LeaseLost, "no server of this key holds the player; load the player first"))?;
    let conflicts = of_player(state.database.pool(), &player_id).await?;
    Ok(Json(PlayerConflicts { conflicts }))
}

/// Marks conflicts as resolved, all or none. Only the holder of their players may.
#[utoipa::path(post, path = "/v1/players/conflicts/resolve", operation_id = "players_resolve_conflicts", tag = "player store", request_body = ResolveConflicts, security(("server_key" = [])),
    responses((status = 204), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn resolve_conflicts(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<ResolveConflicts>,
) -> ApiResult<StatusCode> {
    let ResolveConflicts { server_id, conflict_ids } = body.value;
    let mut tx = state.database.begin().await?;
    leases::require_own_server(&mut tx, &server, &server_id).await?;
    let sql = format!(
        "SELECT DISTINCT player_id FROM save_conflicts WHERE resolved_at IS NULL AND conflict_id IN ({})",
        leases::placeholders(1, conflict_ids.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for conflict_id in &conflict_ids {
        query = query.bind(conflict_id);
    }
    let rows = query.fetch_all(&mut *tx.conn).await?;
    let players: Vec<String> =
        rows.iter().map(|row| row.try_get("player_id")).collect::<sqlx::Result<_>>()?;
    if players.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let players: Vec<&str> = players.iter().map(String::as_str).collect();
    let held = leases::lock(&state, &mut tx, &server_id, &players).await?;
    if held.len() < players.len() {
        return Err(ApiError::new(Code::LeaseLost, "the player is not held by this server"));
    }
    // What was merged need not be kept twice; the number must, for a repetition of the save.
    let sql = format!(
        "UPDATE save_conflicts SET resolved_at = $1, value = '{{}}' WHERE resolved_at IS NULL AND conflict_id IN ({})",
        leases::placeholders(2, conflict_ids.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(tx.now);
    for conflict_id in &conflict_ids {
        query = query.bind(conflict_id);
    }
    query.execute(&mut *tx.conn).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
