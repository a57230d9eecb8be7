//! `BackendWorldStore`: a world's chunks on a server.

mod events;
mod location;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use backend_client::Config;
use backend_client::error::ClientError;
use backend_client::player_store;
use backend_client::world_store::{Event, Flushed, LocalAck, Setup, WorldStore};
use godot::prelude::*;
use tokio::sync::oneshot;

use self::location::{OpenedWorld, WorldLocation, report};
use crate::config;
use crate::metrics;
use crate::nodes::autosave_timer::AutosaveTimer;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::calls::Calls;
use crate::nodes::configuration_warnings;
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_error::{BackendError, Failure, not_configured};
use crate::results::backend_flush_result::BackendFlushResult;
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::results::backend_world_chunk::{BackendWorldChunk, NamedChunk};
use crate::runtime::background_tasks;
use crate::runtime::frame_hook::{FrameHook, POLL_INTERVAL};
use crate::runtime::main_thread_queue;
use crate::shutdown::registry;
use crate::variant_json::gstring;

/// Group in which [BackendShutdown] finds the stores.
pub const GROUP: &str = "backend_world_store";
/// Time a freed store goes on sending.
const DROP_FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Loads and saves the chunks of a world on a server.
///
/// A chunk is a named byte array, for example terrain or buildings. [method save_chunk] returns at once. The chunk is compressed
/// and written to a copy of the world on the local disk ([signal saved_locally]: it reaches the backend even if this process or
/// machine crashes now), then sent in the background, and retried until the backend has committed it ([signal saved]). Unchanged
/// chunks are not sent. After a crash, the next process that opens the world with the same folder sends the unsaved chunks.
///
/// This server holds an open world until [method close]: no other server can open or overwrite it. A crashed server loses the world
/// when its lease expires. Chunks are read from the local copy or from the backend, and verified by their hash.
/// ```gdscript
/// await registration.register().wait()
/// var opened: BackendResult = await world.open("overworld").wait()
/// if opened.ok():
///     for chunk_name in world.chunk_names():
///         var chunk: BackendWorldChunk = await world.load_chunk(chunk_name).wait()
///         build(chunk_name, chunk.data)
/// ```
/// At most 64 MiB wait for the local disk; further saves are refused with [code]backlog_full[/code]. To save a whole world, wait for
/// some of the saves:
/// ```gdscript
/// for chunk_name: String in terrain:
///     var saving := world.save_chunk(chunk_name, terrain[chunk_name])
///     if world.get_unjournalled_count() >= 64:
///         await saving.wait()
/// ```
/// The folder of the local copy is set by [code]BACKEND_WORLDS_FOLDER[/code], [code]--backend-worlds-folder=[/code] or the project
/// setting [code]backend_client/worlds/folder[/code]. The default is below [code]user://backend_client[/code]. In a container, it
/// must be on a volume. Only one process at a time can open a world of a folder.
///
/// See "Keeping a world" in the guide: [code]docs/src/worlds.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendWorldStore {
    /// Connection settings. If unset, Project Settings > Backend Client is used.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// The registered server that holds the world. Required.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// Seconds between two emissions of [signal collect_saves]. If 0, it is emitted at shutdown only.
    #[export(range = (0.0, 3600.0, 1.0, or_greater, suffix = "s"))]
    #[export_group(name = "Timing")]
    #[init(val = 300.0)]
    autosave_interval: f64,
    /// Seconds that a change waits for others, so that they are sent together. Read by [method open].
    #[export(range = (0.0, 60.0, 0.1, suffix = "s"))]
    #[init(val = 1.0)]
    send_delay: f64,
    /// Maximum seconds that [method open] waits: for another server to release the world, for the lease of a crashed one to expire, and
    /// for saves of an earlier run of this server to reach the backend.
    #[export(range = (0.0, 600.0, 1.0, or_greater, suffix = "s"))]
    #[export_group(name = "Timeouts")]
    #[init(val = 90.0)]
    open_timeout: f64,
    /// Maximum seconds that [method flush], [method flush_local] and [method close] wait.
    #[export(range = (0.0, 600.0, 1.0, or_greater, suffix = "s"))]
    #[init(val = 60.0)]
    flush_timeout: f64,
    open_world: RefCell<Option<OpenWorld>>,
    opening: Cell<bool>,
    /// While the node is outside the tree: notifies its flush that it came back.
    outside: Option<oneshot::Sender<()>>,
    autosave: AutosaveTimer,
    hook: Option<FrameHook>,
    calls: Calls,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendWorldStore {
    fn enter_tree(&mut self) {
        if godot::init::is_editor_hint() {
            return;
        }
        self.base_mut().add_to_group(GROUP);
        let id = self.base().instance_id();
        self.hook = Some(FrameHook::every(POLL_INTERVAL, move || poll(id)));
        if let Some(outside) = self.outside.take() {
            // Err if the flush has finished.
            let _flushed_already = outside.send(());
        }
    }

    fn exit_tree(&mut self) {
        self.hook = None;
        let (owner, store) = (self.calls.owner(), self.handle());
        {
            // Open to handlers that call back into this node.
            let _reentrant = self.base_mut();
            main_thread_queue::cancel_all_now(owner);
        }
        let location = self.open_world.borrow().as_ref().map(|open_world| open_world.location.clone());
        let Some((store, location)) = store.zip(location) else { return };
        // Begun here and not when the node is freed: a server that is freed in the same frame leaves after it.
        let (outside, back) = oneshot::channel();
        self.outside = Some(outside);
        background_tasks::spawn_flush(async move {
            let flushed = store.flush(DROP_FLUSH_TIMEOUT).await;
            match back.await {
                Ok(()) => report(flushed),
                Err(_freed) => location.close_freed(store).await,
            }
        });
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let mut warnings = Vec::new();
        let config = config::resolve(self.config.as_ref());
        if let Err(error) = config.as_ref().map_err(Clone::clone).and_then(Config::check) {
            warnings.push(error.message.to_string());
        }
        if self.registration.is_none() {
            warnings.push("Assign \"Registration\": a world is held by a registered server.".to_owned());
        }
        match config.and_then(|config| config::worlds_folder(self.config.as_ref(), &config)) {
            Ok(folder) => warnings.extend(configuration_warnings::passing_folder("Worlds", &folder)),
            Err(error) => warnings
                .push(format!("Project Settings → Backend Client → Worlds → Folder: {}.", error.message)),
        }
        warnings.iter().map(GString::from).collect()
    }
}

