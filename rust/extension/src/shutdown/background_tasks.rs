//! What freed nodes still have to say: unsaved documents are sent, then servers leave the list. The process waits for
//! it a moment at its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::runtime::worker_threads;

/// Longest wait of a leaving server for the documents of its players.
const FLUSHES_FIRST: Duration = Duration::from_secs(30);

/// Flushes under way.
static FLUSHES: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::channel(0).0);
static SPOKEN: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());
/// Whether a shutdown has said all there is to say.
static SAID: AtomicBool = AtomicBool::new(false);

/// Main thread. An orderly shutdown has brought everything in order as far as it could be: the process ends without
/// another attempt.
pub fn skip_remaining() {
    SAID.store(true, Ordering::Relaxed);
}

/// Sends what a freed store still holds.
pub fn spawn_flush(work: impl Future<Output = ()> + Send + 'static) {
    if SAID.load(Ordering::Relaxed) {
        return;
    }
    // Counted before this returns, so that a server freed in the same frame waits for it.
    FLUSHES.send_modify(|count| *count += 1);
    speak(async move {
        work.await;
        FLUSHES.send_modify(|count| *count -= 1);
    });
}

/// Takes a freed server off the list, once its players' documents are sent.
pub fn spawn_deregistration(work: impl Future<Output = ()> + Send + 'static) {
    if SAID.load(Ordering::Relaxed) {
        return;
    }
    speak(async move {
        let mut flushes = FLUSHES.subscribe();
        let quiet = async { flushes.wait_for(|count| *count == 0).await.is_ok() };
        if tokio::time::timeout(FLUSHES_FIRST, quiet).await.is_err() {
            tracing::warn!("a freed server leaves before all documents are sent");
        }
        work.await;
    });
}

/// Waits for a store's journal to be closed once its node is gone: it belongs to a thread of the database library's, which
/// has to end before the library is unmapped.
pub fn spawn(journal: impl Future<Output = ()> + Send + 'static) {
    speak(journal);
}

/// Resolves when all has been said.
pub async fn wait() {
    loop {
        let next = SPOKEN.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match next {
            // A task that panicked has said all it will say.
            Some(task) => drop(task.await),
            None => return,
        }
    }
}

fn speak(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(handle) = worker_threads::handle() {
        let mut spoken = SPOKEN.lock().unwrap_or_else(PoisonError::into_inner);
        spoken.retain(|task| !task.is_finished());
        spoken.push(handle.spawn(work));
    }
}
