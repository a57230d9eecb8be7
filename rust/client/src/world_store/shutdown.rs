//! Worlds in an orderly shutdown: the one that is open, and a local copy that nothing has opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::{WorldStore, count_left};
use crate::player_store::Flushed;
use crate::shutdown::{Count, Pending, Store};

/// Chunks count as documents.
#[async_trait]
impl Store for WorldStore {
    fn awaits_state(&self) -> bool {
        !self.is_closed()
    }

    fn refused(&self) -> usize {
        self.refused_count()
    }

    fn pending(&self) -> Pending {
        let (pending, unkept) = (self.pending_count(), self.unkept_count());
        // What a backend that went back lacks is at least one chunk, and in no journal.
        let lacking = usize::from(self.must_compare());
        Pending {
            documents: pending + lacking,
            journalled: pending.saturating_sub(unkept),
            may_be_more: false,
        }
    }

    fn awaits_answer(&self) -> bool {
        self.awaits_release()
    }

    fn seal(&self) {
        Self::seal(self);
    }

    async fn flush_local(&self, within: Duration) -> usize {
        Self::flush_local(self, within).await
    }

    async fn flush(&self, within: Duration) -> Flushed {
        Self::flush(self, within).await.into()
    }

    async fn release(&self, within: Duration) -> Flushed {
        self.close(within).await.into()
    }
}

/// The local copy of a world that this process does not have open.
pub struct UnopenedWorld {
    folder: PathBuf,
    world_id: String,
    count: Count,
}

impl UnopenedWorld {
    /// The world of this id, whose local copy is below `folder`, if there is one. `None`: it cannot be the id of a world.
    pub fn new(folder: &Path, world_id: &str) -> Option<Self> {
        backend_protocol::world_store::world_id("world_id", world_id).ok()?;
        Some(Self { folder: folder.to_owned(), world_id: world_id.to_owned(), count: Count::default() })
    }
}

#[async_trait]
impl Store for UnopenedWorld {
    fn pending(&self) -> Pending {
        self.count.pending()
    }

    fn seal(&self) {}

    async fn flush_local(&self, _within: Duration) -> usize {
        self.count.find(count_left(&self.folder, &self.world_id)).await
    }

    async fn flush(&self, _within: Duration) -> Flushed {
        self.count.flushed()
    }

    async fn release(&self, _within: Duration) -> Flushed {
        self.count.flushed()
    }
}
