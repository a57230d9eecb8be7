//! A backend in the process that takes what it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use backend_client::api::transport::{HttpReply, HttpRequest, Transport, TransportError};
use backend_client::platform::clock::SystemClock;
use backend_client::protocol::player_store::{
    LoadPlayers, LoadedPlayer, LoadedPlayers, SaveDocuments, SaveItem, SaveOutcome, SaveResult,
    SavedDocuments,
};
use backend_client::protocol::registration::ServerLease;
use backend_client::protocol::routes;
use backend_client::registration::{Registration, ServerDescription};
use backend_client::{Config, HttpBackend, ServerKey};
use reqwest::header::HeaderMap;
use serde::Serialize;

/// Time a request takes.
const LATENCY: Duration = Duration::from_millis(20);

/// Registers a server, hands out players and takes saves.
#[derive(Default)]
pub struct NearBackend {
    versions: AtomicI64,
}

impl NearBackend {
    /// A client of it, and a server that is registered.
    pub async fn register() -> Result<(Arc<HttpBackend>, Registration)> {
        let clock = Arc::new(SystemClock);
        let config = Config { base_url: "http://127.0.0.1:9".into(), retry_attempts: 0, ..Config::default() };
        let backend = Arc::new(HttpBackend::new(config, Arc::new(Self::default()), clock.clone())?);
        let key = ServerKey::parse("gsk_for_a_backend_in_the_process")?;
        let registration = Registration::new(backend.clone(), clock, key, Duration::MAX, Arc::new(|_| {}));
        let description = ServerDescription {
            name: "Soak".into(),
            address: "127.0.0.1".into(),
            port: 9,
            max_players: 64,
            ..ServerDescription::default()
        };
        registration.register(description).await?;
        Ok((backend, registration))
    }

    fn commit(&self, item: SaveItem) -> SaveResult {
        let SaveItem { player_id, key, .. } = item;
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        SaveResult { player_id, key, outcome: SaveOutcome::Applied, version, code: None }
    }
}

#[async_trait]
impl Transport for NearBackend {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        tokio::time::sleep(LATENCY).await;
        let body = request.body.unwrap_or_default();
        match request.url.path() {
            routes::SERVERS => {
                let lease = ServerLease {
                    server_id: "soaking".into(),
                    lease_seconds: 86_400,
                    heartbeat_seconds: 600,
                    backend_id: Some("in the process".into()),
                    invite_code: None,
                    room: None,
                };
                reply(201, &lease)
            }
            routes::PLAYERS_LOAD => {
                let asked: LoadPlayers = parse(&body)?;
                let loaded = |player_id| LoadedPlayer {
                    player_id,
                    epoch: 1,
                    sequence: 0,
                    documents: Vec::new(),
                    conflicts: Vec::new(),
                };
                let players = asked.player_ids.into_iter().map(loaded).collect();
                reply(200, &LoadedPlayers { players, held: Vec::new() })
            }
            routes::PLAYERS_SAVE => {
                let asked: SaveDocuments = parse(&body)?;
                let results = asked.items.into_iter().map(|item| self.commit(item)).collect();
                reply(200, &SavedDocuments { results, wanted: Vec::new() })
            }
            path => Err(TransportError::Connect(format!("{path} is not answered here"))),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(body).map_err(|error| TransportError::Broken(error.to_string()))
}

fn reply(status: u16, body: &impl Serialize) -> Result<HttpReply, TransportError> {
    let body = serde_json::to_vec(body).map_err(|error| TransportError::Broken(error.to_string()))?;
    Ok(HttpReply { status, headers: HeaderMap::new(), body })
}
