//! Players' documents under a lease.

pub(crate) mod conflicts;
pub(crate) mod epochs;
pub(crate) mod leases;
pub(crate) mod saves;

use axum::Json;
use axum::extract::State;
use backend_protocol::Problem;
use backend_protocol::player_store::{Document, LoadPlayers, LoadedPlayer, LoadedPlayers, PlayerDocuments};
use serde_json::{Map, Value, json};
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use self::leases::{Asked, Asker};
use crate::auth::extractors::{PlayerAuth, ServerAuth};
use crate::database::{Database, Work, rfc3339};
use crate::http::{JsonBody, Outcome};
use crate::state::AppState;

/// Takes players over, unless another server still holds them, and reads their documents.
#[utoipa::path(post, path = "/v1/players/load", operation_id = "players_load", tag = "player store", request_body = LoadPlayers, security(("server_key" = [])),
    responses((status = 200, body = LoadedPlayers), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn load(
    State(state): State<AppState>,
    server: ServerAuth,
    body: JsonBody<LoadPlayers>,
) -> Outcome<Json<LoadedPlayers>> {
    let LoadPlayers { server_id, player_ids } = body.value;
    let mut work = state.database.begin().await?;
    leases::own_listed(&state, &mut work, &server, &server_id).await?;
    let until = leases::lease_until(&state, &work);
    let asker = Asker { state: &state, key_hash: &server.key_hash, server_id: &server_id, until };
    let mut order: Vec<usize> = (0..player_ids.len()).collect();
    order.sort_by_key(|&index| &player_ids[index]);
    let mut asked: Vec<Option<Asked>> = player_ids.iter().map(|_| None).collect();
    for index in order {
        asked[index] = Some(leases::ask(&mut work, &asker, &player_ids[index]).await?);
    }
    let mut loaded = LoadedPlayers { players: Vec::with_capacity(player_ids.len()), held: Vec::new() };
    let mut taken_over = 0;
    for (player_id, asked) in player_ids.into_iter().zip(asked.into_iter().flatten()) {
        match asked {
            Asked::Given { epoch, taken_from } => {
                if let Some(former) = taken_from {
                    tracing::warn!(player_id, epoch, former, server_id, "a player's lease had run out");
                    taken_over += 1;
                }
                loaded.players.push(read(&mut work, player_id, epoch).await?);
            }
            Asked::Held(held) => loaded.held.push(held),
            Asked::Missing => {}
        }
    }
    work.commit().await?;
    metrics::counter!("backend_leases_taken_over_total").increment(taken_over);
    Ok(Json(loaded))
}

async fn read(work: &mut Work, player_id: String, epoch: i64) -> Outcome<LoadedPlayer> {
    let row = sqlx::query(
        "SELECT COALESCE(MAX(sequence), 0) AS last FROM documents WHERE player_id = $1 AND epoch = $2",
    )
    .bind(&player_id)
    .bind(epoch)
    .fetch_one(&mut *work.tx)
    .await?;
    let sequence = row.try_get("last")?;
    let documents = documents(&mut *work.tx, &player_id).await?;
    let conflicts = conflicts::of_player(&mut *work.tx, &player_id).await?;
    Ok(LoadedPlayer { player_id, epoch, sequence, documents, conflicts })
}

/// A player's own documents.
#[utoipa::path(get, path = "/v1/players/me/documents", operation_id = "players_own_documents", tag = "player store", security(("access_token" = [])),
    responses((status = 200, body = PlayerDocuments), (status = "4XX", body = Problem)))]
pub async fn own_documents(
    State(state): State<AppState>,
    player: PlayerAuth,
) -> Outcome<Json<PlayerDocuments>> {
    let documents = documents(state.database.pool(), &player.0.sub).await?;
    Ok(Json(PlayerDocuments { player_id: player.0.sub.clone(), documents }))
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
