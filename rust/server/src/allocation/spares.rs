//! Servers that were started ahead of time.

use sqlx::{AssertSqlSafe, Row};

use super::records::{NewRoom, json, redact_password};
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::rooms::columns::{folded, list_players, tags_text, visibility_text};
use crate::rooms::{attributes, invite_codes};
use crate::state::AppState;

/// Makes a spare the room that was requested. The server learns of it with its next heartbeat, and is joinable at once. The change is
/// recorded with the seats that are reserved in it.
pub async fn take(
    state: &AppState,
    tx: &mut Transaction,
    new: &NewRoom<'_>,
) -> ApiResult<Option<(String, String)>> {
    // Two requests never wait for the same one.
    let skip = if state.database.is_sqlite() { "" } else { " FOR UPDATE OF allocations SKIP LOCKED" };
    let sql = format!(
        "SELECT allocations.allocation_id, allocations.server_id, servers.invite_code \
         FROM allocations JOIN servers ON servers.server_id = allocations.server_id \
         WHERE allocations.scope = $1 AND allocations.status = 'ready' AND allocations.ended_at IS NULL \
         AND allocations.spare = 1 AND servers.lease_until > $2 AND servers.status = 'ready' AND servers.drain_requested_at IS NULL ORDER BY allocations.created_at LIMIT 1{skip}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(state.config.scope())
        .bind(tx.now)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (allocation_id, server_id): (String, String) =
        (row.try_get("allocation_id")?, row.try_get("server_id")?);
    let places = i64::from(new.max_players);
    let room = json(&redact_password(new.room))?;
    sqlx::query(
        "UPDATE allocations SET spare = 0, creator = $1, room = $2, password_hash = $3, quick_play_key = $4, \
         max_players = $5, empty_since = $6 WHERE allocation_id = $7",
    )
    .bind(new.creator)
    .bind(&room)
    .bind(new.password_hash)
    .bind(new.quick_play_key)
    .bind(places)
    .bind(tx.now)
    .bind(&allocation_id)
    .execute(&mut *tx.conn)
    .await?;
    let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    sqlx::query(
        "UPDATE servers SET name = COALESCE($1, name), name_folded = COALESCE($2, name_folded), map = COALESCE($3, map), \
         mode = COALESCE($4, mode), tags = COALESCE($5, tags), max_players = $6, visibility = $7, password_hash = $8, \
         attributes = COALESCE($9, attributes), assigned_room = $10, created_at = $11 WHERE server_id = $12",
    )
    .bind(own(&new.room.name))
    .bind(own(&folded(&new.room.name)))
    .bind(own(&new.room.map))
    .bind(own(&new.room.mode))
    .bind(own(&tags_text(&new.room.tags)?))
    .bind(places)
    .bind(visibility_text(new.room.visibility))
    .bind(new.password_hash)
    .bind((!new.room.attributes.is_empty()).then(|| json(&new.room.attributes)).transpose()?)
    .bind(room)
    .bind(tx.now)
    .bind(&server_id)
    .execute(&mut *tx.conn)
    .await?;
    if !new.room.attributes.is_empty() {
        attributes::store(tx, &server_id, &new.room.attributes).await?;
    }
    let invite_code = row.try_get("invite_code")?;
    invite_codes::update(tx, &server_id, new.room.visibility, invite_code, false).await?;
    list_players(tx, &server_id, 0).await?;
    Ok(Some((allocation_id, server_id)))
}
