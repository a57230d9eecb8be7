//! `BackendFlushResult`.

use backend_client::player_store::Flushed;

use crate::results::result_class::result_class;

result_class! {
    /// What a flush of [BackendPlayerStore] or [BackendWorldStore] achieved, in documents or chunks: of those that were unsent
    /// when it was called. What is saved meanwhile is for the next call.
    ///
    /// What is unsaved but [member journalled] is safe: it is sent when the backend is there again, if need be by the
    /// next process that uses the same folder.
    BackendFlushResult(Flushed) {
        /// What the backend has committed.
        saved (get_saved): i64 = |flushed| flushed.saved as i64;
        /// What still waits for the backend, or was refused by it.
        unsaved (get_unsaved): i64 = |flushed| flushed.unsaved as i64;
        /// What of the unsaved is durable on local disk.
        journalled (get_journalled): i64 = |flushed| flushed.journalled as i64;
        /// Documents that came too late, because another server had taken the player over. The backend keeps them as
        /// conflicts, see [signal BackendPlayerStore.conflicted].
        conflicted (get_conflicted): i64 = |flushed| flushed.conflicted as i64;
        /// Documents or chunks whose last save was refused, for example because it holds a [Vector3], is too large, or the
        /// player is not loaded: what the game handed in is not saved anywhere. The log, and
        /// [signal BackendPlayerStore.save_failed] or [signal BackendWorldStore.save_failed], say why. A later save of the
        /// same document that is accepted settles it.
        refused (get_refused): i64 = |flushed| flushed.refused as i64;
    }
}
