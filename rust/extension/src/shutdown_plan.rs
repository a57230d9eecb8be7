//! What threads other than the main one need to carry a shutdown out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use backend_client::shutdown::{Ending, Phase, Shutdown, Summary};

use crate::last_line::LastLine;
use crate::shutdown_parts::Parts;
use crate::{configuration, last_words, runtime, shutdown_parts, supervision};

/// How far beyond the deadline the main thread waits for its enforcement.
const OVERRUN: Duration = Duration::from_secs(1);

/// The shutdown that was begun last, unless the game went on after it.
static BEGUN: Mutex<Option<Arc<Plan>>> = Mutex::new(None);

/// One shutdown and what it is for.
pub struct Plan {
    shutdown: Shutdown,
    /// What it brings in order.
    pub parts: Arc<Parts>,
    grace: Mutex<Duration>,
    last_line: Arc<LastLine>,
    /// It is over, and the engine quits because of it.
    quits: AtomicBool,
}

impl Plan {
    /// Main thread. `on_phase` is called on workers.
    pub fn new(grace: Duration, on_phase: impl Fn(&Weak<Self>, Phase) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new_cyclic(|plan| {
            let parts = Arc::new(Parts::default());
            let last_line = Arc::new(LastLine::default());
            let (plan, say) = (Weak::clone(plan), Arc::clone(&last_line));
            let shutdown = Shutdown::new(
                configuration::clock(),
                Arc::clone(&parts) as _,
                Arc::new(move |phase| on_phase(&plan, phase)),
                Arc::new(move |code, summary: &Summary| say.exit(code, summary)),
            );
            Self { shutdown, parts, grace: Mutex::new(grace), last_line, quits: AtomicBool::new(false) }
        })
    }

    /// Time from a request to the end of the process.
    pub fn set_grace(&self, grace: Duration) {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
    }

    /// Any thread. False when it has begun already.
    pub fn request(self: &Arc<Self>, reason: &str, at_most: Option<Duration>) -> bool {
        let grace = *self.grace.lock().unwrap_or_else(PoisonError::into_inner);
        let grace = at_most.map_or(grace, |at_most| grace.min(at_most));
        // No workers any more: whoever asks is told to leave at once.
        let Ok(handle) = runtime::handle() else { return false };
        let _entered = handle.enter();
        let mut last = begun();
        let is_first = self.shutdown.request(reason, grace);
        if is_first {
            shutdown_parts::keep();
            runtime::end_by(Instant::now() + grace);
            *last = Some(Arc::clone(self));
        }
        is_first
    }

    /// Any thread.
    pub fn is_requested(&self) -> bool {
        self.shutdown.is_requested()
    }

    /// Main thread. The game has handed in its final state.
    pub fn collected(&self) {
        self.shutdown.collected();
    }

    /// Main thread. All is done, which is said, and the engine quits.
    pub fn quits(&self, summary: &Summary) {
        self.last_line.log(summary.exit_code(), summary);
        last_words::nothing_more();
        self.shutdown.leaving();
        // Whose nodes go from here on has nothing to be brought in order any more: its journal is closed at once.
        shutdown_parts::keep_no_more();
        self.quits.store(true, Ordering::Relaxed);
    }

    /// Main thread. All is done, which is said, and the game goes on.
    pub fn stays(&self, summary: &Summary) {
        self.last_line.log(summary.exit_code(), summary);
        self.shutdown.stay();
        runtime::end_whenever();
        shutdown_parts::keep_no_more();
        supervision::goes_on();
        *begun() = None;
    }

    /// Any thread but a worker. Ends the process once the journal is synced.
    pub fn leave(&self, code_if_unsaved: i32) {
        let summary = self.shutdown.cut_short();
        let code = match (summary.ending, summary.exit_code()) {
            // It is done, and the game was told with which code.
            (Ending::Complete, code) => code,
            (_, 0) => 0,
            _ => code_if_unsaved,
        };
        self.last_line.exit(code, &summary);
    }
}

/// Main thread, when the engine quits. A shutdown under way is not cut off by that: it goes through its phases without
/// the game and then ends the process.
pub fn finish() {
    let unfinished = begun().clone().filter(|plan| !plan.quits.load(Ordering::Relaxed));
    let Some(plan) = unfinished else { return };
    plan.shutdown.abandoned();
    // Ends with the process, at the deadline at the latest.
    std::thread::sleep(runtime::time_left().unwrap_or_default() + OVERRUN);
}

/// Main thread, before the library goes: none of its threads may outlive it.
pub fn close() {
    let plan = begun().take();
    if let Some(plan) = plan {
        plan.shutdown.stay();
    }
}

fn begun() -> MutexGuard<'static, Option<Arc<Plan>>> {
    BEGUN.lock().unwrap_or_else(PoisonError::into_inner)
}
