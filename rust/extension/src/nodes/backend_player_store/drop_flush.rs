//! The last flush of a freed node: its documents are still sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backend_client::player_store::{Flushed, PlayerStore};
use backend_client::shutdown::Store;
use godot::obj::InstanceId;

use super::BackendPlayerStore;
use super::journal_source::JournalLocation;
use super::store_handle::Connected;
use crate::nodes::backend_player_store::backlog_monitors;
use crate::runtime::background_tasks;
use crate::shutdown::registry;

/// Time a freed store goes on sending.
pub(super) const DROP_FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

impl Drop for BackendPlayerStore {
    fn drop(&mut self) {
        let Some(Connected { node, store, journal }) = self.connected.take() else { return };
        backlog_monitors::forget(node);
        // Otherwise `exit_tree` has started the flush.
        if self.outside.is_some() {
            return registry::add_freed(node, Arc::new(store));
        }
        if has_unsaved(&store) {
            registry::add_freed(node, Arc::new(store.clone()));
            background_tasks::spawn_flush(release_freed(node, store, journal));
        } else {
            registry::remove(node);
            registry::remove_freed(node, left(&store, &journal));
        }
    }
}

/// Worker. The node is freed: sends what it left, for as long as a lease lives, or until it is on local disk at least.
pub(super) async fn release_freed(node: InstanceId, store: PlayerStore, journal: JournalLocation) {
    let mut flushed = store.release_all(DROP_FLUSH_TIMEOUT).await;
    report(flushed);
    while flushed.unsaved > flushed.journalled {
        // Nobody else has these.
        flushed = store.release_all(DROP_FLUSH_TIMEOUT).await;
    }
    let left = left(&store, &journal);
    drop(store);
    registry::remove_freed(node, left);
}

/// What of it a shutdown has to count from here on.
fn left(store: &PlayerStore, journal: &JournalLocation) -> Option<(PathBuf, Arc<dyn Store>)> {
    let is_settled = store.pending_count() == 0 && store.knows_what_was_left();
    (!is_settled).then(|| journal.unopened())
}

pub(super) fn has_unsaved(store: &PlayerStore) -> bool {
    store.player_count() > 0 || store.pending_count() > 0
}

/// Any thread. What a freed node could not do any more.
pub(super) fn report(flushed: Flushed) {
    let Flushed { unsaved, journalled, .. } = flushed;
    if unsaved > journalled {
        tracing::error!(unsaved, journalled, "documents of a freed store are in memory only");
    } else if unsaved > 0 {
        tracing::warn!(unsaved, "documents of a freed store are in the journal for the next one");
    }
}
