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

use crate::journal::origin::FileIdentity;
use crate::platform::database_check::damage;
use crate::platform::private_files::{prepare_database, sync_folder};

/// Version of the tables, in the file's `user_version`.
const FORMAT: i64 = 2;
/// Bytes that the log keeps of the disk after it was taken in.
const LOG_BYTES: &str = "4194304";
/// Times the file may be written before its log is taken in. In a burst the log grows by some hundred kilobytes.
const CHECKPOINT_WRITES: u32 = 500;

/// Failpoint fault, for the tests that must notice it: commits are not synced to disk.
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
    /// It has changes for another backend, whose identity this is.
    #[error("the world's index has changes for another backend ({0})")]
    Foreign(String),
    /// The file was removed or replaced while it was in use.
    #[error("the world's index was removed while it was in use: {0}")]
    Removed(String),
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
    /// Version of the world after the last commit that is known here.
    pub version: i64,
}

/// What was found when the index was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Of a process that did not release the world.
    pub session: Option<Session>,
    /// That process may be running elsewhere: this is a copy of its file, or from before the machine was started.
    pub unproven: bool,
    /// The commit that was on its way, under `session.sequence`.
    pub outgoing: Vec<Change>,
    /// Changes without a commit.
    pub waiting: Vec<Change>,
}

/// The open file.
pub struct Index {
    path: PathBuf,
    connection: SqliteConnection,
    identity: FileIdentity,
    /// Of the backend that has the world; `None`: it does not tell.
    backend: Option<String>,
    writes: u32,
}

impl Index {
    /// Opens or makes the index in `folder`, for changes of a world that is at `backend`.
    pub async fn open(folder: &Path, backend: Option<&str>) -> Result<(Self, Recovered), IndexError> {
        let path = folder.join("index.db");
        let (connection, identity) = connect(&path).await?;
        let backend = backend.map(str::to_owned);
        let mut index = Self { path, connection, identity, backend, writes: 0 };
        let recovered = match index.read().await {
            Ok(recovered) => recovered,
            Err(error) => {
                index.close().await;
                return Err(error);
            }
        };
        Ok((index, recovered))
    }

    /// What is left in `folder`, for whichever backend.
    pub async fn left_in(folder: &Path) -> Result<Recovered, IndexError> {
        let path = folder.join("index.db");
        let (connection, identity) = connect(&path).await?;
        let mut index = Self { path, connection, identity, backend: None, writes: 0 };
        let read = index.read_all().await.map_err(sort);
        index.close().await;
        read.map(|(recovered, _, _)| recovered)
    }

    /// Whether what is written here is where the next process looks for it.
    fn check_place(&self) -> Result<(), IndexError> {
        if FileIdentity::of(&self.path).is_ok_and(|found| found == self.identity) {
            Ok(())
        } else {
            Err(IndexError::Removed(self.path.display().to_string()))
        }
    }

