//! `BackendShutdown`: the orderly shutdown of a server.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use backend_client::shutdown::{EXIT_UNSAVED, Phase, Response, Summary};
use backend_settings::EMPTY_SERVER_TIMEOUT;
use godot::classes::notify::NodeNotification;
use godot::prelude::*;

use crate::class_enum::class_enum;
use crate::config;
use crate::nodes::backend_peer_auth::{self, BackendPeerAuth};
use crate::nodes::backend_player_store::{self, BackendPlayerStore};
use crate::nodes::backend_server_registration::{self, BackendServerRegistration};
use crate::nodes::backend_world_store::{self, BackendWorldStore};
use crate::nodes::configuration_warnings;
use crate::results::result_class::result_class;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::main_thread_queue;
use crate::shutdown::coordinator;
use crate::shutdown::coordinator::Coordinator;
use crate::shutdown::host_notifier;
use crate::shutdown::requests::{self, quit};
use crate::shutdown::signals;
use crate::variant_json::gstring;

/// Interval of the check for players and nodes.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

result_class! {
    /// The outcome of a shutdown.
    BackendShutdownSummary(Summary) {
        /// Reason of the shutdown: [code]SIGTERM[/code], [code]SIGINT[/code], [code]SIGHUP[/code], [code]CTRL_CLOSE[/code] and similar on
        /// Windows, [code]window_closed[/code], [code]empty[/code], [code]drain_requested[/code], a reason of
        /// [signal BackendServerRegistration.host_notice], or the argument of [method BackendShutdown.request_shutdown].
        reason (get_reason): GString = |summary| gstring(&summary.reason);
        /// Number of players that this server held when the shutdown started.
        players (get_players): i64 = |summary| summary.players as i64;
        /// Number of unsaved documents that were durable on the local disk before they were sent.
        saved_locally (get_saved_locally): i64 = |summary| summary.saved_locally as i64;
        /// Number of documents that the backend committed during the shutdown.
        saved (get_saved): i64 = |summary| summary.saved as i64;
        /// Number of documents that the backend stored as conflicts, because another server had taken the player over.
        conflicted (get_conflicted): i64 = |summary| summary.conflicted as i64;
        /// Number of saves that were refused since the stores were created. [signal BackendPlayerStore.save_failed] was emitted for each.
        /// -1 if unknown.
        refused (get_refused): i64 = |summary| number(summary.refused);
        /// Number of players without a final state, because the game hung or the process had to exit before
        /// [signal BackendShutdown.collect_saves]. -1 if unknown.
        not_collected (get_not_collected): i64 = |summary| number(summary.not_collected);
        /// Number of documents that are in the journal but not at the backend. The next server with this journal sends them. -1 if unknown,
        /// because the journal could not be opened.
        left_in_journal (get_left_in_journal): i64 = |summary| number(summary.left_in_journal);
        /// Number of documents that are neither in the journal nor at the backend. They are lost. -1 if unknown, because the game
        /// did not save its final state.
        unsaved (get_unsaved): i64 = |summary| number(summary.unsaved);
        /// If [code]true[/code], the server was deregistered, or had never been registered.
        deregistered (get_deregistered): bool = |summary| summary.deregistered;
        /// Exit code of the process: 0 if everything is at the backend, 75 if documents are in the journal or lost, or if that is unknown.
        exit_code (get_exit_code): i64 = |summary| summary.exit_code().into();
        /// Total duration in milliseconds.
        duration_ms (get_duration_ms): i64 = |summary| summary.total.as_millis() as i64;
        /// Milliseconds until the game had saved its state.
        collect_ms (get_collect_ms): i64 = |summary| summary.collect.as_millis() as i64;
        /// Milliseconds from there until everything was on the local disk.
        journal_ms (get_journal_ms): i64 = |summary| summary.journal.as_millis() as i64;
        /// Milliseconds from there until everything was at the backend.
        send_ms (get_send_ms): i64 = |summary| summary.send.as_millis() as i64;
        /// Milliseconds from there until players were released and the server was deregistered.
        release_ms (get_release_ms): i64 = |summary| summary.release.as_millis() as i64;
    }
}

/// -1 if it is not known.
fn number(count: Option<usize>) -> i64 {
    count.map_or(-1, |count| count as i64)
}

