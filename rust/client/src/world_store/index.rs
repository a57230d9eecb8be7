//! What the backend does not have yet, in a SQLite file beside the local copy: `index.db`.
//!
//! Opened exclusively: whoever has it open is the only process that holds this world on this machine. WAL with
//! `synchronous=FULL`: a transaction is on disk when its commit returns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, Sqlite, Transaction};

use crate::storage::{prepare_database, sync_folder};

/// Version of the tables, in the file's `user_version`.
const FORMAT: i64 = 1;
/// Times the file may be written before its log is taken in. In a burst the log grows by some hundred kilobytes.
const CHECKPOINT_WRITES: u32 = 500;

/// Planted fault, for the tests that must notice it: commits are not synced to disk.
const SYNCHRONOUS: SqliteSynchronous =
    if cfg!(feature = "planted-no-fsync") { SqliteSynchronous::Off } else { SqliteSynchronous::Full };

/// Why the index cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Another process has the world open.
    #[error("another process on this machine has the world open")]
    InUse,
    /// The disk or the quota is full.
    #[error("the world's disk is full")]
    Full,
    /// A newer version of the addon wrote it.
    #[error("the world's index has format {0}, this version reads up to {FORMAT}")]
    Newer(i64),
    /// The file is not what was written.
    #[error("the world's index is damaged: {0}")]
    Damaged(String),
    /// Reading, writing or syncing failed.
    #[error("the world's index failed: {0}")]
    Failed(String),
}

/// One chunk that differs from what the backend has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    /// `None`: removed.
    pub object: Option<Object>,
    /// The oldest change that it covers, counted in this process; 0 if an earlier one made it. Not in the file.
    pub since: u64,
}

/// The object of a changed chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub hash: String,
    /// Raw size.
    pub bytes: u64,
    /// Compressed size.
    pub stored_bytes: u64,
}

/// Under what the changes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The server that took the lease.
    pub server_id: String,
    pub epoch: i64,
    /// The last sequence that was given to a commit.
    pub sequence: i64,
}

/// What was found when the index was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Of a process that did not release the world.
    pub session: Option<Session>,
    /// The commit that was on its way, under `session.sequence`.
    pub outgoing: Vec<Change>,
    /// Changes without a commit.
    pub waiting: Vec<Change>,
}

/// The open file.
pub struct Index {
    path: PathBuf,
    connection: SqliteConnection,
    writes: u32,
}

impl Index {
    pub async fn open(folder: &Path) -> Result<(Self, Recovered), IndexError> {
        let path = folder.join("index.db");
        let connection = connect(&path).await?;
        let mut index = Self { path, connection, writes: 0 };
        let recovered = index.read().await.map_err(sort)?;
        Ok((index, recovered))
    }

    /// After a failed write: what the system did with the pages is not known, so the file is opened anew and everything
    /// that is not settled is written again.
    pub async fn reopen(
        &mut self,
        session: &Session,
        outgoing: &[Change],
        waiting: &[Change],
    ) -> Result<(), IndexError> {
        // Exclusive locks go with the connection, so it has to end before the next one begins.
        let memory = SqliteConnection::connect("sqlite::memory:").await.map_err(sort)?;
        let before = std::mem::replace(&mut self.connection, memory);
        if let Err(error) = before.close().await {
            tracing::debug!(%error, "a failed index was not closed in good order");
        }
        self.connection = connect(&self.path).await?;
        let mut tx = self.connection.begin().await.map_err(sort)?;
        let rewritten = async {
            sqlx::query("DELETE FROM changes").execute(&mut *tx).await?;
            write_session(&mut tx, session).await?;
            for (sequence, changes) in [(session.sequence, outgoing), (0, waiting)] {
                for change in changes {
                    write_change(&mut tx, change, sequence).await?;
                }
            }
            tx.commit().await
        };
        rewritten.await.map_err(sort)
    }

    /// Begins to write under another lease.
    pub async fn begin_session(&mut self, session: &Session) -> Result<(), IndexError> {
        let mut tx = self.connection.begin().await.map_err(sort)?;
        write_session(&mut tx, session).await.map_err(sort)?;
        tx.commit().await.map_err(sort)
    }

    /// The world was released: the next process owes nobody anything.
    pub async fn end_session(&mut self) -> Result<(), IndexError> {
        sqlx::query("DELETE FROM session").execute(&mut self.connection).await.map(drop).map_err(sort)
    }

    /// Notes changes that wait for a commit. A later change of a chunk takes the place of the one that waits.
    pub async fn note(&mut self, changes: &[Change]) -> Result<(), IndexError> {
        let mut tx = self.connection.begin().await.map_err(sort)?;
        for change in changes {
            write_change(&mut tx, change, 0).await.map_err(sort)?;
        }
        tx.commit().await.map_err(sort)?;
        self.written().await
    }

