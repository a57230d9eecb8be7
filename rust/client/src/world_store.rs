//! A world: named binary chunks, held by this server under a lease, with a copy on local disk.
//!
//! [`WorldStore::put`] hands the bytes over and returns at once. A worker compresses and hashes them, writes them to the
//! local copy and notes them in an index; then they are durable here, and acknowledged. What the backend lacks of them is
//! sent, and the names are committed in order. A commit has a number, given before it is first sent, so that a lost reply
//! applies nothing twice. What was not committed when the process ended is committed by the next one that opens the world,
//! under the epoch it was made under; if another server has taken the world since, it is put aside on disk, never dropped.

mod flush;
mod index;
mod index_format;
mod local_writer;
mod object_cache;
mod open;
mod queue;
mod read;
mod rollback;
mod shutdown;
mod state;
#[cfg(feature = "test-util")]
mod test_util;
mod uploader;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_protocol::world_store::{MAX_CHUNK_BYTES, ReleaseWorld, chunk_name};
use backend_protocol::{Code, Problem};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinSet;

use self::flush::FlushGuard;
use self::index::Index;
use self::object_cache::ObjectCache;
use self::rollback::Doubt;
use self::state::{Incoming, State};
use crate::api::backend::worlds::WorldBackend;
use crate::api::retry;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::registration::Registration;
use crate::shutdown::Store;
use crate::sync::Condition;

pub use self::open::count_left;
pub use self::shutdown::UnopenedWorld;

/// Most raw bytes of chunks that wait to be written to local disk.
pub const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Most objects on the wire at a time, in each direction.
const IN_FLIGHT: usize = 4;
/// How often a world that is being released is compared at most. A backend that never has what it says it has is not to be asked
/// for ever.
const MAX_COMPARISONS: u32 = 10;
/// Most bytes of objects on the wire at a time, in each direction, in KiB. One object always fits.
const IN_FLIGHT_KIB: usize = 33 * 1024;

/// News of a world, told on a worker thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The change of a chunk is durable on local disk.
    SavedLocally {
        /// Name of the chunk.
        name: String,
    },
    /// The backend has committed the change of a chunk.
    Saved {
        /// Name of the chunk.
        name: String,
        /// Version of the world that holds it.
        version: i64,
    },
    /// A change was not made durable, or the backend refuses it. In the latter case it is sent again.
    SaveFailed {
        /// Name of the chunk.
        name: String,
        /// Why.
        error: ClientError,
    },
    /// Another server has taken the world. Nothing more is taken or sent.
    LeaseLost,
    /// Changes that cannot be committed any more, because another server took the world before or the local copy's index is
    /// damaged, were put aside.
    PutAside {
        /// Where they are: `changes.json` and their objects, or the whole local copy.
        folder: PathBuf,
        /// Names of the chunks; empty for a damaged local copy.
        names: Vec<String>,
    },
}

/// Told about [`Event`]s, on a worker thread.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// What a world store needs.
#[derive(Clone)]
pub struct Setup {
    /// Where the world is kept.
    pub backend: Arc<dyn WorldBackend>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The server that holds the world.
    pub registration: Registration,
    /// Where local copies are kept, each in a folder of the world's id.
    pub folder: PathBuf,
    /// Where an earlier version kept them for the same backend.
    pub former_folders: Vec<PathBuf>,
    /// How long a change waits for company before it is sent.
    pub delay: Duration,
    /// Told what happens.
    pub on_event: OnEvent,
}

/// What a flush achieved, in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Committed by the backend.
    pub saved: usize,
    /// Still waiting for the backend.
    pub unsaved: usize,
    /// Of the unsaved: durable on local disk. The next process that opens the world sends them.
    pub local: usize,
    /// Chunks whose last change was refused: what the game handed in is nowhere.
    pub refused: usize,
}

impl From<Flushed> for crate::player_store::Flushed {
    fn from(Flushed { saved, unsaved, local, refused }: Flushed) -> Self {
        Self { saved, unsaved, journalled: local, refused, ..Self::default() }
    }
}

