//! The state of a shutdown that threads other than the main one need.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use backend_client::shutdown::{EXIT_UNSAVED, Ending, Pending, Phase, Response, Shutdown, Summary};

use crate::config;
use crate::runtime::worker_threads;
use crate::shutdown::background_tasks;
use crate::shutdown::host_notifier;
use crate::shutdown::registry;
use crate::shutdown::registry::Targets;
use crate::shutdown::summary_log::SummaryLog;

/// How far beyond the deadline the main thread waits for its enforcement.
const OVERRUN: Duration = Duration::from_secs(1);

/// The shutdown that was started last, unless the game continued after it.
static CURRENT: Mutex<Option<Arc<Coordinator>>> = Mutex::new(None);

/// Whether a `BackendShutdown` was in the tree.
static GIVES_EXIT_CODE: AtomicBool = AtomicBool::new(false);

/// One shutdown and its targets.
pub struct Coordinator {
    shutdown: Shutdown,
    /// What it saves and deregisters.
    pub targets: Arc<Targets>,
    grace: Mutex<Duration>,
    summary_log: Arc<SummaryLog>,
    /// Whether it has completed and the engine quits because of it.
    quits: AtomicBool,
}

impl Coordinator {
    /// Main thread. `on_phase` is called on workers.
    pub fn new(grace: Duration, on_phase: impl Fn(&Weak<Self>, Phase) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new_cyclic(|coordinator| {
            let targets = Arc::new(Targets::default());
            let summary_log = Arc::new(SummaryLog::default());
            let (coordinator, say) = (Weak::clone(coordinator), Arc::clone(&summary_log));
            let shutdown = Shutdown::new(
                config::clock(),
                Arc::clone(&targets) as _,
                Arc::new(move |phase| on_phase(&coordinator, phase)),
                Arc::new(move |code, summary: &Summary| say.exit(code, summary)),
            );
            Self { shutdown, targets, grace: Mutex::new(grace), summary_log, quits: AtomicBool::new(false) }
        })
    }

    /// Time from a request to the end of the process.
    pub fn set_grace(&self, grace: Duration) {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
    }

    /// Any thread. A request of the game. Returns false if the shutdown has started already.
    pub fn request(self: &Arc<Self>, reason: &str) -> bool {
        let Ok(handle) = worker_threads::handle() else { return false };
        let _entered = handle.enter();
        let grace = self.grace();
        let mut last = current();
        let is_first = self.shutdown.request(reason, grace);
        if is_first {
            self.mark_started(&mut last, grace);
        }
        is_first
    }

    /// Any thread. A signal, or a closed window.
    pub fn request_from_outside(self: &Arc<Self>, reason: &str, at_most: Option<Duration>) -> Response {
        // Without workers, no orderly shutdown is possible.
        let Ok(handle) = worker_threads::handle() else { return Response::ForceExit };
        let _entered = handle.enter();
        let grace = self.grace();
        let grace = at_most.map_or(grace, |at_most| grace.min(at_most));
        let mut last = current();
        let response = self.shutdown.request_from_outside(reason, grace);
        match response {
            Response::Started => self.mark_started(&mut last, grace),
            // A host may have left more time than whoever sent the signal does.
            Response::Joined => self.hasten(grace),
            Response::ForceExit => {}
        }
        response
    }

    /// Any thread. The host is about to end the process; it may say so again. `deadline`: time that is left, if the host tells.
    pub fn request_by_host(self: &Arc<Self>, reason: &str, deadline: Option<Duration>) {
        let Ok(handle) = worker_threads::handle() else { return };
        let _entered = handle.enter();
        let grace = deadline.unwrap_or_else(|| self.grace());
        let mut last = current();
        if self.shutdown.request(reason, grace) {
            self.mark_started(&mut last, grace);
        } else {
            self.hasten(grace);
        }
    }

