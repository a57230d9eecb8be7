//! What a shutdown asks of whatever keeps documents.

use std::iter::Sum;
use std::time::Duration;

use async_trait::async_trait;

use crate::player_store::{Flushed, PlayerStore};

/// What the backend does not have yet, in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Not at the backend.
    pub documents: usize,
    /// Those of them that are durable on local disk.
    pub journalled: usize,
    /// There may be more on local disk, of an earlier run: nobody could look yet.
    pub may_be_more: bool,
}

impl Sum for Pending {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            documents: sum.documents + one.documents,
            journalled: sum.journalled + one.journalled,
            may_be_more: sum.may_be_more || one.may_be_more,
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

    /// Whether the game may have state of its own that it has not handed in.
    fn awaits_state(&self) -> bool {
        self.players() > 0
    }

    /// Saves that were refused since it was made: the game was told, and they are nowhere.
    fn refused(&self) -> usize {
        0
    }

    /// What it has that the backend does not have. Must not block.
    fn pending(&self) -> Pending;

    /// Whether the backend has not answered yet whether it still has what it had confirmed: its database may have gone back, and
    /// then only this process has it. Must not block.
    fn awaits_answer(&self) -> bool {
        false
    }

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

    fn refused(&self) -> usize {
        self.refused_count()
    }

    fn pending(&self) -> Pending {
        let backlog = self.backlog();
        let left = self.left_by_earlier_runs();
        let unopened = left.unwrap_or(0);
        Pending {
            documents: backlog.documents + unopened,
            journalled: backlog.journalled + unopened,
            may_be_more: left.is_none(),
        }
    }

    fn awaits_answer(&self) -> bool {
        self.awaits_release()
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
