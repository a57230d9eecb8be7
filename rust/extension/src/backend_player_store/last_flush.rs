//! What a node that is freed leaves behind: its documents are sent all the same.

use std::time::Duration;

use backend_client::player_store::{Flushed, PlayerStore};

use super::BackendPlayerStore;
use super::connection::Connected;
use crate::{backlog_monitor, last_words, shutdown_parts};

/// Time a freed store goes on sending.
pub(super) const LAST_FLUSH: Duration = Duration::from_secs(30);

impl Drop for BackendPlayerStore {
    fn drop(&mut self) {
        let Some(Connected { node, store }) = self.connected.take() else { return };
        shutdown_parts::gone(node);
        backlog_monitor::forget(node);
        // Otherwise `exit_tree` has begun to say it.
        if self.outside.is_none() && holds_something(&store) {
            last_words::flush(async move { report(store.release_all(LAST_FLUSH).await) });
        }
    }
}

pub(super) fn holds_something(store: &PlayerStore) -> bool {
    store.player_count() > 0 || store.dirty_count() > 0
}

/// Any thread. What a freed node could not do any more.
pub(super) fn report(flushed: Flushed) {
    let Flushed { unsaved, journalled, .. } = flushed;
    if unsaved > journalled {
        tracing::error!(unsaved, journalled, "documents of a freed store are lost");
    } else if unsaved > 0 {
        tracing::warn!(unsaved, "documents of a freed store wait in the journal for the next one");
    }
}
