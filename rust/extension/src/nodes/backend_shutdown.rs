//! `BackendShutdown`: one orderly way out.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use backend_client::shutdown::{EXIT_UNSAVED, Phase, Response, Summary};
use godot::classes::notify::NodeNotification;
use godot::classes::{Engine, SceneTree};
use godot::prelude::*;

use crate::config;
use crate::nodes::backend_peer_auth::{self, BackendPeerAuth};
use crate::nodes::backend_player_store::{self, BackendPlayerStore};
use crate::nodes::backend_server_registration::{self, BackendServerRegistration};
use crate::nodes::backend_world_store::{self, BackendWorldStore};
use crate::results::result_class::result_class;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::main_thread_queue;
use crate::shutdown::coordinator;
use crate::shutdown::coordinator::Coordinator;
use crate::shutdown::host_notifier;
use crate::shutdown::signals;
use crate::variant_json::gstring;

/// Time between two looks at who is there.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

thread_local! {
    // Used on the main thread only: the node that answers requests from elsewhere.
    static ACTIVE: RefCell<Option<InstanceId>> = const { RefCell::new(None) };
}

result_class! {
    /// What a shutdown achieved.
    BackendShutdownSummary(Summary) {
        /// Why it was asked for: [code]SIGTERM[/code], [code]SIGINT[/code], [code]SIGHUP[/code], [code]CTRL_CLOSE[/code] and the like on
        /// Windows, [code]window_closed[/code], [code]empty[/code], [code]drain_requested[/code], or what the script
        /// said.
        reason (get_reason): GString = |summary| gstring(&summary.reason);
        /// Players this server held when it began.
        players (get_players): i64 = |summary| summary.players as i64;
        /// Unsent documents that were durable on local disk before they were sent.
        saved_locally (get_saved_locally): i64 = |summary| summary.saved_locally as i64;
        /// Documents committed by the backend during the shutdown.
        saved (get_saved): i64 = |summary| summary.saved as i64;
        /// Documents the backend keeps as conflicts, because another server had taken the player over.
        conflicted (get_conflicted): i64 = |summary| summary.conflicted as i64;
        /// Saves that were refused since the stores were made: [signal BackendPlayerStore.save_failed] was emitted for each of
        /// them. -1: not known.
        refused (get_refused): i64 = |summary| number(summary.refused);
        /// Players whose final state the game did not hand in, because it hung or the process had to end before
        /// [signal BackendShutdown.collect_saves]. -1: not known.
        not_collected (get_not_collected): i64 = |summary| number(summary.not_collected);
        /// Documents the backend does not have, but the journal. The next server with this journal sends them. -1: not known,
        /// because the journal could not be opened.
        left_in_journal (get_left_in_journal): i64 = |summary| number(summary.left_in_journal);
        /// Documents that neither the backend nor the journal has. They are lost. -1: not known, because the game did not
        /// hand in its final state.
        unsaved (get_unsaved): i64 = |summary| number(summary.unsaved);
        /// Whether the server left the list, or never was on it.
        deregistered (get_deregistered): bool = |summary| summary.deregistered;
        /// The exit code that goes with it: 0 if everything is at the backend, 75 if something is left in the journal or
        /// lost, or if that is not known.
        exit_code (get_exit_code): i64 = |summary| summary.exit_code().into();
        /// Milliseconds in all.
        duration_ms (get_duration_ms): i64 = |summary| summary.total.as_millis() as i64;
        /// Milliseconds until the game had handed in its state.
        collect_ms (get_collect_ms): i64 = |summary| summary.collect.as_millis() as i64;
        /// Milliseconds from there until everything was on local disk.
        journal_ms (get_journal_ms): i64 = |summary| summary.journal.as_millis() as i64;
        /// Milliseconds from there until everything was at the backend.
        send_ms (get_send_ms): i64 = |summary| summary.send.as_millis() as i64;
        /// Milliseconds from there until players were let go and the server had left the list.
        release_ms (get_release_ms): i64 = |summary| summary.release.as_millis() as i64;
    }
}

/// -1 if it is not known.
fn number(count: Option<usize>) -> i64 {
    count.map_or(-1, |count| count as i64)
}