impl Drop for BackendWorldStore {
    fn drop(&mut self) {
        let Some(OpenWorld { location, store }) = self.open_world.take() else { return };
        registry::add_freed(location.node, Arc::new(store.clone()));
        // Otherwise `exit_tree` has started the flush.
        if self.outside.is_none() {
            background_tasks::spawn_flush(location.close_freed(store));
        }
    }
}

struct OpenWorld {
    location: WorldLocation,
    store: WorldStore,
}

#[godot_api]
impl BackendWorldStore {
    /// Emitted when a changed chunk is durable on the local disk: it reaches the backend even if this process or machine crashes. Covers
    /// all saves of [param chunk_name] until then.
    #[signal]
    pub fn saved_locally(chunk_name: GString);

    /// Emitted when the backend has committed a changed chunk, also one that an earlier run of this server left. [param version] is the
    /// version of the world, which counts commits.
    #[signal]
    pub fn saved(chunk_name: GString, version: i64);

    /// Emitted when a save was refused: the name or the size is invalid, too much waits for the disk ([code]backlog_full[/code]), the
    /// server is shutting down and [signal collect_saves] was the last chance to save ([code]shutting_down[/code]), the disk failed or
    /// damaged the chunk ([code]storage[/code]), or another server holds the world ([code]lease_lost[/code]). A save that the backend
    /// refuses is retried.
    #[signal]
    pub fn save_failed(chunk_name: GString, error: Gd<BackendError>);

    /// Emitted when another server has taken the world over, because this server was unreachable for too long. No further changes are
    /// accepted or sent, and nothing was overwritten. Call [method close].
    #[signal]
    pub fn lease_lost();

    /// Emitted when changes cannot be committed any more, because another server had taken the world over or the index of the local
    /// copy is damaged. They are kept in [param folder]. [param chunk_names] is empty if the names cannot be read.
    #[signal]
    pub fn put_aside(folder: GString, chunk_names: PackedStringArray);

    /// Emitted every [member autosave_interval] and at shutdown. Call [method save_chunk] for changed chunks in the handler; what is
    /// saved before the handlers return is included.
    #[signal]
    pub fn collect_saves();

    /// Opens a world and reads its list of chunks. A world that was never opened before is empty. [param world_id] has 1 to 64
    /// characters out of letters, digits, [code]_[/code], [code].[/code] and [code]-[/code]. Returns a [BackendRequest] that
    /// completes with a [BackendResult], or fails with [code]world_held[/code] if another server does not release the world within
    /// [member open_timeout].
    #[func]
    fn open(&self, world_id: GString) -> Gd<BackendRequest> {
        let (world_id, within) = (world_id.to_string(), duration(self.open_timeout));
        let id = self.base().instance_id();
        let work = self.setup().map(|setup| {
            let location =
                WorldLocation { node: id, folder: setup.folder.clone(), world_id: world_id.clone() };
            location.count_unopened();
            async move {
                match WorldStore::open_counted(setup, &world_id, within, |opening| location.count(opening))
                    .await
                {
                    Ok(store) => Ok(OpenedWorld { store: Some(store), location }),
                    Err(error) => {
                        location.count_unopened();
                        registry::remove(id);
                        Err(error)
                    }
                }
            }
        });
        self.opening.set(work.is_ok() || self.opening.get());
        let began = work.is_ok();
        self.calls.try_start(work, move |outcome| {
            if began { complete_open(id, outcome) } else { BackendResult::answer(outcome.map(drop)) }
        })
    }

