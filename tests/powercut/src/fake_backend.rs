//! The way to a backend that is lost as soon as the players are in, or that takes what is saved.
//!
//! What is under test is what happens on this side of the wire while the power goes: a backend process on the same
//! machine would survive the cut, and prove no more.

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
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Serialize;

use crate::protocol::{Line, Name};
use crate::report::report;

/// Longest time anything takes that has to succeed.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Registers servers and hands out players under `epoch`.
pub struct FakeBackend {
    epoch: i64,
    takes: bool,
    /// Versions of documents, all in one row.
    versions: AtomicI64,
    server_id: String,
}

#[async_trait]
impl Transport for FakeBackend {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let body = request.body.unwrap_or_default();
        match request.url.path() {
            routes::SERVERS => {
                let server_id = self.server_id.clone();
                let lease = ServerLease {
                    server_id,
                    lease_seconds: 600,
                    heartbeat_seconds: 600,
                    backend_id: None,
                    invite_code: None,
                    room: None,
                };
                reply(201, &lease)
            }
            routes::PLAYERS_LOAD => {
                let asked: LoadPlayers = parse(&body)?;
                let loaded = |player_id| LoadedPlayer {
                    player_id,
                    epoch: self.epoch,
                    sequence: 0,
                    documents: Vec::new(),
                    conflicts: Vec::new(),
                };
                reply(
                    200,
                    &LoadedPlayers {
                        players: asked.player_ids.into_iter().map(loaded).collect(),
                        held: Vec::new(),
                    },
                )
            }
            routes::PLAYERS_SAVE if self.takes => {
                let asked: SaveDocuments = parse(&body)?;
                reply(
                    200,
                    &SavedDocuments {
                        results: asked.items.into_iter().map(|item| self.commit(item)).collect(),
                        wanted: Vec::new(),
                    },
                )
            }
            // Leases of processes before this one.
            _ if self.takes && (request.method == Method::DELETE || request.method == Method::POST) => {
                Ok(HttpReply { status: 204, headers: HeaderMap::new(), body: Vec::new() })
            }
            _ => Err(TransportError::Connect("the backend is away".to_owned())),
        }
    }
}

impl FakeBackend {
    /// Gives every server the id `server_id` and every lease the epoch `epoch`. Saves arrive if it `takes` them.
    pub fn new(epoch: i64, takes: bool, server_id: String) -> Self {
        Self { epoch, takes, versions: AtomicI64::new(0), server_id }
    }

    /// A client on this way, and a server that is registered.
    pub async fn register(self) -> Result<(Arc<HttpBackend>, Registration)> {
        let clock = Arc::new(SystemClock);
        let config = Config { base_url: "http://127.0.0.1:9".into(), retry_attempts: 0, ..Config::default() };
        let backend = Arc::new(HttpBackend::new(config, Arc::new(self), clock.clone())?);
        let key = ServerKey::parse("gsk_for_a_backend_that_is_away")?;
        let registration = Registration::new(backend.clone(), clock, key, TIMEOUT, Arc::new(|_| {}));
        registration.register(description()).await?;
        Ok((backend, registration))
    }

    fn commit(&self, item: SaveItem) -> SaveResult {
        let SaveItem { player_id, key, epoch, sequence, .. } = item;
        // Said before the reply, so that no journal forgets the save earlier.
        let name = Name { player: player_id.clone(), key: key.clone(), epoch };
        report(&[Line::Settled { name, sequence }]);
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        SaveResult { player_id, key, outcome: SaveOutcome::Applied, version, code: None }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(body).map_err(|error| TransportError::Broken(error.to_string()))
}

fn reply(status: u16, body: &impl Serialize) -> Result<HttpReply, TransportError> {
    let body = serde_json::to_vec(body).map_err(|error| TransportError::Broken(error.to_string()))?;
    Ok(HttpReply { status, headers: HeaderMap::new(), body })
}

fn description() -> ServerDescription {
    ServerDescription {
        name: "Power cut".into(),
        address: "127.0.0.1".into(),
        port: 9,
        max_players: 64,
        ..ServerDescription::default()
    }
}
