//! The world store's calls.

use std::ops::Range;

use async_trait::async_trait;
use backend_protocol::world_store::{
    ChunkPage, ChunkQuery, CommitWorld, CommittedWorld, Downloads, ObjectAddress, OpenWorld, ReleaseWorld,
    RequestDownloads, RequestUploads, Uploads, WorldLease,
};

use super::Reply;
use crate::platform::secret::ServerKey;

/// A backend that keeps worlds. Calls that carry an object are one attempt each; the others end within the configured
/// total deadline, retries included.
#[async_trait]
#[allow(
    missing_docs,
    reason = "each method is the route of the same name, documented in backend_protocol::routes"
)]
pub trait WorldBackend: Send + Sync {
    async fn open_world(&self, key: &ServerKey, world: &str, body: &OpenWorld) -> Reply<WorldLease>;
    async fn world_chunks(&self, key: &ServerKey, world: &str, query: &ChunkQuery) -> Reply<ChunkPage>;
    async fn request_uploads(&self, key: &ServerKey, world: &str, body: &RequestUploads) -> Reply<Uploads>;
    async fn request_downloads(
        &self,
        key: &ServerKey,
        world: &str,
        body: &RequestDownloads,
    ) -> Reply<Downloads>;
    async fn commit_world(&self, key: &ServerKey, world: &str, body: &CommitWorld) -> Reply<CommittedWorld>;
    async fn release_world(&self, key: &ServerKey, world: &str, body: &ReleaseWorld) -> Reply<()>;
    /// Sends an object, compressed, to `address` or to the backend itself.
    async fn send_object(
        &self,
        key: &ServerKey,
        world: &str,
        hash: &str,
        address: Option<&ObjectAddress>,
        stored: Vec<u8>,
    ) -> Reply<()>;
    /// Reads part of an object, compressed, from `address` or from the backend itself.
    async fn receive_object(
        &self,
        key: &ServerKey,
        world: &str,
        hash: &str,
        address: Option<&ObjectAddress>,
        range: Range<u64>,
    ) -> Reply<ObjectPart>;
}

/// Part of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPart {
    /// Where in the object it begins.
    pub start: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Size of the whole object.
    pub total: u64,
}
