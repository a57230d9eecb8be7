//! Players' documents under a lease.

pub(crate) mod conflicts;
pub(crate) mod epochs;
pub(crate) mod leases;
pub(crate) mod saves;

use axum::Json;
use axum::extract::State;
use backend_protocol::Problem;
use backend_protocol::player_store::{
    Document, LoadPlayers, LoadedPlayer, LoadedPlayers, PlayerDocuments, parse_document,
};
use serde_json::{Map, Value, json};
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use self::leases::{Acquirer, Acquisition};
use crate::auth::extractors::{PlayerAuth, ServerAuth};
use crate::database::{Database, Transaction, rfc3339};
use crate::http::{ApiResult, JsonBody};
use crate::state::AppState;

/// Who sends saves.
pub(crate) struct Sender<'a> {
    /// The line of its key.
    pub key_hash: &'a str,
    pub server_id: &'a str,
    /// How many unresolved conflicts of a player are kept.
    pub max_conflicts: i64,
}

/// Acquires the leases of players, unless another server holds them, and returns their documents.
#[utoipa::path(post, path = "/v1/players/load", operation_id = "players_load", tag = "player store", request_body = LoadPlayers, security(("server_key" = [])),
    responses((status = 200, body = LoadedPlayers), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn load(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<LoadPlayers>,
) -> ApiResult<Json<LoadedPlayers>> {
    let LoadPlayers { server_id, player_ids } = body.value;
    let mut tx = state.database.begin().await?;
    leases::require_listed_server(&state, &mut tx, &server, &server_id).await?;
    let until = leases::lease_until(&state, &tx);
    let acquirer = Acquirer { state: &state, key_hash: &server.key_hash, server_id: &server_id, until };
    let mut order: Vec<usize> = (0..player_ids.len()).collect();
    order.sort_by_key(|&index| &player_ids[index]);
    let mut acquired: Vec<Option<Acquisition>> = player_ids.iter().map(|_| None).collect();
    for index in order {
        acquired[index] = Some(leases::acquire(&mut tx, &acquirer, &player_ids[index]).await?);
    }
    let mut loaded = LoadedPlayers { players: Vec::with_capacity(player_ids.len()), held: Vec::new() };
    let mut taken_over = 0;
    for (player_id, acquired) in player_ids.into_iter().zip(acquired.into_iter().flatten()) {
        match acquired {
            Acquisition::Granted { epoch, taken_from } => {
                if let Some(former) = taken_from {
                    tracing::warn!(player_id, epoch, former, server_id, "a player's lease had run out");
                    taken_over += 1;
                }
                loaded.players.push(read(&mut tx, player_id, epoch).await?);
            }
            Acquisition::Held(held) => loaded.held.push(held),
            Acquisition::NoSuchPlayer => {}
        }
    }
    tx.commit().await?;
    metrics::counter!("backend_leases_taken_over_total").increment(taken_over);
    Ok(Json(loaded))
}

async fn read(tx: &mut Transaction, player_id: String, epoch: i64) -> ApiResult<LoadedPlayer> {
    let row = sqlx::query(
        "SELECT COALESCE(MAX(sequence), 0) AS last FROM documents WHERE player_id = $1 AND epoch = $2",
    )
    .bind(&player_id)
    .bind(epoch)
    .fetch_one(&mut *tx.conn)
    .await?;
    let sequence = row.try_get("last")?;
    let documents = documents(&mut *tx.conn, &player_id).await?;
    let conflicts = conflicts::of_player(&mut *tx.conn, &player_id).await?;
    Ok(LoadedPlayer { player_id, epoch, sequence, documents, conflicts })
}

/// Returns the caller's own documents.
#[utoipa::path(get, path = "/v1/players/me/documents", operation_id = "players_own_documents", tag = "player store", security(("access_token" = [])),
    responses((status = 200, body = PlayerDocuments), (status = "4XX", body = Problem)))]
pub async fn own_documents(
    State(state): State<AppState>,
    player: PlayerAuth,
) -> ApiResult<Json<PlayerDocuments>> {
    let documents = documents(state.database.pool(), &player.0.sub).await?;
    Ok(Json(PlayerDocuments { player_id: player.0.sub.clone(), documents }))
}

async fn documents<'c>(
    executor: impl Executor<'c, Database = Any>,
    player_id: &str,
) -> ApiResult<Vec<Document>> {
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

fn object(text: &str) -> ApiResult<Map<String, Value>> {
    parse_document(text).map_err(|error| anyhow::Error::from(error).context("a stored document").into())
}

/// One player's documents by key, for `backend-server player-documents`.
pub async fn read_back(database: &Database, player_id: &str) -> anyhow::Result<Value> {
    let documents =
        documents(database.pool(), player_id).await.map_err(|error| anyhow::anyhow!(error.0.detail))?;
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
