//! Journals as SQLite files in a folder: `journal-0.db`, `journal-1.db`, …, one per process that uses the folder.
//!
//! Each is opened exclusively, so that a second process takes the next one. A process can leave several (one that failed, and
//! the one after it). Whoever takes over what the dead left takes all of it, under a lock of the folder: a dead server's
//! leases may be let go only by somebody who has everything that was saved under them.
//! WAL with `synchronous=FULL`: a transaction is
//! on disk when its commit returns. Checkpoints wait for a quiet moment, because one in the middle of a burst would hold
//! up the saves behind it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::{Changes, Journal, JournalError, JournalSource, Record, Recovered, passing_volume};
use crate::player_store::Text;
use crate::storage::{make_folder, sync_folder};

/// Version of the tables, in the file's `user_version`.
const FORMAT: i64 = 1;
/// Most processes that share a folder.
const MOST_JOURNALS: usize = 64;
/// Bytes written after which a checkpoint no longer waits for a quiet moment, so that the log cannot grow without bound.
const CHECKPOINT_BYTES: usize = 64 * 1024 * 1024;

/// Held while somebody takes over what the dead left.
const LOCK: &str = "journals.lock";
const LOCK_AGAIN: Duration = Duration::from_millis(20);
/// Longest wait for it at the start. Whoever gets no lock begins a new journal and takes nothing over, for now.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Most rows of one statement: each statement is a trip to SQLite's thread and back.
const ROWS: usize = 64;

/// Planted fault, for the tests that must notice it: commits are not synced to disk.
const SYNCHRONOUS: SqliteSynchronous =
    if cfg!(feature = "planted-no-fsync") { SqliteSynchronous::Off } else { SqliteSynchronous::Full };

/// A folder of journals. It is made at the first opening.
#[derive(Debug, Clone)]
pub struct JournalFolder {
    folder: PathBuf,
}

