//! Unsaved documents as monitors of Godot's debugger, summed over all player stores of the process.
//!
//! Main thread only. The debugger reads them once per second while its monitors are shown.

use std::cell::RefCell;

use backend_client::player_store::{Backlog, PlayerStore};
use godot::classes::Performance;
use godot::prelude::*;

type Measure = fn(&[Backlog], usize) -> f64;

const MONITORS: [(&str, Measure); 5] = [
    ("backend_client/players_held", |_, held| held as f64),
    ("backend_client/unsaved_documents", |stores, _| {
        stores.iter().map(|backlog| backlog.documents as f64).sum()
    }),
    ("backend_client/unjournalled_documents", |stores, _| {
        stores.iter().map(|backlog| backlog.documents.saturating_sub(backlog.journalled) as f64).sum()
    }),
    ("backend_client/oldest_unsaved_seconds", |stores, _| {
        stores.iter().map(|backlog| backlog.oldest.as_secs_f64()).fold(0.0, f64::max)
    }),
    ("backend_client/flush_latency_ms", |stores, _| {
        stores.iter().map(|backlog| backlog.last_flush.as_secs_f64() * 1_000.0).fold(0.0, f64::max)
    }),
];

thread_local! {
    static STORES: RefCell<Vec<(InstanceId, PlayerStore)>> = const { RefCell::new(Vec::new()) };
}

/// A node has created its store. The first one adds the monitors.
pub fn watch(node: InstanceId, store: PlayerStore) {
    let first = STORES.with_borrow_mut(|stores| {
        stores.push((node, store));
        stores.len() == 1
    });
    if !first {
        return;
    }
    let mut performance = Performance::singleton();
    for (name, measure) in MONITORS {
        // Another library of the same name may have one.
        if !performance.has_custom_monitor(name) {
            performance.add_custom_monitor(name, &Callable::from_fn(name, move |_| measured(measure)));
        }
    }
}

/// A node is freed. The last one removes the monitors.
pub fn forget(node: InstanceId) {
    let forget = |stores: &RefCell<Vec<(InstanceId, PlayerStore)>>| {
        let mut stores = stores.borrow_mut();
        let before = stores.len();
        stores.retain(|(id, _)| *id != node);
        before > 0 && stores.is_empty()
    };
    // The table is gone when the thread ends before the node does.
    if STORES.try_with(forget).unwrap_or(false) {
        remove();
    }
}

/// The engine is about to end: nothing of ours may be called any more, even if a node was leaked.
pub fn close() {
    let leaked = STORES.with_borrow_mut(std::mem::take);
    if !leaked.is_empty() {
        remove();
    }
}

fn remove() {
    let mut performance = Performance::singleton();
    for (name, _) in MONITORS {
        if performance.has_custom_monitor(name) {
            performance.remove_custom_monitor(name);
        }
    }
}

fn measured(measure: Measure) -> f64 {
    STORES.with_borrow(|stores| {
        let backlogs: Vec<Backlog> = stores.iter().map(|(_, store)| store.backlog()).collect();
        measure(&backlogs, stores.iter().map(|(_, store)| store.player_count()).sum())
    })
}
