//! The game is asked for its state now and then.

use std::time::Instant;

use godot::prelude::*;

use super::BackendPlayerStore;

impl BackendPlayerStore {
    /// Whether it is time to ask the game for its state.
    fn is_collection_due(&self) -> bool {
        let now = Instant::now();
        let since = self.collected_at.get().unwrap_or_else(|| {
            self.collected_at.set(Some(now));
            now
        });
        let due = self.autosave_interval > 0.0 && (now - since).as_secs_f64() >= self.autosave_interval;
        if due {
            self.collected_at.set(Some(now));
        }
        due && self.handle().is_some_and(|store| store.player_count() > 0)
    }
}

/// Main thread, now and then.
pub(super) fn look(id: InstanceId) {
    let Ok(node) = Gd::<BackendPlayerStore>::try_from_instance_id(id) else { return };
    let due = {
        let node = node.bind();
        node.send_what_is_left();
        node.is_collection_due()
    };
    if due {
        node.signals().collect_saves().emit();
    }
}