/// Shuts a server down in order when its process has to end, and saves its players first.
///
/// The server accepts no new players, collects saves, writes the journal, sends everything to the backend, releases the players,
/// deregisters and quits. The shutdown is started by SIGTERM, SIGINT, SIGHUP, their counterparts on Windows, a closed window, an
/// empty server, a host that is about to end the process ([signal BackendServerRegistration.host_notice]), or
/// [method request_shutdown]. An open world ([BackendWorldStore]) is included; its chunks count as documents.
/// ```gdscript
/// func _ready() -> void:
///     $BackendShutdown.draining.connect(_on_draining)
///     $BackendShutdown.collect_saves.connect(_save_all_players)
///
/// func _on_draining(_reason: String, deadline_seconds: float) -> void:
///     announce.rpc("The server restarts in %d seconds." % deadline_seconds)
/// ```
/// Add one to the server's scene. While it is in the tree, the first signal starts the shutdown. Further signals within two
/// seconds, or before [signal collect_saves], belong to it. A later signal ends the process as soon as the journal is synced, after
/// one second at most, with exit code 0 if everything is at the backend and 128 + signal otherwise. The process ends within
/// [member grace_seconds], even if the main loop hangs or a handler never returns; the state that the game has saved by then is
/// sent in the background. Handlers are not awaited: save before the first [code]await[/code].
///
/// Closing the window starts the shutdown unless the game has disabled [member SceneTree.auto_accept_quit]. [method SceneTree.quit]
/// does not: it ends the game at once, with two seconds to send unsaved documents, and the rest stays in the journal. The exit code
/// is then the game's if nothing is left, and 75 otherwise. During a shutdown, it does not cut the shutdown short.
///
/// The exit code is 0 if everything is at the backend. It is 75 if documents are left in the journal, from where the next server with
/// the same journal sends them, or are lost, or if that is unknown; a line of the log that begins with [code]backend_client:
/// shutdown[/code] has the details. Without this node, signals have their default effect.
///
/// As a systemd service ([code]Type=notify[/code]), the server reports that it is ready when it is first registered, that it is
/// stopping, and, with [code]WatchdogSec[/code], that its main loop runs. Agones receives the same; its GameServer ends with the
/// shutdown, also if [member quit_on_completed] is [code]false[/code].
///
/// See "Shutting down" in the guide: [code]docs/src/shutdown.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendShutdown {
    /// Maximum seconds from the request to the end of the process. If 0, the project setting is used.
    /// [code]BACKEND_SHUTDOWN_GRACE_SECONDS[/code] overrides both.
    #[export(range = (0.0, 600.0, 0.5, or_greater, suffix = "s"))]
    #[var(set = set_grace_seconds)]
    grace_seconds: f64,
    /// Seconds without players after which the server shuts down with the reason [code]empty[/code]. If 0, it never does. The argument
    /// [code]--empty-server-timeout=[/code] overrides it.
    #[export(range = (0.0, 3600.0, 1.0, or_greater, suffix = "s"))]
    empty_server_timeout: f64,
    /// If [code]true[/code], the game quits after [signal completed].
    #[export]
    #[init(val = true)]
    quit_on_completed: bool,
    /// The [BackendPeerAuth] that stops accepting peers when the shutdown starts. If unset, all in the scene tree do.
    #[export]
    #[export_group(name = "Nodes")]
    peer_auth: Option<Gd<BackendPeerAuth>>,
    /// The [BackendServerRegistration] that is deregistered. If unset, all in the process are.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// The [BackendPlayerStore] whose documents are saved. If unset, all in the process are.
    #[export]
    #[var(set = set_store)]
    store: Option<Gd<BackendPlayerStore>>,
    coordinator: Option<Arc<Coordinator>>,
    /// A window that is closed does not quit at once, because of this node.
    handles_close_request: bool,
    empty_since: Option<Instant>,
    checking: Option<FrameHook>,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendShutdown {
    fn enter_tree(&mut self) {
        if godot::init::is_editor_hint() {
            return;
        }
        let id = self.base().instance_id();
        self.checking = Some(FrameHook::every(CHECK_INTERVAL, move || check(id)));
        host_notifier::start_soon();
        let on_request = move |reason: &str| {
            if let Ok(mut node) = Gd::<Self>::try_from_instance_id(id) {
                node.bind_mut().request_shutdown(GString::from(reason));
            }
        };
        let grace = move || {
            let node = Gd::<Self>::try_from_instance_id(id).ok();
            config::shutdown_grace(node.map_or(0.0, |node| node.bind().grace_seconds))
        };
        requests::set_handler(id, on_request, grace);
        let mut tree = self.base().get_tree();
        if tree.is_auto_accept_quit() {
            tree.set_auto_accept_quit(false);
            self.handles_close_request = true;
        }
        coordinator::enable_exit_code();
        let coordinator = self.coordinator();
        let by_host = Arc::clone(&coordinator);
        host_notifier::install(Arc::new(move |reason, deadline| by_host.request_by_host(reason, deadline)));
        let (trigger, force_exit) = (Arc::clone(&coordinator), coordinator);
        signals::install(
            Arc::new(move |reason, at_most| trigger.request_from_outside(reason, at_most)),
            Arc::new(move |code_if_unsaved| force_exit.force_exit(code_if_unsaved)),
        );
    }

    fn exit_tree(&mut self) {
        self.checking = None;
        let id = self.base().instance_id();
        // A shutdown under way goes on, and so does its answer to a second signal.
        if requests::remove_handler(id) && !self.is_shutting_down() {
            signals::uninstall();
            host_notifier::uninstall();
        }
        if std::mem::take(&mut self.handles_close_request) {
            self.base().get_tree().set_auto_accept_quit(true);
        }
    }

    fn on_notification(&mut self, what: NodeNotification) {
        if what != NodeNotification::WM_CLOSE_REQUEST || !self.handles_close_request {
            return;
        }
        let coordinator = self.coordinator();
        self.update_targets();
        if coordinator.request_from_outside("window_closed", None) == Response::ForceExit {
            coordinator.force_exit(EXIT_UNSAVED);
        }
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let mut warnings = Vec::new();
        if self.grace_seconds < 0.0 {
            warnings.push("\"Grace Seconds\" must be 0 (the project setting) or more.".to_owned());
        }
        if self.empty_server_timeout < 0.0 {
            warnings.push("\"Empty Server Timeout\" must be 0 (never) or more.".to_owned());
        }
        let count = configuration_warnings::count_in_scene(&self.to_gd().upcast(), "BackendShutdown");
        if count > 1 {
            warnings.push(format!(
                "This scene has {count} BackendShutdown: only one answers a signal. Remove the others."
            ));
        }
        warnings.extend(configuration_warnings::grace(self.grace_seconds));
        warnings.iter().map(GString::from).collect()
    }
}

