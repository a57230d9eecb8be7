//! `BackendFlushResult`.

use backend_client::player_store::Flushed;

use crate::result_class::result_class;

result_class! {
    /// What a flush of [BackendPlayerStore] achieved.
    BackendFlushResult(Flushed) {
        /// Documents the backend has committed.
        saved (get_saved): i64 = |flushed| flushed.saved as i64;
        /// Documents still waiting for the backend, or refused by it.
        unsaved (get_unsaved): i64 = |flushed| flushed.unsaved as i64;
    }
}
