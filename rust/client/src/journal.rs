//! Unsent saves on local disk: what a save is acknowledged by before the backend has it.
//!
//! A journal is written by one task, in groups: each [`Journal::write`] is one durable transaction. It is held by one
//! process at a time. A process that finds the journals of dead ones beside its own adopts what they left.
//!
//! A failed write is never repeated on the same journal: what the operating system did with the pages of a failed fsync
//! is not known. The writer opens another one and writes everything that is unsettled again. It goes on holding the one that
//! failed until that is empty: a journal that nobody holds is that of a dead process, whose leases are let go.

mod files;
mod volume;

use async_trait::async_trait;

pub use files::JournalFolder;
pub use volume::passing_volume;

use crate::error::{ClientError, Fault};
use crate::player_store::Text;

/// One save that the backend has not confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Whose document.
    pub player_id: String,
    /// Name of the document.
    pub key: String,
    /// Epoch of the lease it was made under.
    pub epoch: i64,
    /// Its number within the epoch.
    pub sequence: i64,
    /// The whole document.
    pub value: Text,
}

/// Everything of this document and epoch up to the sequence is with the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whose document.
    pub player_id: String,
    /// Name of the document.
    pub key: String,
    /// Epoch of the lease.
    pub epoch: i64,
    /// The largest sequence that is settled.
    pub sequence: i64,
}

/// What one transaction does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Saves to keep. A later one of the same document and epoch takes the place of an earlier one, which it covers.
    pub saves: Vec<Record>,
    /// Saves to forget.
    pub settled: Vec<Settled>,
    /// The id under which this process is registered.
    pub server_id: Option<String>,
    /// Ids of dead processes whose saves and leases are dealt with.
    pub buried: Vec<String>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.saves.is_empty() && self.settled.is_empty() && self.server_id.is_none() && self.buried.is_empty()
    }
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// Unsettled saves of processes that are gone.
    pub saves: Vec<Record>,
    /// Ids under which these processes were registered.
    pub server_ids: Vec<String>,
    /// Something that does not keep the journal from working, for a person: a damaged file beside it, a passing volume.
    pub warnings: Vec<String>,
}

/// Why a journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk or the quota is full.
    #[error("the journal's disk is full")]
    Full,
    /// The folder or the file cannot be written.
    #[error("the journal cannot be written: {0}")]
    ReadOnly(String),
    /// Every journal of the folder is held by another process.
    #[error("all {0} journals of the folder are in use")]
    InUse(usize),
    /// The file is not a journal, or a damaged one. It is left as it is.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// A newer version of the addon wrote it.
    #[error("the journal has format {0}, this version reads up to {1}")]
    Newer(i64, i64),
    /// Reading, writing or syncing failed.
    #[error("the journal failed: {0}")]
    Io(String),
}

impl From<JournalError> for ClientError {
    fn from(error: JournalError) -> Self {
        Self::new(Fault::Journal, error.to_string())
    }
}

/// Where journals come from. Opening again after a failure may give another file.
#[async_trait]
pub trait JournalSource: Send + Sync {
    /// Opens a journal that nobody else writes to, and reads what is left in it and in those of dead processes.
    async fn open(&self) -> Result<(Box<dyn Journal>, Recovered), JournalError>;
}

/// An open journal, held by this process alone.
#[async_trait]
pub trait Journal: Send {
    /// Does all of `changes` durably, or nothing of them. After an error nothing is written to the journal any more.
    async fn write(&mut self, changes: &Changes) -> Result<(), JournalError>;

    /// Called now and then: takes over what processes left that have died since this journal was opened, as opening it did
    /// with those who were dead by then. After an error nothing is written to the journal any more, and what was found before
    /// counts all the same.
    async fn adopt(&mut self, recovered: &mut Recovered) -> Result<(), JournalError>;

    /// Called when there has been nothing to do for a while: gives disk space back.
    async fn rest(&mut self) -> Result<(), JournalError>;

    /// Forgets everything: for a journal that failed, once all it had is in another one.
    async fn clear(&mut self) -> Result<(), JournalError>;

    /// Lets the files go.
    async fn close(self: Box<Self>);
}

#[cfg(test)]
mod takeover_tests;

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
