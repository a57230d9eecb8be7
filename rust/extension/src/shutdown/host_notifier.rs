//! Notifications to the host that runs this process: ready, healthy, stopping.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backend_client::host::{Host, Liveness, keep_alive};

use crate::config;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::worker_threads;

static NOTIFIER: OnceLock<Notifier> = OnceLock::new();

struct Notifier {
    host: Arc<dyn Host>,
    liveness: Arc<Liveness>,
    is_ready: AtomicBool,
}

thread_local! {
    // Used on the main thread only. Runs for as long as the process lives.
    static EACH_FRAME: RefCell<Option<FrameHook>> = const { RefCell::new(None) };
}

/// Main thread. Reports the main loop's liveness to the host from now on.
pub fn start() {
    if NOTIFIER.get().is_some() {
        return;
    }
    let notifier = NOTIFIER.get_or_init(|| Notifier {
        host: config::host("", 0.0),
        liveness: Arc::default(),
        is_ready: AtomicBool::new(false),
    });
    let (host, liveness) = (Arc::clone(&notifier.host), Arc::clone(&notifier.liveness));
    if host.health_interval().is_some() {
        let turning = Arc::clone(&liveness);
        EACH_FRAME.set(Some(FrameHook::new(move || turning.tick())));
    }
    worker_threads::spawn(keep_alive(host, config::clock(), liveness));
}

/// Any thread. The server accepts players. The host is notified once.
pub fn ready(server_id: &str) {
    let Some(notifier) = NOTIFIER.get() else { return };
    if !notifier.is_ready.swap(true, Ordering::Relaxed) {
        let status = format!("Listed as {server_id}");
        worker_threads::spawn(async move { notifier.host.ready(&status) });
    }
}

/// Worker. The server is shutting down.
pub fn stopping(reason: &str, grace: Duration) {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.liveness.stopping();
        notifier.host.stopping(grace, &format!("Shutting down: {reason}"));
    }
}

/// Main thread. The shutdown is over, but the process is not.
pub fn resume() {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.liveness.resume();
    }
}

/// Worker. Sets a short status text.
pub fn status(text: &str) {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.host.status(text);
    }
}