    /// Changes or adds a chunk. Returns a [BackendRequest] that completes with a [BackendResult] when the change is durable on the local
    /// disk.
    ///
    /// Awaiting the request is optional: [signal saved_locally] and [signal saved], or [signal save_failed], are emitted as well.
    /// [param chunk_name] has 1 to 128 characters out of letters, digits, [code]_[/code], [code].[/code], [code],[/code],
    /// [code]-[/code] and [code]/[/code]. [param data] has at most 16 MiB. Unchanged content is not sent.
    #[func]
    fn save_chunk(&self, chunk_name: GString, data: PackedByteArray) -> Gd<BackendRequest> {
        self.changing(&chunk_name, |store, name| store.put(name, data.to_vec()))
    }

    /// Deletes a chunk. Returns a [BackendRequest] that completes with a [BackendResult] when the deletion is durable on the local disk;
    /// [signal saved_locally] and [signal saved], or [signal save_failed], are emitted as well. Deleting a chunk that does not exist has
    /// no effect.
    #[func]
    fn delete_chunk(&self, chunk_name: GString) -> Gd<BackendRequest> {
        self.changing(&chunk_name, WorldStore::remove)
    }

    /// Reads the newest content of a chunk, sent or not. Returns a [BackendRequest] that completes with a [BackendWorldChunk], or
    /// fails with [code]chunk_not_found[/code] if the chunk does not exist.
    #[func]
    fn load_chunk(&self, chunk_name: GString) -> Gd<BackendRequest> {
        let name = chunk_name.to_string();
        let work = self.connected().map(|store| async move {
            let content = store.get(&name).await?;
            Ok(NamedChunk { name, content })
        });
        self.calls.try_start(work, BackendWorldChunk::answer)
    }

    /// Returns the sorted names of all chunks, including unsaved changes. Empty while no world is open.
    #[func]
    fn chunk_names(&self) -> PackedStringArray {
        let Some(store) = self.handle() else { return PackedStringArray::new() };
        store.names().iter().map(gstring).collect()
    }

    /// Returns [code]true[/code] if the chunk exists.
    #[func]
    fn has_chunk(&self, chunk_name: GString) -> bool {
        self.handle().is_some_and(|store| store.contains(&chunk_name.to_string()))
    }

