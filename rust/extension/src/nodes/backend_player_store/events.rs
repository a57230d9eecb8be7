//! The store's events, as signals.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_client::player_store::{Event, LocalSave};
use godot::prelude::*;

use super::{BackendPlayerStore, conflicts};
use crate::results::backend_error::Failure;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;

/// Time-out of the flush when another server requests a player. The store releases the player when a later flush succeeds.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Events that were not emitted yet. A commit of thousands of documents is one message to the main thread, not thousands.
#[derive(Default)]
pub(super) struct EventQueue(Mutex<VecDeque<Event>>);

impl EventQueue {
    /// Any thread. Emits the event in a later step of the main loop, in order.
    pub fn push(self: &Arc<Self>, id: InstanceId, event: Event) {
        let mut waiting = self.waiting();
        waiting.push_back(event);
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            let events = Arc::clone(self);
            main_thread_queue::enqueue(move || {
                let all = std::mem::take(&mut *events.waiting());
                announce_all(id, all);
            });
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Main thread, without a borrow. Handlers may be slow: the budget of the frame decides when the next event is emitted.
fn announce_all(id: InstanceId, mut events: VecDeque<Event>) {
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    if !node.has_connections("saved") {
        // Most games do not listen.
        events.retain(|event| !matches!(event, Event::Saved { .. }));
    }
    let Some(first) = events.pop_front() else { return };
    announce(id, first);
    if !events.is_empty() {
        main_thread_queue::requeue_front(move || announce_all(id, events));
    }
}

/// Main thread, without a borrow: handlers call back into the node.
fn announce(id: InstanceId, event: Event) {
    // The node may have been freed.
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    match event {
        Event::Journalled(saves) => saved_locally(&node, &saves),
        Event::Saved { player_id, key, version, .. } => {
            node.signals().saved().emit(&player_id, &key, version);
        }
        Event::SaveFailed { player_id, key, error } => {
            node.signals().save_failed().emit(&player_id, &key, &Failure::from(error).into_object());
        }
        Event::LeaseLost { player_id } => node.signals().lease_lost().emit(&player_id),
        Event::Conflicted { player_id, key, .. } => node.signals().conflicted().emit(&player_id, &key),
        Event::ConflictFound(conflict) => conflicts::found(&node, Arc::new(conflict)),
        Event::RollbackDetected => {
            tracing::warn!(
                "the backend's database was restored to an older state: everything held is sent again; check for conflicts"
            );
            node.signals().rollback_detected().emit();
        }
        Event::PlayerWanted { player_id } => hand_over(&node, player_id),
        Event::JournalFailed(error) => {
            node.signals().journal_failed().emit(&Failure::from(error).into_object());
        }
        Event::JournalWarning(message) => {
            tracing::warn!("{message}");
            node.signals().journal_warning().emit(&message);
        }
        Event::JournalRecovered => node.signals().journal_recovered().emit(),
        Event::BacklogChanged(backlog) => {
            node.signals().unsaved_changed().emit(backlog.documents as i64, backlog.oldest.as_secs_f64());
        }
    }
}

/// A commit of the journal may hold a thousand documents: most games do not listen.
fn saved_locally(node: &Gd<BackendPlayerStore>, saves: &[LocalSave]) {
    if node.has_connections("saved_locally") {
        for save in saves {
            let change = i64::try_from(save.revision).unwrap_or(i64::MAX);
            node.signals().saved_locally().emit(&save.player_id, &save.key, change);
        }
    }
}

/// What the handlers save is included in the handover.
fn hand_over(node: &Gd<BackendPlayerStore>, player_id: String) {
    node.signals().handover_requested().emit(&player_id);
    let store = if node.is_instance_valid() { node.bind().handle() } else { None };
    if let Some(store) = store {
        worker_threads::spawn(async move {
            let flushed = store.release(&player_id, HANDOVER_TIMEOUT).await;
            if flushed.unsaved > 0 {
                tracing::warn!(
                    unsaved = flushed.unsaved,
                    "a handover waits: the backend does not accept the player's saves"
                );
            }
        });
    }
}