/// The content of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkContent {
    /// The raw bytes.
    pub data: Arc<Vec<u8>>,
    /// Version of the world that wrote it, 0 while the backend does not have it.
    pub version: i64,
}

/// Resolves when a change is durable on local disk, or is known not to become so.
pub struct LocalAck(oneshot::Receiver<Result<(), ClientError>>);

impl LocalAck {
    /// Waits for it.
    pub async fn done(self) -> Result<(), ClientError> {
        self.0.await.unwrap_or_else(|_| Err(ClientError::new(Fault::Cancelled, "the world was closed")))
    }
}

/// A world this server holds. Cheap to clone; the last clone that goes stops the work, and lets nothing go.
#[derive(Clone)]
pub struct WorldStore(Arc<Handle>);

/// Stops the work when the last handle goes.
struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Deref for Handle {
    type Target = Arc<Inner>;

    fn deref(&self) -> &Arc<Inner> {
        &self.0
    }
}

struct Inner {
    setup: Setup,
    world_id: String,
    object_cache: ObjectCache,
    /// Also orders every change of what is waiting and outgoing, so that file and memory say the same.
    index: tokio::sync::Mutex<KeptIndex>,
    /// Progresses whenever it changes.
    state: Condition<State>,
    wake_keeper: Notify,
    wake_sender: Notify,
    places: Arc<Semaphore>,
    budget: Arc<Semaphore>,
    reading: Semaphore,
    reading_budget: Semaphore,
    /// Downloads in progress, by hash: two of the same object would write the same file.
    downloads: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    tasks: Mutex<JoinSet<()>>,
}

struct KeptIndex {
    /// `None` once the world is closed.
    index: Option<Index>,
    /// A write failed: the file is opened anew before the next.
    failed: bool,
}

impl WorldStore {
    /// Takes a world and reads which chunks it has, at most `within`. What an earlier process left uncommitted is
    /// committed first. While another server holds the world, it is asked for again and again.
    pub async fn open(setup: Setup, world_id: &str, within: Duration) -> Result<Self, ClientError> {
        Self::open_counted(setup, world_id, within, drop).await
    }

    /// [`Self::open`]. `on_recovered` is called once it is known what an earlier process left, with what counts it for a
    /// shutdown until the world is open.
    pub async fn open_counted(
        setup: Setup,
        world_id: &str,
        within: Duration,
        on_recovered: impl FnOnce(Arc<dyn Store>) + Send,
    ) -> Result<Self, ClientError> {
        let opened = open::open(setup, world_id, within, on_recovered).await;
        opened.map(|inner| Self(Arc::new(Handle(inner))))
    }

    /// Id of the world.
    pub fn world_id(&self) -> &str {
        &self.0.world_id
    }

    /// Changes a chunk. Costs as much as taking the bytes; never waits for disk or network. A change that waits while
    /// another one of the same chunk is made may be left out.
    pub fn put(&self, name: &str, data: Vec<u8>) -> Result<LocalAck, ClientError> {
        if data.len() > MAX_CHUNK_BYTES {
            let rule = format!("must have at most {MAX_CHUNK_BYTES} bytes, has {}", data.len());
            let error = ClientError::field("data", rule);
            self.note_refused(name, &error);
            return Err(error);
        }
        self.change(name, Some(Arc::new(data)))
    }

    /// Removes a chunk. Removing what is not there changes nothing.
    pub fn remove(&self, name: &str) -> Result<LocalAck, ClientError> {
        self.change(name, None)
    }

    fn note_refused(&self, name: &str, error: &ClientError) {
        let now = self.0.setup.clock.now();
        let mut state = self.0.lock();
        // In a shutdown, one line has to do.
        let topic = if state.sealed { "" } else { name };
        state.refusals.note(&self.0.world_id, name, topic, error, now);
    }

    /// Changes that were refused since the world was opened.
    pub fn refused_count(&self) -> usize {
        self.0.lock().refusals.total()
    }

    /// Chunks whose last change was refused.
    pub fn refused_names(&self) -> usize {
        self.0.lock().refusals.count(None)
    }

