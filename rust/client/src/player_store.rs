//! Players' documents: loaded under a lease, changed in memory, journalled to local disk, sent behind the game's back.
//!
//! `save` returns at once. One task gives every change a number under the lease's epoch and writes it to the journal;
//! when that is durable, the save is acknowledged locally. Another task sends what is journalled, under that number and
//! for as long as it takes, and books what the backend made of it. What a dead process left in its journal is sent
//! before its players are loaded again.

mod conflicts;
mod document_source;
mod ended_leases;
mod equality;
mod flush;
mod handover;
mod journal_writer;
mod lease;
mod merge;
mod player;
pub(crate) mod refusals;
mod results;
mod rollback;
mod state;
mod uploader;

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use backend_protocol::limits;
use backend_protocol::player_store::Conflict;
use tokio::sync::{Notify, watch};

use crate::api::backend::Backend;
use crate::error::ClientError;
use crate::journal::JournalSource;
use crate::platform::clock::Clock;
use crate::registration::Registration;
use crate::sync::Condition;
use state::{JournalState, StoreState};

pub use crate::api::batch::{Batch, BatchItem};
pub use crate::document::{Content, RawJson};
pub use document_source::DocumentSource;
pub use equality::is_identical;
pub use flush::Flushed;
pub use merge::{GODOT_TYPE, Resolution, merge_patch};

/// Most bytes of unsent documents held in memory.
pub const MAX_BACKLOG_BYTES: usize = 256 * 1024 * 1024;

/// News of the store, told on a worker thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// These saves are durable on local disk: they reach the backend even if this process or machine dies now.
    Journalled(Vec<LocalSave>),
    /// The backend has committed the document.
    Saved {
        /// Whose document.
        player_id: String,
        /// Name of the document.
        key: String,
        /// Its version at the backend.
        version: i64,
        /// The change that is committed. See [`PlayerStore::save`]. 0: one of a server process before this one.
        revision: u64,
        /// Epoch it was saved under.
        epoch: i64,
        /// Its number within the epoch.
        sequence: i64,
    },
    /// The backend refused the document. It stays pending and is sent again, unless the error is not retryable and names a
    /// result of its own (`player_not_found`, `epoch_unknown`, `sequence_out_of_bounds`): such a save is given up.
    SaveFailed {
        /// Whose document.
        player_id: String,
        /// Name of the document.
        key: String,
        /// Why.
        error: ClientError,
    },
    /// Another server has taken the player over without waiting for this one. Saves are refused from now on.
    LeaseLost {
        /// The player.
        player_id: String,
    },
    /// A save came after another server had taken the player over. The backend keeps it, and tells that server.
    Conflicted {
        /// Whose document.
        player_id: String,
        /// Name of the document.
        key: String,
        /// Epoch it was saved under.
        epoch: i64,
        /// Its number within the epoch.
        sequence: i64,
    },
    /// A player of this server has a conflict to merge.
    ConflictFound(Conflict),
    /// The backend has lost what it had said to be saved: its database went back, because a backup was restored or another
    /// copy took over. Everything held is sent again, and becomes a conflict where another server has the player.
    RollbackDetected,
    /// Another server waits for this player: save the final state, then call [`PlayerStore::release`]. It is done anyway
    /// after two seconds.
    PlayerWanted {
        /// The player.
        player_id: String,
    },
    /// The journal cannot be used. Saves go on being sent, but are not safe before the backend has them.
    JournalFailed(ClientError),
    /// Something about the journal that the operator should know, while it works.
    JournalWarning(String),
    /// The journal works again.
    JournalRecovered,
    /// The backend does not take saves, or takes them again. At most once per second.
    BacklogChanged(Backlog),
}

/// A save that is durable on local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSave {
    /// Whose document.
    pub player_id: String,
    /// Name of the document.
    pub key: String,
    /// The change that is durable. See [`PlayerStore::save`].
    pub revision: u64,
    /// Epoch it was saved under.
    pub epoch: i64,
    /// Its number within the epoch.
    pub sequence: i64,
}

/// What waits for the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Documents the backend does not have.
    pub documents: usize,
    /// Those of them that are durable on local disk.
    pub journalled: usize,
    /// Their bytes of JSON.
    pub bytes: usize,
    /// Time since the oldest of them changed.
    pub oldest: Duration,
    /// Time the last committed document took from its change to its commit.
    pub last_flush: Duration,
}

