//! What an earlier run left on local disk, where nothing has opened it: a shutdown counts it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Pending, Store};
use crate::journal::JournalSource;
use crate::player_store::Flushed;

/// A journal that this process has not opened, because its server was never listed, or does not have open any more. It
/// is looked into without a change.
pub struct UnopenedJournal {
    source: Arc<dyn JournalSource>,
    count: Count,
}

impl UnopenedJournal {
    /// The journals of `source`.
    pub fn new(source: Arc<dyn JournalSource>) -> Self {
        Self { source, count: Count::default() }
    }

    async fn look(&self) -> Result<usize, String> {
        self.source.count_unsent().await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Store for UnopenedJournal {
    fn pending(&self) -> Pending {
        self.count.pending()
    }

    fn seal(&self) {}

    async fn flush_local(&self, _within: Duration) -> usize {
        self.count.find(self.look()).await
    }

    async fn flush(&self, _within: Duration) -> Flushed {
        self.count.flushed()
    }

    async fn release(&self, _within: Duration) -> Flushed {
        self.count.flushed()
    }
}

/// How many documents there are, once somebody has looked. `None`: nobody has, or it failed.
#[derive(Default)]
pub(crate) struct Count {
    found: Mutex<Option<usize>>,
    /// Held while somebody looks.
    looking: tokio::sync::Mutex<()>,
}

impl Count {
    /// All of it is on local disk.
    pub(crate) async fn find(&self, look: impl Future<Output = Result<usize, String>>) -> usize {
        let _turn = self.looking.lock().await;
        if self.get().is_some() {
            return 0;
        }
        match look.await {
            Ok(count) => *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(count),
            Err(error) => {
                tracing::warn!("what an earlier run left on local disk is not known: {error}");
            }
        }
        0
    }

    fn get(&self) -> Option<usize> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pending(&self) -> Pending {
        let documents = self.get().unwrap_or(0);
        Pending { documents, journalled: documents, may_be_more: self.get().is_none() }
    }

    pub(crate) fn flushed(&self) -> Flushed {
        let Pending { documents, journalled, .. } = self.pending();
        Flushed { unsaved: documents, journalled, ..Flushed::default() }
    }
}

#[cfg(test)]
mod tests;
