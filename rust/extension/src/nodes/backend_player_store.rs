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
use conflicts::ConflictResolution;
use drop_flush::{DROP_FLUSH_TIMEOUT, has_unsaved, release_freed, report};
use events::EventQueue;
use godot::builtin::AnyDictionary;
use godot::prelude::*;
use store_handle::{Connected, duration};
use tokio::sync::oneshot;

use crate::class_enum::class_enum;
use crate::config;
use crate::nodes::autosave_timer::AutosaveTimer;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::calls::Calls;
use crate::nodes::configuration_warnings;
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_error::BackendError;
use crate::results::backend_player::{BackendPlayerDocuments, Documents};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_save_conflict::{BackendConflictList, BackendSaveConflict};
use crate::runtime::background_tasks;
use crate::runtime::frame_hook::{FrameHook, POLL_INTERVAL};
use crate::runtime::main_thread_queue;
use crate::shutdown::registry;
use crate::variant_json;

/// Group in which [BackendShutdown] finds the stores.
pub const GROUP: &str = "backend_player_store";
/// Loads and saves players' documents on a server.
///
/// [method save] returns at once. The document is first written to a journal on the local disk ([signal saved_locally]: it reaches
/// the backend even if this process or machine crashes now). It is then sent in the background together with others, and retried
/// until the backend has committed it ([signal saved]). After a crash, the next process with the same journal sends the documents
/// in it when it has registered, before their players are loaded again.
///
/// This server holds a loaded player until [method release_player]: no other server can overwrite the documents. When another
/// server requests the player, [signal handover_requested] is emitted so that the game saves the final state, and the player is
/// released.
/// ```gdscript
/// func _on_peer_verified(_peer_id: int, player: BackendPlayer) -> void:
///     var documents: BackendPlayerDocuments = await store.load_player(player.player_id).wait()
///     if documents.failed():
///         return
///     var progress := documents.get_document("progress")
///     progress["visits"] = progress.get("visits", 0) + 1
///     store.save(player.player_id, "progress", progress)
/// ```
/// The folder of the journal is set by [code]BACKEND_JOURNAL_FOLDER[/code], [code]--backend-journal-folder=[/code] or the project
/// setting [code]backend_client/journal/folder[/code]. The default is below [code]user://backend_client[/code]. In a container, it
/// must be on a volume.
///
/// Godot's debugger shows the monitors [code]backend_client/unsaved_documents[/code],
/// [code]backend_client/oldest_unsaved_seconds[/code], [code]backend_client/flush_latency_ms[/code],
/// [code]backend_client/unjournalled_documents[/code] and [code]backend_client/players_held[/code].
///
/// See "Saving progress" in the guide: [code]docs/src/saving.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendPlayerStore {
    /// Connection settings. If unset, Project Settings > Backend Client is used.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// The registered server that holds the players. Required.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// Seconds between two emissions of [signal collect_saves]. If 0, it is emitted at shutdown only.
    #[export(range = (0.0, 3600.0, 1.0, or_greater, suffix = "s"))]
    #[export_group(name = "Timing")]
    #[init(val = 300.0)]
    autosave_interval: f64,
    /// Seconds without further changes after which a document is sent.
    #[export(range = (0.0, 60.0, 0.1, suffix = "s"))]
    #[var(set = set_debounce_seconds)]
    #[init(val = 0.5)]
    debounce_seconds: f64,
    /// Maximum seconds that a changed document waits before it is sent.
    #[export(range = (0.0, 300.0, 0.1, suffix = "s"))]
    #[var(set = set_max_delay_seconds)]
    #[init(val = 5.0)]
    max_delay_seconds: f64,
    /// Maximum seconds that [method load_player] waits for another server to release the player, and for saves that an earlier run of
    /// this server left in the journal to reach the backend.
    #[export(range = (0.0, 300.0, 0.5, or_greater, suffix = "s"))]
    #[export_group(name = "Handover")]
    #[init(val = 30.0)]
    handover_timeout: f64,
    /// Resolution of conflicts of players that this server holds, one of [enum ConflictResolution]. A valid [member merge_hook] takes
    /// precedence.
    #[export]
    conflict_resolution: ConflictResolution,
    /// Function that merges a held and a late document. It receives the player id, the key, the document that this server holds and the
    /// late document, and returns the merged Dictionary. It may be called again with the same conflict after a crash, so merging twice
    /// must not change the result. If it does not return a Dictionary, the conflict is not resolved.
    /// ```gdscript
    /// store.merge_hook = func(_player_id: String, _key: String, held: Dictionary, late: Dictionary) -> Dictionary:
    ///     held["best_ms"] = mini(held["best_ms"], late["best_ms"])
    ///     return held
    /// ```
    #[var]
    #[init(val = Callable::invalid())]
    merge_hook: Callable,
    connected: RefCell<Option<Connected>>,
    /// Whether the store was opened, or failed to open, after registration.
    tried: Cell<bool>,
    /// Whether it was logged that no store can be created.
    warned: Cell<bool>,
    /// The folder of the unopened journal, once it is part of shutdowns.
    unopened: RefCell<Option<PathBuf>>,
    /// Conflicts that are merged, but not yet removed by the backend: their id and the revision of the merge.
    merged: RefCell<HashMap<String, Option<u64>>>,
    /// While the node is outside the tree: notifies its flush that it came back.
    outside: Option<oneshot::Sender<()>>,
    events: Arc<EventQueue>,
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
        self.hook = Some(FrameHook::every(POLL_INTERVAL, move || poll(id)));
        if let Some(outside) = self.outside.take() {
            // Err if the flush has finished.
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
        let Some((store, journal)) = store.filter(has_unsaved).zip(journal) else { return };
        // Begun here and not when the node is freed: a server that is freed in the same frame leaves after it.
        let (outside, back) = oneshot::channel();
        self.outside = Some(outside);
        background_tasks::spawn_flush(async move {
            let flushed = store.flush(None, DROP_FLUSH_TIMEOUT).await;
            match back.await {
                Ok(()) => report(flushed),
                Err(_freed) => release_freed(id, store, journal).await,
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
        let folder = config::resolve(self.config.as_ref())
            .and_then(|config| config::journal_folder(self.config.as_ref(), &config));
        match folder {
            Ok(folder) => warnings.extend(configuration_warnings::passing_folder("Journal", &folder)),
            Err(error) => warnings
                .push(format!("Project Settings → Backend Client → Journal → Folder: {}.", error.message)),
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

class_enum! {
    BackendPlayerStore::CONFLICT_RESOLUTION: "ConflictResolution" {
        /// The document that this server holds stays; the late save is dropped.
        KEEP_HELD = ConflictResolution::KeepHeld as i64;
        /// The late save replaces the document that this server holds.
        KEEP_LATE = ConflictResolution::KeepLate as i64;
        /// The late save is applied to the held document as a merge patch (RFC 7396): members of the late save replace those of the held
        /// document, other members stay.
        MERGE_PATCH = ConflictResolution::MergePatch as i64;
        /// Only [signal conflict_found] is emitted. The game resolves the conflict with [method resolve_conflict].
        MANUAL = ConflictResolution::Manual as i64;
    }
}

#[godot_api]
impl BackendPlayerStore {
    /// Emitted when a document is durable on the local disk: it reaches the backend even if this process or machine crashes. Covers all
    /// saves under [param key] up to [param revision], the number that [method save] returned.
    #[signal]
    pub fn saved_locally(player_id: GString, key: GString, revision: i64);

    /// Emitted when the backend has committed a document, also one that an earlier run of this server left in the journal.
    #[signal]
    pub fn saved(player_id: GString, key: GString, version: i64);

    /// Emitted when a save was refused: the document is not valid JSON or too large, the player is not loaded or is being released
    /// ([code]not_loaded[/code]), the server is shutting down and [signal collect_saves] was the last chance to save
    /// ([code]shutting_down[/code]), or another server holds the player ([code]lease_lost[/code]). A refused save is also a warning
    /// in the log and counts in [member BackendFlushResult.refused].
    #[signal]
    pub fn save_failed(player_id: GString, key: GString, error: Gd<BackendError>);

    /// Emitted when another server has taken the player over without a handover, because this server was unreachable for too long.
    /// Further saves are refused: remove the player from the game.
    #[signal]
    pub fn lease_lost(player_id: GString);

    /// Emitted when a save of this server was late, because another server had taken the player over. Nothing was overwritten; the
    /// backend stores the save as a conflict, and [signal conflict_found] is emitted on the other server.
    #[signal]
    pub fn conflicted(player_id: GString, key: GString);

    /// Emitted when a player that this server holds has a conflict. [member merge_hook] or [member conflict_resolution] is applied after
    /// the handlers have returned.
    #[signal]
    pub fn conflict_found(conflict: Gd<BackendSaveConflict>);

    /// Emitted when another server requests the player. Call [method save] with the final state in the handler. After the handlers have
    /// returned, the documents are sent and the player is released, as with [method release_player]. Remove the player from the game:
    /// later saves fail with [code]not_loaded[/code].
    #[signal]
    pub fn handover_requested(player_id: GString);

    /// Emitted when the backend has lost documents that it had committed, because a backup was restored or an outdated replica was
    /// promoted. A warning is logged as well. All documents that this server holds are sent again and saved once more. If this
    /// server is no longer the player's holder at the backend, they are stored as conflicts, and [signal lease_lost] and
    /// [signal conflicted] are emitted.
    #[signal]
    pub fn rollback_detected();

    /// Emitted when the journal cannot be written: the disk is full, the folder is not writable, or a write failed. Saves are still sent,
    /// but until [signal journal_recovered] they are safe only once [signal saved] is emitted.
    #[signal]
    pub fn journal_failed(error: Gd<BackendError>);

    /// Emitted when the journal works but an operator should check it: a damaged file of an earlier run was set aside and replaced,
    /// or the folder is in memory or in a container's writable layer, where unsaved documents are lost with the container. A
    /// warning is logged as well.
    #[signal]
    pub fn journal_warning(message: GString);

    /// Emitted when the journal works again and contains all unsaved documents.
    #[signal]
    pub fn journal_recovered();

    /// Emitted at most once per second while the backend does not accept saves, and when it has committed all of them.
    /// [param documents] is the number of unsaved documents; the oldest has been unsaved for [param oldest_seconds].
    #[signal]
    pub fn unsaved_changed(documents: i64, oldest_seconds: f64);

    /// Emitted every [member autosave_interval] and at shutdown. Call [method save] with the live state in the handler; what is saved
    /// before the handlers return is included.
    #[signal]
    pub fn collect_saves();

    /// Takes over a player and reads the documents. Waits up to [member handover_timeout] for another server to save and release the
    /// player, and fails with [code]player_held[/code] after that. A crashed server loses the player when its lease expires. Returns a
    /// [BackendRequest] that completes with a [BackendPlayerDocuments].
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

    /// Replaces the document under [param key]. Returns the revision of the change, or 0 if the save was refused or the document equals
    /// what was loaded. Revisions increase with each change.
    ///
    /// The call does not wait: [signal saved_locally] and [signal saved], or [signal save_failed], are emitted later. [param key] has 1 to
    /// 64 characters out of letters, digits, [code]_[/code], [code].[/code] and [code]-[/code]. [param value] may contain JSON types
    /// with strings as keys, at most 256 KiB as JSON. An unchanged document is not sent again.
    #[func]
    fn save(&self, player_id: GString, key: GString, value: AnyDictionary) -> i64 {
        let outcome = match variant_json::DictionarySnapshot::of(&value) {
            Ok(captured) => self.saving(|store| store.save(&string(&player_id), &string(&key), captured)),
            Err(error) => Err(self.note_refused(&player_id, &key, error)),
        };
        self.accepted(&player_id, &key, outcome)
    }

    /// Changes the document under [param key] with a merge patch (RFC 7396): members that are [code]null[/code] in [param patch] are
    /// removed, Dictionaries are merged, other values are replaced. Otherwise like [method save].
    #[func]
    fn save_patch(&self, player_id: GString, key: GString, patch: AnyDictionary) -> i64 {
        let outcome = match variant_json::from_dictionary(&patch) {
            Ok(patch) => {
                self.saving(|store| store.merge_patch(&player_id.to_string(), &key.to_string(), &patch))
            }
            Err(error) => Err(self.note_refused(&player_id, &key, error)),
        };
        self.accepted(&player_id, &key, outcome)
    }

    /// Sends the unsaved documents of a player now and waits for the backend, at most the timeout of a call. Returns a [BackendRequest]
    /// that completes with a [BackendFlushResult], or fails with the error of the player's last save if it was refused.
    #[func]
    fn save_now(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        self.flushing(async move |store: PlayerStore, within| store.save_now(&player_id, within).await)
    }

    /// Sends all unsaved documents now and waits for the backend, at most the timeout of a call. Later saves are sent too, but not
    /// waited for. Returns a [BackendRequest] that completes with a [BackendFlushResult].
    #[func]
    fn flush(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: PlayerStore, within| Ok(store.flush(None, within).await))
    }

    /// Waits until all saves so far are durable on the local disk, at most the timeout of a call. Returns a [BackendRequest] that
    /// completes with a [BackendFlushResult]. If its [member BackendFlushResult.journalled] is less than its
    /// [member BackendFlushResult.unsaved], the difference is at risk.
    #[func]
    fn flush_local(&self) -> Gd<BackendRequest> {
        self.flushing(async move |store: PlayerStore, within| {
            let at_risk = store.flush_local(within).await;
            let (unsaved, refused) = (store.backlog().documents.max(at_risk), store.report_refused());
            Ok(Flushed { unsaved, journalled: unsaved - at_risk, refused, ..Flushed::default() })
        })
    }

    /// Sends a player's documents and releases the player for other servers. Call it when a player has left. The player's state is final
    /// from now on: [method save] fails with [code]not_loaded[/code] until the player is loaded again. If the documents cannot be sent in
    /// time, they are sent later, and the player is released then. Returns a [BackendRequest] that completes with a
    /// [BackendFlushResult].
    #[func]
    fn release_player(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        self.flushing(async move |store: PlayerStore, within| Ok(store.release(&player_id, within).await))
    }

    /// Reads a player's conflicts. Returns a [BackendRequest] that completes with a [BackendConflictList].
    #[func]
    fn list_conflicts(&self, player_id: GString) -> Gd<BackendRequest> {
        let player_id = player_id.to_string();
        let work = self.connected().map(|store| async move {
            let conflicts = store.conflicts(&player_id).await?;
            Ok(conflicts.into_iter().map(Arc::new).collect())
        });
        self.calls.try_start(work, BackendConflictList::answer)
    }

    /// Resolves a conflict with [constant KEEP_HELD], [constant KEEP_LATE] or [constant MERGE_PATCH]. The backend removes the conflict
    /// once the resulting document is committed. The player must be loaded. Returns a [BackendRequest] that completes with a
    /// [BackendResult].
    #[func]
    fn resolve_conflict(
        &self,
        conflict: Option<Gd<BackendSaveConflict>>,
        resolution: i64,
    ) -> Gd<BackendRequest> {
        self.resolving(conflict, conflicts::resolution(resolution))
    }

    /// Resolves a conflict with a merged document. The backend removes the conflict once [param value] is committed. The player must be
    /// loaded. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn resolve_conflict_with(
        &self,
        conflict: Option<Gd<BackendSaveConflict>>,
        value: AnyDictionary,
    ) -> Gd<BackendRequest> {
        self.resolving(conflict, conflicts::merged_by_the_game(&value))
    }

    /// Returns the number of documents that the backend has not committed yet.
    #[func]
    fn get_unsaved_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.pending_count() as i64)
    }

    /// Returns the number of documents that are neither durable on the local disk nor committed by the backend.
    #[func]
    fn get_unjournalled_count(&self) -> i64 {
        self.handle().map_or(0, |store| store.unjournalled_count() as i64)
    }

    /// Returns [code]true[/code] if this server holds the player. The lease may have been lost since the last reply of the backend.
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

/// With one allocation, unlike `to_string`.
fn string(text: &GString) -> String {
    text.chars().iter().collect()
}

/// Main thread, every [`POLL_INTERVAL`].
fn poll(id: InstanceId) {
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    let due = {
        let node = node.bind();
        node.open_when_registered();
        node.count_unopened_journal();
        node.autosave.is_due(node.autosave_interval)
            && node.handle().is_some_and(|store| store.player_count() > 0)
    };
    if due {
        node.signals().collect_saves().emit();
    }
}