/// Turns SIGTERM, SIGINT, SIGHUP, what Windows has in their place, a closed window and an empty server into one orderly shutdown:
/// no new players, collect their progress, bring it to the journal, send it, let players go, leave the list, quit.
///
/// An open world ([BackendWorldStore]) is part of it; its chunks count as documents.
///
/// Put one into the server's scene. While it is in the tree, the first signal starts the shutdown. Signals that follow
/// within two seconds, or before [signal collect_saves], belong to it. A later one ends the process as soon as the journal is
/// synced, after a second at most, with exit code 0 if everything is at the backend and 128 + signal otherwise. The process ends within [member grace_seconds], even if the main loop hangs or a
/// handler never returns: saving then goes on in the background with what the game had handed over. Handlers are not
/// awaited: save before the first [code]await[/code].
///
/// Closing the window counts as a request unless the game had turned [member SceneTree.auto_accept_quit] off.
/// [method SceneTree.quit] is no request: it ends the game at once, with two seconds to send what is unsent, and the
/// rest stays in the journal. The exit code is the game's if nothing is left, and 75 otherwise. Called during a shutdown, it
/// does not cut it off.
///
/// The exit code is 0 if everything is at the backend. It is 75 if documents are left in the journal, from where the next
/// server with the same journal sends them, or lost, or if that is not known; one line of the log, which begins with [code]backend_client:
/// shutdown[/code], says which. Without this node, signals do what they do in any Godot game.
///
/// As a service of systemd ([code]Type=notify[/code]), the server says that it is ready when it is first listed, that it
/// is stopping, and, with [code]WatchdogSec[/code], that its main loop turns.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendShutdown {
    /// Seconds from the request to the end of the process at the latest. 0: the project setting.
    /// [code]BACKEND_SHUTDOWN_GRACE_SECONDS[/code] overrides both.
    #[export(range = (0.0, 600.0, 0.5, or_greater, suffix = "s"))]
    #[var(set = set_grace_seconds)]
    grace_seconds: f64,
    /// Seconds without players after which the server shuts down with the reason [code]empty[/code]. 0: never. The
    /// argument [code]--empty-server-timeout=[/code] overrides it.
    #[export(range = (0.0, 3600.0, 1.0, or_greater, suffix = "s"))]
    empty_server_timeout: f64,
    /// Whether to quit after [signal completed].
    #[export]
    #[init(val = true)]
    quit_on_completed: bool,
    /// Who lets players in. Empty: found in the tree.
    #[export]
    #[export_group(name = "Nodes")]
    peer_auth: Option<Gd<BackendPeerAuth>>,
    /// What leaves the list. Empty: found in the tree.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// What is saved. Empty: found in the tree.
    #[export]
    #[var(set = set_store)]
    store: Option<Gd<BackendPlayerStore>>,
    plan: Option<Arc<Coordinator>>,
    /// A window that is closed does not quit at once, because of this node.
    delays_closing: bool,
    empty_since: Option<Instant>,
    looking: Option<FrameHook>,
    collecting: Option<FrameHook>,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendShutdown {
    fn enter_tree(&mut self) {
        if godot::init::is_editor_hint() {
            return;
        }
        let id = self.base().instance_id();
        self.looking = Some(FrameHook::every(CHECK_INTERVAL, move || look(id)));
        host_notifier::start();
        ACTIVE.set(Some(id));
        let mut tree = self.base().get_tree();
        if tree.is_auto_accept_quit() {
            tree.set_auto_accept_quit(false);
            self.delays_closing = true;
        }
        coordinator::enable_exit_code();
        let plan = self.plan();
        let (trigger, leave) = (Arc::clone(&plan), plan);
        signals::install(
            Arc::new(move |reason, at_most| trigger.request_from_outside(reason, at_most)),
            Arc::new(move |code_if_unsaved| leave.leave(code_if_unsaved)),
        );
    }

    fn exit_tree(&mut self) {
        self.looking = None;
        self.collecting = None;
        let id = self.base().instance_id();
        if ACTIVE.with_borrow(|active| *active == Some(id)) {
            ACTIVE.set(None);
            // A shutdown under way goes on, and so does its answer to a second signal.
            if !self.is_shutting_down() {
                signals::uninstall();
            }
        }
        if std::mem::take(&mut self.delays_closing) {
            self.base().get_tree().set_auto_accept_quit(true);
        }
    }

    fn on_notification(&mut self, what: NodeNotification) {
        if what != NodeNotification::WM_CLOSE_REQUEST || !self.delays_closing {
            return;
        }
        let plan = self.plan();
        self.choose();
        if plan.request_from_outside("window_closed", None) == Response::ForceExit {
            plan.leave(EXIT_UNSAVED);
        }
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let mut warnings = Vec::new();
        if self.grace_seconds < 0.0 {
            warnings.push("\"Grace Seconds\" must be 0 (the project setting) or more.");
        }
        if self.empty_server_timeout < 0.0 {
            warnings.push("\"Empty Server Timeout\" must be 0 (never) or more.");
        }
        warnings.into_iter().map(GString::from).collect()
    }
}

