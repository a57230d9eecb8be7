//! Taking a world: what an earlier process left is dealt with before anybody sees the world.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use backend_protocol::Code;
use backend_protocol::world_store::{
    Chunk, ChunkQuery, MAX_CHUNK_BYTES, MAX_CHUNK_PAGE, OpenWorld, ReleaseWorld, chunk_name, object_hash,
    world_id,
};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use super::index::{Index, IndexError, Recovered};
use super::index_format::Session;
use super::local_writer::Write;
use super::object_cache::ObjectCache;
use super::state::{Committed, State};
use super::uploader::{Delivery, Sent};
use super::{
    Event, IN_FLIGHT, IN_FLIGHT_KIB, Inner, KeptIndex, Setup, local_writer, on_disk, rollback, storage,
    uploader,
};
use crate::error::{ClientError, Fault};
use crate::journal::passing_volume;
use crate::platform::private_files::make_folder;
use crate::player_store::Flushed;
use crate::registration::BackendIdentity;
use crate::shutdown::{Pending, Store};
use crate::sync::Condition;

/// Comes after a world's id in the name of a local copy that was put aside. `~` is in no world's id.
const DAMAGED: &str = "~damaged-";
/// Pause between two questions whether the world is free.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Chunks whose change is in a local copy of the world below `folder`, for whichever backend, and not with that one. Nothing
/// is made that is not there. A copy that was put aside because its index is damaged is an error: nobody knows what it has.
pub async fn count_left(folder: &Path, world: &str) -> Result<usize, String> {
    let (below, prefix) = (folder.to_owned(), format!("{world}~"));
    let copies = tokio::task::spawn_blocking(move || copies_below(&below, &prefix));
    let beside = copies.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let mut count = 0;
    for copy in std::iter::once(folder.join(world)).chain(beside) {
        count += count_in(&copy, world).await?;
    }
    Ok(count)
}

async fn count_in(copy: &Path, world: &str) -> Result<usize, String> {
    let file = copy.join("index.db");
    let is_there =
        tokio::task::spawn_blocking(move || file.try_exists()).await.map_err(|error| error.to_string())?;
    if !is_there.map_err(|error| error.to_string())? {
        return Ok(0);
    }
    let name = copy.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(&format!("{world}{DAMAGED}")) {
        return Err(format!("{} was put aside because its index is damaged", copy.display()));
    }
    let recovered = Index::left_in(copy).await.map_err(|error| format!("{}: {error}", copy.display()))?;
    if recovered.missing > 0 {
        return Err(format!(
            "{}: {} commits are missing at the end of its index",
            copy.display(),
            recovered.missing
        ));
    }
    let changes = recovered.outgoing.iter().chain(&recovered.waiting);
    Ok(changes.map(|change| &change.name).collect::<HashSet<_>>().len())
}

/// Folders whose names begin so.
fn copies_below(folder: &Path, prefix: &str) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let begins =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    paths.filter(|path| path.as_ref().map_or(true, begins)).collect()
}

/// A world that is being opened, for a shutdown: what an earlier process left of it is being sent.
struct Opening(Weak<Inner>);

#[async_trait]
impl Store for Opening {
    fn pending(&self) -> Pending {
        // Whoever opened it has been told that it failed, and looks at the local copy instead.
        let Some(inner) = self.0.upgrade() else { return Pending::default() };
        let documents = inner.lock().pending_count();
        Pending { documents, journalled: documents, may_be_more: false }
    }

    fn seal(&self) {}

    async fn flush_local(&self, _within: Duration) -> usize {
        0
    }

    async fn flush(&self, within: Duration) -> Flushed {
        let before = self.pending().documents;
        if let Some(inner) = self.0.upgrade() {
            inner.wait_until(within, |state| state.pending_count() == 0).await;
        }
        // One that could not be opened has sent nothing that anybody knows of.
        let unsaved = if self.0.strong_count() > 0 { self.pending().documents } else { before };
        Flushed { saved: before.saturating_sub(unsaved), unsaved, journalled: unsaved, ..Flushed::default() }
    }