impl JournalFolder {
    /// Journals in `folder`, which has to be on a volume that outlives the process.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("journal-{number}.db"))
    }

    /// The lock of the folder; `None` when somebody else has it and does not let it go in time, as a process that was
    /// stopped. It ends with the file that is returned.
    async fn lock(&self, patience: Duration) -> Result<Option<File>, JournalError> {
        let file = File::create(self.folder.join(LOCK)).map_err(|error| from_io(&error))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if waited < patience => {
                    tokio::time::sleep(LOCK_AGAIN).await;
                    waited += LOCK_AGAIN;
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(from_io(&error)),
            }
        }
    }

    /// The first journal nobody holds, and the damaged ones that were met before it. With `only_new`, one that nobody has
    /// written to.
    async fn first_free(
        &self,
        only_new: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(usize, JournalFile), JournalError> {
        for number in 0..MOST_JOURNALS {
            if only_new && self.path(number).exists() {
                continue;
            }
            match JournalFile::open(&self.path(number)).await {
                Ok(journal) => return Ok((number, journal)),
                Err(JournalError::InUse(_)) => {}
                Err(error @ (JournalError::Damaged(_) | JournalError::Newer(..))) => {
                    warnings.push(format!("journal-{number}.db is left alone: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Err(JournalError::InUse(MOST_JOURNALS))
    }

    /// Moves what dead processes left in the other journals into `own`, and tells their ids once it has all. Call it under the
    /// folder's lock. Their files stay, empty, for processes to come: one
    /// that is deleted could be opened by somebody in the very moment.
    async fn adopt(
        &self,
        own_number: usize,
        own: &mut JournalFile,
        recovered: &mut Recovered,
    ) -> Result<(), JournalError> {
        // Somebody with several may die in the midst of it, when one of them has been passed already.
        while self.adopt_once(own_number, own, recovered).await? {}
        recovered.server_ids = own.server_ids().await?;
        Ok(())
    }

    /// Whether there was anything.
    async fn adopt_once(
        &self,
        own_number: usize,
        own: &mut JournalFile,
        recovered: &mut Recovered,
    ) -> Result<bool, JournalError> {
        let mut any = false;
        for number in (0..MOST_JOURNALS).filter(|number| *number != own_number) {
            let path = self.path(number);
            if !path.exists() {
                continue;
            }
            let mut other = match JournalFile::open(&path).await {
                Ok(journal) => journal,
                Err(JournalError::InUse(_)) => continue,
                Err(error) => {
                    let warning = format!("journal-{number}.db is left alone: {error}");
                    if !recovered.warnings.contains(&warning) {
                        recovered.warnings.push(warning);
                    }
                    continue;
                }
            };
            let left = other.read().await?;
            any |= !left.saves.is_empty() || !left.server_ids.is_empty();
            own.adopt(&left).await?;
            recovered.saves.extend(left.saves);
            other.clear().await?;
            other.close().await;
        }
        Ok(any)
    }
}

#[async_trait]
impl JournalSource for JournalFolder {
    async fn open(&self) -> Result<(Box<dyn Journal>, Recovered), JournalError> {
        make_folder(&self.folder).map_err(|error| from_io(&error))?;
        let mut warnings = Vec::new();
        if let Some(why) = passing_volume(&self.folder) {
            warnings.push(format!(
                "unsent saves in {} do not survive the container: {why}; set BACKEND_JOURNAL_FOLDER to a volume",
                self.folder.display()
            ));
        }
        let lock = self.lock(LOCK_PATIENCE).await?;
        let (number, mut own) = self.first_free(lock.is_none(), &mut warnings).await?;
        let mut recovered = Recovered { saves: own.read().await?.saves, warnings, ..Recovered::default() };
        if lock.is_some() {
            self.adopt(number, &mut own, &mut recovered).await?;
        }
        Ok((Box::new(OwnJournal { folder: self.clone(), number, file: own }), recovered))
    }
}

/// The journal of this process, among those of others.
struct OwnJournal {
    folder: JournalFolder,
    number: usize,
    file: JournalFile,
}

/// One open file.
struct JournalFile {
    connection: SqliteConnection,
    bytes_since_checkpoint: usize,
}

impl JournalFile {
    async fn open(path: &Path) -> Result<Self, JournalError> {
        let new = !path.exists();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SYNCHRONOUS)
            .busy_timeout(Duration::ZERO)
            .pragma("wal_autocheckpoint", "0")
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(from_sqlx)?;
        let format: i64 = sqlx::query("PRAGMA user_version")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(from_sqlx)?;
        if format > FORMAT {
            return Err(JournalError::Newer(format, FORMAT));
        }
        if !new {
            check(&mut connection).await?;
        }
        let mut journal = Self { connection, bytes_since_checkpoint: 0 };
        journal.create_tables().await.map_err(from_sqlx)?;
        // The commit made the file durable, not its name in the folder. Also when it is not new: whoever made it may have
        // been killed before this.
        path.parent().map_or(Ok(()), sync_folder).map_err(|error| from_io(&error))?;
        Ok(journal)
    }

    /// Also takes the exclusive lock, because it writes.
    async fn create_tables(&mut self) -> sqlx::Result<()> {
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS saves (player_id TEXT NOT NULL, document_key TEXT NOT NULL, \
             epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, value TEXT NOT NULL, \
             PRIMARY KEY (player_id, document_key, epoch))",
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS servers (server_id TEXT PRIMARY KEY)")
            .execute(&mut *tx)
            .await?;
        sqlx::query("PRAGMA user_version = 1").execute(&mut *tx).await?;
        tx.commit().await
    }

    async fn read(&mut self) -> Result<Recovered, JournalError> {
        let rows = sqlx::query("SELECT player_id, document_key, epoch, sequence, value FROM saves")
            .fetch_all(&mut self.connection)
            .await
            .map_err(from_sqlx)?;
        let mut recovered = Recovered::default();
        for row in rows {
            let record = (|| {
                let value: String = row.try_get("value")?;
                let value = Text::parse(value).map_err(|error| sqlx::Error::Decode(error.into()))?;
                Ok(Record {
                    player_id: row.try_get("player_id")?,
                    key: row.try_get("document_key")?,
                    epoch: row.try_get("epoch")?,
                    sequence: row.try_get("sequence")?,
                    value,
                })
            })();
            recovered
                .saves
                .push(record.map_err(|error: sqlx::Error| JournalError::Damaged(error.to_string()))?);
        }
        recovered.server_ids = self.server_ids().await?;
        Ok(recovered)
    }

    async fn server_ids(&mut self) -> Result<Vec<String>, JournalError> {
        let rows = sqlx::query("SELECT server_id FROM servers")
            .fetch_all(&mut self.connection)
            .await
            .map_err(from_sqlx)?;
        rows.iter().map(|row| row.try_get("server_id").map_err(from_sqlx)).collect()
    }

    async fn adopt(&mut self, left: &Recovered) -> Result<(), JournalError> {
        self.write(&Changes { saves: left.saves.clone(), ..Changes::default() }).await?;
        for server_id in &left.server_ids {
            self.write(&Changes { server_id: Some(server_id.clone()), ..Changes::default() }).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), JournalError> {
        for statement in ["DELETE FROM saves", "DELETE FROM servers"] {
            sqlx::query(statement).execute(&mut self.connection).await.map_err(from_sqlx)?;
        }
        Ok(())
    }

    async fn commit(&mut self, changes: &Changes) -> sqlx::Result<()> {
        let mut tx = self.connection.begin().await?;
        for records in changes.saves.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO saves (player_id, document_key, epoch, sequence, value) VALUES {} \
                 ON CONFLICT DO UPDATE SET sequence = excluded.sequence, value = excluded.value \
                 WHERE excluded.sequence > saves.sequence",
                rows("(?, ?, ?, ?, ?)", records.len())
            );
            let mut insert = sqlx::query(AssertSqlSafe(sql)).persistent(is_common(records.len()));
            for record in records {
                let value = record.value.as_str();
                self.bytes_since_checkpoint += value.len();
                insert = insert
                    .bind(&record.player_id)
                    .bind(&record.key)
                    .bind(record.epoch)
                    .bind(record.sequence)
                    .bind(value);
            }
            insert.execute(&mut *tx).await?;
        }
        for settled in changes.settled.chunks(ROWS) {
            // The order of the join is given, so that rows of `saves` are found by its key.
            let sql = format!(
                "DELETE FROM saves WHERE rowid IN (SELECT saves.rowid FROM (VALUES {}) AS settled CROSS JOIN saves \
                 ON player_id = column1 AND document_key = column2 AND epoch = column3 AND sequence <= column4)",
                rows("(?, ?, ?, ?)", settled.len())
            );
            let mut delete = sqlx::query(AssertSqlSafe(sql)).persistent(is_common(settled.len()));
            for settled in settled {
                delete = delete
                    .bind(&settled.player_id)
                    .bind(&settled.key)
                    .bind(settled.epoch)
                    .bind(settled.sequence);
            }
            delete.execute(&mut *tx).await?;
        }
        if let Some(server_id) = &changes.server_id {
            sqlx::query("INSERT INTO servers (server_id) VALUES ($1) ON CONFLICT DO NOTHING")
                .bind(server_id)
                .execute(&mut *tx)
                .await?;
        }
        for server_id in &changes.buried {
            sqlx::query("DELETE FROM servers WHERE server_id = $1").bind(server_id).execute(&mut *tx).await?;
        }
        tx.commit().await
    }

    async fn write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.commit(changes).await.map_err(from_sqlx)?;
        if self.bytes_since_checkpoint > CHECKPOINT_BYTES {
            self.checkpoint().await?;
        }
        Ok(())
    }

    async fn close(self) {
        // What was committed is durable whether or not the file is closed in good order.
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a journal was not closed in good order");
        }
    }

    async fn checkpoint(&mut self) -> Result<(), JournalError> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut self.connection)
            .await
            .map_err(from_sqlx)?;
        self.bytes_since_checkpoint = 0;
        Ok(())
    }
}

