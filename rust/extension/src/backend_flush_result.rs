//! `BackendFlushResult`.

use backend_client::player_store::Flushed;

use crate::result_class::result_class;

result_class! {
    /// What a flush of [BackendPlayerStore] achieved, in documents.
    ///
    /// Documents that are unsaved but [member journalled] are safe: they are sent when the backend is there again, if
    /// need be by the next process that uses the same journal folder.
    BackendFlushResult(Flushed) {
        /// Documents the backend has committed.
        saved (get_saved): i64 = |flushed| flushed.saved as i64;
        /// Documents still waiting for the backend, or refused by it.
        unsaved (get_unsaved): i64 = |flushed| flushed.unsaved as i64;
        /// Those of the unsaved documents that are durable on local disk.
        journalled (get_journalled): i64 = |flushed| flushed.journalled as i64;
        /// Documents that came too late, because another server had taken the player over. The backend keeps them as
        /// conflicts, see [signal BackendPlayerStore.conflicted].
        conflicted (get_conflicted): i64 = |flushed| flushed.conflicted as i64;
    }
}