class_enum! {
    BackendShutdown::PHASE: "Phase" {
        /// No new players are accepted; [signal draining] was emitted.
        PHASE_DRAINING = 0;
        /// The game saves its final state.
        PHASE_COLLECTING = 1;
        /// Saves are written to the local disk.
        PHASE_JOURNALLING = 2;
        /// Saves are sent to the backend.
        PHASE_SENDING = 3;
        /// Players are released and the server is deregistered.
        PHASE_RELEASING = 4;
        /// The shutdown has completed.
        PHASE_COMPLETED = 5;
    }
}

#[godot_api]
impl BackendShutdown {
    /// Emitted when the shutdown starts. Announce it to the players in the handler; no new ones are accepted. The process ends
    /// within [param deadline_seconds].
    #[signal]
    pub fn draining(reason: GString, deadline_seconds: f64);

    /// Emitted one frame after [signal draining]. Call [method BackendPlayerStore.save] with the live state in the handler; what is
    /// saved before the handlers return is sent. They have two seconds, and at most 30 % of the grace period.
    /// [signal BackendPlayerStore.collect_saves] and [signal BackendWorldStore.collect_saves] are emitted as well.
    #[signal]
    pub fn collect_saves();

    /// Emitted when a phase begins. [param phase] is one of [enum Phase].
    #[signal]
    pub fn progress(phase: i64);

    /// Emitted when the shutdown has completed. The game quits after the handlers have returned, unless [member quit_on_completed]
    /// is [code]false[/code].
    #[signal]
    pub fn completed(summary: Gd<BackendShutdownSummary>);

    /// Starts the shutdown. Has no effect if it has started already.
    #[func]
    fn request_shutdown(&mut self, reason: GString) {
        let coordinator = self.coordinator();
        self.update_targets();
        if !coordinator.request(&reason.to_string()) {
            tracing::debug!("shutdown requested again");
        }
    }

