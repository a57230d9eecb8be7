//! Changing a world: all of a commit or nothing of it, once.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Path, State};
use backend_protocol::limits::MAX_SEQUENCE_STEP;
use backend_protocol::world_store::{
    ChunkChange, CommitWorld, CommittedWorld, MAX_COMMIT_BODY_BYTES, world_id,
};
use backend_protocol::{Code, Problem};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::in_scope;
use super::objects::new_upload;
use crate::auth::extractors::ServerAuth;
use crate::database::{Database, Transaction};
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::player_store::epochs::Subject;
use crate::player_store::leases;
use crate::state::AppState;

/// Changes a world in one transaction. The same epoch and sequence again give the first result.
#[utoipa::path(post, path = "/v1/worlds/{world_id}/commit", operation_id = "worlds_commit", tag = "world store", request_body = CommitWorld,
    params(("world_id" = String, Path)), security(("server_key" = [])),
    responses((status = 200, body = CommittedWorld), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn commit(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(id): Path<String>,
    body: JsonBody<CommitWorld, MAX_COMMIT_BODY_BYTES>,
) -> ApiResult<Json<CommittedWorld>> {
    world_id("world_id", &id)?;
    let commit = body.value;
    in_scope(&state, &id).await?;
    let content = content_hash(&commit);
    // Before the transaction: the object store may be far away, and SQLite has one writer.
    accept_uploads(&state, &commit.chunks).await?;
    let mut tx = state.database.begin().await?;
    leases::require_own_server(&mut tx, &server, &commit.server_id).await?;
    let lease_until = leases::lease_until(&state, &tx);
    // Also takes the row's lock: commits to one world come one after the other.
    let world = sqlx::query(
        "UPDATE worlds SET lease_until = CASE WHEN server_id = $2 THEN $3 ELSE lease_until END \
         WHERE world_id = $1 AND epoch = $4 AND (key_hash = $5 OR key_hash IS NULL) RETURNING sequence, version",
    )
    .bind(&id)
    .bind(&commit.server_id)
    .bind(lease_until)
    .bind(commit.epoch)
    .bind(&server.key_hash)
    .fetch_optional(&mut *tx.conn)
    .await?;
    // Looked up first: a commit of an epoch that is over may have been applied while it lasted.
    if let Some(version) = first_result(&mut tx, &id, &commit, &content).await? {
        tx.commit().await?;
        return Ok(Json(CommittedWorld { version, replayed: true }));
    }
    let world = match world {
        Some(world) => world,
        None => give_back(&state, &mut tx, &server, &id, &commit).await?,
    };
    let last = world.try_get::<i64, _>("sequence")?;
    if commit.sequence <= last {
        return Err(ApiError::field("sequence", "must be higher than that of the last commit"));
    }
    if commit.sequence - last > MAX_SEQUENCE_STEP {
        let rule = format!("must be at most {MAX_SEQUENCE_STEP} above that of the last commit, {last}");
        return Err(ApiError::field("sequence", &rule));
    }
    let version = world.try_get::<i64, _>("version")? + 1;
    apply(&mut tx, &id, &commit, version).await?;
    sqlx::query("UPDATE worlds SET sequence = $1, version = $2 WHERE world_id = $3")
        .bind(commit.sequence)
        .bind(version)
        .bind(&id)
        .execute(&mut *tx.conn)
        .await?;
    sqlx::query(
        "INSERT INTO world_commits (world_id, epoch, sequence, content_hash, version, committed_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&id)
    .bind(commit.epoch)
    .bind(commit.sequence)
    .bind(&content)
    .bind(version)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    tx.commit().await?;
    metrics::counter!("backend_world_commits_total").increment(1);
    Ok(Json(CommittedWorld { version, replayed: false }))
}

/// Gives a lease back that a database which was restored from an older copy has lost: the epoch shows that it was given to this
/// line of keys, and that nobody has taken the world since. Fails with `lease_lost` if another server has, and with
/// `world_held` as long as the server that had the world when the copy was made may still be running.
async fn give_back(
    state: &AppState,
    tx: &mut Transaction,
    server: &ServerAuth,
    id: &str,
    commit: &CommitWorld,
) -> ApiResult<AnyRow> {
    let lost =
        || ApiError::new(Code::LeaseLost, "another server has taken the world since; nothing was changed");
    if !state.epochs.is_sealed_for(&Subject::World(id), &server.key_hash, commit.epoch, tx.now) {
        return Err(lost());
    }
    leases::require_listed_server(state, tx, server, &commit.server_id).await?;
    // Numbers go on where they were: the commits before this one are lost, and come again under further numbers.
    let given = sqlx::query(
        "INSERT INTO worlds (world_id, server_id, opening, epoch, sequence, lease_until, version, created_at, key_hash, scope) \
         VALUES ($1, $2, 0, $3, $4, $5, 0, $6, $7, $8) ON CONFLICT (world_id) DO UPDATE SET server_id = excluded.server_id, \
         opening = excluded.opening, epoch = excluded.epoch, sequence = excluded.sequence, \
         lease_until = excluded.lease_until, key_hash = excluded.key_hash \
         WHERE worlds.epoch < excluded.epoch AND (worlds.scope = excluded.scope OR worlds.scope IS NULL) \
         AND (worlds.server_id IS NULL OR worlds.server_id = excluded.server_id OR worlds.lease_until <= $6) \
         RETURNING sequence, version",
    )
    .bind(id)
    .bind(&commit.server_id)
    .bind(commit.epoch)
    .bind(commit.sequence - 1)
    .bind(leases::lease_until(state, tx))
    .bind(tx.now)
    .bind(&server.key_hash)
    .bind(state.config.scope())
    .fetch_optional(&mut *tx.conn)
    .await?;
    if let Some(row) = given {
        tracing::warn!(
            world_id = id,
            epoch = commit.epoch,
            server_id = commit.server_id,
            "the database did not know the lease of this world: it went back; the lease is given back"
        );
        return Ok(row);
    }
    let row =
        sqlx::query("SELECT epoch FROM worlds WHERE world_id = $1").bind(id).fetch_one(&mut *tx.conn).await?;
    if row.try_get::<i64, _>("epoch")? < commit.epoch {
        return Err(ApiError::new(
            Code::WorldHeld,
            "another server held the world when the database was copied; try again",
        ));
    }
    Err(lost())
}

/// The version a commit of this number made before. Refuses the number when it came with another content.
async fn first_result(
    tx: &mut Transaction,
    id: &str,
    commit: &CommitWorld,
    content: &str,
) -> ApiResult<Option<i64>> {
    let row = sqlx::query(
        "SELECT content_hash, version FROM world_commits WHERE world_id = $1 AND epoch = $2 AND sequence = $3",
    )
    .bind(id)
    .bind(commit.epoch)
    .bind(commit.sequence)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<String, _>("content_hash")? != content {
        return Err(ApiError::field("sequence", "came with other changes before"));
    }
    Ok(Some(row.try_get("version")?))
}

/// What a commit does, whoever sends it and however its objects came here.
fn content_hash(commit: &CommitWorld) -> String {
    let mut lines: Vec<String> =
        commit.chunks.iter().map(|chunk| format!("{} {}\n", chunk.name, chunk.hash)).collect();
    lines.extend(commit.removed.iter().map(|name| format!("{name} -\n")));
    lines.sort_unstable();
    sha256(lines.concat().as_bytes())
}

async fn apply(tx: &mut Transaction, id: &str, commit: &CommitWorld, version: i64) -> ApiResult<()> {
    // One order for all commits, so that two of them cannot wait for each other's objects.
    let mut order: Vec<(usize, &ChunkChange)> = commit.chunks.iter().enumerate().collect();
    order.sort_by(|(_, one), (_, other)| one.hash.cmp(&other.hash));
    for (index, chunk) in order {
        let stored = sqlx::query(
            "INSERT INTO world_chunks (world_id, name, hash, bytes, version, updated_at) \
             SELECT $1, $2, hash, $4, $5, $6 FROM world_objects WHERE hash = $3 AND verified = 1 \
             ON CONFLICT (world_id, name) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes, \
             version = excluded.version, updated_at = excluded.updated_at",
        )
        .bind(id)
        .bind(&chunk.name)
        .bind(&chunk.hash)
        .bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX))
        .bind(version)
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
        if stored.rows_affected() == 0 {
            let field = format!("chunks[{index}].hash");
            let mut problem = Problem::new(Code::ObjectMissing, format!("{field}: the object is not stored"));
            problem.field = Some(field);
            return Err(problem.into());
        }
    }
    for name in &commit.removed {
        sqlx::query("DELETE FROM world_chunks WHERE world_id = $1 AND name = $2")
            .bind(id)
            .bind(name)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

/// Takes in the objects of `chunks` that were sent to a signed address and are what their hashes say. Each is copied to a
/// location that no signed address can write to, and read there: what lies at a signed address can be changed at any time.
/// What is missing or wrong is left out, and its chunk is refused as `object_missing`.
async fn accept_uploads(state: &AppState, chunks: &[ChunkChange]) -> ApiResult<()> {
    let mut taking = tokio::task::JoinSet::new();
    let mut seen = HashSet::new();
    for chunk in chunks {
        let Some(upload) = &chunk.upload else { continue };
        if !seen.insert(&chunk.hash) || is_verified(&state.database, &chunk.hash).await? {
            continue;
        }
        let (state, hash, upload) = (state.clone(), chunk.hash.clone(), upload.clone());
        let stored_bytes = chunk.stored_bytes;
        taking.spawn(async move { accept_upload(&state, &hash, &upload, stored_bytes).await });
    }
    while let Some(taken) = taking.join_next().await {
        taken.map_err(anyhow::Error::from)??;
    }
    Ok(())
}

async fn accept_upload(state: &AppState, hash: &str, upload: &str, stored_bytes: u64) -> ApiResult<()> {
    let objects = &state.objects;
    let _permit = objects.checks.acquire().await.map_err(anyhow::Error::from)?;
    let sent = objects.location(hash, upload);
    if objects.size(&sent).await.map_err(|error| unavailable(&error))? != Some(stored_bytes) {
        return Ok(());
    }
    let location = objects.location(hash, &new_upload());
    let is_good = async {
        objects.copy(&sent, &location).await?;
        objects.holds(&location, hash).await
    };
    let is_good = is_good.await.map_err(|error| unavailable(&error))?;
    if is_good {
        // At once: when the commit is given up and sent again, this one need not be read again.
        record_object(state, hash, &location, stored_bytes).await?;
    } else {
        tracing::warn!(
            hash,
            "the content of an object that was sent to a signed address does not match its hash"
        );
        metrics::counter!("backend_world_objects_refused_total").increment(1);
        objects.discard(&location).await;
    }
    objects.discard(&sent).await;
    Ok(())
}

async fn is_verified(database: &Database, hash: &str) -> ApiResult<bool> {
    let row = sqlx::query("SELECT hash FROM world_objects WHERE hash = $1 AND verified = 1");
    Ok(row.bind(hash).fetch_optional(database.pool()).await?.is_some())
}

/// Records the location of a verified object, or removes it if another one of its hash is stored.
pub async fn record_object(state: &AppState, hash: &str, location: &str, stored_bytes: u64) -> ApiResult<()> {
    let mut tx = state.database.begin().await?;
    let inserted = insert_object(&mut tx, hash, location, stored_bytes).await?;
    tx.commit().await?;
    if !inserted {
        // Another server sent the same object.
        state.objects.discard(location).await;
    }
    Ok(())
}

/// Records the location of a verified object, unless one of its hash is stored. Returns whether it was inserted.
async fn insert_object(
    tx: &mut Transaction,
    hash: &str,
    location: &str,
    stored_bytes: u64,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO world_objects (hash, location, stored_bytes, wanted_at, verified) VALUES ($1, $2, $3, $4, 1) \
         ON CONFLICT (hash) DO UPDATE SET location = excluded.location, stored_bytes = excluded.stored_bytes, \
         wanted_at = excluded.wanted_at, verified = 1 WHERE world_objects.verified = 0",
    )
    .bind(hash)
    .bind(location)
    .bind(i64::try_from(stored_bytes).unwrap_or(i64::MAX))
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// The object store failed: nothing of the request was carried out.
pub fn unavailable(error: &object_store::Error) -> ApiError {
    tracing::error!(%error, "the object store failed");
    let mut problem = Problem::new(Code::Unavailable, "the object store does not answer; try again");
    problem.retry_after = Some(1);
    problem.into()
}
