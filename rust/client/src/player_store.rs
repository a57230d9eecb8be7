//! Players' documents: loaded under a lease, changed in memory, sent behind the game's back.
//!
//! `save` returns at once. A document stays dirty until the backend has committed it, however long that takes; what is
//! saved again before it was sent replaces what was waiting. Each attempt carries the lease's epoch and a sequence:
//! the same content sent again keeps its sequence, so a lost reply applies nothing twice.

mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend_protocol::limits;
use backend_protocol::player_store::{LoadPlayers, document};
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock::Clock;
use crate::error::{ClientError, Fault};
use crate::registration::Registration;

/// Most bytes of unsent documents held in memory.
pub const MAX_BACKLOG_BYTES: usize = 256 * 1024 * 1024;

/// A document's content.
pub type Content = Map<String, Value>;

/// News of the store, told on a worker thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The backend has committed the document.
    Saved {
        /// Whose document.
        player_id: String,
        /// Name of the document.
        key: String,
        /// Its version at the backend.
        version: i64,
    },
    /// The backend refused the document. With `lease_lost` it is no longer sent.
    SaveFailed {
        /// Whose document.
        player_id: String,
        /// Name of the document.
        key: String,
        /// Why.
        error: ClientError,
    },
}

/// Told about [`Event`]s, on a worker thread.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// How long changes wait for company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time without further changes after which a document is sent.
    pub debounce: Duration,
    /// Longest time a changed document waits.
    pub max_delay: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { debounce: Duration::from_millis(500), max_delay: Duration::from_secs(5) }
    }
}

/// What a flush achieved, in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Committed by the backend.
    pub saved: usize,
    /// Still waiting, or refused.
    pub unsaved: usize,
}

/// One document as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The newest content, sent or not.
    pub content: Arc<Content>,
    /// Version last committed by the backend, 0 if none.
    pub version: i64,
}

/// The documents of the players this server holds. Cheap to clone.
#[derive(Clone)]
pub struct PlayerStore(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    registration: Registration,
    on_event: OnEvent,
    held: Mutex<Held>,
    wake: Arc<Notify>,
    /// Changes whenever a document is settled or refused, for those who wait for a flush.
    settled: watch::Sender<u64>,
}

struct Held {
    pace: Pace,
    players: HashMap<String, Player>,
    backlog_bytes: usize,
    /// Flushes in progress: while there are any, everything dirty is due.
    flushing: usize,
}

struct Player {
    epoch: i64,
    next_sequence: i64,
    /// Another server has taken the player over.
    lost: bool,
    /// Forget the player once nothing is dirty.
    leaving: bool,
    documents: HashMap<String, Document>,
}

#[derive(Default)]
struct Document {
    content: Arc<Content>,
    bytes: usize,
    version: i64,
    /// Counts changes, so that a reply settles only what it was sent for.
    generation: u64,
    dirty: Option<Dirty>,
    /// The last attempt, if its outcome is unknown.
    sent: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Dirty {
    first: Instant,
    last: Instant,
}

#[derive(Clone, Copy)]
struct Sent {
    epoch: i64,
    sequence: i64,
    generation: u64,
}

impl PlayerStore {
    /// An empty store whose writer runs on the current tokio runtime until the last clone is dropped.
    pub fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        registration: Registration,
        pace: Pace,
        on_event: OnEvent,
    ) -> Self {
        let held = Held { pace, players: HashMap::new(), backlog_bytes: 0, flushing: 0 };
        let inner = Arc::new(Inner {
            backend,
            clock,
            registration,
            on_event,
            held: Mutex::new(held),
            wake: Arc::new(Notify::new()),
            settled: watch::channel(0).0,
        });
        tokio::spawn(writer::run(Arc::downgrade(&inner), Arc::clone(&inner.wake)));
        Self(inner)
    }

    /// Changes how long documents wait for company.
    pub fn set_pace(&self, pace: Pace) {
        self.0.lock().pace = pace;
        self.0.wake.notify_one();
    }

    /// Takes a player over and reads the documents. What is dirty here stays as it is: it is newer.
    pub async fn load(&self, player_id: &str) -> Result<HashMap<String, Snapshot>, ClientError> {
        let server_id = self.0.server_id()?;
        let body = LoadPlayers { server_id, player_ids: vec![player_id.to_owned()] };
        let reply = self.0.backend.load_players(self.0.registration.key(), &body).await?;
        let loaded = reply.players.into_iter().find(|player| player.player_id == player_id);
        let Some(loaded) = loaded else {
            return Err(backend_protocol::Problem::new(
                backend_protocol::Code::PlayerNotFound,
                "the backend does not know this player",
            )
            .into());
        };
        let mut held = self.0.lock();
        let player = held.players.entry(player_id.to_owned()).or_insert_with(|| Player {
            epoch: 0,
            next_sequence: 1,
            lost: false,
            leaving: false,
            documents: HashMap::new(),
        });
        if player.epoch != loaded.epoch {
            player.next_sequence = 1;
        }
        player.epoch = loaded.epoch;
        player.next_sequence = player.next_sequence.max(loaded.sequence.saturating_add(1));
        player.lost = false;
        player.leaving = false;
        for fresh in loaded.documents {
            let document = player.documents.entry(fresh.key).or_default();
            document.version = document.version.max(fresh.version);
            if document.dirty.is_none() {
                document.content = Arc::new(fresh.value);
            }
        }
        Ok(player.snapshots())
    }