    /// Returns [code]true[/code] if the shutdown has started.
    #[func]
    fn is_shutting_down(&self) -> bool {
        self.coordinator.as_ref().is_some_and(|coordinator| coordinator.is_requested())
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_grace_seconds(&mut self, seconds: f64) {
        self.grace_seconds = seconds;
        if let Some(coordinator) = &self.coordinator {
            coordinator.set_grace(config::shutdown_grace(seconds));
        }
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_registration(&mut self, registration: Option<Gd<BackendServerRegistration>>) {
        self.registration = registration;
        self.update_targets();
    }

    #[func]
    fn set_store(&mut self, store: Option<Gd<BackendPlayerStore>>) {
        self.store = store;
        self.update_targets();
    }

    fn coordinator(&mut self) -> Arc<Coordinator> {
        if let Some(coordinator) = &self.coordinator {
            return Arc::clone(coordinator);
        }
        let id = self.base().instance_id();
        let grace = config::shutdown_grace(self.grace_seconds);
        let coordinator = Coordinator::new(grace, move |coordinator, phase| {
            notify_host(&phase);
            let coordinator = Weak::clone(coordinator);
            main_thread_queue::enqueue(move || on_phase(id, &coordinator, phase));
        });
        self.coordinator = Some(Arc::clone(&coordinator));
        self.update_targets();
        coordinator
    }

    /// Tells the coordinator which nodes it is for.
    fn update_targets(&self) {
        let Some(coordinator) = &self.coordinator else { return };
        let store = self.store.as_ref().filter(|node| node.is_instance_valid()).map(Gd::instance_id);
        let registration =
            self.registration.as_ref().filter(|node| node.is_instance_valid()).map(Gd::instance_id);
        coordinator.targets.only(store, registration);
    }

    fn stores(&self) -> Vec<Gd<BackendPlayerStore>> {
        self.assigned_or_found(self.store.as_ref(), backend_player_store::GROUP)
    }

    fn worlds(&self) -> Vec<Gd<BackendWorldStore>> {
        self.assigned_or_found(None, backend_world_store::GROUP)
    }

    fn registrations(&self) -> Vec<Gd<BackendServerRegistration>> {
        self.assigned_or_found(self.registration.as_ref(), backend_server_registration::GROUP)
    }

    fn peer_auths(&self) -> Vec<Gd<BackendPeerAuth>> {
        self.assigned_or_found(self.peer_auth.as_ref(), backend_peer_auth::GROUP)
    }

    fn assigned_or_found<T: Inherits<Node> + GodotClass>(
        &self,
        own: Option<&Gd<T>>,
        group: &str,
    ) -> Vec<Gd<T>> {
        if let Some(own) = own.filter(|node| node.is_instance_valid()) {
            return vec![own.clone()];
        }
        if !self.base().is_inside_tree() {
            return Vec::new();
        }
        let nodes = self.base().get_tree().get_nodes_in_group(group);
        nodes.iter_shared().filter_map(|node| node.try_cast::<T>().ok()).collect()
    }

    /// Whether the server has been empty for too long.
    fn is_empty_timeout_over(&mut self) -> bool {
        let given = config::override_for(&EMPTY_SERVER_TIMEOUT.overrides).and_then(|text| text.parse().ok());
        let limit: f64 = given.unwrap_or(self.empty_server_timeout);
        if limit <= 0.0 {
            return false;
        }
        let peer_auths = self.peer_auths();
        let players: i64 = if peer_auths.is_empty() {
            self.registrations().iter().map(|node| node.bind().count()).sum()
        } else {
            peer_auths.iter().map(|node| node.bind().count() as i64).sum()
        };
        if players > 0 {
            self.empty_since = None;
            return false;
        }
        self.empty_since.get_or_insert_with(Instant::now).elapsed().as_secs_f64() >= limit
    }
}

/// Worker: the host is notified also when the main thread is stuck.
fn notify_host(phase: &Phase) {
    match phase {
        Phase::Draining(reason, grace) => host_notifier::draining(reason, *grace),
        Phase::Collecting => {}
        Phase::Journalling => host_notifier::status("Shutting down: bringing saves to local disk"),
        Phase::Sending => host_notifier::status("Shutting down: sending saves"),
        Phase::Releasing => host_notifier::status("Shutting down: letting players go"),
        Phase::Completed(summary) => host_notifier::status(&summary.to_string()),
    }
}

fn check(id: InstanceId) {
    let Ok(mut node) = Gd::<BackendShutdown>::try_from_instance_id(id) else { return };
    let mut shutdown = node.bind_mut();
    shutdown.update_targets();
    if !shutdown.is_shutting_down() && shutdown.is_empty_timeout_over() {
        shutdown.request_shutdown(GString::from("empty"));
    }
}

/// Emits `collect_saves` in the frame after the next: the game has a whole one to announce the shutdown. If the node is freed
/// by then, the shutdown continues without it.
fn collect_after_a_frame(id: InstanceId, coordinator: Weak<Coordinator>) {
    let (frames, hook) = (Cell::new(1_u8), Rc::new(RefCell::new(None)));
    // Owned by its own closure, as the node may be freed before.
    let own = Rc::clone(&hook);
    hook.replace(Some(FrameHook::new(move || match frames.get().checked_sub(1) {
        Some(left) => frames.set(left),
        None => {
            drop(own.take());
            match (Gd::<BackendShutdown>::try_from_instance_id(id), coordinator.upgrade()) {
                (Ok(node), _) => collect(&node),
                (Err(_freed), Some(coordinator)) => coordinator.collected(),
                (Err(_freed), None) => {}
            }
        }
    })));
}

fn collect(node: &Gd<BackendShutdown>) {
    node.signals().progress().emit(BackendShutdown::PHASE_COLLECTING);
    let (stores, worlds) = (node.bind().stores(), node.bind().worlds());
    for store in stores {
        store.signals().collect_saves().emit();
    }
    for world in worlds {
        world.signals().collect_saves().emit();
    }
    node.signals().collect_saves().emit();
    if node.is_instance_valid() {
        let coordinator = node.bind().coordinator.clone();
        if let Some(coordinator) = coordinator {
            coordinator.collected();
        }
    }
}

fn on_phase(id: InstanceId, coordinator: &Weak<Coordinator>, phase: Phase) {
    let Ok(node) = Gd::<BackendShutdown>::try_from_instance_id(id) else {
        // Freed meanwhile: the shutdown goes on without it.
        match (phase, coordinator.upgrade()) {
            (Phase::Collecting, Some(coordinator)) => coordinator.collected(),
            (Phase::Completed(summary), Some(coordinator)) => {
                coordinator.complete_and_quit(&summary);
                quit(summary.exit_code());
            }
            _ => {}
        }
        return;
    };
    match phase {
        Phase::Draining(reason, grace) => {
            node.bind().update_targets();
            let (peer_auths, registrations) = (node.bind().peer_auths(), node.bind().registrations());
            for mut peer_auth in peer_auths {
                peer_auth.bind_mut().stop_accepting();
            }
            for mut registration in registrations {
                registration.bind_mut().set_draining(true);
            }
            tracing::info!(%reason, grace_seconds = grace.as_secs_f64(), "shutting down");
            node.signals().progress().emit(BackendShutdown::PHASE_DRAINING);
            node.signals().draining().emit(&reason, grace.as_secs_f64());
        }
        Phase::Collecting => collect_after_a_frame(id, Weak::clone(coordinator)),
        Phase::Journalling => node.signals().progress().emit(BackendShutdown::PHASE_JOURNALLING),
        Phase::Sending => node.signals().progress().emit(BackendShutdown::PHASE_SENDING),
        Phase::Releasing => node.signals().progress().emit(BackendShutdown::PHASE_RELEASING),
        Phase::Completed(summary) => complete(node, summary),
    }
}

fn complete(mut node: Gd<BackendShutdown>, summary: Summary) {
    let code = summary.exit_code();
    let (coordinator, quits) = {
        let mut shutdown = node.bind_mut();
        let quits = shutdown.quit_on_completed;
        (if quits { shutdown.coordinator.clone() } else { shutdown.coordinator.take() }, quits)
    };
    match coordinator {
        Some(coordinator) if quits => coordinator.complete_and_quit(&summary),
        Some(coordinator) => coordinator.complete_and_continue(&summary),
        None => {}
    }
    node.signals().progress().emit(BackendShutdown::PHASE_COMPLETED);
    if node.is_instance_valid() {
        node.signals().completed().emit(&BackendShutdownSummary::object(Ok(summary)));
    }
    if quits {
        quit(code);
    }
}
