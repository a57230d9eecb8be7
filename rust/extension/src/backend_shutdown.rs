//! `BackendShutdown`: one orderly way out.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_client::host::Host;
use backend_client::shutdown::{Phase, Shutdown, Summary};
use godot::prelude::*;

use crate::backend_peer_auth::{self, BackendPeerAuth};
use crate::backend_player_store::{self, BackendPlayerStore};
use crate::backend_server_registration::{self, BackendServerRegistration};
use crate::frame_hook::FrameHook;
use crate::result_class::result_class;
use crate::shutdown_parts::Parts;
use crate::{configuration, hand_off, runtime, termination};

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
        /// [code]drain_requested[/code], or what the script said.
        reason (get_reason): GString = |summary| GString::from(&summary.reason);
        /// Documents committed during the shutdown.
        saved (get_saved): i64 = |summary| summary.saved as i64;
        /// Documents the backend does not have.
        unsaved (get_unsaved): i64 = |summary| summary.unsaved as i64;
        /// Whether the server left the list, or never was on it.
        deregistered (get_deregistered): bool = |summary| summary.deregistered;
        /// Milliseconds in all.
        duration_ms (get_duration_ms): i64 = |summary| summary.total.as_millis() as i64;
        /// Milliseconds until the game had handed in its state.
        collect_ms (get_collect_ms): i64 = |summary| summary.collect.as_millis() as i64;
        /// Milliseconds from there until all documents were committed.
        flush_ms (get_flush_ms): i64 = |summary| summary.flush.as_millis() as i64;
        /// Milliseconds from there until the server had left the list.
        deregister_ms (get_deregister_ms): i64 = |summary| summary.deregister.as_millis() as i64;
    }
}

/// Turns SIGTERM, SIGINT and an empty server into one orderly shutdown: no new players, collect and save their
/// progress, leave the list, quit.
///
/// Put one into the server's scene. While it is in the tree, the first signal starts the shutdown; a second one ends
/// the process at once, with exit code 0 if everything is saved and 128 + signal otherwise. The process ends within
/// [member grace_seconds], even if the main loop hangs: saving then goes on in the background with what the game had
/// handed over. The exit code is 0 if everything is saved, otherwise 75. Without this node, signals do what they do in
/// any Godot game.
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
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    /// Whether the game's state was handed in, or waited for long enough.
    collected: bool,
    summary: Option<Summary>,
}

impl Plan {
    fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Any thread. False when it has begun already.
    fn request(&self, reason: &str) -> bool {
        let grace = self.grace();
        match runtime::handle() {
            Ok(handle) => {
                let _entered = handle.enter();
                self.shutdown.request(reason, grace)
            }
            // No workers any more: whoever asks is told to leave at once.
            Err(_) => false,
        }
    }

    /// Any thread. 0 if leaving now loses nothing.
    fn exit_code_now(&self) -> Option<i32> {
        let collected = self.progress.lock().unwrap_or_else(PoisonError::into_inner).collected;
        (collected && self.parts.dirty_count() == 0).then_some(0)
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
        ACTIVE.set(Some(id));
        let plan = self.plan();
        let (trigger, code) = (Arc::clone(&plan), plan);
        termination::answer_with(
            Arc::new(move |reason| trigger.request(reason)),
            Arc::new(move || code.exit_code_now()),
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
    /// the handlers return is sent. [signal BackendPlayerStore.collect_saves] is emitted as well.
    #[signal]
    pub fn collect_saves();

    /// Emitted when a phase begins: [code]draining[/code], [code]collecting[/code], [code]flushing[/code],
    /// [code]deregistering[/code], [code]completed[/code].
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
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (noted, known) = (Arc::clone(&progress), Arc::clone(&progress));
        let on_phase = Arc::new(move |phase: Phase| {
            note(&noted, &phase);
            hand_off::post(move || on_phase(id, phase));
        });
        let exit = Arc::new(move |code| {
            last_line(&known);
            termination::exit_now(code);
        });
        let shutdown = Shutdown::new(configuration::clock(), Arc::clone(&parts) as _, on_phase, exit);
        let grace = Mutex::new(configuration::host("", self.grace_seconds).shutdown_grace());
        let plan = Arc::new(Plan { shutdown, parts, grace, progress });
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

/// Worker. Keeps what a process that leaves without its main thread has to know.
fn note(progress: &Mutex<Progress>, phase: &Phase) {
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    match phase {
        Phase::Draining(..) | Phase::Collecting => {}
        Phase::Flushing | Phase::Deregistering => progress.collected = true,
        Phase::Completed(summary) => progress.summary = Some(summary.clone()),
    }
}

/// Any thread. The log's last line, past the engine's buffers, which nobody empties any more.
fn last_line(progress: &Mutex<Progress>) {
    let summary = progress.lock().unwrap_or_else(PoisonError::into_inner).summary.clone();
    let line = match summary {
        Some(summary) => describe(&summary),
        None => "backend_client: shutdown not complete at its deadline".to_owned(),
    };
    // Nobody is left to be told about a closed pipe.
    let _closed = writeln!(std::io::stdout(), "{line}");
}

fn describe(summary: &Summary) -> String {
    format!(
        "backend_client: shutdown complete reason={} saved={} unsaved={} deregistered={} total_ms={}",
        summary.reason,
        summary.saved,
        summary.unsaved,
        summary.deregistered,
        summary.total.as_millis()
    )
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
    let stores = node.bind().stores();
    for store in stores {
        store.signals().collect_saves().emit();
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
            godot_print!("{}", describe(&summary));
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
        Phase::Flushing => node.signals().progress().emit("flushing"),
        Phase::Deregistering => node.signals().progress().emit("deregistering"),
        Phase::Completed(summary) => complete(node, summary),
    }
}

fn complete(mut node: Gd<BackendShutdown>, summary: Summary) {
    let code = summary.exit_code();
    godot_print!("{}", describe(&summary));
    let (plan, quit) = {
        let mut shutdown = node.bind_mut();
        let quit = shutdown.quit_on_completed;
        // Without its plan the watchdog has nothing to watch: the game decides when to leave.
        (if quit { shutdown.plan.clone() } else { shutdown.plan.take() }, quit)
    };
    if let Some(plan) = plan {
        plan.shutdown.leaving();
        if quit {
            runtime::end_by(Instant::now() + plan.grace().saturating_sub(summary.total));
        }
    }
    node.signals().progress().emit("completed");
    node.signals().completed().emit(&BackendShutdownSummary::object(Ok(summary)));
    if quit && node.is_instance_valid() && node.is_inside_tree() {
        node.get_tree().quit_ex().exit_code(code).done();
    }
}
