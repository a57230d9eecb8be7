//! Players' documents under a lease.

use axum::Json;
use axum::extract::State;
use backend_protocol::player_store::{
    Document, LoadPlayers, LoadedPlayer, LoadedPlayers, PlayerDocuments, SaveDocuments, SaveItem,
    SaveOutcome, SaveResult, SavedDocuments,
};
use backend_protocol::{Code, MAX_SAVE_BODY_BYTES, Problem};
use serde_json::{Map, Value, json};
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use crate::database::{Database, Work, rfc3339};
use crate::problem::{JsonBody, Outcome, Refusal};
use crate::state::{AppState, PlayerAuth, ServerAuth};

/// Takes players over and reads their documents.
#[utoipa::path(post, path = "/v1/players/load", tag = "player store", request_body = LoadPlayers, security(("server_key" = [])),
    responses((status = 200, body = LoadedPlayers), (status = 404, body = Problem), (status = 4XX, body = Problem)))]
pub async fn load(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<LoadPlayers>,
) -> Outcome<Json<LoadedPlayers>> {
    let LoadPlayers { server_id, player_ids } = body.value;
    let mut work = state.database.begin().await?;
    own(&mut work, &server, &server_id).await?;
    let mut players = Vec::with_capacity(player_ids.len());
    for player_id in player_ids {
        let Some(epoch) = take_over(&mut work, &server_id, &player_id).await? else { continue };
        let row = sqlx::query(
            "SELECT COALESCE(MAX(sequence), 0) AS last FROM documents WHERE player_id = $1 AND epoch = $2",
        )
        .bind(&player_id)
        .bind(epoch)
        .fetch_one(&mut *work.tx)
        .await?;
        let sequence = row.try_get("last")?;
        let documents = documents(&mut *work.tx, &player_id).await?;
        players.push(LoadedPlayer { player_id, epoch, sequence, documents });
    }
    work.commit().await?;
    Ok(Json(LoadedPlayers { players }))
}

/// Refuses a server id that is not one of this key's.
async fn own(work: &mut Work, server: &ServerAuth, server_id: &str) -> Outcome<()> {
    sqlx::query("SELECT server_id FROM servers WHERE server_id = $1 AND key_hash = $2")
        .bind(server_id)
        .bind(&server.key_hash)
        .fetch_optional(&mut *work.tx)
        .await?
        .map(drop)
        .ok_or_else(|| Refusal::new(Code::ServerUnknown, "no server of this key has this id; register first"))
}

/// Makes `server_id` the holder. The epoch grows when the holder changes; `None` when there is no such player.
async fn take_over(work: &mut Work, server_id: &str, player_id: &str) -> Outcome<Option<i64>> {
    let row = sqlx::query(
        "INSERT INTO player_leases (player_id, server_id, epoch) \
         SELECT player_id, $2, 1 FROM players WHERE player_id = $1 \
         ON CONFLICT (player_id) DO UPDATE SET \
         epoch = player_leases.epoch + CASE WHEN player_leases.server_id = excluded.server_id THEN 0 ELSE 1 END, \
         server_id = excluded.server_id RETURNING epoch",
    );
    let row = row.bind(player_id).bind(server_id).fetch_optional(&mut *work.tx).await?;
    Ok(row.map(|row| row.try_get("epoch")).transpose()?)
}

/// Saves a batch, each item for itself.
#[utoipa::path(post, path = "/v1/players/save", tag = "player store", request_body = SaveDocuments, security(("server_key" = [])),
    responses((status = 200, body = SavedDocuments), (status = 4XX, body = Problem)))]
pub async fn save(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<SaveDocuments, MAX_SAVE_BODY_BYTES>,
) -> Outcome<Json<SavedDocuments>> {
    let SaveDocuments { server_id, items } = body.value;
    let mut work = state.database.begin().await?;
    own(&mut work, &server, &server_id).await?;
    // One order for all batches, so that two of them cannot wait for each other's rows.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&index| (&items[index].player_id, &items[index].key, items[index].sequence));
    let mut results: Vec<Option<SaveResult>> = vec![None; items.len()];
    for index in order {
        results[index] = Some(save_one(&mut work, &server_id, &items[index]).await?);
    }
    work.commit().await?;
    let results: Vec<SaveResult> = results.into_iter().flatten().collect();
    metrics::counter!("backend_documents_saved_total")
        .increment(results.iter().filter(|result| result.outcome == SaveOutcome::Applied).count() as u64);
    Ok(Json(SavedDocuments { results }))
}

