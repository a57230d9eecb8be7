//! What the nodes of this process do, sent to the debugger of the editor once per second while one is attached.
//!
//! Main thread only. Exported games have no debugger, and nothing is collected.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use backend_client::registration::Registration;
use godot::classes::{Engine, EngineDebugger, Os, SceneTree};
use godot::prelude::*;

use crate::nodes::backend_peer_auth::BackendPeerAuth;
use crate::nodes::backend_player_store::BackendPlayerStore;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::backend_session::BackendSession;
use crate::runtime::recent_errors;
use crate::variant_json::gstring;

/// The editor registers its capture under the part before the colon.
const MESSAGE: &str = "backend_client:state";
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static REPORTER: RefCell<Option<Reporter>> = const { RefCell::new(None) };
}

struct Reporter {
    /// Whether a debugger is attached: it cannot be later.
    is_active: bool,
    due: Instant,
    heartbeats: HashMap<InstanceId, Heartbeats>,
}

/// When the heartbeats of a server were answered.
struct Heartbeats {
    /// Changed by each reply.
    replies: Box<dyn FnMut() -> bool>,
    answered: Option<Instant>,
    count: i64,
}

impl Heartbeats {
    fn of(registration: &Registration) -> Self {
        let mut kids = registration.active_kids();
        kids.mark_unchanged();
        let replies = move || {
            let has_changed = kids.has_changed().unwrap_or(false);
            kids.mark_unchanged();
            has_changed
        };
        Self { replies: Box::new(replies), answered: None, count: 0 }
    }

    /// Once per report. More than one reply in between counts as one; heartbeats are seconds apart.
    fn poll(&mut self) {
        if (self.replies)() {
            self.answered = Some(Instant::now());
            self.count += 1;
        }
    }
}

/// Main thread, once per frame.
pub fn report() {
    REPORTER.with_borrow_mut(|reporter| {
        let reporter = reporter.get_or_insert_with(|| Reporter {
            is_active: EngineDebugger::singleton().is_active(),
            due: Instant::now(),
            heartbeats: HashMap::new(),
        });
        // In a player's game, every frame ends here.
        if !reporter.is_active {
            return;
        }
        let now = Instant::now();
        if now < reporter.due {
            return;
        }
        reporter.due = now + REPORT_INTERVAL;
        if let Some(state) = reporter.collect() {
            EngineDebugger::singleton().send_message(MESSAGE, &varray![&state]);
        }
    });
}

/// The engine is about to end.
pub fn close() {
    REPORTER.take();
}

impl Reporter {
    /// `None` if there is no scene tree.
    fn collect(&mut self) -> Option<VarDictionary> {
        let tree = Engine::singleton().get_main_loop()?.try_cast::<SceneTree>().ok()?;
        let root = tree.get_root()?.upcast::<Node>();
        let mut state = VarDictionary::new();
        state.set("process_id", Os::singleton().get_process_id());
        state.set("sessions", &list(&root, session));
        state.set("peer_auths", &list(&root, peer_auth));
        state.set("player_stores", &list(&root, player_store));
        let mut seen = Vec::new();
        let registrations = list(&root, |node: &Gd<BackendServerRegistration>| {
            seen.push(node.instance_id());
            self.registration(node)
        });
        state.set("registrations", &registrations);
        self.heartbeats.retain(|id, _| seen.contains(id));
        let errors = recent_errors::all();
        state.set(
            "errors",
            &errors.iter().map(|error| recent_error(error).to_variant()).collect::<VarArray>(),
        );
        Some(state)
    }

    fn registration(&mut self, node: &Gd<BackendServerRegistration>) -> VarDictionary {
        let id = node.instance_id();
        let node = node.bind();
        let mut state = VarDictionary::new();
        state.set("server_id", &gstring(node.listed_as().unwrap_or_default()));
        state.set("name", node.name_in_list());
        state.set("is_draining", node.is_draining());
        state.set("players", node.count());
        state.set("max_players", node.player_limit());
        if let Some(registration) = node.handle() {
            let heartbeats = self.heartbeats.entry(id).or_insert_with(|| Heartbeats::of(&registration));
            heartbeats.poll();
            state.set("heartbeats", heartbeats.count);
            if let Some(answered) = heartbeats.answered {
                state.set("heartbeat_age_seconds", answered.elapsed().as_secs_f64());
            }
        }
        state
    }
}

/// The state of each node of this class in the tree, with its path.
fn list<T>(root: &Gd<Node>, mut state: impl FnMut(&Gd<T>) -> VarDictionary) -> VarArray
where
    T: Inherits<Node>,
{
    let class = GString::from(&T::class_id().to_string());
    let found = root.find_children_ex("*").type_(&class).recursive(true).owned(false).done();
    let states = found.iter_shared().filter_map(|node| {
        let path = node.get_path();
        let mut state = state(&node.try_cast::<T>().ok()?);
        state.set("path", &path);
        Some(state.to_variant())
    });
    states.collect()
}

fn session(node: &Gd<BackendSession>) -> VarDictionary {
    let node = node.bind();
    let mut state = VarDictionary::new();
    state.set("profile", &gstring(node.used_profile().unwrap_or_default()));
    let account = node.account();
    state.set("is_logged_in", account.is_some());
    if let Some(account) = account {
        state.set("player_id", &gstring(&account.player_id));
        state.set("display_name", &gstring(&account.display_name));
        state.set("is_offline", account.offline);
    }
    state
}

fn peer_auth(node: &Gd<BackendPeerAuth>) -> VarDictionary {
    let mut state = VarDictionary::new();
    state.set("players", &node.bind().get_player_ids());
    state
}

fn player_store(node: &Gd<BackendPlayerStore>) -> VarDictionary {
    let mut state = VarDictionary::new();
    let Some(store) = node.bind().handle() else { return state };
    let backlog = store.backlog();
    state.set("players", store.player_count() as i64);
    state.set("unsaved", backlog.documents as i64);
    state.set("journalled", backlog.journalled as i64);
    state.set("unsaved_bytes", backlog.bytes as i64);
    state.set("oldest_seconds", backlog.oldest.as_secs_f64());
    state.set("last_flush_ms", backlog.last_flush.as_secs_f64() * 1_000.0);
    state
}

fn recent_error(error: &recent_errors::RecentError) -> VarDictionary {
    let mut state = VarDictionary::new();
    state.set("code", &gstring(&error.code));
    state.set("message", &gstring(&error.message));
    state.set("age_seconds", error.at.elapsed().as_secs_f64());
    state.set("count", i64::from(error.count));
    state
}
