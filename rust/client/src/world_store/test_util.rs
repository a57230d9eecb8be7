//! Access for tests: an index that is busy or broken, and a comparison that no heartbeat asked for.

use tokio::sync::MutexGuard;

use super::WorldStore;
use super::rollback::Doubt;
use crate::error::ClientError;

/// Keeps everybody else from the index of a world.
pub struct HeldIndex<'a>(
    #[allow(dead_code, reason = "held until it is dropped")] MutexGuard<'a, super::KeptIndex>,
);

impl WorldStore {
    /// Keeps everybody else from the index until the result is dropped.
    pub async fn hold_index(&self) -> HeldIndex<'_> {
        HeldIndex(self.0.index.lock().await)
    }

    /// Marks the index as one whose last write failed.
    pub async fn fail_index(&self) {
        self.0.index.lock().await.failed = true;
    }

    /// Whether the last write of the index failed.
    pub async fn index_has_failed(&self) -> bool {
        self.0.index.lock().await.failed
    }

    /// Compares the world with the backend's list, as after a lease that was lost and got again.
    pub async fn compare(&self) -> Result<(), ClientError> {
        self.0.commit_again(Doubt::Possible).await
    }
}
