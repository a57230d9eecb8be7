//! `BackendPlayerStore`: players' documents on a server.

pub mod backlog_monitors;
mod conflicts;
mod drop_flush;
mod events;
mod journal_source;
mod store_handle;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use backend_client::player_store::{Content, Flushed, PlayerStore};
use drop_flush::{DROP_FLUSH_TIMEOUT, holds_something, leave, report};
use events::EventQueue;
use godot::builtin::AnyDictionary;
use godot::prelude::*;
use store_handle::{Connected, duration};
use tokio::sync::oneshot;

use crate::config;
use crate::nodes::autosave_timer::AutosaveTimer;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_error::BackendError;
use crate::results::backend_player::{BackendPlayerDocuments, Documents};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_save_conflict::{BackendConflictList, BackendSaveConflict};
use crate::runtime::calls::Calls;
use crate::runtime::frame_hook::{FrameHook, POLL_INTERVAL};
use crate::runtime::main_thread_queue;
use crate::shutdown::background_tasks;
use crate::shutdown::registry;
use crate::variant_json;

/// Group by which [BackendShutdown] finds the stores.
pub const GROUP: &str = "backend_player_store";
/// Loads and saves players' documents on a server.
///
/// [method save] costs microseconds and returns at once. The document is written to a journal on local disk
/// ([signal saved_locally]: it reaches the backend even if this process or machine dies now), then sent in the
/// background, together with others, and again until the backend has committed it ([signal saved]). What a dead process
/// left in the journal is sent when the next one has registered, before its players are loaded again.
///
/// A player who was loaded is held by this server until [method release_player]: no other server can overwrite. When
/// another server asks for the player, [signal player_wanted] asks for the final state, and the player is let go.
/// ```gdscript
/// func _on_peer_verified(_peer_id: int, player: BackendPlayer) -> void:
///     var documents: BackendPlayerDocuments = await store.load_player(player.player_id).wait()
///     var progress := documents.get_document("progress")
/// ```
/// The journal is kept in the folder that [code]BACKEND_JOURNAL_FOLDER[/code], [code]--backend-journal-folder=[/code] or
/// the project setting [code]backend_client/journal/folder[/code] names, otherwise below
/// [code]user://backend_client[/code]. In a container, it has to be on a volume.
///
/// Godot's debugger shows the monitors [code]backend_client/backlog_documents[/code],
/// [code]backend_client/oldest_unsent_seconds[/code] and [code]backend_client/flush_latency_ms[/code].
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
    /// Seconds [method load_player] waits for another server to let the player go, and for what an earlier run of this
    /// server saved of the player to reach the backend.
    #[export(range = (0.0, 300.0, 0.5, or_greater, suffix = "s"))]
    #[export_group(name = "Handover")]
    #[init(val = 30.0)]
    handover_timeout: f64,
    /// What becomes of a save that came too late, once this server holds the player: [constant OURS], [constant THEIRS],
    /// [constant MERGE_PATCH] or [constant MANUAL]. A valid [member merge_hook] wins over it.
    #[export(enum = (Ours = 0, Theirs = 1, MergePatch = 2, Manual = 3))]
    #[init(val = Self::MANUAL)]
    conflict_resolution: i64,
    /// Makes one document of two: called with the player's id, the key, what this server has and what came too late, and
    /// returns the merged Dictionary. It may be called again with the same conflict after a crash, so merging twice must
    /// do no harm. Without a Dictionary in return, the conflict stays where it is.
    /// ```gdscript
    /// store.merge_hook = func(_player_id: String, _key: String, ours: Dictionary, theirs: Dictionary) -> Dictionary:
    ///     ours["best_ms"] = mini(ours["best_ms"], theirs["best_ms"])
    ///     return ours
    /// ```
    #[var]
    #[init(val = Callable::invalid())]
    merge_hook: Callable,
    connected: RefCell<Option<Connected>>,
    /// Whether the store was tried to be made without being asked for anything.
    tried: Cell<bool>,
    /// Whether the log says already that no store can be made.
    warned: Cell<bool>,
    /// The journal that it has not opened, once a shutdown counts it.
    unopened: RefCell<Option<PathBuf>>,
    /// Conflicts that are merged, but not off the backend's list yet: their id and the change that covers them.
    merged: RefCell<HashMap<String, Option<u64>>>,
    /// While the node is outside the tree: tells whoever flushes it that it came back.
    outside: Option<oneshot::Sender<()>>,
    news: Arc<EventQueue>,
    autosave: AutosaveTimer,
    hook: Option<FrameHook>,
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
        self.hook = Some(FrameHook::every(POLL_INTERVAL, move || look(id)));
        if let Some(outside) = self.outside.take() {
            // Err when the flush is over: then nobody needs to know.
            let _flushed_already = outside.send(());
        }
    }

    fn exit_tree(&mut self) {
        self.hook = None;
        let (owner, store, id) = (self.calls.owner(), self.handle(), self.base().instance_id());
        {
            // Open to handlers that call back into this node.
            let _reentrant = self.base_mut();
            main_thread_queue::cancel_all_now(owner);
        }
        let journal = self.connected.borrow().as_ref().map(|connected| connected.journal.clone());
        let Some((store, journal)) = store.filter(holds_something).zip(journal) else { return };
        // Begun here and not when the node is freed: a server that is freed in the same frame leaves after it.
        let (outside, back) = oneshot::channel();
        self.outside = Some(outside);
        background_tasks::spawn_flush(async move {
            let flushed = store.flush(None, DROP_FLUSH_TIMEOUT).await;
            match back.await {
                Ok(()) => report(flushed),
                Err(_freed) => leave(id, store, journal).await,
            }
        });
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let mut warnings = Vec::new();
        if let Err(error) = config::resolve(self.config.as_ref()).and_then(|config| config.check()) {
            warnings.push(error.message.to_string());
        }
        if self.registration.is_none() {
            warnings.push("Assign \"Registration\": players are held by a registered server.".to_owned());
        }
        if let Err(error) = config::resolve(self.config.as_ref())
            .and_then(|config| config::journal_folder(self.config.as_ref(), &config))
        {
            warnings
                .push(format!("Project Settings → Backend Client → Journal → Folder: {}.", error.message));
        }
        if self.handover_timeout < 0.0 {
            warnings.push("\"Handover Timeout\" must be 0 (do not wait) or more.".to_owned());
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

#[godot_api]
impl BackendPlayerStore {
    /// The conflict is dropped, what this server has stays.
    #[constant]
    pub const OURS: i64 = 0;
    /// What came too late replaces what this server has.
    #[constant]
    pub const THEIRS: i64 = 1;
    /// What came too late is applied to what this server has as a merge patch (RFC 7396): members that it has replace
    /// ours, members that only we have stay.
    #[constant]
    pub const MERGE_PATCH: i64 = 2;
    /// Filter [signal conflict_found] is emitted; the game decides by [method resolve_conflict].
    #[constant]
    pub const MANUAL: i64 = 3;

    /// Emitted when a document is durable on local disk: from here on it reaches the backend even if this process or
    /// machine dies. Covers everything that was saved under [param key] since the player was loaded, up to [param change],
    /// the number that [method save] returned for it: what was saved since is announced later.
    #[signal]
    pub fn saved_locally(player_id: GString, key: GString, change: i64);

    /// Emitted when the backend has committed a document, also one that an earlier run of this server left in the journal.
    #[signal]
    pub fn saved(player_id: GString, key: GString, version: i64);

    /// Emitted when a document cannot be saved: it does not fit JSON or the limits, the player was not loaded or is being
    /// released ([code]not_loaded[/code]), the server is shutting down and [signal collect_saves] was the last moment to save
    /// ([code]shutting_down[/code]), or another server holds the player ([code]lease_lost[/code]). A refused save is also a
    /// warning in the log and counts in [member BackendFlushResult.refused].
    #[signal]
    pub fn save_failed(player_id: GString, key: GString, error: Gd<BackendError>);

    /// Emitted when it turns out that another server has taken the player over without waiting for this one, because it was
    /// not heard of for too long. Saves are refused from now on: remove the player from the game.
    #[signal]
    pub fn lease_lost(player_id: GString);

    /// Emitted when a save of this server came too late: another server had taken the player over. Nothing was
    /// overwritten; the backend keeps the save, and the other server gets [signal conflict_found].
    #[signal]
    pub fn conflicted(player_id: GString, key: GString);

    /// Emitted when a player of this server has a save that came too late. [member merge_hook] or
    /// [member conflict_resolution] acts right after the handlers have returned.
    #[signal]
    pub fn conflict_found(conflict: Gd<BackendSaveConflict>);

    /// Emitted when another server waits for the player. Handlers [method save] the final state; once they have returned,
    /// it is sent and the player is let go, as by [method release_player]. Remove the player from the game: later saves
    /// fail with [code]not_loaded[/code].
    #[signal]
    pub fn player_wanted(player_id: GString);

    /// Emitted when the backend has lost what it had announced as saved, because a backup was restored or a copy of the
    /// database took over that lacked the newest saves. Also a warning in the log. Everything this server holds is sent again:
    /// it is saved once more, or kept as a conflict where the backend does not know this server as the player's holder any
    /// more; then [signal lease_lost] and [signal conflicted] follow.
    #[signal]
    pub fn rollback_detected();

    /// Emitted when the journal cannot be used: the disk is full, the folder cannot be written, a write failed. Saves go
    /// on being sent, but until [signal journal_recovered] they are safe only once [signal saved] is emitted.
    #[signal]
    pub fn journal_failed(error: Gd<BackendError>);

    /// Emitted when there is something about the journal that an operator should know, although it works: the file of an
    /// earlier run is damaged and was set aside as it is, another one is used; or the folder lies in memory or in a
    /// container's own layer, where unsent saves do not survive the container. Also a warning in the log.
    #[signal]
    pub fn journal_warning(message: GString);

    /// Emitted when the journal works again. Everything unsent is in it.
    #[signal]
    pub fn journal_recovered();

    /// Emitted at most once per second while the backend does not take saves, and when it has taken them all:
    /// [param documents] wait, the oldest for [param oldest_seconds].
    #[signal]
    pub fn backlog_changed(documents: i64, oldest_seconds: f64);

    /// Asks the game to call [method save] for its live state: every [member autosave_interval], and at shutdown. What
    /// is saved before the handlers return is part of it.
    #[signal]
    pub fn collect_saves();

    /// Takes a player over and reads the documents. Waits up to [member handover_timeout] for another server to save and let
    /// go, and fails with [code]player_held[/code] if it does not; a server that is gone loses the player when its lease
    /// ends. Gives a [BackendPlayerDocuments].
    #[func]
    fn load_player(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        let within = duration(self.handover_timeout);
        let work = self.connected().map(|store| async move {
            let documents = store.load(&player_id, within).await?;
            Ok(Documents { player_id, documents })
        });
        self.calls.try_start(work, BackendPlayerDocuments::answer)
    }

    /// Replaces the document under [param key], 1 to 64 of letters, digits, [code]_[/code], [code].[/code] and
    /// [code]-[/code]. Returns at once; [signal saved_locally] and [signal saved], or [signal save_failed], follow.
    /// [param value] holds what JSON holds, at most 256 KiB of it; its keys are strings. Nothing happens if the document is
    /// the same already. Returns the number of the change, which is higher than that of any change before it, or 0 if it
    /// was refused or is what was loaded.
    #[func]
    fn save(&self, player_id: GString, key: GString, value: AnyDictionary) -> i64 {
        let outcome = match variant_json::DictionarySnapshot::of(&value) {
            Ok(captured) => self.saving(|store| store.save(&string(&player_id), &string(&key), captured)),
            Err(error) => Err(self.not_taken(&player_id, &key, error)),
        };
        self.accepted(&player_id, &key, outcome)
    }

    /// Changes the document under [param key] by a merge patch (RFC 7396): members of [param patch] that are
    /// [code]null[/code] are removed, Dictionaries are merged, anything else is replaced. Otherwise as [method save].
    #[func]
    fn save_patch(&self, player_id: GString, key: GString, patch: AnyDictionary) -> i64 {
        let outcome = match variant_json::from_dictionary(&patch) {
            Ok(patch) => {
                self.saving(|store| store.merge_patch(&player_id.to_string(), &key.to_string(), &patch))
            }
            Err(error) => Err(self.not_taken(&player_id, &key, error)),
        };
        self.accepted(&player_id, &key, outcome)
    }

    /// Sends what is unsent of a player now and waits for the backend, as long as a call may take. Fails with the error of the
    /// player's last save if that was refused. Gives a [BackendFlushResult].
    #[func]
    fn save_now(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        self.flushing(async move |store: PlayerStore, within| store.save_now(&player_id, within).await)
    }

    /// Sends everything that is unsent now and waits for the backend, as long as a call may take. What is saved meanwhile is
    /// sent, too, but not waited for. Gives a [BackendFlushResult].
    #[func]
    fn flush(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: PlayerStore, within| Ok(store.flush(None, within).await))
    }

    /// Waits until everything that was saved so far is durable on local disk, as long as a call may take. Gives a
    /// [BackendFlushResult]; if its [member BackendFlushResult.journalled] is less than its
    /// [member BackendFlushResult.unsaved], the difference is at risk.
    #[func]
    fn flush_local(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: PlayerStore, within| {
            let at_risk = store.flush_local(within).await;
            let (unsaved, refused) = (store.backlog().documents.max(at_risk), store.report_refused());
            Ok(Flushed { unsaved, journalled: unsaved - at_risk, refused, ..Flushed::default() })
        })
    }

    /// Sends a player's documents, lets other servers have the player, and forgets the player. Call it when a player has
    /// left. From this call on, the player's state is final: a later [method save] is refused with
    /// [code]not_loaded[/code], until [method load_player] has taken the player again. What could not be sent in time is sent later, and the player is let go then. Gives a [BackendFlushResult].
    #[func]
    fn release_player(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        self.flushing(async move |store: PlayerStore, within| Ok(store.release(&player_id, within).await))
    }

    /// Reads a player's saves that came too late. Gives a [BackendConflictList].
    #[func]
    fn list_conflicts(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        let work = self.connected().map(|store| async move {
            let conflicts = store.conflicts(&player_id).await?;
            Ok(conflicts.into_iter().map(Arc::new).collect())
        });
        self.calls.try_start(work, BackendConflictList::answer)
    }

    /// Changes the document as [param resolution] says ([constant OURS], [constant THEIRS] or [constant MERGE_PATCH]), and
    /// takes the conflict off the backend's list once that is committed. The player must be loaded. Gives a [BackendDone].
    #[func]
    fn resolve_conflict(
        &self,
        conflict: Option<Gd<BackendSaveConflict>>,
        resolution: i64,
    ) -> Gd<BackendRequest> {
        self.resolving(conflict, conflicts::resolution(resolution))
    }

    /// Replaces the document by [param value], which the game has made of both, and takes the conflict off the backend's
    /// list once that is committed. The player must be loaded. Gives a [BackendDone].
    #[func]
    fn resolve_conflict_with(
        &self,
        conflict: Option<Gd<BackendSaveConflict>>,
        value: AnyDictionary,
    ) -> Gd<BackendRequest> {
        self.resolving(conflict, conflicts::merged_by_the_game(&value))
    }

    /// Returns how many documents the backend has not committed yet.
    #[func]
    fn get_dirty_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.dirty_count() as i64)
    }

    /// Returns how many documents are neither durable on local disk nor committed by the backend.
    #[func]
    fn get_unjournalled_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.unjournalled_count() as i64)
    }

    /// Returns whether this server holds the player, as far as it knows.
    #[func]
    fn is_holding(&self, player_id: GString) -> bool {
        self.handle().is_some_and(|store| store.is_holding(&player_id.to_string()))
    }

    /// Returns a copy of the newest document under [param key], sent or not, or an empty Dictionary.
    #[func]
    fn get_document(&self, player_id: GString, key: GString) -> VarDictionary {
        let document: Option<Arc<Content>> =
            self.handle().and_then(|store| store.document(&player_id.to_string(), &key.to_string()));
        document.map(|content| variant_json::to_dictionary(&content)).unwrap_or_default()
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_config(&mut self, config: Option<Gd<BackendConfig>>) {
        self.config = config;
        // Another backend may have another journal.
        if let Some(folder) = self.unopened.take().filter(|_| self.handle().is_none()) {
            registry::remove_unopened(&folder);
        }
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
}

/// In one go: `to_string` asks for memory again and again, which a save at each frame would feel.
fn string(text: &GString) -> String {
    text.chars().iter().collect()
}

/// Main thread, now and then.
fn look(id: InstanceId) {
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    let due = {
        let node = node.bind();
        node.send_what_is_left();
        node.count_what_is_left();
        node.autosave.is_due(node.autosave_interval)
            && node.handle().is_some_and(|store| store.player_count() > 0)
    };
    if due {
        node.signals().collect_saves().emit();
    }
}
