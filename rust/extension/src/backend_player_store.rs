//! `BackendPlayerStore`: players' documents on a server.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_client::error::ClientError;
use backend_client::player_store::{Content, Event, Flushed, Pace, PlayerStore};
use godot::builtin::AnyDictionary;
use godot::prelude::*;

use crate::backend_config::BackendConfig;
use crate::backend_error::{BackendError, Failure, not_configured};
use crate::backend_flush_result::BackendFlushResult;
use crate::backend_player::{BackendPlayerDocuments, Documents};
use crate::backend_request::BackendRequest;
use crate::backend_server_registration::BackendServerRegistration;
use crate::frame_hook::FrameHook;
use crate::runtime::{self, Calls};
use crate::{configuration, hand_off, json, last_words, shutdown_parts};

/// Group by which [BackendShutdown] finds the stores.
pub const GROUP: &str = "backend_player_store";
/// Time a freed store goes on sending.
const LAST_FLUSH: Duration = Duration::from_secs(30);

/// Loads and saves players' documents on a server.
///
/// [method save] costs microseconds and returns at once: the document is sent in the background, together with others,
/// and again until the backend has committed it. [signal saved] tells when that is so; nothing is saved before.
/// A player who was loaded is held by this server until [method release_player]: no other server can overwrite.
/// ```gdscript
/// func _on_peer_verified(_peer_id: int, player: BackendPlayer) -> void:
///     var documents: BackendPlayerDocuments = await store.load_player(player.player_id).wait()
///     var progress := documents.get_document("progress")
/// ```
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendPlayerStore {
    /// Where the backend is. Empty: Project Settings → Backend Client.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// The registered server that holds the players. Required.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// Seconds between two [signal collect_saves]. 0: never, except at shutdown.
    #[export(range = (0.0, 3600.0, 1.0, or_greater, suffix = "s"))]
    #[export_group(name = "Pace")]
    #[init(val = 300.0)]
    autosave_interval: f64,
    /// Seconds without further changes after which a document is sent.
    #[export(range = (0.0, 60.0, 0.1, suffix = "s"))]
    #[var(set = set_debounce_seconds)]
    #[init(val = 0.5)]
    debounce_seconds: f64,
    /// Longest time, in seconds, a changed document waits before it is sent.
    #[export(range = (0.0, 300.0, 0.1, suffix = "s"))]
    #[var(set = set_max_delay_seconds)]
    #[init(val = 5.0)]
    max_delay_seconds: f64,
    connected: RefCell<Option<Connected>>,
    collected_at: Cell<Option<Instant>>,
    each_frame: Option<FrameHook>,
    calls: Calls,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendPlayerStore {
    fn enter_tree(&mut self) {
        if godot::init::is_editor_hint() {
            return;
        }
        self.base_mut().add_to_group(GROUP);
        let id = self.base().instance_id();
        self.each_frame = Some(FrameHook::new(move || autosave(id)));
    }

    fn exit_tree(&mut self) {
        self.each_frame = None;
        let (owner, store) = (self.calls.owner(), self.handle());
        {
            // Open to handlers that call back into this node.
            let _reentrant = self.base_mut();
            hand_off::abandon(owner);
        }
        let Some(store) = store else { return };
        if store.dirty_count() > 0 {
            last_words::flush(async move {
                let flushed = store.flush(None, LAST_FLUSH).await;
                if flushed.unsaved > 0 {
                    tracing::error!(unsaved = flushed.unsaved, "documents of a freed store were not saved");
                }
            });
        }
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let mut warnings = Vec::new();
        if let Err(error) = configuration::resolve(self.config.as_ref()).and_then(|config| config.check()) {
            warnings.push(error.message.to_string());
        }
        if self.registration.is_none() {
            warnings.push("Assign \"Registration\": players are held by a registered server.".to_owned());
        }
        if self.max_delay_seconds < self.debounce_seconds {
            warnings.push(
                "\"Max Delay Seconds\" is shorter than \"Debounce Seconds\", which then has no effect."
                    .to_owned(),
            );
        }
        warnings.iter().map(GString::from).collect()
    }
}

impl Drop for BackendPlayerStore {
    fn drop(&mut self) {
        if let Some(connected) = self.connected.take() {
            shutdown_parts::gone(connected.node);
        }
    }
}

struct Connected {
    /// The node's own, kept because a node that is being freed cannot be asked for it.
    node: InstanceId,
    store: PlayerStore,
}

#[godot_api]
impl BackendPlayerStore {
    /// Emitted when the backend has committed a document.
    #[signal]
    pub fn saved(player_id: GString, key: GString, version: i64);

    /// Emitted when a document cannot be saved: it does not fit JSON or the limits, the player was not loaded, or
    /// another server holds the player ([code]lease_lost[/code]).
    #[signal]
    pub fn save_failed(player_id: GString, key: GString, error: Gd<BackendError>);

    /// Asks the game to call [method save] for its live state: every [member autosave_interval], and at shutdown. What
    /// is saved before the handlers return is part of it.
    #[signal]
    pub fn collect_saves();

    /// Takes a player over and reads the documents. Gives a [BackendPlayerDocuments].
    #[func]
    fn load_player(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        let work = self.connected().map(|store| async move {
            let documents = store.load(&player_id).await?;
            Ok(Documents { player_id, documents })
        });
        self.calls.try_start(work, BackendPlayerDocuments::answer)
    }

    /// Replaces the document under [param key], 1 to 64 of letters, digits, [code]_[/code], [code].[/code] and
    /// [code]-[/code]. Returns at once; [signal saved] or [signal save_failed] follows. [param value] holds what JSON
    /// holds, at most 256 KiB of it; its keys are strings.
    #[func]
    fn save(&self, player_id: GString, key: GString, value: AnyDictionary) {
        let outcome = self.save_content(&player_id, &key, &value);
        if let Err(error) = outcome {
            let (id, player_id, key) = (self.base().instance_id(), player_id.to_string(), key.to_string());
            // Later, like every other outcome: handlers need not expect to run inside this call.
            hand_off::post(move || announce(id, Event::SaveFailed { player_id, key, error }));
        }
    }

    /// Sends a player's documents now and waits for the backend, as long as a call may take. Gives a
    /// [BackendFlushResult].
    #[func]
    fn save_now(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        self.flushing(async move |store: PlayerStore, within| store.flush(Some(&player_id), within).await)
    }

    /// Sends all documents now and waits for the backend, as long as a call may take. Gives a [BackendFlushResult].
    #[func]
    fn flush(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: PlayerStore, within| store.flush(None, within).await)
    }

    /// Sends a player's documents, then forgets the player. Call it when a player has left. What could not be sent in
    /// time is sent later. Gives a [BackendFlushResult].
    #[func]
    fn release_player(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        self.flushing(async move |store: PlayerStore, within| store.release(&player_id, within).await)
    }

    /// Returns how many documents the backend has not committed yet.
    #[func]
    fn get_dirty_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.dirty_count() as i64)
    }

    /// Returns a copy of the newest document under [param key], sent or not, or an empty Dictionary.
    #[func]
    fn get_document(&self, player_id: GString, key: GString) -> VarDictionary {
        let document: Option<Arc<Content>> =
            self.handle().and_then(|store| store.document(&player_id.to_string(), &key.to_string()));
        document.map(|content| json::to_dictionary(&content)).unwrap_or_default()
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

    #[func]
    fn set_debounce_seconds(&mut self, seconds: f64) {
        self.debounce_seconds = seconds;
        self.pace_changed();
    }

    #[func]
    fn set_max_delay_seconds(&mut self, seconds: f64) {
        self.max_delay_seconds = seconds;
        self.pace_changed();
    }

    /// The store, if anything was asked of it yet.
    pub fn handle(&self) -> Option<PlayerStore> {
        self.connected.borrow().as_ref().map(|connected| connected.store.clone())
    }

    fn connected(&self) -> Result<PlayerStore, ClientError> {
        if let Some(store) = self.handle() {
            return Ok(store);
        }
        let registration =
            self.registration.as_ref().filter(|node| node.is_instance_valid()).ok_or_else(|| {
                not_configured("assign \"Registration\": players are held by a registered server")
            })?;
        let registration = registration.bind().connected()?;
        let backend = configuration::connect(configuration::resolve(self.config.as_ref())?)?;
        let id = self.base().instance_id();
        let on_event = Arc::new(move |event| hand_off::post(move || announce(id, event)));
        let runtime = runtime::handle()?;
        // The store's writer is spawned on the runtime of the moment.
        let _entered = runtime.enter();
        let store = PlayerStore::new(backend, configuration::clock(), registration, self.pace(), on_event);
        shutdown_parts::store_made(id, store.clone());
        self.connected.replace(Some(Connected { node: id, store: store.clone() }));
        Ok(store)
    }

    fn save_content(
        &self,
        player_id: &GString,
        key: &GString,
        value: &AnyDictionary,
    ) -> Result<(), ClientError> {
        let content = json::from_dictionary(value)?;
        self.connected()?.save(&player_id.to_string(), &key.to_string(), content)
    }

    fn flushing<W>(&self, work: impl FnOnce(PlayerStore, Duration) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Flushed> + Send + 'static,
    {
        let prepared = configuration::resolve(self.config.as_ref())
            .and_then(|config| Ok(work(self.connected()?, config.timeout)))
            .map(|work| async move { Ok(work.await) });
        self.calls.try_start(prepared, BackendFlushResult::answer)
    }

    fn pace(&self) -> Pace {
        let seconds =
            |seconds: f64| Duration::try_from_secs_f64(seconds.clamp(0.0, 3_600.0)).unwrap_or_default();
        Pace { debounce: seconds(self.debounce_seconds), max_delay: seconds(self.max_delay_seconds) }
    }

    fn pace_changed(&mut self) {
        if let Some(store) = self.handle() {
            store.set_pace(self.pace());
        }
        self.base_mut().update_configuration_warnings();
    }

    /// Whether it is time to ask the game for its state.
    fn is_collection_due(&self) -> bool {
        let now = Instant::now();
        let since = self.collected_at.get().unwrap_or_else(|| {
            self.collected_at.set(Some(now));
            now
        });
        let due = self.autosave_interval > 0.0 && (now - since).as_secs_f64() >= self.autosave_interval;
        if due {
            self.collected_at.set(Some(now));
        }
        due && self.handle().is_some_and(|store| store.player_count() > 0)
    }
}

/// Each frame.
fn autosave(id: InstanceId) {
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    let due = node.bind().is_collection_due();
    if due {
        node.signals().collect_saves().emit();
    }
}

fn announce(id: InstanceId, event: Event) {
    // The node may be gone by now.
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    match event {
        Event::Saved { player_id, key, version } => node.signals().saved().emit(&player_id, &key, version),
        Event::SaveFailed { player_id, key, error } => {
            node.signals().save_failed().emit(&player_id, &key, &Failure::from(error).into_object());
        }
    }
}