    fn change(&self, name: &str, data: Option<Arc<Vec<u8>>>) -> Result<LocalAck, ClientError> {
        self.try_change(name, data).inspect_err(|error| self.note_refused(name, error))
    }

    fn try_change(&self, name: &str, data: Option<Arc<Vec<u8>>>) -> Result<LocalAck, ClientError> {
        chunk_name("name", name)?;
        let bytes = data.as_ref().map_or(0, |data| data.len());
        let mut state = self.0.lock();
        if state.lost {
            return Err(lease_lost());
        }
        if state.sealed {
            let message = "the server shuts down: collect_saves was the last moment to save";
            return Err(ClientError::new(Fault::ShuttingDown, message));
        }
        if state.closing {
            return Err(ClientError::new(Fault::Cancelled, "the world is being closed"));
        }
        let freed = state.incoming.get(name).map_or(0, Incoming::bytes);
        let waiting = state.incoming_bytes - freed + bytes;
        if waiting > MAX_WAITING_BYTES {
            let message = format!("more than {MAX_WAITING_BYTES} bytes wait to be written to local disk");
            let mut error = ClientError::new(Fault::BacklogFull, message);
            error.retryable = true;
            return Err(error);
        }
        let (told, ack) = oneshot::channel();
        let mut acks = vec![told];
        state.changes += 1;
        let mut since = state.changes;
        if let Some(before) = state.incoming.get_mut(name) {
            // Covered by this change: whoever waits for it waits for this one.
            acks.append(&mut before.acks);
            since = before.since;
        }
        state.incoming.push(name, Incoming { data, since, acks });
        state.incoming_bytes = waiting;
        state.refusals.clear(&self.0.world_id, name);
        drop(state);
        self.0.wake_keeper.notify_one();
        Ok(LocalAck(ack))
    }

    /// Reads the newest content of a chunk, committed or not: from memory, from the local copy, else from the backend.
    pub async fn get(&self, name: &str) -> Result<ChunkContent, ClientError> {
        read::get(&self.0, name).await
    }

