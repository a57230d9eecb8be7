//! Unsent saves on local disk: what a save is acknowledged by before the backend has it.
//!
//! A journal is written by one task, in groups: each [`Journal::write`] is one durable transaction. It is held by one
//! process at a time. A process that finds the journals of dead ones beside its own adopts what they left.
//!
//! A failed write is never repeated on the same journal: what the operating system did with the pages of a failed fsync
//! is not known. The writer opens another one and writes everything that is unsettled again. It goes on holding the one that
//! failed until that is empty: a journal that nobody holds is that of a dead process, whose leases are let go. A full disk
//! is the exception: there the write itself is refused, before any sync, and the same journal goes on once there is room.
//!
//! # Whose saves these are
//!
//! A folder can be shared by servers of several backends, so each file says whose saves it has: the backend's own identity,
//! which a registration's reply tells. A process takes, adopts, sends and deletes only what is of its own backend. What is
//! another one's stays where it is until a server of that one comes.
//!
//! No save is ever acknowledged before the identity is known: a save needs a player who was loaded, loading needs a
//! registration, and its reply names the backend. So the journal is opened after the first registration. What is left in the
//! folder is counted before, without being touched ([`JournalSource::count_unsent`]): a process that never reaches its
//! backend still knows whether something is undelivered.
//!
//! A file without an identity is one of format 1, or was written for a backend that does not tell. It belongs to whoever
//! comes first, as it did before there were identities. A file with an identity is never given to a backend that does not
//! tell its own.
//!
//! A running store stays with the backend that it was first registered at. If registrations reach another one later (an
//! address that leads elsewhere now), the store sends nothing until they reach the first one again.
//!
//! # Whose death is known
//!
//! A file also has the ids under which its processes were registered, so that a successor can let go of a dead server's
//! players at once. That the file's lock is free proves that its last process is dead only for the file itself. For a copy of
//! it, in a restored snapshot or on another machine, it proves nothing: the server may be running. So each file remembers
//! which file on which run of which machine it is. Where that differs, what was saved is sent, under its own numbers, which
//! are harmless to repeat; but nobody's leases are touched: those of a dead server run out.

pub(crate) mod commit_counter;
mod damaged;
mod file;
mod folder;
mod format;
pub(crate) mod origin;
mod ownership;
mod statements;
mod volume;

use async_trait::async_trait;

pub use folder::JournalFolder;
pub use volume::passing_volume;

use crate::error::{ClientError, Fault};
use crate::player_store::RawJson;

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
    pub value: RawJson,
    /// Not a save of the game: what had been loaded with this version, sent again because the backend's database went back.
    pub loaded_version: Option<i64>,
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
    pub retired_servers: Vec<String>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.saves.is_empty()
            && self.settled.is_empty()
            && self.server_id.is_none()
            && self.retired_servers.is_empty()
    }
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// Unsettled saves of processes that are gone.
    pub saves: Vec<Record>,
    /// Ids under which processes were registered that are dead for certain.
    pub server_ids: Vec<String>,
    /// Ids found in a copy of a journal, or in one from before the machine was started: their processes may be running
    /// elsewhere.
    pub unproven_ids: Vec<String>,
    /// Something that does not keep the journal from working, for a person: a damaged file beside it, a passing volume.
    pub warnings: Vec<String>,
}

/// Why a journal cannot be used. Texts name the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk or the quota is full. Nothing was written, and the same journal can be written to again.
    #[error("the journal's disk is full: {0}")]
    Full(String),
    /// The folder or the file cannot be written.
    #[error("the journal cannot be written: {0}")]
    ReadOnly(String),
    /// Every journal of the folder is held by another process, or has saves for another backend.
    #[error("all journals are in use: {0}")]
    InUse(String),
    /// The file is not a journal, or a damaged one.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// A newer version of the addon wrote it.
    #[error("{path} has format {format}, this version of the addon reads up to {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        format: i64,
        /// The latest format that this version reads.
        known: i64,
    },
    /// The file was removed or replaced while it was in use: what is written to it is lost.
    #[error("the journal was removed while it was in use: {0}")]
    Removed(String),
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
    /// Opens a journal that nobody else writes to, and reads what is left in it and in those of dead processes. `backend` is
    /// the identity of the backend that saves are for; `None`: it does not tell.
    async fn open(&self, backend: Option<&str>) -> Result<(Box<dyn Journal>, Recovered), JournalError>;

    /// How many saves processes left that are gone, for whichever backend. Changes nothing.
    async fn count_unsent(&self) -> Result<usize, JournalError>;
}

/// An open journal, held by this process alone.
#[async_trait]
pub trait Journal: Send {
    /// Does all of `changes` durably, or nothing of them. After an error nothing is written to the journal any more, unless
    /// it is [`JournalError::Full`].
    async fn write(&mut self, changes: &Changes) -> Result<(), JournalError>;

    /// Called now and then: takes over what processes left that have died since this journal was opened, as opening it did
    /// with those who were dead by then. An error is one as of [`Self::write`], and what was found before it counts all the
    /// same.
    async fn adopt(&mut self, recovered: &mut Recovered) -> Result<(), JournalError>;

    /// Called when there has been nothing to do for a while: gives disk space back.
    async fn rest(&mut self) -> Result<(), JournalError>;

    /// Forgets everything: for a journal that failed, once all it had is in another one.
    async fn clear(&mut self) -> Result<(), JournalError>;

    /// Lets the files go.
    async fn close(self: Box<Self>);
}

#[cfg(test)]
mod tests;
