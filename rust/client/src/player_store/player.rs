//! A player whom this server holds, the documents, and what of them is durable where.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::Snapshot;
use super::document_source::DocumentBody;

pub(super) struct Player {
    pub id: Arc<str>,
    pub epoch: i64,
    pub next_sequence: i64,
    /// Another server has taken the player over.
    pub lost: bool,
    pub documents: BTreeMap<Arc<str>, Document>,
}

#[derive(Default)]
pub(super) struct Document {
    pub body: DocumentBody,
    pub bytes: usize,
    pub version: i64,
    /// The newest change.
    pub revision: u64,
    /// The change the backend has.
    pub committed: u64,
    /// The newest change that has a number.
    pub numbered: Option<Revision>,
    /// The newest change that is in the journal.
    pub durable: Option<Revision>,
    /// When it changed; `None` when the backend has all.
    pub pending: Option<PendingSince>,
    /// Number of the newest change that the backend said it has of this lease; 0: of none.
    pub committed_sequence: i64,
    /// Largest number that was sent under this lease.
    pub sent_sequence: i64,
    /// Version that it was loaded with: it is sent as it was loaded, because the backend went back.
    pub loaded_version: Option<i64>,
}

/// A change with its number. The content goes with it for ever: the same number never stands for something else.
#[derive(Clone)]
pub(super) struct Revision {
    pub sequence: i64,
    pub number: u64,
    pub body: DocumentBody,
    pub bytes: usize,
    /// [`Document::loaded_version`].
    pub loaded_version: Option<i64>,
}

#[derive(Clone, Copy)]
pub(super) struct PendingSince {
    pub first: Instant,
    pub last: Instant,
}

pub(super) struct RecoveredSave {
    pub sequence: i64,
    pub body: DocumentBody,
    pub bytes: usize,
    pub journalled: bool,
    /// The backend said before that it has this.
    pub is_repeated: bool,
    /// [`Document::loaded_version`].
    pub loaded_version: Option<i64>,
}

impl Document {
    /// Whether its newest change has no number yet.
    pub fn waits_for_number(&self) -> bool {
        let has_number = self.numbered.as_ref().is_some_and(|revision| revision.number >= self.revision);
        self.pending.is_some() && !has_number
    }
}

impl Player {
    pub const fn new(id: Arc<str>) -> Self {
        Self { id, epoch: 0, next_sequence: 1, lost: false, documents: BTreeMap::new() }
    }

    /// Numbers a document's newest change, unless it has a number already.
    pub fn number(&mut self, key: &str) -> Option<Revision> {
        let document = self.documents.get_mut(key).filter(|document| document.waits_for_number())?;
        let revision = Revision {
            sequence: self.next_sequence,
            number: document.revision,
            body: document.body.clone(),
            bytes: document.bytes,
            loaded_version: document.loaded_version,
        };
        self.next_sequence += 1;
        document.numbered = Some(revision.clone());
        Some(revision)
    }

    pub fn snapshots(&self) -> std::collections::HashMap<String, Snapshot> {
        let snapshot = |document: &Document| Snapshot {
            content: Arc::clone(document.body.content()),
            version: document.version,
        };
        self.documents.iter().map(|(key, document)| (key.to_string(), snapshot(document))).collect()
    }
}
