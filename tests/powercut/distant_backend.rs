//! The way to a backend that is lost as soon as the players are in, or that takes what is saved.
//!
//! What is under test is what happens on this side of the wire while the power goes: a backend process on the same
//! machine would survive the cut, and prove no more.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use backend_client::protocol::player_store::{
    LoadPlayers, LoadedPlayer, LoadedPlayers, SaveDocuments, SaveItem, SaveOutcome, SaveResult,
    SavedDocuments,
};
use backend_client::protocol::registration::ServerLease;
use backend_client::protocol::routes;
use backend_client::transport::{HttpReply, HttpRequest, Transport, TransportError};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Serialize;

use crate::line::{Line, Name};
use crate::say::say;

/// Registers servers and hands out players under `epoch`.
pub struct DistantBackend {
    /// Epoch of every lease.
    pub epoch: i64,
    /// Whether saves arrive.
    pub takes: bool,
    /// Versions of documents, all in one row.
    pub versions: AtomicI64,
    /// Id of every server.
    pub server_id: String,
}

#[async_trait]
impl Transport for DistantBackend {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let body = request.body.unwrap_or_default();
        match request.url.path() {
            routes::SERVERS => {
                let server_id = self.server_id.clone();
                reply(201, &ServerLease { server_id, lease_seconds: 600, heartbeat_seconds: 600 })
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

impl DistantBackend {
    fn commit(&self, item: SaveItem) -> SaveResult {
        let SaveItem { player_id, key, epoch, sequence, .. } = item;
        // Said before the reply, so that no journal forgets the save earlier.
        let name = Name { player: player_id.clone(), key: key.clone(), epoch };
        say(&[Line::Settled { name, sequence }]);
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        SaveResult { player_id, key, outcome: SaveOutcome::Applied, version }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(body).map_err(|error| TransportError::Broken(error.to_string()))
}

fn reply(status: u16, body: &impl Serialize) -> Result<HttpReply, TransportError> {
    let body = serde_json::to_vec(body).map_err(|error| TransportError::Broken(error.to_string()))?;
    Ok(HttpReply { status, headers: HeaderMap::new(), body })
}
