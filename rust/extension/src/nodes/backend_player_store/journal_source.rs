//! The journal of a process that may have created and freed other stores before.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use backend_client::journal::{Journal, JournalError, JournalFolder, JournalSource, Recovered};
use backend_client::shutdown::{Store, UnopenedJournal};

use crate::config::LocalFolder;
use crate::shutdown::registry;

/// A folder of journals. Registered servers of this process do not count as crashed ones. A later process deals with those of them that are left in the journal.
pub(super) struct OwnJournalSource(JournalFolder);

impl OwnJournalSource {
    pub fn new(kept: LocalFolder) -> Self {
        Self(JournalFolder::new(kept.folder).with_former(kept.former))
    }
}

/// The journals of a store and their folder.
#[derive(Clone)]
pub(super) struct JournalLocation {
    pub source: Arc<OwnJournalSource>,
    pub folder: PathBuf,
}

impl JournalLocation {
    pub fn new(kept: LocalFolder) -> Self {
        let folder = kept.folder.clone();
        Self { source: Arc::new(OwnJournalSource::new(kept)), folder }
    }

    /// For a shutdown: what is in the journals, as long as no store has them open.
    pub fn unopened(&self) -> (PathBuf, Arc<dyn Store>) {
        let journal = UnopenedJournal::new(Arc::clone(&self.source) as _);
        (self.folder.clone(), Arc::new(journal))
    }
}

#[async_trait]
impl JournalSource for OwnJournalSource {
    async fn open(&self, backend: Option<&str>) -> Result<(Box<dyn Journal>, Recovered), JournalError> {
        let (journal, mut recovered) = self.0.open(backend).await?;
        recovered.server_ids.retain(|server_id| !registry::is_listed(server_id));
        Ok((journal, recovered))
    }

    async fn count_unsent(&self) -> Result<usize, JournalError> {
        self.0.count_unsent().await
    }
}