    async fn write_session(&mut self, session: &Session) -> sqlx::Result<()> {
        let origin = self.identity.origin(&self.path);
        let mut tx = self.connection.begin().await?;
        sqlx::query("DELETE FROM session").execute(&mut *tx).await?;
        sqlx::query(
            "INSERT INTO session (server_id, epoch, sequence, version, backend, origin) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&session.server_id)
        .bind(session.epoch)
        .bind(session.sequence)
        .bind(session.version)
        .bind(&self.backend)
        .bind(origin)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
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
        (self.connection, self.identity) = connect(&self.path).await?;
        // Without the changes before it there is nothing to be committed under it.
        self.write_session(session).await.map_err(sort)?;
        let mut tx = self.connection.begin().await.map_err(sort)?;
        let rewritten = async {
            sqlx::query("DELETE FROM changes").execute(&mut *tx).await?;
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
        self.write_session(session).await.map_err(sort)
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
        self.check_place()?;
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

    /// The commit `sequence` is done with; the world has this version now.
    pub async fn settle(&mut self, sequence: i64, version: i64) -> Result<(), IndexError> {
        let mut tx = self.connection.begin().await.map_err(sort)?;
        let settled = async {
            sqlx::query("DELETE FROM changes WHERE sequence = $1").bind(sequence).execute(&mut *tx).await?;
            sqlx::query("UPDATE session SET version = $1").bind(version).execute(&mut *tx).await?;
            tx.commit().await
        };
        settled.await.map_err(sort)?;
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

    async fn read(&mut self) -> Result<Recovered, IndexError> {
        let (recovered, backend, origin) = self.read_all().await.map_err(sort)?;
        // As with journals: what nobody claims is whoever's comes first.
        match backend {
            Some(backend) if Some(&backend) != self.backend.as_ref() => Err(IndexError::Foreign(backend)),
            _ => {
                let own = self.identity.origin(&self.path);
                let unproven = origin.is_some_and(|origin| origin != own);
                Ok(Recovered { unproven, ..recovered })
            }
        }
    }

    /// What is left, whose it is, and what the file remembered itself by.
    async fn read_all(&mut self) -> sqlx::Result<(Recovered, Option<String>, Option<String>)> {
        let row = sqlx::query("SELECT server_id, epoch, sequence, version, backend, origin FROM session")
            .fetch_optional(&mut self.connection)
            .await?;
        let (mut backend, mut origin) = (None, None);
        let session = match row {
            Some(row) => {
                (backend, origin) = (row.try_get("backend")?, row.try_get("origin")?);
                Some(Session {
                    server_id: row.try_get("server_id")?,
                    epoch: row.try_get("epoch")?,
                    sequence: row.try_get("sequence")?,
                    version: row.try_get("version")?,
                })
            }
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
        Ok((recovered, backend, origin))
    }
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

async fn connect(path: &Path) -> Result<(SqliteConnection, FileIdentity), IndexError> {
    let new = prepare_database(path).map_err(|error| IndexError::Failed(error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SYNCHRONOUS)
        .busy_timeout(Duration::ZERO)
        .pragma("journal_size_limit", LOG_BYTES)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(sort)?;
    let row = sqlx::query("PRAGMA user_version").fetch_one(&mut connection).await.map_err(sort)?;
    let format: i64 = row.try_get(0).map_err(sort)?;
    if format > FORMAT {
        return Err(IndexError::Newer(format));
    }
    if !new && let Some(damage) = damage(&mut connection).await.map_err(sort)? {
        return Err(IndexError::Damaged(damage));
    }
    if format < FORMAT {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(sort)?;
        for statement in [
            "CREATE TABLE IF NOT EXISTS session (server_id TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL)",
            // sequence 0: waits for a commit.
            "CREATE TABLE IF NOT EXISTS changes (name TEXT NOT NULL, sequence INTEGER NOT NULL, hash TEXT, bytes INTEGER, \
             stored_bytes INTEGER, PRIMARY KEY (name, sequence))",
            "ALTER TABLE session ADD COLUMN version INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE session ADD COLUMN backend TEXT",
            "ALTER TABLE session ADD COLUMN origin TEXT",
            "PRAGMA user_version = 2",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.map_err(sort)?;
        }
        tx.commit().await.map_err(sort)?;
    }
    // The commit made the file durable, not its name in the folder. Also when it is not new: whoever made it may have been
    // killed before this.
    let failed = |error: std::io::Error| IndexError::Failed(error.to_string());
    path.parent().map_or(Ok(()), sync_folder).map_err(failed)?;
    Ok((connection, FileIdentity::of(path).map_err(failed)?))
}

/// By SQLite's primary result code, the low byte of the extended one (sqlite.org/rescode.html).
fn sort(error: sqlx::Error) -> IndexError {
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<u32>().ok());
    let message = || database.map_or_else(|| error.to_string(), |error| error.message().to_owned());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => IndexError::InUse,
        // 1: a table or a column that is not there.
        Some(1 | 11 | 26) => IndexError::Damaged(message()),
        Some(13) => IndexError::Full,
        // A value of another type.
        None if !matches!(error, sqlx::Error::Io(_)) => IndexError::Damaged(message()),
        _ => IndexError::Failed(message()),
    }
}