#[godot_api]
impl BackendShutdown {
    /// Emitted first: announce it to the players. No new ones are let in. The process ends within
    /// [param deadline_seconds].
    #[signal]
    pub fn draining(reason: GString, deadline_seconds: f64);

    /// Emitted a frame later: call [method BackendPlayerStore.save] for the game's live state. What is saved before
    /// the handlers return is sent. They have two seconds, and at most 30 % of the grace.
    /// [signal BackendPlayerStore.collect_saves] and [signal BackendWorldStore.collect_saves] are emitted as well.
    #[signal]
    pub fn collect_saves();

    /// Emitted when a phase begins: [code]draining[/code], [code]collecting[/code], [code]journalling[/code],
    /// [code]sending[/code], [code]releasing[/code], [code]completed[/code].
    #[signal]
    pub fn progress(phase: GString);

    /// Emitted last. The game quits after the handlers returned, unless [member quit_on_completed] is off.
    #[signal]
    pub fn completed(summary: Gd<BackendShutdownSummary>);

    /// Begins the shutdown. Does nothing if it has begun already.
    #[func]
    fn request_shutdown(&mut self, reason: GString) {
        let plan = self.plan();
        self.choose();
        if !plan.request(&reason.to_string()) {
            tracing::debug!("shutdown requested again");
        }
    }