    /// Gives waiting changes to the commit `sequence`. From here on that number stands for exactly these changes.
    pub async fn assign(&mut self, sequence: i64, changes: &[Change]) -> Result<(), IndexError> {
        let mut tx = self.connection.begin().await.map_err(sort)?;
        let assigned = async {
            sqlx::query("UPDATE session SET sequence = $1").bind(sequence).execute(&mut *tx).await?;
            for change in changes {
                sqlx::query("UPDATE changes SET sequence = $1 WHERE name = $2 AND sequence = 0")
                    .bind(sequence)
                    .bind(&change.name)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        };
        assigned.await.map_err(sort)
    }

    /// The commit `sequence` is done with.
    pub async fn settle(&mut self, sequence: i64) -> Result<(), IndexError> {
        sqlx::query("DELETE FROM changes WHERE sequence = $1")
            .bind(sequence)
            .execute(&mut self.connection)
            .await
            .map_err(sort)?;
        self.written().await
    }

    /// Nothing of this session will be committed any more.
    pub async fn clear(&mut self) -> Result<(), IndexError> {
        let mut tx = self.connection.begin().await.map_err(sort)?;
        for statement in ["DELETE FROM changes", "DELETE FROM session"] {
            sqlx::query(statement).execute(&mut *tx).await.map_err(sort)?;
        }
        tx.commit().await.map_err(sort)
    }

    /// Lets the file go. What was committed is durable whether or not it is closed in good order.
    pub async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a world's index was not closed in good order");
        }
    }

    async fn written(&mut self) -> Result<(), IndexError> {
        self.writes += 1;
        if self.writes >= CHECKPOINT_WRITES {
            self.writes = 0;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&mut self.connection)
                .await
                .map_err(sort)?;
        }
        Ok(())
    }

    async fn read(&mut self) -> sqlx::Result<Recovered> {
        let row = sqlx::query("SELECT server_id, epoch, sequence FROM session")
            .fetch_optional(&mut self.connection)
            .await?;
        let session = match row {
            Some(row) => Some(Session {
                server_id: row.try_get("server_id")?,
                epoch: row.try_get("epoch")?,
                sequence: row.try_get("sequence")?,
            }),
            None => None,
        };
        let mut recovered = Recovered { session, ..Recovered::default() };
        let rows =
            sqlx::query("SELECT name, sequence, hash, bytes, stored_bytes FROM changes ORDER BY rowid")
                .fetch_all(&mut self.connection)
                .await?;
        for row in rows {
            let hash: Option<String> = row.try_get("hash")?;
            let object = match hash {
                Some(hash) => Some(Object {
                    hash,
                    bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
                    stored_bytes: row.try_get::<i64, _>("stored_bytes")?.unsigned_abs(),
                }),
                None => None,
            };
            let change = Change { name: row.try_get("name")?, object, since: 0 };
            let waits = row.try_get::<i64, _>("sequence")? == 0;
            if waits { &mut recovered.waiting } else { &mut recovered.outgoing }.push(change);
        }
        Ok(recovered)
    }
}

async fn write_session(tx: &mut Transaction<'_, Sqlite>, session: &Session) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM session").execute(&mut **tx).await?;
    sqlx::query("INSERT INTO session (server_id, epoch, sequence) VALUES ($1, $2, $3)")
        .bind(&session.server_id)
        .bind(session.epoch)
        .bind(session.sequence)
        .execute(&mut **tx)
        .await
        .map(drop)
}

async fn write_change(tx: &mut Transaction<'_, Sqlite>, change: &Change, sequence: i64) -> sqlx::Result<()> {
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT OR REPLACE INTO changes (name, sequence, hash, bytes, stored_bytes) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&change.name)
    .bind(sequence)
    .bind(change.object.as_ref().map(|object| &object.hash))
    .bind(change.object.as_ref().map(|object| size(object.bytes)))
    .bind(change.object.as_ref().map(|object| size(object.stored_bytes)))
    .execute(&mut **tx)
    .await
    .map(drop)
}

async fn connect(path: &Path) -> Result<SqliteConnection, IndexError> {
    let new = prepare_database(path).map_err(|error| IndexError::Failed(error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SYNCHRONOUS)
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(sort)?;
    let row = sqlx::query("PRAGMA user_version").fetch_one(&mut connection).await.map_err(sort)?;
    let format: i64 = row.try_get(0).map_err(sort)?;
    if format > FORMAT {
        return Err(IndexError::Newer(format));
    }
    if !new {
        let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(sort)?;
        let verdict: String = row.try_get(0).map_err(sort)?;
        if verdict != "ok" {
            return Err(IndexError::Damaged(verdict));
        }
    }
    // Also takes the exclusive lock, because it writes.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(sort)?;
    for statement in [
        "CREATE TABLE IF NOT EXISTS session (server_id TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL)",
        // sequence 0: waits for a commit.
        "CREATE TABLE IF NOT EXISTS changes (name TEXT NOT NULL, sequence INTEGER NOT NULL, hash TEXT, bytes INTEGER, \
         stored_bytes INTEGER, PRIMARY KEY (name, sequence))",
        "PRAGMA user_version = 1",
    ] {
        sqlx::query(statement).execute(&mut *tx).await.map_err(sort)?;
    }
    tx.commit().await.map_err(sort)?;
    // The commit made the file durable, not its name in the folder. Also when it is not new: whoever made it may have been
    // killed before this.
    let synced = path.parent().map_or(Ok(()), sync_folder);
    synced.map_err(|error| IndexError::Failed(error.to_string()))?;
    Ok(connection)
}

/// By SQLite's primary result code, the low byte of the extended one (sqlite.org/rescode.html).
fn sort(error: sqlx::Error) -> IndexError {
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<u32>().ok());
    let message = || database.map_or_else(|| error.to_string(), |error| error.message().to_owned());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => IndexError::InUse,
        Some(11 | 26) => IndexError::Damaged(message()),
        Some(13) => IndexError::Full,
        _ => IndexError::Failed(message()),
    }
}
