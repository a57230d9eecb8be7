//! A backend for worlds in memory, with the rules of the real one and faults on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backend_client::api::backend::Reply;
use backend_client::api::backend::worlds::{ObjectPart, WorldBackend};
use backend_client::error::{ClientError, Fault};
use backend_client::platform::secret::ServerKey;
use backend_protocol::world_store::{
    Chunk, ChunkPage, ChunkQuery, CommitWorld, CommittedWorld, Download, Downloads, ObjectAddress, OpenWorld,
    ReleaseWorld, RequestDownloads, RequestUploads, Upload, Uploads, WorldLease,
};
use backend_protocol::{Check, Code, Problem};

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// The request never arrives.
    LostRequest,
    /// The request is executed, its reply never arrives.
    LostReply,
    /// 503.
    Unavailable,
}

#[derive(Default)]
pub struct SimulatedWorlds(Mutex<World>);

#[derive(Default, Clone)]
pub struct World {
    holder: Option<String>,
    epoch: i64,
    sequence: i64,
    version: i64,
    chunks: BTreeMap<String, Chunk>,
    objects: HashMap<String, Vec<u8>>,
    commits: HashMap<(i64, i64), (CommitWorld, i64)>,
    applied: Vec<(i64, i64)>,
    troubles: HashMap<&'static str, VecDeque<Trouble>>,
    outage: bool,
    latency: Duration,
    calls: HashMap<&'static str, usize>,
    ranges: Vec<Range<u64>>,
}

/// What an object holds.
pub fn raw_of(stored: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(stored).expect("zstd")
}

impl SimulatedWorlds {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().expect("not poisoned")
    }

    pub fn trouble(&self, call: &'static str, troubles: &[Trouble]) {
        self.world().troubles.entry(call).or_default().extend(troubles);
    }

    pub fn outage(&self, outage: bool) {
        self.world().outage = outage;
    }

    pub fn latency(&self, latency: Duration) {
        self.world().latency = latency;
    }

    pub fn calm(&self) {
        self.world().troubles.clear();
    }

    pub fn calls(&self, call: &str) -> usize {
        self.world().calls.get(call).copied().unwrap_or_default()
    }

    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.world().ranges.clone()
    }

    pub fn applied(&self) -> Vec<(i64, i64)> {
        self.world().applied.clone()
    }

    pub fn epoch(&self) -> i64 {
        self.world().epoch
    }

    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        world.chunks.get(name).map(|chunk| raw_of(&world.objects[&chunk.hash]))
    }

    pub fn contents(&self) -> HashMap<String, Vec<u8>> {
        let world = self.world();
        world.chunks.values().map(|chunk| (chunk.name.clone(), raw_of(&world.objects[&chunk.hash]))).collect()
    }

    pub fn taken_by(&self, server_id: &str) {
        let mut world = self.world();
        world.holder = Some(server_id.to_owned());
        world.epoch += 1;
        world.sequence = 0;
    }

    pub fn back_up(&self) -> World {
        self.world().clone()
    }

    /// The database is as it was then. Objects are kept elsewhere, and stay.
    pub fn restore(&self, backup: World) {
        let objects = std::mem::take(&mut self.world().objects);
        *self.world() = World { objects, ..backup };
    }

    pub fn is_free(&self) -> bool {
        self.world().holder.is_none()
    }

    /// Another server commits a change of this chunk.
    pub fn changed_by_another(&self, name: &str) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        let chunk = world.chunks.get_mut(name).expect("there");
        (chunk.hash, chunk.version) = ("b".repeat(64), version);
    }

    pub fn released(&self) {
        self.world().holder = None;
    }

    pub fn replace_object(&self, name: &str, stored: Vec<u8>) {
        let mut world = self.world();
        let hash = world.chunks[name].hash.clone();
        world.objects.insert(hash, stored);
    }

    async fn serve<T>(&self, call: &'static str, work: impl FnOnce(&mut World) -> Reply<T>) -> Reply<T> {
        let latency = self.world().latency;
        tokio::time::sleep(latency).await;
        let mut world = self.world();
        *world.calls.entry(call).or_default() += 1;
        let trouble = world.troubles.get_mut(call).and_then(VecDeque::pop_front).unwrap_or(Trouble::None);
        match if world.outage { Trouble::Unavailable } else { trouble } {
            Trouble::None => work(&mut world),
            Trouble::LostRequest => Err(ClientError::new(Fault::Network, "lost request")),
            Trouble::Unavailable => Err(Problem::new(Code::Unavailable, "away").into()),
            Trouble::LostReply => {
                let _lost = work(&mut world);
                Err(ClientError::new(Fault::Timeout, "lost reply"))
            }
        }
    }
}

fn refused<T>(code: Code) -> Reply<T> {
    Err(Problem::new(code, "said so").into())
}

#[async_trait]
impl WorldBackend for SimulatedWorlds {
    async fn open_world(&self, _key: &ServerKey, _world: &str, body: &OpenWorld) -> Reply<WorldLease> {
        self.serve("open_world", |world| {
            if world.holder.as_ref().is_some_and(|holder| *holder != body.server_id) {
                return refused(Code::WorldHeld);
            }
            // Each opening is by another process, although they all go by one id here.
            world.epoch += 1;
            world.sequence = 0;
            world.holder = Some(body.server_id.clone());
            Ok(WorldLease { epoch: world.epoch, version: world.version, lease_seconds: 60 })
        })
        .await
    }