    /// Names of all chunks, uncommitted changes included, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().names()
    }

    /// Whether there is a chunk of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.lock().find(name).is_some()
    }

    /// Chunks whose change the backend has not committed yet.
    pub fn pending_count(&self) -> usize {
        self.0.lock().pending_count()
    }

    /// Chunks whose change is not durable on local disk yet.
    pub fn unkept_count(&self) -> usize {
        self.0.lock().unkept_count()
    }

    /// Whether [`Self::close`] was called: no changes are taken any more.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closing
    }

    /// Whether the backend went back, and what it lacks is not known yet.
    pub fn must_compare(&self) -> bool {
        let state = self.0.lock();
        state.must_compare && !state.lost
    }

    /// Whether another server has taken the world.
    pub fn is_lost(&self) -> bool {
        self.0.lock().lost
    }

    /// The final state is in, because the process ends: later changes are refused.
    pub fn seal(&self) {
        self.0.lock().sealed = true;
        self.begin_close();
    }

    /// Takes no more changes from now on. [`Self::close`] begins with it.
    pub fn begin_close(&self) {
        self.0.lock().closing = true;
    }

    /// Whether the backend has not answered yet whether it has all that it confirmed of the world.
    pub fn awaits_release(&self) -> bool {
        let state = self.0.lock();
        state.saved_sequence.is_some() && !state.lost && !state.released
    }

    /// Takes no more changes, flushes, and lets the world go if nothing is left unsaved. Otherwise the lease stays, and
    /// the next process that opens the world here sends what is left. The store is of no use afterwards.
    pub async fn close(&self, within: Duration) -> Flushed {
        let begun = self.0.setup.clock.now();
        self.begin_close();
        let flushed = self.flush(within).await;
        let left = within.saturating_sub(self.0.setup.clock.now().saturating_duration_since(begun));
        if flushed.unsaved == 0 && !self.is_lost() {
            tokio::select! {
                () = self.0.release_lease(left) => {}
                () = self.0.setup.clock.sleep(left) => {}
            }
        }
        if flushed.unsaved == 0 || self.is_lost() {
            // Whether the backend heard of it or not: nothing keeps the lease any more.
            self.0.setup.registration.drop_world(&self.0.world_id);
        }
        self.0.stop();
        // For the next process, or the next store of this one.
        if let Some(index) = self.0.index.lock().await.index.take() {
            index.close().await;
        }
        flushed
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn tell(&self, event: Event) {
        (self.setup.on_event)(event);
    }

    fn progressed(&self) {
        self.state.progressed();
    }

    async fn wait_until(&self, within: Duration, done: impl Fn(&State) -> bool) {
        self.state.wait_until(&*self.setup.clock, within, done).await;
    }

    fn server_id(&self) -> Result<String, ClientError> {
        self.setup.registration.require_server_id()
    }

    /// Releases the lease. If that fails, it runs out by itself. What the backend turns out to lack is waited for at most
    /// `within`.
    async fn release_lease(&self, within: Duration) {
        let mut server_id = self.lock().session.server_id.clone();
        let key = self.setup.registration.key();
        let mut comparisons = 0;
        for attempt in 0.. {
            let is_compared = comparisons < MAX_COMPARISONS;
            let (body, is_behind) = {
                let state = self.lock();
                let body = ReleaseWorld {
                    server_id: server_id.clone(),
                    epoch: state.session.epoch,
                    saved_version: is_compared.then_some(state.version),
                    saved_sequence: state.saved_sequence.filter(|_| is_compared),
                };
                // The game's changes are committed: what waits is what a comparison found.
                (body, state.must_compare || state.pending_count() > 0)
            };
            let released = if is_behind && is_compared {
                Err(Problem::new(Code::RolledBack, "the backend lacks chunks that it had confirmed").into())
            } else {
                self.setup.backend.release_world(key, &self.world_id, &body).await
            };
            match released {
                Ok(()) => break,
                // The database went back: what is missing is committed again before anybody else opens the world.
                Err(error) if error.is(Code::RolledBack) => match self.commit_again(Doubt::Certain).await {
                    Ok(()) => {
                        let _all_due = FlushGuard::begin(self);
                        self.wait_until(within, |state| state.lost || state.pending_count() == 0).await;
                        // What could not be committed in time is for the next process, under this lease.
                        if self.lock().lost || self.lock().pending_count() > 0 {
                            return;
                        }
                        // It may go back once more before it has released the world.
                        comparisons += 1;
                    }
                    Err(error) => {
                        tracing::warn!(code = error.code(), "the world is not released yet: {error}");
                        self.setup.clock.sleep(retry::backoff(attempt)).await;
                    }
                },
                // Others wait for the world until the lease is over: it is worth another try. A backend that does not know the
                // server may have gone back to before it was registered: it is asked again once the server is listed.
                Err(error) if error.is_unanswered() || error.is(Code::ServerUnknown) => {
                    tracing::warn!(code = error.code(), "the world is not released yet: {error}");
                    self.setup.clock.sleep(retry::backoff(attempt)).await;
                    if error.is(Code::ServerUnknown)
                        && let Ok(listed) = self.server_id()
                    {
                        server_id = listed;
                    }
                }
                Err(error) => {
                    tracing::warn!(code = error.code(), "the world is not released: {error}");
                    self.lock().released = true;
                    return;
                }
            }
        }
        self.lock().released = true;
        if let Some(index) = &mut self.index.lock().await.index
            && let Err(error) = index.end_session().await
        {
            tracing::debug!(%error, "the next process will release the world once more");
        }
    }

    fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

fn lease_lost() -> ClientError {
    Problem::new(Code::LeaseLost, "another server holds the world now; nothing was overwritten").into()
}

fn storage(error: impl std::fmt::Display) -> ClientError {
    ClientError::new(Fault::Storage, format!("the world's local copy: {error}"))
}

/// Runs blocking `work` on the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(storage),
        Err(error) => Err(ClientError::new(Fault::Internal, format!("disk worker: {error}"))),
    }
}