    /// Returns whether the shutdown has begun.
    #[func]
    fn is_shutting_down(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_requested())
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_grace_seconds(&mut self, seconds: f64) {
        self.grace_seconds = seconds;
        if let Some(plan) = &self.plan {
            plan.set_grace(config::host("", seconds).shutdown_grace());
        }
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_registration(&mut self, registration: Option<Gd<BackendServerRegistration>>) {
        self.registration = registration;
        self.choose();
    }

    #[func]
    fn set_store(&mut self, store: Option<Gd<BackendPlayerStore>>) {
        self.store = store;
        self.choose();
    }

    fn plan(&mut self) -> Arc<Coordinator> {
        if let Some(plan) = &self.plan {
            return Arc::clone(plan);
        }
        let id = self.base().instance_id();
        let grace = config::host("", self.grace_seconds).shutdown_grace();
        let plan = Coordinator::new(grace, move |plan, phase| {
            tell_host(&phase);
            let plan = Weak::clone(plan);
            main_thread_queue::enqueue(move || on_phase(id, &plan, phase));
        });
        self.plan = Some(Arc::clone(&plan));
        self.choose();
        plan
    }

    /// Tells the plan which nodes it is for.
    fn choose(&self) {
        let Some(plan) = &self.plan else { return };
        let store = self.store.as_ref().filter(|node| node.is_instance_valid()).map(Gd::instance_id);
        let registration =
            self.registration.as_ref().filter(|node| node.is_instance_valid()).map(Gd::instance_id);
        plan.parts.only(store, registration);
    }

    fn stores(&self) -> Vec<Gd<BackendPlayerStore>> {
        self.these_or_found(self.store.as_ref(), backend_player_store::GROUP)
    }

    fn worlds(&self) -> Vec<Gd<BackendWorldStore>> {
        self.these_or_found(None, backend_world_store::GROUP)
    }

    fn registrations(&self) -> Vec<Gd<BackendServerRegistration>> {
        self.these_or_found(self.registration.as_ref(), backend_server_registration::GROUP)
    }

    fn gatekeepers(&self) -> Vec<Gd<BackendPeerAuth>> {
        self.these_or_found(self.peer_auth.as_ref(), backend_peer_auth::GROUP)
    }

    fn these_or_found<T: Inherits<Node> + GodotClass>(&self, own: Option<&Gd<T>>, group: &str) -> Vec<Gd<T>> {
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
    fn is_empty_for_long(&mut self) -> bool {
        let given = config::argument("--empty-server-timeout").and_then(|text| text.parse().ok());
        let limit: f64 = given.unwrap_or(self.empty_server_timeout);
        if limit <= 0.0 {
            return false;
        }
        let gatekeepers = self.gatekeepers();
        let players: i64 = if gatekeepers.is_empty() {
            self.registrations().iter().map(|node| node.bind().count()).sum()
        } else {
            gatekeepers.iter().map(|node| node.bind().count() as i64).sum()
        };
        if players > 0 {
            self.empty_since = None;
            return false;
        }
        self.empty_since.get_or_insert_with(Instant::now).elapsed().as_secs_f64() >= limit
    }
}

/// Begins the shutdown of the active node, if there is one.
pub fn trigger(reason: &str) {
    let active = ACTIVE.with_borrow(|active| *active);
    if let Some(mut node) = active.and_then(|id| Gd::<BackendShutdown>::try_from_instance_id(id).ok()) {
        node.bind_mut().request_shutdown(GString::from(reason));
    }
}

/// Worker. The host hears of it also when the main thread is stuck.
fn tell_host(phase: &Phase) {
    match phase {
        Phase::Draining(reason, grace) => host_notifier::stopping(reason, *grace),
        Phase::Collecting => {}
        Phase::Journalling => host_notifier::status("Shutting down: bringing saves to local disk"),
        Phase::Sending => host_notifier::status("Shutting down: sending saves"),
        Phase::Releasing => host_notifier::status("Shutting down: letting players go"),
        Phase::Completed(summary) => host_notifier::status(&summary.to_string()),
    }
}

fn look(id: InstanceId) {
    let Ok(mut node) = Gd::<BackendShutdown>::try_from_instance_id(id) else { return };
    let mut shutdown = node.bind_mut();
    shutdown.choose();
    if !shutdown.is_shutting_down() && shutdown.is_empty_for_long() {
        shutdown.request_shutdown(GString::from("empty"));
    }
}

/// Asks the game for its state in the next frame but this one: it has a whole one to announce the shutdown.
fn collect_after_a_frame(mut node: Gd<BackendShutdown>) {
    let (id, frames) = (node.instance_id(), Cell::new(1_u8));
    let hook = FrameHook::new(move || match frames.get().checked_sub(1) {
        Some(left) => frames.set(left),
        None => {
            if let Ok(mut node) = Gd::<BackendShutdown>::try_from_instance_id(id) {
                node.bind_mut().collecting = None;
                collect(&node);
            }
        }
    });
    node.bind_mut().collecting = Some(hook);
}

fn collect(node: &Gd<BackendShutdown>) {
    node.signals().progress().emit("collecting");
    let (stores, worlds) = (node.bind().stores(), node.bind().worlds());
    for store in stores {
        store.signals().collect_saves().emit();
    }
    for world in worlds {
        world.signals().collect_saves().emit();
    }
    node.signals().collect_saves().emit();
    if node.is_instance_valid() {
        let plan = node.bind().plan.clone();
        if let Some(plan) = plan {
            plan.collected();
        }
    }
}

fn on_phase(id: InstanceId, plan: &Weak<Coordinator>, phase: Phase) {
    let Ok(node) = Gd::<BackendShutdown>::try_from_instance_id(id) else {
        // Freed meanwhile: the shutdown goes on without it.
        match (phase, plan.upgrade()) {
            (Phase::Collecting, Some(plan)) => plan.collected(),
            (Phase::Completed(summary), Some(plan)) => {
                plan.quits(&summary);
                quit(summary.exit_code());
            }
            _ => {}
        }
        return;
    };
    match phase {
        Phase::Draining(reason, grace) => {
            node.bind().choose();
            let (gatekeepers, registrations) = (node.bind().gatekeepers(), node.bind().registrations());
            for mut gatekeeper in gatekeepers {
                gatekeeper.bind_mut().close_doors();
            }
            for mut registration in registrations {
                registration.bind_mut().set_draining(true);
            }
            tracing::info!(%reason, grace_seconds = grace.as_secs_f64(), "shutting down");
            node.signals().progress().emit("draining");
            node.signals().draining().emit(&reason, grace.as_secs_f64());
        }
        Phase::Collecting => collect_after_a_frame(node),
        Phase::Journalling => node.signals().progress().emit("journalling"),
        Phase::Sending => node.signals().progress().emit("sending"),
        Phase::Releasing => node.signals().progress().emit("releasing"),
        Phase::Completed(summary) => complete(node, summary),
    }
}

fn complete(mut node: Gd<BackendShutdown>, summary: Summary) {
    let code = summary.exit_code();
    let (plan, quits) = {
        let mut shutdown = node.bind_mut();
        let quits = shutdown.quit_on_completed;
        (if quits { shutdown.plan.clone() } else { shutdown.plan.take() }, quits)
    };
    match plan {
        Some(plan) if quits => plan.quits(&summary),
        Some(plan) => plan.stays(&summary),
        None => {}
    }
    node.signals().progress().emit("completed");
    if node.is_instance_valid() {
        node.signals().completed().emit(&BackendShutdownSummary::object(Ok(summary)));
    }
    if quits {
        quit(code);
    }
}

/// Also when the node has left the tree meanwhile.
pub fn quit(code: i32) {
    let main_loop = Engine::singleton().get_main_loop();
    if let Some(mut tree) = main_loop.and_then(|main_loop| main_loop.try_cast::<SceneTree>().ok()) {
        tree.quit_ex().exit_code(code).done();
    }
}
