//! What a shutdown asks of whatever keeps documents.

use std::iter::Sum;
use std::time::Duration;

use async_trait::async_trait;

use crate::player_store::{Flushed, PlayerStore};
use crate::world_store::WorldStore;

/// What the backend does not have yet, in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Not at the backend.
    pub documents: usize,
    /// Those of them that are durable on local disk.
    pub journalled: usize,
}

impl Sum for Pending {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            documents: sum.documents + one.documents,
            journalled: sum.journalled + one.journalled,
        })
    }
}

/// Something that keeps documents and has to bring them to safety before the process ends: the players', a world's.
/// `within` is the longest time a call may take; a call that takes longer is given up.
#[async_trait]
pub trait Store: Send + Sync {
    /// Players it holds.
    fn players(&self) -> usize {
        0
    }

    /// What it has that the backend does not have. Must not block.
    fn pending(&self) -> Pending;

    /// The game's final state is in: what it saves from now on is refused, and everything is let go as soon as it is at the
    /// backend. Must not block.
    fn seal(&self);

    /// The process goes on after the shutdown: saves are taken again. Must not block.
    fn unseal(&self) {}

    /// Brings everything to local disk. Returns how many documents are not there.
    async fn flush_local(&self, within: Duration) -> usize;

    /// Sends everything.
    async fn flush(&self, within: Duration) -> Flushed;

    /// Sends what is left and lets go of everything that has nothing unsent. The last call: nothing is saved after it.
    async fn release(&self, within: Duration) -> Flushed;
}

#[async_trait]
impl Store for PlayerStore {
    fn players(&self) -> usize {
        self.player_count()
    }

    fn pending(&self) -> Pending {
        let backlog = self.backlog();
        // What an earlier run left counts before it is known.
        let unknown = usize::from(self.is_recovering());
        Pending { documents: backlog.documents + unknown, journalled: backlog.journalled + unknown }
    }

    fn seal(&self) {
        Self::seal(self);
    }

    fn unseal(&self) {
        Self::unseal(self);
    }

    async fn flush_local(&self, within: Duration) -> usize {
        Self::flush_local(self, within).await
    }

    async fn flush(&self, within: Duration) -> Flushed {
        Self::flush(self, None, within).await
    }

    async fn release(&self, within: Duration) -> Flushed {
        self.release_all(within).await
    }
}

/// Chunks count as documents.
#[async_trait]
impl Store for WorldStore {
    fn pending(&self) -> Pending {
        let (documents, unkept) = (self.dirty_count(), self.unkept_count());
        Pending { documents, journalled: documents.saturating_sub(unkept) }
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