    /// Sends all unsaved chunks now and waits for the backend, at most [member flush_timeout]. Later saves are sent too, but not waited
    /// for. Returns a [BackendRequest] that completes with a [BackendFlushResult].
    #[func]
    fn flush(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: WorldStore, within| store.flush(within).await)
    }

    /// Waits until all saves so far are durable on the local disk, at most [member flush_timeout]. Returns a [BackendRequest] that
    /// completes with a [BackendFlushResult]. If its [member BackendFlushResult.journalled] is less than its
    /// [member BackendFlushResult.unsaved], the difference is at risk.
    #[func]
    fn flush_local(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: WorldStore, within| {
            let at_risk = store.flush_local(within).await;
            let (unsaved, refused) = (store.pending_count().max(at_risk), store.refused_names());
            Flushed { unsaved, local: unsaved - at_risk, refused, ..Flushed::default() }
        })
    }

    /// Closes the world: refuses further changes, sends unsaved chunks and releases the world for other servers. What cannot be sent
    /// within [member flush_timeout] is sent by the next process that opens the world with this folder; this server holds the world until
    /// then, or until its lease expires. Returns a [BackendRequest] that completes with a [BackendFlushResult].
    #[func]
    fn close(&self) -> Gd<BackendRequest> {
        let within = duration(self.flush_timeout);
        let work = self.connected().map(|store| {
            // What is saved after this call is refused, and not sometimes taken.
            store.begin_close();
            async move { Ok(store.close(within).await.into()) }
        });
        let (id, began) = (self.base().instance_id(), work.is_ok());
        self.calls.try_start(work, move |outcome| {
            if let (true, Ok(flushed)) = (began, &outcome) {
                complete_close(id, flushed);
            }
            BackendFlushResult::answer(outcome)
        })
    }

    /// Returns [code]true[/code] if a world is open.
    #[func]
    fn is_open(&self) -> bool {
        self.handle().is_some_and(|store| !store.is_closed())
    }

    /// Returns the id of the open world, or an empty String.
    #[func]
    fn get_world_id(&self) -> GString {
        self.handle().map(|store| gstring(store.world_id())).unwrap_or_default()
    }

    /// Returns the number of chunks with a change that the backend has not committed yet.
    #[func]
    fn get_unsaved_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.pending_count() as i64)
    }

    /// Returns the number of chunks with a change that is not durable on the local disk yet.
    #[func]
    fn get_unjournalled_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.unkept_count() as i64)
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_config(&mut self, config: Option<Gd<BackendConfig>>) {
        self.config = config;
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_registration(&mut self, registration: Option<Gd<BackendServerRegistration>>) {
        self.registration = registration;
        self.base_mut().update_configuration_warnings();
    }

    fn handle(&self) -> Option<WorldStore> {
        self.open_world.borrow().as_ref().map(|open_world| open_world.store.clone())
    }

    fn connected(&self) -> Result<WorldStore, ClientError> {
        self.handle().ok_or_else(|| not_configured("open a world first"))
    }

    fn setup(&self) -> Result<Setup, ClientError> {
        if self.opening.get() || self.is_open() {
            return Err(not_configured("a world is open already: close it first"));
        }
        let registration =
            self.registration.as_ref().filter(|node| node.is_instance_valid()).ok_or_else(|| {
                not_configured("assign \"Registration\": a world is held by a registered server")
            })?;
        let registration = registration.bind().connected()?;
        let config = config::resolve(self.config.as_ref())?;
        let kept = config::worlds_folder(self.config.as_ref(), &config)?;
        let backend = config::connect(config)?
            .worlds()
            .ok_or_else(|| not_configured("this backend does not store worlds"))?;
        let id = self.base().instance_id();
        Ok(Setup {
            backend,
            clock: config::clock(),
            registration,
            folder: kept.folder,
            former_folders: kept.former,
            delay: duration(self.send_delay),
            on_event: Arc::new(move |event| {
                metrics::count_world_event(&event);
                main_thread_queue::enqueue(move || events::announce(id, event));
            }),
        })
    }

    fn changing(
        &self,
        chunk_name: &GString,
        change: impl FnOnce(&WorldStore, &str) -> Result<LocalAck, ClientError>,
    ) -> Gd<BackendRequest> {
        let name = chunk_name.to_string();
        let ack = self.connected().inspect_err(|error| {
            tracing::warn!(code = error.code(), name, "a chunk was refused: {error}");
        });
        let ack = ack.and_then(|store| change(&store, &name));
        if let Err(error) = &ack {
            let (id, event) = (self.base().instance_id(), Event::SaveFailed { name, error: error.clone() });
            metrics::count_world_event(&event);
            // Later, like every other outcome: handlers need not expect to run inside this call.
            main_thread_queue::enqueue(move || events::announce(id, event));
        }
        self.calls.try_start(ack.map(LocalAck::done), BackendResult::answer)
    }

    fn flushing<W>(&self, work: impl FnOnce(WorldStore, Duration) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Flushed> + Send + 'static,
    {
        let within = duration(self.flush_timeout);
        let work = self.connected().map(|store| work(store, within));
        let work = work.map(|work| async move { Ok(work.await.into()) });
        self.calls.try_start(work, BackendFlushResult::answer)
    }
}

/// Main thread, without a borrow. The node has its world before the request completes.
fn complete_open(id: InstanceId, outcome: Result<OpenedWorld, Failure>) -> Variant {
    if let Ok(node) = Gd::<BackendWorldStore>::try_from_instance_id(id) {
        node.bind().opening.set(false);
    }
    BackendResult::answer(outcome.map(|mut opened| {
        // Without its node, the world is released.
        if let Ok(node) = Gd::<BackendWorldStore>::try_from_instance_id(id)
            && let Some(store) = opened.store.take()
        {
            opened.location.count(Arc::new(store.clone()));
            node.bind().open_world.replace(Some(OpenWorld { location: opened.location.clone(), store }));
        }
    }))
}

/// Main thread, without a borrow.
fn complete_close(id: InstanceId, flushed: &player_store::Flushed) {
    let node = Gd::<BackendWorldStore>::try_from_instance_id(id).ok();
    let open_world = node.and_then(|node| node.bind().open_world.replace(None));
    registry::remove(id);
    if let Some(OpenWorld { location, .. }) = open_world.filter(|_| flushed.unsaved > 0) {
        location.count_unopened();
    }
}

fn poll(id: InstanceId) {
    let Ok(node) = Gd::<BackendWorldStore>::try_from_instance_id(id) else { return };
    let due = {
        let node = node.bind();
        node.autosave.is_due(node.autosave_interval) && node.is_open()
    };
    if due {
        node.signals().collect_saves().emit();
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).unwrap_or_default()
}