/// Told about [`Event`]s, on a worker thread.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// How long changes wait for company on their way to the backend. The journal gets them at once.
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

/// One document as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The newest content, sent or not.
    pub content: Arc<Content>,
    /// Version last committed by the backend, 0 if none.
    pub version: i64,
}

/// What a store is made of.
pub struct Setup {
    /// Where documents go.
    pub backend: Arc<dyn Backend>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The server that holds the players.
    pub registration: Registration,
    /// Where unsent saves are kept on local disk.
    pub journal: Arc<dyn JournalSource>,
    /// How long changes wait for company.
    pub pace: Pace,
    /// Told what happens.
    pub on_event: OnEvent,
}

/// The documents of the players this server holds. Cheap to clone.
#[derive(Clone)]
pub struct PlayerStore(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    registration: Registration,
    journal: Arc<dyn JournalSource>,
    on_event: OnEvent,
    /// Progresses whenever something is journalled, settled, released or given up.
    held: Condition<StoreState>,
    wake_journal: Arc<Notify>,
    wake_sender: Arc<Notify>,
    /// Its sender lives as long as the task that has the journal open.
    journal_task: watch::Receiver<()>,
}

impl PlayerStore {
    /// An empty store. Its tasks run on the current tokio runtime until the last clone is dropped.
    pub fn new(setup: Setup) -> Self {
        let notices = setup.registration.notices();
        let (writing, journal_task) = watch::channel(());
        let inner = Arc::new(Inner {
            backend: setup.backend,
            clock: setup.clock,
            registration: setup.registration,
            journal: setup.journal,
            on_event: setup.on_event,
            held: Condition::new(StoreState::new(setup.pace)),
            wake_journal: Arc::new(Notify::new()),
            wake_sender: Arc::new(Notify::new()),
            journal_task,
        });
        let journalling = journal_writer::run(Arc::downgrade(&inner), Arc::clone(&inner.wake_journal));
        tokio::spawn(async move {
            let _until_it_ends = writing;
            journalling.await;
        });
        tokio::spawn(uploader::run(Arc::downgrade(&inner), Arc::clone(&inner.wake_sender)));
        tokio::spawn(handover::listen(Arc::downgrade(&inner), notices));
        Self(inner)
    }