    async fn release(&self, _within: Duration) -> Flushed {
        let unsaved = self.pending().documents;
        Flushed { unsaved, journalled: unsaved, ..Flushed::default() }
    }
}

pub(super) async fn open(
    setup: Setup,
    world: &str,
    within: Duration,
    on_recovered: impl FnOnce(Arc<dyn Store>) + Send,
) -> Result<Arc<Inner>, ClientError> {
    world_id("world_id", world)?;
    let deadline = setup.clock.now() + within;
    if setup.registration.backend().is_none() {
        // Whose changes the local copy has can be said only when it is known which backend this is.
        return Err(ClientError::new(Fault::NotRegistered, "register the server first"));
    }
    let (object_cache, index, recovered) = open_cache(&setup, world, deadline).await?;
    let Recovered { session, unproven, outgoing, waiting, missing } = recovered;
    if missing > 0 {
        tracing::error!(
            folder = %setup.folder.join(world).display(),
            "{missing} commits are missing at the end of the world's index: changes that were acknowledged may be lost"
        );
    }
    let predecessor = session.clone();
    let session = session.unwrap_or(Session { server_id: String::new(), epoch: 0, sequence: 0, version: 0 });
    let inner = Arc::new(Inner {
        world_id: world.to_owned(),
        object_cache,
        index: tokio::sync::Mutex::new(KeptIndex { index: Some(index), failed: false }),
        state: Condition::new(State::new(session, outgoing, waiting)),
        wake_keeper: Notify::new(),
        wake_sender: Notify::new(),
        places: Arc::new(Semaphore::new(IN_FLIGHT)),
        budget: Arc::new(Semaphore::new(IN_FLIGHT_KIB)),
        reading: Semaphore::new(IN_FLIGHT),
        reading_budget: Semaphore::new(IN_FLIGHT_KIB),
        downloads: Mutex::default(),
        tasks: Mutex::default(),
        setup,
    });
    on_recovered(Arc::new(Opening(Arc::downgrade(&inner))));
    // From before the list is read: a restore in between is not missed.
    let notices = inner.setup.registration.notices();
    let taken = async {
        if let Some(predecessor) = predecessor {
            inner.finish_for(&predecessor, unproven, missing > 0).await?;
        }
        inner.take(deadline).await?;
        inner.read_chunks().await
    };
    let left = deadline.saturating_duration_since(inner.setup.clock.now());
    let ready = tokio::select! {
        taken = taken => taken,
        () = inner.setup.clock.sleep(left) => {
            let message = format!("the world was not open within {:.1} s", within.as_secs_f64());
            Err(ClientError::new(Fault::Timeout, message))
        }
    };
    if let Err(error) = ready {
        // Changes left from before are sent under the lease they were made under, if it is kept that long.
        if !inner.lock().has_changes() {
            inner.setup.registration.drop_world(world);
        }
        return Err(error);
    }
    inner.sweep().await?;
    let mut tasks = inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tasks.spawn(local_writer::run(Arc::clone(&inner)));
    tasks.spawn(uploader::run(Arc::clone(&inner)));
    tasks.spawn(rollback::listen(Arc::downgrade(&inner), notices));
    drop(tasks);
    Ok(inner)
}