#[async_trait]
impl Journal for OwnJournal {
    async fn write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        self.file.write(changes).await
    }

    async fn adopt(&mut self, recovered: &mut Recovered) -> Result<(), JournalError> {
        match self.folder.lock(Duration::ZERO).await? {
            Some(_lock) => self.folder.adopt(self.number, &mut self.file, recovered).await,
            // Whoever has the lock takes it over.
            None => Ok(()),
        }
    }

    async fn rest(&mut self) -> Result<(), JournalError> {
        self.file.checkpoint().await
    }

    async fn clear(&mut self) -> Result<(), JournalError> {
        self.file.clear().await
    }

    async fn close(self: Box<Self>) {
        self.file.close().await;
    }
}

/// The values of so many rows.
fn rows(row: &str, count: usize) -> String {
    vec![row; count].join(", ")
}

/// Whether a statement of so many rows is worth a place in the cache: one for each number would crowd the others out.
const fn is_common(rows: usize) -> bool {
    matches!(rows, 1 | ROWS)
}

/// Reads every page: a file that is damaged in the middle would otherwise be noticed when a save is lost.
async fn check(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let verdict: String = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(from_sqlx)?;
    if verdict == "ok" { Ok(()) } else { Err(JournalError::Damaged(verdict)) }
}

/// By SQLite's primary result code, the low byte of the extended one (sqlite.org/rescode.html).
fn from_sqlx(error: sqlx::Error) -> JournalError {
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<u32>().ok());
    let text = database.map_or_else(|| error.to_string(), |error| error.message().to_owned());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => JournalError::InUse(1),
        Some(8 | 14 | 3 | 23) => JournalError::ReadOnly(text),
        Some(11 | 26) => JournalError::Damaged(text),
        Some(13) => JournalError::Full,
        _ => JournalError::Io(text),
    }
}

fn from_io(error: &std::io::Error) -> JournalError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => JournalError::Full,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            JournalError::ReadOnly(error.to_string())
        }
        _ => JournalError::Io(error.to_string()),
    }
}
