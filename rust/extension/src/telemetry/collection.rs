//! Everything that is measured, collected on a worker; and the samples that the main thread takes for it.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backend_client::player_store::{Backlog, PlayerStore};
use backend_client::telemetry::snapshot::{Family, Series, Value};
use backend_settings::metrics as named;
use godot::classes::Engine;
use godot::prelude::*;

use crate::metrics;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::main_thread_queue;
use crate::shutdown::registry;

/// Interval of the main thread's samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

static STARTED: LazyLock<(Instant, SystemTime)> = LazyLock::new(|| (Instant::now(), SystemTime::now()));
/// Milliseconds from the start to the last step of the main loop.
static LAST_FRAME: AtomicU64 = AtomicU64::new(0);
static ENGINE: OnceLock<String> = OnceLock::new();

thread_local! {
    // Used on the main thread only.
    static SAMPLES: RefCell<Option<FrameHook>> = const { RefCell::new(None) };
    static FRAME_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Main thread. Takes samples from now on.
pub fn start() {
    LazyLock::force(&STARTED);
    let version = Engine::singleton().get_version_info().get("string").map(|text| text.to_string());
    ENGINE.get_or_init(|| version.unwrap_or_default());
    FRAME_BEGAN.set(Some(Instant::now()));
    SAMPLES.replace(Some(FrameHook::every(SAMPLE_INTERVAL, sample)));
}

/// Main thread. Takes no more samples.
pub fn stop() {
    FRAME_BEGAN.set(None);
    let hook = SAMPLES.take();
    drop(hook);
}

/// Main thread, once per frame.
pub fn frame() {
    let Some(before) = FRAME_BEGAN.get() else { return };
    let now = Instant::now();
    FRAME_BEGAN.set(Some(now));
    metrics::FRAMES.record((now - before).as_secs_f64());
    let since_start = now.saturating_duration_since(STARTED.0).as_millis();
    LAST_FRAME.store(u64::try_from(since_start).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn sample() {
    let nodes = registration_nodes();
    metrics::PLAYERS.set(players());
    metrics::MAX_PLAYERS.set(nodes.iter().map(|node| node.bind().player_limit()).sum());
    metrics::DRAINING.set(nodes.iter().any(|node| node.bind().is_draining()).into());
}

/// Main thread. Players of all servers of this process.
pub fn players() -> i64 {
    registration_nodes().iter().map(|node| node.bind().count()).sum()
}

fn registration_nodes() -> Vec<Gd<BackendServerRegistration>> {
    let ids = registry::registration_nodes().into_iter();
    ids.filter_map(|id| Gd::try_from_instance_id(id).ok()).collect()
}

/// Any thread. What the player stores of this process have not sent, as one.
pub fn backlog() -> (Backlog, usize) {
    let stores = registry::player_stores();
    let held = stores.iter().map(PlayerStore::player_count).sum();
    let all = stores.iter().map(PlayerStore::backlog);
    let sum = all.fold(Backlog::default(), |sum, one| Backlog {
        documents: sum.documents + one.documents,
        journalled: sum.journalled + one.journalled,
        bytes: sum.bytes + one.bytes,
        oldest: sum.oldest.max(one.oldest),
        last_flush: sum.last_flush.max(one.last_flush),
    });
    (sum, held)
}

/// Any thread. All metrics.
pub fn collect() -> Vec<Family> {
    let mut families = process();
    let count = |number: usize| number as f64;
    let flag = |is_so: bool| if is_so { 1.0 } else { 0.0 };
    families.extend([
        metrics::FRAMES.collect(),
        Family::number(&named::MAIN_LOOP_AGE, main_loop_age().as_secs_f64()),
        Family::number(&named::MAIN_THREAD_QUEUE, count(main_thread_queue::len())),
        metrics::LOG_MESSAGES.collect(),
        Family::number(&named::REGISTERED, flag(registry::is_registered())),
        metrics::PLAYERS.collect(),
        metrics::MAX_PLAYERS.collect(),
        metrics::DRAINING.collect(),
        metrics::HEARTBEATS_FAILED.collect(),
        metrics::REGISTRATIONS_LOST.collect(),
        metrics::PEERS_VERIFIED.collect(),
        metrics::PEERS_REFUSED.collect(),
    ]);
    families.extend(metrics::REQUESTS.collect());
    let (backlog, held) = backlog();
    families.extend([
        Family::number(&named::PLAYERS_HELD, count(held)),
        Family::number(&named::UNSAVED_DOCUMENTS, count(backlog.documents)),
        Family::number(
            &named::UNJOURNALLED_DOCUMENTS,
            count(backlog.documents.saturating_sub(backlog.journalled)),
        ),
        Family::number(&named::UNSAVED_BYTES, count(backlog.bytes)),
        Family::number(&named::OLDEST_UNSAVED, backlog.oldest.as_secs_f64()),
        Family::number(&named::FLUSH_LATENCY, backlog.last_flush.as_secs_f64()),
        metrics::DOCUMENTS_SAVED.collect(),
        metrics::SAVES_FAILED.collect(),
        metrics::SAVE_CONFLICTS.collect(),
        metrics::LEASES_LOST.collect(),
        metrics::JOURNAL_FAILURES.collect(),
        metrics::ROLLBACKS.collect(),
        Family::number(&named::UNSAVED_CHUNKS, count(registry::unsaved_chunks())),
        metrics::CHUNKS_SAVED.collect(),
        metrics::CHUNKS_FAILED.collect(),
        metrics::EXPORTS.collect(),
    ]);
    families
}

fn main_loop_age() -> Duration {
    let last = Duration::from_millis(LAST_FRAME.load(Ordering::Relaxed));
    STARTED.0.elapsed().saturating_sub(last)
}

fn process() -> Vec<Family> {
    let versions =
        [env!("CARGO_PKG_VERSION").into(), metrics::label(ENGINE.get().map_or("", String::as_str))];
    let info = Series { labels: versions.into(), value: Value::Number(1.0) };
    let started = STARTED.1.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut families = vec![
        Family { metric: &named::BUILD_INFO, series: vec![info] },
        Family::number(&named::START_TIME, started.as_secs_f64()),
    ];
    families.extend(resident_bytes().map(|bytes| Family::number(&named::RESIDENT_MEMORY, bytes)));
    families
}

/// As the system counts it.
fn resident_bytes() -> Option<f64> {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0)
}