/// Opens the local copy. One whose index is damaged is put aside as it is, because nobody can say any more which of its
/// objects were acknowledged, and another one takes its place. One that has changes for another backend stays where it is,
/// damaged or not.
async fn open_cache(
    setup: &Setup,
    world: &str,
    deadline: Instant,
) -> Result<(ObjectCache, Index, Recovered), ClientError> {
    if let Some(why) = passing_volume(&setup.folder) {
        tracing::warn!(folder = %setup.folder.display(), "unsent chunks do not survive the container: {why}");
    }
    let backend = setup.registration.backend();
    let backend = backend.as_ref().and_then(BackendIdentity::known);
    let mut folder = setup.folder.join(world);
    take_from_former(setup, world, &folder, backend).await?;
    // `~` is in no world's id.
    let beside = setup.folder.join(format!("{world}~{}", plain(backend.unwrap_or("untold"))));
    if beside.exists() {
        folder.clone_from(&beside);
    }
    let mut damage_seen = false;
    loop {
        let at = folder.clone();
        let object_cache = on_disk(move || ObjectCache::open(&at)).await?;
        match Index::open(&folder, backend).await {
            // They are kept for a server of that one.
            Err(error @ IndexError::Foreign(_)) if folder != beside => {
                tracing::warn!(folder = %folder.display(), "{error}: this server keeps its copy beside it");
                folder.clone_from(&beside);
            }
            // A process that is just leaving has it for a moment longer.
            Err(IndexError::InUse) if setup.clock.now() + RETRY_INTERVAL < deadline => {
                setup.clock.sleep(RETRY_INTERVAL).await;
            }
            Err(error @ IndexError::Damaged(_)) => match Index::other_owner(&folder, backend).await {
                Err(_) if setup.clock.now() + RETRY_INTERVAL < deadline => {
                    setup.clock.sleep(RETRY_INTERVAL).await;
                }
                // Only a server of its own backend takes it away.
                Ok(Some(other)) if folder != beside => {
                    tracing::warn!(
                        folder = %folder.display(),
                        "{error}; it has changes for another backend ({other}): this server keeps its copy beside it"
                    );
                    folder.clone_from(&beside);
                }
                Ok(_) if !damage_seen => {
                    damage_seen = true;
                    tracing::error!("{error}");
                    let aside = setup.folder.join(format!("{world}{DAMAGED}{}", Uuid::now_v7().simple()));
                    let (from, to) = (folder.clone(), aside.clone());
                    on_disk(move || std::fs::rename(from, to)).await?;
                    (setup.on_event)(Event::PutAside { folder: aside, names: Vec::new() });
                }
                _ => return Err(storage(format!("{}: {error}", folder.display()))),
            },
            opened => {
                let named = |error| storage(format!("{}: {error}", folder.display()));
                return opened.map(|(index, left)| (object_cache, index, left)).map_err(named);
            }
        }
    }
}

/// Moves the copy that an earlier version kept elsewhere, unless a process has it open.
async fn take_from_former(
    setup: &Setup,
    world: &str,
    folder: &Path,
    backend: Option<&str>,
) -> Result<(), ClientError> {
    for former in setup.former_folders.iter().map(|former| former.join(world)) {
        if folder.exists() || !former.join("index.db").exists() {
            continue;
        }
        match Index::open(&former, backend).await {
            Ok((index, _left)) => index.close().await,
            Err(error) => {
                tracing::warn!(folder = %former.display(), "a world's local copy is left where it is: {error}");
                continue;
            }
        }
        let (parent, to) = (setup.folder.clone(), folder.to_owned());
        on_disk(move || make_folder(&parent).and_then(|()| std::fs::rename(former, to))).await?;
    }
    Ok(())
}

/// What of a backend's identity can be in a file name.
fn plain(backend: &str) -> String {
    backend.chars().filter(char::is_ascii_alphanumeric).take(32).collect()
}