/// Applies one item if its epoch is current, its server the holder and its sequence new, in one statement; otherwise
/// finds out which of these it was.
async fn save_one(work: &mut Work, server_id: &str, item: &SaveItem) -> Outcome<SaveResult> {
    let value = serde_json::to_string(&item.value).map_err(anyhow::Error::from)?;
    let applied = sqlx::query(
        "INSERT INTO documents (player_id, document_key, version, value, epoch, sequence, updated_at) \
         SELECT l.player_id, $2, 1, $3, l.epoch, $5, $7 FROM player_leases l \
         WHERE l.player_id = $1 AND l.epoch = $4 AND l.server_id = $6 \
         ON CONFLICT (player_id, document_key) DO UPDATE SET version = documents.version + 1, \
         value = excluded.value, epoch = excluded.epoch, sequence = excluded.sequence, \
         updated_at = excluded.updated_at \
         WHERE documents.epoch < excluded.epoch \
         OR (documents.epoch = excluded.epoch AND documents.sequence < excluded.sequence) \
         RETURNING version",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .bind(&value)
    .bind(item.epoch)
    .bind(item.sequence)
    .bind(server_id)
    .bind(work.now)
    .fetch_optional(&mut *work.tx)
    .await?;
    let result = |outcome, version| SaveResult {
        player_id: item.player_id.clone(),
        key: item.key.clone(),
        outcome,
        version,
    };
    if let Some(row) = applied {
        return Ok(result(SaveOutcome::Applied, row.try_get("version")?));
    }
    let holder = sqlx::query("SELECT server_id, epoch FROM player_leases WHERE player_id = $1")
        .bind(&item.player_id)
        .fetch_optional(&mut *work.tx)
        .await?;
    let stored = sqlx::query(
        "SELECT version, value, epoch, sequence FROM documents WHERE player_id = $1 AND document_key = $2",
    )
    .bind(&item.player_id)
    .bind(&item.key)
    .fetch_optional(&mut *work.tx)
    .await?;
    let version = stored.as_ref().map_or(Ok(0), |row| row.try_get("version"))?;
    let Some(holder) = holder else {
        // Nobody was ever given this player: the save names one that was not loaded, or does not exist.
        let known = sqlx::query("SELECT player_id FROM players WHERE player_id = $1")
            .bind(&item.player_id)
            .fetch_optional(&mut *work.tx)
            .await?;
        let outcome = if known.is_some() { SaveOutcome::LeaseLost } else { SaveOutcome::PlayerNotFound };
        return Ok(result(outcome, version));
    };
    let held = holder.try_get::<String, _>("server_id")? == server_id
        && holder.try_get::<i64, _>("epoch")? == item.epoch;
    let Some(stored) = stored.filter(|_| held) else {
        return Ok(result(SaveOutcome::LeaseLost, version));
    };
    let same = stored.try_get::<i64, _>("sequence")? == item.sequence
        && stored.try_get::<i64, _>("epoch")? == item.epoch
        && stored.try_get::<String, _>("value")? == value;
    Ok(result(if same { SaveOutcome::Replayed } else { SaveOutcome::Superseded }, version))
}

/// A player's own documents.
#[utoipa::path(get, path = "/v1/players/me/documents", tag = "player store", security(("access_token" = [])),
    responses((status = 200, body = PlayerDocuments), (status = 4XX, body = Problem)))]
pub async fn own_documents(
    State(state): State<AppState>,
    player: PlayerAuth,
) -> Outcome<Json<PlayerDocuments>> {
    let documents = documents(state.database.pool(), &player.0.sub).await?;
    Ok(Json(PlayerDocuments { player_id: player.0.sub, documents }))
}

async fn documents<'c>(
    executor: impl Executor<'c, Database = Any>,
    player_id: &str,
) -> Outcome<Vec<Document>> {
    let rows = sqlx::query(
        "SELECT document_key, version, value, updated_at FROM documents WHERE player_id = $1 ORDER BY document_key",
    )
    .bind(player_id)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Document {
                key: row.try_get("document_key")?,
                version: row.try_get("version")?,
                value: object(&row.try_get::<String, _>("value")?)?,
                updated_at: rfc3339(row.try_get("updated_at")?),
            })
        })
        .collect()
}

fn object(text: &str) -> Outcome<Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| anyhow::Error::from(error).context("a stored document").into())
}

/// One player's documents by key, for `backend-server player-documents`.
pub async fn read_back(database: &Database, player_id: &str) -> anyhow::Result<Value> {
    let documents =
        documents(database.pool(), player_id).await.map_err(|refusal| anyhow::anyhow!(refusal.0.detail))?;
    Ok(by_key(documents))
}

/// The first thousand players with their documents, for `backend-server players`.
pub async fn read_back_all(database: &Database) -> anyhow::Result<Value> {
    let sql = "SELECT player_id, display_name FROM players ORDER BY created_at, player_id LIMIT 1000";
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(database.pool()).await?;
    let mut players = Vec::with_capacity(rows.len());
    for row in rows {
        let player_id: String = row.try_get("player_id")?;
        let documents = read_back(database, &player_id).await?;
        let display_name: String = row.try_get("display_name")?;
        players.push(json!({"player_id": player_id, "display_name": display_name, "documents": documents}));
    }
    Ok(players.into())
}

fn by_key(documents: Vec<Document>) -> Value {
    documents
        .into_iter()
        .map(|document| (document.key, Value::Object(document.value)))
        .collect::<Map<_, _>>()
        .into()
}
