//! `BackendFlushResult`.

use backend_client::player_store::Flushed;

use crate::results::result_class::result_class;

result_class! {
    /// The result of a flush of [BackendPlayerStore] or [BackendWorldStore], in documents or chunks.
    ///
    /// It counts what was unsaved when the flush was called. What is saved during the flush counts for the next one. What is unsaved
    /// but [member journalled] is safe: it is sent when the backend is reachable again, if necessary by the next process that uses the
    /// same folder.
    BackendFlushResult(Flushed) {
        /// Number of documents or chunks that the backend has committed.
        saved (get_saved): i64 = |flushed| flushed.saved as i64;
        /// Number of documents or chunks that the backend has not committed yet, or has refused.
        unsaved (get_unsaved): i64 = |flushed| flushed.unsaved as i64;
        /// Number of the [member unsaved] ones that are durable on local disk.
        journalled (get_journalled): i64 = |flushed| flushed.journalled as i64;
        /// Number of documents that were late because another server had taken the player over. The backend stores them as conflicts, see
        /// [signal BackendPlayerStore.conflicted].
        conflicted (get_conflicted): i64 = |flushed| flushed.conflicted as i64;
        /// Number of documents or chunks whose last save was refused, for example because it contains a [Callable], is too large,
        /// or the player is not loaded. They are not saved anywhere. The log and [signal BackendPlayerStore.save_failed] or
        /// [signal BackendWorldStore.save_failed] contain the reason. A later save of the same document that is accepted clears it.
        refused (get_refused): i64 = |flushed| flushed.refused as i64;
    }
}