    /// The end may be sooner than the shutdown under way expects.
    fn hasten(&self, grace: Duration) {
        if self.shutdown.hasten(grace) {
            worker_threads::set_deadline(Instant::now() + grace);
        }
    }

    fn grace(&self) -> Duration {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_started(self: &Arc<Self>, last: &mut Option<Arc<Self>>, grace: Duration) {
        registry::retain_removed();
        worker_threads::set_deadline(Instant::now() + grace);
        *last = Some(Arc::clone(self));
    }

    /// Any thread.
    pub fn is_requested(&self) -> bool {
        self.shutdown.is_requested()
    }

    /// Main thread. The game has handed in its final state.
    pub fn collected(&self) {
        self.shutdown.collected();
    }

    /// Main thread. The shutdown has completed: logs the summary before the engine quits.
    pub fn complete_and_quit(&self, summary: &Summary) {
        self.summary_log.log(summary.exit_code(), summary);
        background_tasks::skip_remaining();
        self.shutdown.leaving();
        // The journals of nodes that are freed from here on are closed at once.
        registry::discard_removed();
        self.quits.store(true, Ordering::Relaxed);
    }

    /// Main thread. The shutdown has completed: logs the summary, and the game continues.
    pub fn complete_and_continue(&self, summary: &Summary) {
        self.summary_log.log(summary.exit_code(), summary);
        self.shutdown.stay();
        worker_threads::clear_deadline();
        registry::discard_removed();
        host_notifier::resume();
        *current() = None;
    }

    /// Any thread but a worker. Ends the process once the journal is synced.
    pub fn force_exit(&self, code_if_unsaved: i32) {
        let summary = self.shutdown.cut_short();
        let code = match (summary.ending, summary.exit_code()) {
            // The game has received this code with `completed`.
            (Ending::Complete, code) => code,
            (_, 0) => 0,
            _ => code_if_unsaved,
        };
        self.summary_log.exit(code, &summary);
    }
}

/// Main thread, when the engine quits. A shutdown under way is not cut short: it completes its phases without the game and
/// then ends the process.
pub fn run_to_end() {
    let unfinished = current().clone().filter(|coordinator| !coordinator.quits.load(Ordering::Relaxed));
    let Some(coordinator) = unfinished else { return };
    coordinator.shutdown.abandoned();
    // Ends with the process, at the deadline at the latest.
    std::thread::sleep(worker_threads::time_left().unwrap_or_default() + OVERRUN);
}

/// Main thread, when the engine quits. A game with a [`crate::nodes::backend_shutdown::BackendShutdown`] promises by exit code 0
/// that everything is at the backend, also when it ends without a shutdown: background tasks of freed nodes are waited for,
/// and the exit code is changed if something is left.
pub fn check_on_quit() {
    let is_over = current().as_ref().is_some_and(|coordinator| coordinator.quits.load(Ordering::Relaxed));
    if is_over || !GIVES_EXIT_CODE.load(Ordering::Relaxed) || godot::init::is_editor_hint() {
        return;
    }
    let Some(pending) = worker_threads::finish(registry::count_unsaved()) else { return };
    let Pending { documents, journalled, may_be_more } = pending;
    if documents == 0 && !may_be_more {
        return;
    }
    tracing::warn!(
        left_in_journal = journalled,
        unsaved = documents.saturating_sub(journalled),
        may_be_more,
        "the game quit without a shutdown, and not everything is at the backend: the exit code is {EXIT_UNSAVED}"
    );
    crate::nodes::backend_shutdown::quit(EXIT_UNSAVED);
}

/// Main thread. From now on, the exit code of this process reports whether everything is at the backend.
pub fn enable_exit_code() {
    GIVES_EXIT_CODE.store(true, Ordering::Relaxed);
}

/// Main thread, before the library goes: none of its threads may outlive it.
pub fn close() {
    let coordinator = current().take();
    if let Some(coordinator) = coordinator {
        coordinator.shutdown.stay();
    }
}

fn current() -> MutexGuard<'static, Option<Arc<Coordinator>>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}
