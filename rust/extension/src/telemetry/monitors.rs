//! Counters as monitors of Godot's debugger. Those of unsaved documents come and go with the player stores: see
//! [`crate::nodes::backend_player_store::backlog_monitors`].
//!
//! Main thread only. The debugger reads them once per second while its monitors are shown.

use backend_settings::metrics::{self as named, Metric};
use godot::classes::Performance;
use godot::prelude::*;

use super::collection;
use crate::metrics;
use crate::runtime::main_thread_queue;
use crate::shutdown::registry;

type Measure = fn() -> f64;

static MONITORS: [(&Metric, Measure); 13] = [
    (&named::MAIN_THREAD_QUEUE, || main_thread_queue::len() as f64),
    (&named::REGISTERED, || if registry::is_registered() { 1.0 } else { 0.0 }),
    (&named::PLAYERS, || collection::players() as f64),
    (&named::HEARTBEATS_FAILED, || metrics::HEARTBEATS_FAILED.collect().sum()),
    (&named::PEERS_VERIFIED, || metrics::PEERS_VERIFIED.collect().sum()),
    (&named::PEERS_REFUSED, || metrics::PEERS_REFUSED.collect().sum()),
    (&named::REQUESTS, || metrics::REQUESTS.requests().sum()),
    (&named::REQUESTS_IN_FLIGHT, || metrics::REQUESTS.in_flight().sum()),
    (&named::DOCUMENTS_SAVED, || metrics::DOCUMENTS_SAVED.collect().sum()),
    (&named::SAVES_FAILED, || metrics::SAVES_FAILED.collect().sum()),
    (&named::SAVE_CONFLICTS, || metrics::SAVE_CONFLICTS.collect().sum()),
    (&named::JOURNAL_FAILURES, || metrics::JOURNAL_FAILURES.collect().sum()),
    (&named::UNSAVED_CHUNKS, || registry::unsaved_chunks() as f64),
];

/// Adds the monitors.
pub fn add() {
    let mut performance = Performance::singleton();
    for (metric, measure) in &MONITORS {
        let Some(name) = metric.monitor else { continue };
        // Another library of the same name may have one.
        if !performance.has_custom_monitor(name) {
            performance.add_custom_monitor(name, &Callable::from_fn(name, move |_| measure()));
        }
    }
}

/// Removes them: nothing of ours may be called once the library is unloaded.
pub fn remove() {
    let mut performance = Performance::singleton();
    for name in MONITORS.iter().filter_map(|(metric, _)| metric.monitor) {
        if performance.has_custom_monitor(name) {
            performance.remove_custom_monitor(name);
        }
    }
}
