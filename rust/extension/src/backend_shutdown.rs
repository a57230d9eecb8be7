//! `BackendShutdown`: one orderly way out.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_client::shutdown::{Phase, Shutdown, Summary};
use godot::prelude::*;

use crate::backend_peer_auth::{self, BackendPeerAuth};
use crate::backend_player_store::{self, BackendPlayerStore};
use crate::backend_server_registration::{self, BackendServerRegistration};
use crate::backend_world_store::{self, BackendWorldStore};
use crate::frame_hook::FrameHook;
use crate::result_class::result_class;
use crate::shutdown_parts::Parts;
use crate::{configuration, hand_off, last_words, runtime, supervision, termination};

/// Time between two looks at who is there.
const LOOK: Duration = Duration::from_millis(500);

thread_local! {
    // Used on the main thread only: the node that answers requests from elsewhere.
    static ACTIVE: RefCell<Option<InstanceId>> = const { RefCell::new(None) };
}

result_class! {
    /// What a shutdown achieved.
    BackendShutdownSummary(Summary) {
        /// Why it was asked for: [code]SIGTERM[/code], [code]SIGINT[/code], [code]empty[/code],
        /// [code]drain_requested[/code], [code]CTRL_CLOSE[/code] and the like on Windows, or what the script said.
        reason (get_reason): GString = |summary| GString::from(&summary.reason);
        /// Players this server held when it began.
        players (get_players): i64 = |summary| summary.players as i64;
        /// Unsent documents that were durable on local disk before they were sent.
        saved_locally (get_saved_locally): i64 = |summary| summary.saved_locally as i64;
        /// Documents committed by the backend during the shutdown.
        saved (get_saved): i64 = |summary| summary.saved as i64;
        /// Documents the backend keeps as conflicts, because another server had taken the player over.
        conflicted (get_conflicted): i64 = |summary| summary.conflicted as i64;
        /// Documents the backend does not have, but the journal. The next server with this journal sends them.
        left_in_journal (get_left_in_journal): i64 = |summary| summary.left_in_journal as i64;
        /// Documents that neither the backend nor the journal has. They are lost.
        unsaved (get_unsaved): i64 = |summary| summary.unsaved as i64;
        /// Whether the server left the list, or never was on it.
        deregistered (get_deregistered): bool = |summary| summary.deregistered;
        /// The exit code that goes with it: 0, or 75 when something is left in the journal or lost.
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

/// Turns SIGTERM, SIGINT, what Windows has in their place, and an empty server into one orderly shutdown: no new players,
/// collect their progress, bring it to the journal, send it, let players go, leave the list, quit.
///
/// An open world ([BackendWorldStore]) is part of it; its chunks count as documents.
///
/// Put one into the server's scene. While it is in the tree, the first signal starts the shutdown. A second one ends
/// the process as soon as the journal is synced, after a second at most, with exit code 0 if everything is at the
/// backend and 128 + signal otherwise. The process ends within [member grace_seconds], even if the main loop hangs:
/// saving then goes on in the background with what the game had handed over.
///
/// The exit code is 0 if everything is at the backend. It is 75 if documents are left in the journal, from where the next
/// server with the same journal sends them, or lost; the last line of the log says which. Without this node, signals do
/// what they do in any Godot game.
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
    plan: Option<Arc<Plan>>,
    looked_at: Option<Instant>,
    empty_since: Option<Instant>,
    /// Frames until the game is asked for its state; it had one to announce the shutdown.
    collect_in: Option<u8>,
    each_frame: Option<FrameHook>,
    base: Base<Node>,
}

/// What threads other than the main one need to carry the shutdown out.
struct Plan {
    shutdown: Shutdown,
    parts: Arc<Parts>,
    grace: Mutex<Duration>,
}

impl Plan {
    fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Any thread. False when it has begun already.
    fn request(&self, reason: &str, at_most: Option<Duration>) -> bool {
        let grace = self.grace();
        let grace = at_most.map_or(grace, |at_most| grace.min(at_most));
        match runtime::handle() {
            Ok(handle) => {
                let _entered = handle.enter();
                self.shutdown.request(reason, grace)
            }
            // No workers any more: whoever asks is told to leave at once.
            Err(_) => false,
        }
    }

    /// Any thread but a worker. Ends the process once the journal is synced.
    fn leave(&self, code_if_unsaved: i32) {
        let summary = self.shutdown.cut_short();
        let code = if summary.exit_code() == 0 { 0 } else { code_if_unsaved };
        last_line(code, &summary);
        termination::exit_now(code);
    }
}

#[godot_api]
impl INode for BackendShutdown {
    fn enter_tree(&mut self) {
        if godot::init::is_editor_hint() {
            return;
        }
        let id = self.base().instance_id();
        self.each_frame = Some(FrameHook::new(move || each_frame(id)));
        supervision::begin();
        ACTIVE.set(Some(id));
        let plan = self.plan();
        let (trigger, leave) = (Arc::clone(&plan), plan);
        termination::answer_with(
            Arc::new(move |reason, at_most| trigger.request(reason, at_most)),
            Arc::new(move |code_if_unsaved| leave.leave(code_if_unsaved)),
        );
    }

    fn exit_tree(&mut self) {
        self.each_frame = None;
        let id = self.base().instance_id();
        if ACTIVE.with_borrow(|active| *active == Some(id)) {
            ACTIVE.set(None);
            // A shutdown under way goes on, and so does its answer to a second signal.
            if !self.is_shutting_down() {
                termination::answer_no_more();
            }
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
    /// the handlers return is sent. [signal BackendPlayerStore.collect_saves] and
    /// [signal BackendWorldStore.collect_saves] are emitted as well.
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
        if !plan.request(&reason.to_string(), None) {
            tracing::debug!("shutdown requested again");
        }
    }

    /// Returns whether the shutdown has begun.
    #[func]
    fn is_shutting_down(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.shutdown.is_requested())
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_grace_seconds(&mut self, seconds: f64) {
        self.grace_seconds = seconds;
        if let Some(plan) = &self.plan {
            *plan.grace.lock().unwrap_or_else(PoisonError::into_inner) =
                configuration::host("", seconds).shutdown_grace();
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

    fn plan(&mut self) -> Arc<Plan> {
        if let Some(plan) = &self.plan {
            return Arc::clone(plan);
        }
        let id = self.base().instance_id();
        let parts = Arc::new(Parts::default());
        let on_phase = Arc::new(move |phase: Phase| {
            tell_host(&phase);
            hand_off::post(move || on_phase(id, phase));
        });
        let exit = Arc::new(|code: i32, summary: &Summary| {
            last_line(code, summary);
            termination::exit_now(code);
        });
        let shutdown = Shutdown::new(configuration::clock(), Arc::clone(&parts) as _, on_phase, exit);
        let grace = Mutex::new(configuration::host("", self.grace_seconds).shutdown_grace());
        let plan = Arc::new(Plan { shutdown, parts, grace });
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
        let given = configuration::argument("--empty-server-timeout").and_then(|text| text.parse().ok());
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
        Phase::Draining(reason, grace) => supervision::stopping(reason, *grace),
        Phase::Collecting => {}
        Phase::Journalling => supervision::status("Shutting down: bringing saves to local disk"),
        Phase::Sending => supervision::status("Shutting down: sending saves"),
        Phase::Releasing => supervision::status("Shutting down: letting players go"),
        Phase::Completed(summary) => supervision::status(&summary.to_string()),
    }
}

/// Any thread. The log's last line, past the engine's buffers, which nobody empties any more.
fn last_line(code: i32, summary: &Summary) {
    // Nobody is left to be told about a closed pipe.
    let _closed = writeln!(std::io::stdout(), "{}", describe(code, summary));
}

fn describe(code: i32, summary: &Summary) -> String {
    format!("backend_client: {summary} exit_code={code}")
}

fn each_frame(id: InstanceId) {
    let Ok(mut node) = Gd::<BackendShutdown>::try_from_instance_id(id) else { return };
    let (collect, leave) = {
        let mut shutdown = node.bind_mut();
        let mut leave = false;
        if shutdown.looked_at.is_none_or(|at| at.elapsed() >= LOOK) {
            shutdown.looked_at = Some(Instant::now());
            shutdown.choose();
            leave = !shutdown.is_shutting_down() && shutdown.is_empty_for_long();
        }
        let collect = shutdown.collect_in == Some(0);
        shutdown.collect_in = shutdown.collect_in.and_then(|frames| frames.checked_sub(1));
        (collect, leave)
    };
    if leave {
        node.bind_mut().request_shutdown(GString::from("empty"));
    }
    if collect {
        self::collect(&node);
    }
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
            plan.shutdown.collected();
        }
    }
}

fn on_phase(id: InstanceId, phase: Phase) {
    let Ok(mut node) = Gd::<BackendShutdown>::try_from_instance_id(id) else {
        // Freed meanwhile: the plan goes on, and the process ends with it.
        if let Phase::Completed(summary) = phase {
            godot_print!("{}", describe(summary.exit_code(), &summary));
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
        Phase::Collecting => node.bind_mut().collect_in = Some(1),
        Phase::Journalling => node.signals().progress().emit("journalling"),
        Phase::Sending => node.signals().progress().emit("sending"),
        Phase::Releasing => node.signals().progress().emit("releasing"),
        Phase::Completed(summary) => complete(node, summary),
    }
}

fn complete(mut node: Gd<BackendShutdown>, summary: Summary) {
    let code = summary.exit_code();
    godot_print!("{}", describe(code, &summary));
    let (plan, quit) = {
        let mut shutdown = node.bind_mut();
        let quit = shutdown.quit_on_completed;
        (if quit { shutdown.plan.clone() } else { shutdown.plan.take() }, quit)
    };
    if let Some(plan) = plan {
        if quit {
            plan.shutdown.leaving();
            last_words::nothing_more();
            runtime::end_by(Instant::now() + plan.grace().saturating_sub(summary.total));
        } else {
            plan.shutdown.stay();
        }
    }
    node.signals().progress().emit("completed");
    node.signals().completed().emit(&BackendShutdownSummary::object(Ok(summary)));
    if quit && node.is_instance_valid() && node.is_inside_tree() {
        node.get_tree().quit_ex().exit_code(code).done();
    }
}
