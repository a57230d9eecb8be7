//! A backend for worlds: takes what an earlier process left, and what its own process saves only if told to.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backend_client::api::backend::Reply;
use backend_client::api::backend::worlds::{ObjectPart, WorldBackend};
use backend_client::player_store::Content;
use backend_client::protocol::world_store::{
    ChunkPage, ChunkQuery, CommitWorld, CommittedWorld, Downloads, ObjectAddress, OpenWorld, ReleaseWorld,
    RequestDownloads, RequestUploads, Upload, Uploads, WorldLease,
};
use backend_client::{ClientError, Fault, ServerKey};

/// Told of every chunk before its commit is answered.
pub type OnCommit = Box<dyn Fn(&str, &Content) + Send + Sync>;

/// A file with the version of the world. A backend's memory outlives the power of a game server.
pub struct WorldVersion(pub PathBuf);

impl WorldVersion {
    /// The version now; 0 before the first commit.
    fn now(&self) -> Reply<i64> {
        match fs::read(&self.0) {
            Ok(bytes) => bytes.try_into().map(i64::from_le_bytes).map_err(|_| broken("half a version")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(broken(error)),
        }
    }

    /// The version after one more commit.
    fn advance(&self) -> Reply<i64> {
        let next = self.now()? + 1;
        // In one write: the process may be killed at any moment.
        let file = File::options().create(true).write(true).truncate(false).open(&self.0).map_err(broken)?;
        file.write_all_at(&next.to_le_bytes(), 0).map_err(broken)?;
        Ok(next)
    }
}

/// Hands every world out under `epoch`, without chunks.
pub struct FakeWorlds {
    /// Epoch of every lease.
    pub epoch: i64,
    /// Whether commits of this epoch arrive. Those of others always do: without them, no world would open.
    pub takes: bool,
    /// What it counts commits in.
    pub version: WorldVersion,
    /// Told what is committed.
    pub on_commit: OnCommit,
    /// Objects by hash, compressed.
    pub objects: Mutex<HashMap<String, Vec<u8>>>,
}

impl FakeWorlds {
    fn objects(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content(&self, hash: &str) -> Reply<Content> {
        let objects = self.objects();
        let stored = objects.get(hash).ok_or_else(|| broken("an object that was never sent"))?;
        let raw = zstd::stream::decode_all(&stored[..]).map_err(broken)?;
        serde_json::from_slice(&raw).map_err(broken)
    }
}

#[async_trait]
impl WorldBackend for FakeWorlds {
    async fn open_world(&self, _key: &ServerKey, _world: &str, _body: &OpenWorld) -> Reply<WorldLease> {
        Ok(WorldLease { epoch: self.epoch, version: self.version.now()?, lease_seconds: 600 })
    }

    async fn world_chunks(&self, _key: &ServerKey, _world: &str, _query: &ChunkQuery) -> Reply<ChunkPage> {
        Ok(ChunkPage { version: self.version.now()?, chunks: Vec::new(), next_cursor: None })
    }

    async fn request_uploads(&self, _key: &ServerKey, _world: &str, body: &RequestUploads) -> Reply<Uploads> {
        let objects = self.objects();
        let upload = |hash: &String| Upload {
            hash: hash.clone(),
            present: objects.contains_key(hash),
            address: None,
            upload: None,
        };
        Ok(Uploads { objects: body.hashes.iter().map(upload).collect() })
    }

    async fn request_downloads(
        &self,
        _key: &ServerKey,
        _world: &str,
        _body: &RequestDownloads,
    ) -> Reply<Downloads> {
        Err(away())
    }

    async fn commit_world(
        &self,
        _key: &ServerKey,
        _world: &str,
        body: &CommitWorld,
    ) -> Reply<CommittedWorld> {
        if body.epoch == self.epoch && !self.takes {
            return Err(away());
        }
        for chunk in &body.chunks {
            (self.on_commit)(&chunk.name, &self.content(&chunk.hash)?);
        }
        Ok(CommittedWorld { version: self.version.advance()?, replayed: false })
    }

    async fn release_world(&self, _key: &ServerKey, _world: &str, _body: &ReleaseWorld) -> Reply<()> {
        Ok(())
    }

    async fn send_object(
        &self,
        _key: &ServerKey,
        _world: &str,
        hash: &str,
        _address: Option<&ObjectAddress>,
        stored: Vec<u8>,
    ) -> Reply<()> {
        self.objects().insert(hash.to_owned(), stored);
        Ok(())
    }

    async fn receive_object(
        &self,
        _key: &ServerKey,
        _world: &str,
        _hash: &str,
        _address: Option<&ObjectAddress>,
        _range: Range<u64>,
    ) -> Reply<ObjectPart> {
        Err(away())
    }
}

fn away() -> ClientError {
    ClientError::new(Fault::Network, "the backend is away")
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::new(Fault::Internal, error.to_string())
}
