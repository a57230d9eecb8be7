//! Players' documents at a server that only counts them: a batch is read from end to end and each of its items answered as
//! applied, but nothing is kept. What is measured against it is the caller, and no database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use backend_client::protocol::limits::{self, MAX_BATCH, MAX_LOAD};
use backend_client::protocol::player_store::{
    LoadPlayers, LoadedPlayer, LoadedPlayers, ReleasePlayers, ReleasedPlayers, SaveOutcome, SaveResult,
    SavedDocuments,
};
use backend_client::protocol::registration::{RegisterServer, ServerLease};
use backend_client::protocol::routes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{SERVER, shows_key};

/// Where it tells how many documents it has counted.
pub const DOCUMENTS: &str = "/documents";
/// As the backend's own: a batch of documents is larger than what axum reads by itself.
const MAX_BODY: usize = 8 * 1024 * 1024;

#[derive(Default)]
struct Counted {
    documents: AtomicUsize,
    /// The last lease that began: each load begins another.
    epoch: AtomicI64,
}

/// [`SaveDocuments`](backend_client::protocol::player_store::SaveDocuments), whose documents are looked at and not kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    server_id: String,
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    player_id: String,
    key: String,
    epoch: i64,
    sequence: i64,
    /// Read to its end, so that what is no JSON is refused.
    #[serde(rename = "value")]
    _value: IgnoredAny,
}

pub fn routes() -> Router {
    Router::new()
        .route(routes::SERVERS, post(register))
        .route(routes::SERVER, delete(deregister))
        .route(routes::PLAYERS_LOAD, post(load))
        .route(routes::PLAYERS_SAVE, post(save))
        .route(routes::PLAYERS_RELEASE, post(release))
        .route(DOCUMENTS, get(documents))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Counted::default()))
}

fn admit(headers: &HeaderMap, server: &str) -> Result<(), StatusCode> {
    if !shows_key(headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    if server == SERVER { Ok(()) } else { Err(StatusCode::NOT_FOUND) }
}

async fn register(
    headers: HeaderMap,
    Json(_server): Json<RegisterServer>,
) -> Result<(StatusCode, Json<ServerLease>), StatusCode> {
    admit(&headers, SERVER)?;
    let lease = ServerLease {
        server_id: SERVER.into(),
        lease_seconds: 30,
        heartbeat_seconds: 10,
        backend_id: None,
        invite_code: None,
        room: None,
    };
    Ok((StatusCode::CREATED, Json(lease)))
}

async fn deregister(headers: HeaderMap, UrlPath(server): UrlPath<String>) -> Result<StatusCode, StatusCode> {
    admit(&headers, &server).map(|()| StatusCode::NO_CONTENT)
}

/// Nobody has documents, and everybody is free.
async fn load(
    State(counted): State<Arc<Counted>>,
    headers: HeaderMap,
    Json(body): Json<LoadPlayers>,
) -> Result<Json<LoadedPlayers>, StatusCode> {
    admit(&headers, &body.server_id)?;
    if body.player_ids.is_empty() || body.player_ids.len() > MAX_LOAD {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let epoch = counted.epoch.fetch_add(1, Ordering::Relaxed) + 1;
    let loaded = |player_id| LoadedPlayer {
        player_id,
        epoch,
        sequence: 0,
        documents: Vec::new(),
        conflicts: Vec::new(),
    };
    let players = body.player_ids.into_iter().map(loaded).collect();
    Ok(Json(LoadedPlayers { players, held: Vec::new() }))
}

async fn save(
    State(counted): State<Arc<Counted>>,
    headers: HeaderMap,
    Json(body): Json<Batch>,
) -> Result<Json<SavedDocuments>, StatusCode> {
    admit(&headers, &body.server_id)?;
    let fits = |item: &Item| {
        limits::identifier("player_id", &item.player_id, 64).is_ok()
            && limits::identifier("key", &item.key, limits::MAX_DOCUMENT_KEY).is_ok()
            && item.epoch >= 1
            && item.sequence >= 1
    };
    if body.items.is_empty() || body.items.len() > MAX_BATCH || !body.items.iter().all(fits) {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    counted.documents.fetch_add(body.items.len(), Ordering::Relaxed);
    let applied = |item: Item| SaveResult {
        player_id: item.player_id,
        key: item.key,
        outcome: SaveOutcome::Applied,
        version: item.sequence,
        code: None,
    };
    let results = body.items.into_iter().map(applied).collect();
    Ok(Json(SavedDocuments { results, wanted: Vec::new() }))
}

async fn release(
    headers: HeaderMap,
    Json(body): Json<ReleasePlayers>,
) -> Result<Json<ReleasedPlayers>, StatusCode> {
    admit(&headers, &body.server_id).map(|()| Json(ReleasedPlayers::default()))
}

async fn documents(State(counted): State<Arc<Counted>>) -> Json<usize> {
    Json(counted.documents.load(Ordering::Relaxed))
}
