//! The world that a game server keeps beside its players: each change of a chunk is an operation, and the content of a
//! chunk says which.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend_client::HttpBackend;
use backend_client::platform::clock::Clock;
use backend_client::registration::Registration;
use backend_client::world_store::{Event, Setup, WorldStore};
use serde_json::{Map, Value, json};

use crate::ledger::report;

/// Time a change waits for company.
const DELAY: Duration = Duration::from_millis(50);
/// How long one attempt to take a world may last.
const TAKE: Duration = Duration::from_secs(3);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(100);

/// What worlds are made of, and the one that is open.
pub struct Worlds {
    backend: Arc<HttpBackend>,
    clock: Arc<dyn Clock>,
    registration: Registration,
    folder: PathBuf,
    open: Mutex<Option<WorldStore>>,
}

impl Worlds {
    /// No world is open yet; local copies are in `folder`.
    pub fn new(
        backend: Arc<HttpBackend>,
        clock: Arc<dyn Clock>,
        registration: Registration,
        folder: PathBuf,
    ) -> Self {
        Self { backend, clock, registration, folder, open: Mutex::new(None) }
    }

    fn world(&self) -> Option<WorldStore> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn setup(&self, world: &str) -> Setup {
        let world = world.to_owned();
        Setup {
            backend: self.backend.clone(),
            clock: self.clock.clone(),
            registration: self.registration.clone(),
            folder: self.folder.clone(),
            former_folders: Vec::new(),
            delay: DELAY,
            on_event: Arc::new(move |event| match event {
                Event::Saved { name, version } => {
                    report(
                        &json!({ "event": "chunk_saved", "world": world, "name": name, "version": version }),
                    );
                }
                Event::SaveFailed { name, error } => report(&json!({
                    "event": "chunk_failed", "world": world, "name": name, "error": error.to_string(),
                })),
                Event::PutAside { names, .. } => {
                    report(&json!({ "event": "chunks_put_aside", "world": world, "names": names }));
                }
                Event::LeaseLost => report(&json!({ "event": "world_lost", "world": world })),
                // Each change tells of itself.
                Event::SavedLocally { .. } => {}
            }),
        }
    }

    /// Takes a world, for as long as it takes, and says what is in it.
    pub async fn take(&self, world: &str, id: Option<u64>) {
        loop {
            match WorldStore::open(self.setup(world), world, TAKE).await {
                Ok(store) => {
                    *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
                    return self.show(id).await;
                }
                Err(error) => {
                    let error = error.to_string();
                    report(&json!({ "event": "world_not_opened", "world": world, "error": error }));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Changes a chunk.
    pub fn put(&self, name: &str, op: i64, size: usize) {
        let Some(world) = self.world() else { return };
        let world_id = world.world_id().to_owned();
        report(&json!({ "event": "chunk_attempted", "world": world_id, "name": name, "op": op }));
        let mut data = format!("{op} ").into_bytes();
        data.resize(data.len() + size, b'.');
        let Ok(ack) = world.put(name, data) else { return };
        let name = name.to_owned();
        tokio::spawn(async move {
            if ack.done().await.is_ok() {
                report(&json!({ "event": "chunk_journalled", "world": world_id, "name": name, "op": op }));
            }
        });
    }

    /// Says which operation each chunk holds.
    pub async fn show(&self, id: Option<u64>) {
        let Some(world) = self.world() else {
            return report(&json!({ "event": "no_world", "id": id }));
        };
        // What is acknowledged from here on need not be in it.
        report(&json!({ "event": "chunks_asked", "world": world.world_id(), "asked": id }));
        let mut chunks = Map::new();
        for name in world.names() {
            match world.get(&name).await {
                Ok(content) => {
                    let text = String::from_utf8_lossy(&content.data);
                    let op = text.split(' ').next().and_then(|op| op.parse::<i64>().ok());
                    chunks.insert(name, op.map_or(Value::Null, Value::from));
                }
                Err(error) => {
                    let error = error.to_string();
                    return report(&json!({ "event": "chunks_unreadable", "id": id, "error": error }));
                }
            }
        }
        report(&json!({ "event": "chunks", "world": world.world_id(), "id": id, "chunks": chunks }));
    }

    /// Sends what is left and lets the world go.
    pub async fn close(&self, within: Duration, id: Option<u64>) {
        let world = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(world) = world else { return report(&json!({ "event": "no_world", "id": id })) };
        let closed = world.close(within).await;
        report(&json!({
            "event": "world_closed", "world": world.world_id(), "id": id, "saved": closed.saved,
            "unsaved": closed.unsaved, "local": closed.local,
        }));
    }
}
