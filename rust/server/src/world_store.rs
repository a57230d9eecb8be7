//! Worlds: chunks under a lease. The chunks' bytes lie in the object store, their names here.

pub mod commit;
pub mod objects;
pub mod transfer;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::world_store::{
    Chunk, ChunkPage, ChunkQuery, MAX_CHUNK_PAGE, OpenWorld, ReleaseWorld, WorldLease, chunk_name, world_id,
};
use backend_protocol::{Code, Problem};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::Row;

use crate::auth::extractors::ServerAuth;
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult, JsonBody, QueryString};
use crate::player_store::epochs::Subject;
use crate::player_store::leases;
use crate::state::AppState;

/// Acquires the lease of a world, which is created if it does not exist. While another server holds it, the answer is `world_held`.
#[utoipa::path(post, path = "/v1/worlds/{world_id}/open", operation_id = "worlds_open", tag = "world store", request_body = OpenWorld,
    params(("world_id" = String, Path)), security(("server_key" = [])),
    responses((status = 200, body = WorldLease), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn open(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(id): Path<String>,
    body: JsonBody<OpenWorld>,
) -> ApiResult<Json<WorldLease>> {
    world_id("world_id", &id)?;
    let OpenWorld { server_id, opening } = body.value;
    in_scope(&state, &id).await?;
    let mut tx = state.database.begin().await?;
    leases::require_listed_server(&state, &mut tx, &server, &server_id).await?;
    let subject = Subject::World(&id);
    let fresh = state.epochs.at(&subject, &server.key_hash, tx.now);
    let lease_until = leases::lease_until(&state, &tx);
    // One statement decides who gets it. A repeated opening keeps its epoch; any other gets the next.
    let row = sqlx::query(
        "INSERT INTO worlds (world_id, server_id, opening, epoch, sequence, lease_until, version, created_at, key_hash, scope) \
         VALUES ($1, $2, $5, $6, 0, $3, 0, $4, $7, $8) ON CONFLICT (world_id) DO UPDATE SET \
         epoch = CASE WHEN worlds.server_id = excluded.server_id AND worlds.opening = excluded.opening \
         THEN worlds.epoch WHEN worlds.epoch < excluded.epoch THEN excluded.epoch ELSE worlds.epoch + 1 END, \
         sequence = CASE WHEN worlds.server_id = excluded.server_id \
         AND worlds.opening = excluded.opening THEN worlds.sequence ELSE 0 END, \
         server_id = excluded.server_id, opening = excluded.opening, lease_until = excluded.lease_until, \
         key_hash = excluded.key_hash \
         WHERE (worlds.scope = excluded.scope OR worlds.scope IS NULL) AND (worlds.server_id IS NULL \
         OR (worlds.server_id = excluded.server_id AND worlds.opening <= excluded.opening) \
         OR (worlds.server_id <> excluded.server_id AND worlds.lease_until <= $4)) \
         RETURNING epoch, version",
    )
    .bind(&id)
    .bind(&server_id)
    .bind(lease_until)
    .bind(tx.now)
    .bind(i64::try_from(opening).unwrap_or(i64::MAX))
    .bind(fresh)
    .bind(&server.key_hash)
    .bind(state.config.scope())
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else {
        // The clock may have been set back since: from the first that waits on, the lease lasts no longer than one given now.
        let capped =
            sqlx::query("UPDATE worlds SET lease_until = $1 WHERE world_id = $2 AND lease_until > $1")
                .bind(lease_until)
                .bind(&id)
                .execute(&mut *tx.conn)
                .await?;
        if capped.rows_affected() > 0 {
            tx.commit().await?;
        }
        return Err(ApiError::new(Code::WorldHeld, "another server holds the world; try again"));
    };
    let lease = WorldLease {
        epoch: row.try_get("epoch")?,
        version: row.try_get("version")?,
        lease_seconds: state.config.lease_seconds,
    };
    tx.commit().await?;
    tracing::info!(world_id = id, server_id, epoch = lease.epoch, "a world was taken");
    Ok(Json(lease))
}

/// Refuses a world of another game or environment on this database. One that is not there yet is in every scope.
pub async fn in_scope(state: &AppState, id: &str) -> ApiResult<()> {
    let elsewhere = sqlx::query("SELECT world_id FROM worlds WHERE world_id = $1 AND scope <> $2")
        .bind(id)
        .bind(state.config.scope())
        .fetch_optional(state.database.pool())
        .await?;
    match elsewhere {
        None => Ok(()),
        Some(_) => Err(ApiError::field(
            "world_id",
            "belongs to another game or environment on this database: use another id, or a database for each",
        )),
    }
}

/// Releases a world. What comes under an epoch that is over changes nothing.
#[utoipa::path(post, path = "/v1/worlds/{world_id}/release", operation_id = "worlds_release", tag = "world store", request_body = ReleaseWorld,
    params(("world_id" = String, Path)), security(("server_key" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub async fn release(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(id): Path<String>,
    body: JsonBody<ReleaseWorld>,
) -> ApiResult<StatusCode> {
    world_id("world_id", &id)?;
    let ReleaseWorld { server_id, epoch, saved_version, saved_sequence } = body.value;
    let mut tx = state.database.begin().await?;
    leases::require_own_server(&mut tx, &server, &server_id).await?;
    if let Some(saved) = saved_version {
        let row = sqlx::query(
            "SELECT version, CASE WHEN epoch = $2 THEN sequence ELSE $3 END AS sequence FROM worlds WHERE world_id = $1",
        )
        .bind(&id)
        .bind(epoch)
        // Of a lease that is over, or was given after the database was copied, only the version says something.
        .bind(saved_sequence.unwrap_or(0))
        .fetch_optional(&mut *tx.conn)
        .await?;
        let (version, sequence) = match row {
            Some(row) => (row.try_get::<i64, _>("version")?, row.try_get::<i64, _>("sequence")?),
            None => (0, 0),
        };
        if version < saved || sequence < saved_sequence.unwrap_or(0) {
            tracing::warn!(
                world_id = id,
                epoch,
                version,
                saved,
                sequence,
                saved_sequence,
                server_id,
                "confirmed commits are missing: not released"
            );
            let detail = if version < saved {
                format!("the world is at version {version}, version {saved} was confirmed before")
            } else {
                let confirmed = saved_sequence.unwrap_or(0);
                format!("the last commit is {sequence}, commit {confirmed} was confirmed before")
            };
            return Err(ApiError::new(Code::RolledBack, &detail));
        }
    }
    sqlx::query(
        "UPDATE worlds SET server_id = NULL, lease_until = 0 \
         WHERE world_id = $1 AND server_id = $2 AND epoch = $3",
    )
    .bind(&id)
    .bind(&server_id)
    .bind(epoch)
    .execute(&mut *tx.conn)
    .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a world's chunks. A world that was never opened has none.
#[utoipa::path(get, path = "/v1/worlds/{world_id}/chunks", operation_id = "worlds_list_chunks", tag = "world store",
    params(("world_id" = String, Path), ChunkQuery), security(("server_key" = [])),
    responses((status = 200, body = ChunkPage), (status = "4XX", body = Problem)))]
pub async fn chunks(
    State(state): State<AppState>,
    _server: ServerAuth,
    Path(id): Path<String>,
    QueryString(query): QueryString<ChunkQuery>,
) -> ApiResult<Json<ChunkPage>> {
    world_id("world_id", &id)?;
    in_scope(&state, &id).await?;
    let limit = query.limit.unwrap_or(MAX_CHUNK_PAGE);
    let after = query.cursor.as_deref().map_or(Ok(String::new()), read_cursor)?;
    let version = sqlx::query("SELECT version FROM worlds WHERE world_id = $1")
        .bind(&id)
        .fetch_optional(state.database.pool())
        .await?
        .map_or(Ok(0), |row| row.try_get("version"))?;
    let rows = sqlx::query(
        "SELECT name, hash, bytes, version FROM world_chunks WHERE world_id = $1 AND name > $2 ORDER BY name LIMIT $3",
    )
    .bind(&id)
    .bind(&after)
    // One more than requested shows whether there is a next page.
    .bind(i64::from(limit) + 1)
    .fetch_all(state.database.pool())
    .await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut chunks = Vec::with_capacity(rows.len().min(wanted));
    for row in rows.iter().take(wanted) {
        chunks.push(Chunk {
            name: row.try_get("name")?,
            hash: row.try_get("hash")?,
            bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
            version: row.try_get("version")?,
        });
    }
    let more = rows.len() > wanted;
    let next_cursor = chunks.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(&last.name));
    Ok(Json(ChunkPage { version, chunks, next_cursor }))
}

/// Where the last page ended: the name of its last chunk.
fn read_cursor(cursor: &str) -> ApiResult<String> {
    let name = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| chunk_name("cursor", name).is_ok()).ok_or_else(|| {
        let mut problem = Problem::new(Code::InvalidCursor, "cursor: not one this list handed out");
        problem.field = Some("cursor".into());
        problem.into()
    })
}

/// Lengthens the leases of those worlds that a server reports as open. One whose release was lost, or
/// whose opening came after the server had given up waiting, is free when its lease is over.
pub async fn renew(
    tx: &mut Transaction,
    server_id: &str,
    worlds: &[String],
    lease_until: i64,
) -> sqlx::Result<()> {
    for world in worlds {
        sqlx::query("UPDATE worlds SET lease_until = $1 WHERE world_id = $2 AND server_id = $3")
            .bind(lease_until)
            .bind(world)
            .bind(server_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

/// Releases all worlds of a server.
pub async fn release_all(tx: &mut Transaction, server_id: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE worlds SET server_id = NULL, lease_until = 0 WHERE server_id = $1")
        .bind(server_id)
        .execute(&mut *tx.conn)
        .await
        .map(drop)
}

/// Lengthens the leases of all worlds of a server that was forgotten and is back.
pub async fn renew_all(tx: &mut Transaction, server_id: &str, lease_until: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE worlds SET lease_until = $1 WHERE server_id = $2")
        .bind(lease_until)
        .bind(server_id)
        .execute(&mut *tx.conn)
        .await
        .map(drop)
}