    /// Replaces a document. Costs microseconds, never blocks on the network, never waits.
    pub fn save(&self, player_id: &str, key: &str, content: Content) -> Result<(), ClientError> {
        limits::identifier("key", key, limits::MAX_DOCUMENT_KEY)?;
        let bytes = document("value", &content)?;
        let now = self.0.clock.now();
        let mut held = self.0.lock();
        let backlog = held.backlog_bytes;
        let Some(player) = held.players.get_mut(player_id) else {
            return Err(ClientError::new(Fault::NotLoaded, "load the player before saving"));
        };
        if player.lost {
            return Err(lease_lost());
        }
        let before = player.documents.get(key);
        // Autosave hands in everything: what the backend has already is not sent again.
        if before.is_some_and(|known| known.dirty.is_none() && known.version > 0 && *known.content == content)
        {
            return Ok(());
        }
        let freed = before.filter(|document| document.dirty.is_some()).map_or(0, |document| document.bytes);
        let backlog = backlog - freed + bytes;
        if backlog > MAX_BACKLOG_BYTES {
            let message = format!("more than {MAX_BACKLOG_BYTES} bytes are waiting for the backend");
            return Err(ClientError::new(Fault::BacklogFull, message));
        }
        let document = player.documents.entry(key.to_owned()).or_default();
        document.content = Arc::new(content);
        document.bytes = bytes;
        document.generation += 1;
        let first = document.dirty.map_or(now, |dirty| dirty.first);
        document.dirty = Some(Dirty { first, last: now });
        held.backlog_bytes = backlog;
        drop(held);
        self.0.wake.notify_one();
        Ok(())
    }

    /// The newest content of a document, sent or not.
    pub fn document(&self, player_id: &str, key: &str) -> Option<Arc<Content>> {
        let held = self.0.lock();
        let document = held.players.get(player_id)?.documents.get(key)?;
        Some(Arc::clone(&document.content))
    }

    /// Documents that the backend has not committed yet.
    pub fn dirty_count(&self) -> usize {
        self.0.lock().dirty(None)
    }

    /// Players this store holds.
    pub fn player_count(&self) -> usize {
        self.0.lock().players.len()
    }

    /// Sends everything that is dirty, of one player or of all, and waits until it is committed or `within` is over.
    /// What is left stays dirty and goes on being sent.
    pub async fn flush(&self, player_id: Option<&str>, within: Duration) -> Flushed {
        let before = self.0.lock().dirty(player_id);
        let lost_before = self.0.lock().lost(player_id);
        if before == 0 {
            return Flushed { saved: 0, unsaved: lost_before };
        }
        let _all_due = AllDue::begin(&self.0);
        let mut settled = self.0.settled.subscribe();
        let everything = async {
            while self.0.lock().dirty(player_id) > 0 {
                if settled.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = everything => {}
            () = self.0.clock.sleep(within) => {}
        }
        let held = self.0.lock();
        let unsaved = held.dirty(player_id) + held.lost(player_id);
        Flushed { saved: (before + lost_before).saturating_sub(unsaved), unsaved }
    }

    /// Flushes a player and forgets them; with something left unsaved, forgets them once it is committed.
    pub async fn release(&self, player_id: &str, within: Duration) -> Flushed {
        let flushed = self.flush(Some(player_id), within).await;
        let mut held = self.0.lock();
        if let Some(player) = held.players.get_mut(player_id) {
            player.leaving = true;
        }
        held.forget_leavers();
        flushed
    }
}

/// While this lives, nothing waits for company.
struct AllDue<'a>(&'a Inner);

impl<'a> AllDue<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.lock().flushing += 1;
        inner.wake.notify_one();
        Self(inner)
    }
}

impl Drop for AllDue<'_> {
    fn drop(&mut self) {
        self.0.lock().flushing -= 1;
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server_id(&self) -> Result<String, ClientError> {
        self.registration
            .server_id()
            .ok_or_else(|| ClientError::new(Fault::NotRegistered, "register the server first"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer holds no strong reference; wake it so that it sees that nobody is left.
        self.wake.notify_one();
    }
}

impl Held {
    fn of<'a>(&'a self, player_id: Option<&'a str>) -> impl Iterator<Item = &'a Player> {
        self.players
            .iter()
            .filter(move |(id, _)| player_id.is_none_or(|wanted| wanted == *id))
            .map(|(_, player)| player)
    }

    fn dirty(&self, player_id: Option<&str>) -> usize {
        let of_player =
            |player: &Player| player.documents.values().filter(|document| document.dirty.is_some()).count();
        self.of(player_id).filter(|player| !player.lost).map(of_player).sum()
    }

    /// Documents that were dirty when their player was lost.
    fn lost(&self, player_id: Option<&str>) -> usize {
        let of_player =
            |player: &Player| player.documents.values().filter(|document| document.dirty.is_some()).count();
        self.of(player_id).filter(|player| player.lost).map(of_player).sum()
    }

    fn forget_leavers(&mut self) {
        let mut freed = 0;
        self.players.retain(|_, player| {
            let clean = player.documents.values().all(|document| document.dirty.is_none());
            let forget = player.leaving && (clean || player.lost);
            if forget {
                let dirty = player.documents.values().filter(|document| document.dirty.is_some());
                freed += dirty.map(|document| document.bytes).sum::<usize>();
            }
            !forget
        });
        self.backlog_bytes = self.backlog_bytes.saturating_sub(freed);
    }
}

impl Player {
    fn snapshots(&self) -> HashMap<String, Snapshot> {
        let snapshot = |document: &Document| Snapshot {
            content: Arc::clone(&document.content),
            version: document.version,
        };
        self.documents.iter().map(|(key, document)| (key.clone(), snapshot(document))).collect()
    }
}

fn lease_lost() -> ClientError {
    backend_protocol::Problem::new(
        backend_protocol::Code::LeaseLost,
        "another server holds the player now; nothing was overwritten",
    )
    .into()
}

#[cfg(test)]
#[path = "player_store_tests.rs"]
mod tests;