    /// Resolves when the last clone is dropped and the journal is closed. Does not keep the store.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut journal_task = self.0.journal_task.clone();
        async move { while journal_task.changed().await.is_ok() {} }
    }

    /// Changes how long documents wait for company.
    pub fn set_pace(&self, pace: Pace) {
        {
            let mut state = self.0.lock();
            state.pace = pace;
            state.next_due = None;
        }
        self.0.wake_sender.notify_one();
    }

    /// Replaces a document. Costs microseconds, never blocks on disk or network, never waits. The number returned is
    /// that of the change; it grows with every change of the store. [`Event::Journalled`] and [`Event::Saved`] name the one
    /// they cover, and with it all earlier ones of the document since the player was loaded.
    pub fn save(&self, player_id: &str, key: &str, source: impl DocumentSource) -> Result<u64, ClientError> {
        self.try_save(player_id, key, source).inspect_err(|error| self.note_refused(player_id, key, error))
    }

    /// Counts a save that the game made, and that was refused before it came to [`Self::save`], and logs it. The next flush
    /// says so.
    pub fn note_refused(&self, player_id: &str, key: &str, error: &ClientError) {
        let now = self.0.clock.now();
        self.0.lock().note_refused(player_id, key, error, now);
    }

    /// Saves that were refused since the store was made.
    pub fn refused_count(&self) -> usize {
        self.0.lock().refusals.total()
    }

    fn try_save(&self, player_id: &str, key: &str, source: impl DocumentSource) -> Result<u64, ClientError> {
        limits::identifier("key", key, limits::MAX_DOCUMENT_KEY)?;
        let bytes = source.bytes()?;
        let now = self.0.clock.now();
        let revision = self.0.lock().save(player_id, key, source, bytes, now)?;
        // Which wakes the sender once there is something that may be sent: before, it would look through all that waits,
        // under the lock, at every save of a burst.
        self.0.wake_journal.notify_one();
        Ok(revision)
    }

    /// Changes a document by a merge patch (RFC 7396): members that are null are removed, objects are merged, anything else
    /// is replaced. Otherwise as [`Self::save`].
    pub fn merge_patch(&self, player_id: &str, key: &str, patch: &Content) -> Result<u64, ClientError> {
        let before = self.document(player_id, key).unwrap_or_default();
        self.save(player_id, key, merge_patch(&before, patch))
    }

    /// The newest content of a document, sent or not.
    pub fn document(&self, player_id: &str, key: &str) -> Option<Arc<Content>> {
        let body = self.0.lock().players.get(player_id)?.documents.get(key)?.body.clone();
        Some(Arc::clone(body.content()))
    }

    /// Documents that the backend has not committed yet.
    pub fn pending_count(&self) -> usize {
        self.0.lock().pending(None)
    }

    /// Documents that are neither durable on local disk nor at the backend.
    pub fn unjournalled_count(&self) -> usize {
        self.0.lock().unjournalled(None)
    }

    /// Whether a player is being released, and the backend has not answered whether it has all of the player's saves.
    pub fn awaits_release(&self) -> bool {
        self.0.lock().releases.values().any(|release| release.player.is_some())
    }

    /// Players this store holds.
    pub fn player_count(&self) -> usize {
        self.0.lock().players.len()
    }

    /// Whether this store holds the player, and saves of the player are accepted.
    pub fn is_holding(&self, player_id: &str) -> bool {
        self.0.lock().takes_saves_of(player_id)
    }

    /// The lease under which this store holds the player.
    #[cfg(feature = "test-util")]
    pub(crate) fn epoch_of(&self, player_id: &str) -> Option<i64> {
        let state = self.0.lock();
        state.players.get(player_id).filter(|_| state.takes_saves_of(player_id)).map(|player| player.epoch)
    }

    /// The game has handed in the final state of everybody: later saves are refused, nobody is loaded, and each player is
    /// let go as soon as the last save is at the backend. Until [`Self::unseal`].
    pub fn seal(&self) {
        {
            let mut state = self.0.lock();
            if std::mem::replace(&mut state.sealed, true) {
                return;
            }
            state.closing += 1;
            state.closed += 1;
            let all: Vec<Arc<str>> = state.players.keys().cloned().collect();
            state.releasing.extend(all);
            state.forget_released();
        }
        self.0.wake_sender.notify_one();
        self.0.progressed();
    }

    /// The process goes on after all.
    pub fn unseal(&self) {
        {
            let mut state = self.0.lock();
            if std::mem::replace(&mut state.sealed, false) {
                state.closing -= 1;
            }
            // What was not acknowledged, because its player was about to be released, is journalled and sent after all.
            state.rewrite = true;
        }
        self.0.wake_journal.notify_one();
    }

    /// What waits for the backend.
    pub fn backlog(&self) -> Backlog {
        self.0.lock().backlog(self.0.clock.now())
    }

    /// Whether it is still unknown what an earlier run left in the journal.
    pub fn is_recovering(&self) -> bool {
        self.0.lock().journal == JournalState::Opening
    }

    /// Saves of earlier runs in a journal that is not open yet. `None`: nobody could count them yet.
    pub(crate) fn left_by_earlier_runs(&self) -> Option<usize> {
        let state = self.0.lock();
        match state.is_taking_over {
            true => None,
            false if state.has_recovered => Some(0),
            false => state.counted_unopened,
        }
    }

    /// Whether it is known what earlier runs left in the journal. It is not before the journal was opened, and as long as
    /// it never could be.
    pub fn knows_what_was_left(&self) -> bool {
        self.0.lock().knows_what_was_left()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, StoreState> {
        self.held.lock()
    }

    fn server_id(&self) -> Result<String, ClientError> {
        self.registration.require_server_id()
    }

    fn tell(&self, news: impl IntoIterator<Item = Event>) {
        news.into_iter().for_each(|event| (self.on_event)(event));
    }

    /// Wakes those who wait for something to be journalled, settled or released.
    fn progressed(&self) {
        self.held.progressed();
    }

    async fn wait_until(&self, within: Duration, done: impl Fn(&StoreState) -> bool) -> bool {
        self.held.wait_until(&*self.clock, within, done).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The tasks hold no strong reference; wake them so that they see that nobody is left.
        self.wake_journal.notify_one();
        self.wake_sender.notify_one();
    }
}

fn lease_lost() -> ClientError {
    backend_protocol::Problem::new(
        backend_protocol::Code::LeaseLost,
        "another server holds the player now; nothing was overwritten",
    )
    .into()
}