impl Inner {
    /// Commits what a dead process left, under its own epoch, and lets go of its lease. One that may be running elsewhere
    /// keeps its lease, and its numbers: what has a number here can be repeated, but no further one may be given. So has one
    /// of which not everything is here, for the next number may have been given.
    async fn finish_for(
        self: &Arc<Self>,
        predecessor: &Session,
        unproven: bool,
        incomplete: bool,
    ) -> Result<(), ClientError> {
        let mut sent = Sent::new();
        while if unproven || incomplete {
            !self.lock().outgoing.is_empty()
        } else {
            self.lock().has_changes()
        } {
            let before = self.lock().change_count();
            match self.deliver(&mut sent).await {
                Ok(Delivery::Done) => sent.clear(),
                // Put aside, and told. The world is another server's as of now; perhaps it will be ours again.
                Ok(Delivery::Lost) => {
                    self.lock().lost = false;
                    return Ok(());
                }
                // Objects that are damaged were given up, and told. The rest goes on.
                Err(_) if self.lock().change_count() < before => {}
                Err(error) if error.is(Code::ObjectMissing) || error.is(Code::WorldHeld) => {
                    self.setup.clock.sleep(RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error),
            }
        }
        if unproven || predecessor.server_id == self.server_id()? {
            return Ok(());
        }
        let body = ReleaseWorld {
            server_id: predecessor.server_id.clone(),
            epoch: predecessor.epoch,
            saved_version: None,
            saved_sequence: None,
        };
        match self.setup.backend.release_world(self.setup.registration.key(), &self.world_id, &body).await {
            // A server the backend has forgotten: its lease is over, or will be.
            Err(error) if error.is(Code::ServerUnknown) => Ok(()),
            released => released,
        }
    }

    async fn take(&self, deadline: Instant) -> Result<(), ClientError> {
        let server_id = self.server_id()?;
        let opening = self.setup.registration.hold_world(&self.world_id)?;
        let body = OpenWorld { server_id: server_id.clone(), opening };
        let lease = loop {
            let asked =
                self.setup.backend.open_world(self.setup.registration.key(), &self.world_id, &body).await;
            match asked {
                Err(error) if error.is(Code::WorldHeld) => {
                    if self.setup.clock.now() + RETRY_INTERVAL >= deadline {
                        return Err(error);
                    }
                    self.setup.clock.sleep(RETRY_INTERVAL).await;
                }
                asked => break asked?,
            }
        };
        // Changes of a process that may have gone on elsewhere, which it did not: they can be committed under this lease.
        // Otherwise they are older than the world.
        let outdated = {
            let state = self.lock();
            state.has_changes() && state.session.version != lease.version
        };
        if outdated {
            self.put_aside().await?;
        }
        let session = Session { server_id, epoch: lease.epoch, sequence: 0, version: lease.version };
        self.write(&mut *self.index.lock().await, Write::Begin(&session)).await?;
        let mut state = self.lock();
        state.session = session;
        state.version = lease.version;
        state.saved_sequence = Some(0);
        Ok(())
    }

    async fn read_chunks(&self) -> Result<(), ClientError> {
        self.read_pages(|chunk| {
            let mut state = self.lock();
            state.refer_to(&chunk.hash);
            let committed = Committed { hash: chunk.hash, bytes: chunk.bytes, version: chunk.version };
            state.committed.insert(chunk.name, committed);
        })
        .await
        .map(drop)
    }

    /// Reads the backend's list of chunks, page by page. Returns the world's version at the first page.
    pub(super) async fn read_pages(&self, mut take: impl FnMut(Chunk)) -> Result<i64, ClientError> {
        let mut version = None;
        let mut query = ChunkQuery { limit: Some(MAX_CHUNK_PAGE), cursor: None };
        loop {
            let key = self.setup.registration.key();
            let page = self.setup.backend.world_chunks(key, &self.world_id, &query).await?;
            let first = *version.get_or_insert(page.version);
            for chunk in page.chunks {
                let sound = chunk_name("name", &chunk.name).and_then(|()| object_hash("hash", &chunk.hash));
                if sound.is_err() || chunk.bytes > MAX_CHUNK_BYTES as u64 {
                    return Err(ClientError::new(
                        Fault::BadReply,
                        "the backend listed a chunk that cannot be one",
                    ));
                }
                take(chunk);
            }
            match page.next_cursor {
                Some(next) => query.cursor = Some(next),
                None => return Ok(first),
            }
        }
    }

    /// Removes from the local copy what nothing refers to.
    async fn sweep(&self) -> Result<(), ClientError> {
        let wanted: HashSet<String> = self.lock().referred().cloned().collect();
        let object_cache = self.object_cache.clone();
        on_disk(move || object_cache.sweep(&wanted)).await
    }
}
