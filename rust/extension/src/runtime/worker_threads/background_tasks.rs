//! Tasks that outlive their node: unsaved documents are sent, then servers are deregistered. The process waits a moment for
//! them when it ends.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::handle;

/// Longest wait of a server's deregistration for the documents of its players.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// All tasks. Closed from the start, so that waiting ends whenever none is left.
static TASKS: LazyLock<TaskTracker> = LazyLock::new(closed_tracker);
/// Flushes under way, which deregistrations wait for.
static FLUSHES: LazyLock<TaskTracker> = LazyLock::new(closed_tracker);
/// Whether a shutdown has done all there was to do.
static SKIPPED: AtomicBool = AtomicBool::new(false);
/// Whether the process no longer waits.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Main thread. An orderly shutdown has done what could be done: the process ends without another attempt.
pub fn skip_remaining() {
    SKIPPED.store(true, Ordering::Relaxed);
}

/// Sends what a freed store still holds.
pub fn spawn_flush(work: impl Future<Output = ()> + Send + 'static) {
    if !SKIPPED.load(Ordering::Relaxed) {
        // Counted before this returns, so that a server freed in the same frame waits for it.
        spawn(FLUSHES.track_future(work));
    }
}

/// Deregisters a freed server, once its players' documents are sent.
pub fn spawn_deregistration(work: impl Future<Output = ()> + Send + 'static) {
    if SKIPPED.load(Ordering::Relaxed) {
        return;
    }
    spawn(async move {
        if tokio::time::timeout(FLUSH_TIMEOUT, FLUSHES.wait()).await.is_err() {
            tracing::warn!("a freed server is deregistered before all documents are sent");
        }
        work.await;
    });
}

/// Runs a task that the process waits for, such as the closing of a journal: it belongs to a thread of the database
/// library's, which has to end before the library is unmapped.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(handle) = handle() {
        TASKS.spawn_on(task, &handle);
    }
}

/// Resolves when no task is left, or they were given up.
pub async fn wait() {
    if !GIVEN_UP.load(Ordering::Relaxed) {
        TASKS.wait().await;
    }
}

/// Main thread. What is left was waited for long enough.
pub fn give_up() {
    skip_remaining();
    GIVEN_UP.store(true, Ordering::Relaxed);
}

fn closed_tracker() -> TaskTracker {
    let tracker = TaskTracker::new();
    tracker.close();
    tracker
}