    async fn world_chunks(&self, _key: &ServerKey, _world: &str, query: &ChunkQuery) -> Reply<ChunkPage> {
        self.serve("world_chunks", |world| {
            // Small pages, so that there are several.
            let after = query.cursor.clone().unwrap_or_default();
            let mut rest = world.chunks.values().filter(|chunk| chunk.name > after).cloned();
            let chunks: Vec<Chunk> = rest.by_ref().take(3).collect();
            let next_cursor = rest.next().and_then(|_| chunks.last()).map(|chunk| chunk.name.clone());
            Ok(ChunkPage { version: world.version, chunks, next_cursor })
        })
        .await
    }

    async fn request_uploads(&self, _key: &ServerKey, _world: &str, body: &RequestUploads) -> Reply<Uploads> {
        body.check()?;
        self.serve("request_uploads", |world| {
            let upload = |hash: &String| Upload {
                hash: hash.clone(),
                present: world.objects.contains_key(hash),
                address: None,
                upload: None,
            };
            Ok(Uploads { objects: body.hashes.iter().map(upload).collect() })
        })
        .await
    }

    async fn request_downloads(
        &self,
        _key: &ServerKey,
        _world: &str,
        body: &RequestDownloads,
    ) -> Reply<Downloads> {
        body.check()?;
        self.serve("request_downloads", |world| {
            let download = |hash: &String| {
                let stored_bytes = world.objects.get(hash)?.len() as u64;
                Some(Download { hash: hash.clone(), stored_bytes, address: None })
            };
            Ok(Downloads { objects: body.hashes.iter().filter_map(download).collect() })
        })
        .await
    }

    async fn commit_world(
        &self,
        _key: &ServerKey,
        _world: &str,
        body: &CommitWorld,
    ) -> Reply<CommittedWorld> {
        body.check()?;
        self.serve("commit_world", |world| {
            let number = (body.epoch, body.sequence);
            if let Some((first, version)) = world.commits.get(&number) {
                assert_eq!(
                    (&first.chunks, &first.removed),
                    (&body.chunks, &body.removed),
                    "one number, one content"
                );
                return Ok(CommittedWorld { version: *version, replayed: true });
            }
            if body.epoch > world.epoch {
                // Given, for no guess is made here, and nobody has taken the world since: the database went back.
                if world.holder.is_some() && world.holder.as_ref() != Some(&body.server_id) {
                    return refused(Code::WorldHeld);
                }
                world.holder = Some(body.server_id.clone());
                (world.epoch, world.sequence) = (body.epoch, body.sequence - 1);
            }
            if body.epoch != world.epoch {
                return refused(Code::LeaseLost);
            }
            assert!(body.sequence > world.sequence, "numbers grow");
            if body.chunks.iter().any(|chunk| !world.objects.contains_key(&chunk.hash)) {
                return refused(Code::ObjectMissing);
            }
            world.sequence = body.sequence;
            world.version += 1;
            let version = world.version;
            for change in &body.chunks {
                let (name, hash) = (change.name.clone(), change.hash.clone());
                world.chunks.insert(name.clone(), Chunk { name, hash, bytes: change.bytes, version });
            }
            for name in &body.removed {
                world.chunks.remove(name);
            }
            world.commits.insert(number, (body.clone(), version));
            world.applied.push(number);
            Ok(CommittedWorld { version, replayed: false })
        })
        .await
    }

    async fn release_world(&self, _key: &ServerKey, _world: &str, body: &ReleaseWorld) -> Reply<()> {
        self.serve("release_world", |world| {
            let is_behind = body.epoch == world.epoch && world.sequence < body.saved_sequence.unwrap_or(0);
            if body.saved_version.is_some_and(|saved| world.version < saved || is_behind) {
                return refused(Code::RolledBack);
            }
            if world.holder.as_ref() == Some(&body.server_id) && world.epoch == body.epoch {
                world.holder = None;
            }
            Ok(())
        })
        .await
    }

    async fn send_object(
        &self,
        _key: &ServerKey,
        _world: &str,
        hash: &str,
        _address: Option<&ObjectAddress>,
        stored: Vec<u8>,
    ) -> Reply<()> {
        self.serve("send_object", |world| {
            world.objects.insert(hash.to_owned(), stored);
            Ok(())
        })
        .await
    }

    async fn receive_object(
        &self,
        _key: &ServerKey,
        _world: &str,
        hash: &str,
        _address: Option<&ObjectAddress>,
        range: Range<u64>,
    ) -> Reply<ObjectPart> {
        self.0.lock().expect("not poisoned").ranges.push(range.clone());
        self.serve("receive_object", |world| {
            let Some(object) = world.objects.get(hash) else { return refused(Code::NotFound) };
            let total = object.len() as u64;
            let end = range.end.min(total);
            let bytes = object[range.start as usize..end as usize].to_vec();
            Ok(ObjectPart { start: range.start, bytes, total })
        })
        .await
    }
}
