//! What the host that runs this process is told: that the server takes players, is well, and leaves.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backend_client::host::{Host, Pulse, keep_alive};

use crate::config;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::worker_threads;

static NOTIFIER: OnceLock<Notifier> = OnceLock::new();

struct Notifier {
    host: Arc<dyn Host>,
    pulse: Arc<Pulse>,
    was_listed: AtomicBool,
}

thread_local! {
    // Used on the main thread only. Beats for as long as the process lives.
    static EACH_FRAME: RefCell<Option<FrameHook>> = const { RefCell::new(None) };
}

/// Main thread. Watches the main loop for the host from now on.
pub fn start() {
    if NOTIFIER.get().is_some() {
        return;
    }
    let supervised = NOTIFIER.get_or_init(|| Notifier {
        host: config::host("", 0.0),
        pulse: Arc::default(),
        was_listed: AtomicBool::new(false),
    });
    let (host, pulse) = (Arc::clone(&supervised.host), Arc::clone(&supervised.pulse));
    if host.health_interval().is_some() {
        let turning = Arc::clone(&pulse);
        EACH_FRAME.set(Some(FrameHook::new(move || turning.beat())));
    }
    worker_threads::spawn(keep_alive(host, config::clock(), pulse));
}

/// Any thread. The server takes players. Filter the first time is news to the host.
pub fn ready(server_id: &str) {
    let Some(supervised) = NOTIFIER.get() else { return };
    if !supervised.was_listed.swap(true, Ordering::Relaxed) {
        let status = format!("Listed as {server_id}");
        worker_threads::spawn(async move { supervised.host.ready(&status) });
    }
}

/// Worker. The server leaves.
pub fn stopping(reason: &str, grace: Duration) {
    if let Some(supervised) = NOTIFIER.get() {
        supervised.pulse.stopping();
        supervised.host.stopping(grace, &format!("Shutting down: {reason}"));
    }
}

/// Main thread. The shutdown is over, but the process is not.
pub fn resume() {
    if let Some(supervised) = NOTIFIER.get() {
        supervised.pulse.goes_on();
    }
}

/// Worker. What the server is doing, in a few words.
pub fn status(text: &str) {
    if let Some(supervised) = NOTIFIER.get() {
        supervised.host.status(text);
    }
}
