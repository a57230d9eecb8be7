//! One journal as a SQLite file, opened exclusively.
//!
//! WAL with `synchronous=FULL`: a transaction is on disk when its commit returns. The log is taken into the file whenever it
//! has [`CHECKPOINT_PAGES`], also in the midst of a burst, and begins anew after that; pages that got free are given back. So
//! the files have the size of what is unsent, plus a few MiB.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::commit_counter::CommitCounter;
use super::format::{self, FORMAT, ROWS, TABLES};
use super::origin::FileIdentity;
use super::{Changes, JournalError, Record};
use crate::platform::database_check::damage;
use crate::platform::private_files::{prepare_database, sync_folder};

/// Pages of 4 KiB in the log after which it is taken into the file: SQLite's own default. A burst of small saves gets there
/// every few seconds; it then costs one more sync, and as many pages as differ.
const CHECKPOINT_PAGES: &str = "1000";
/// Bytes that the log keeps of the disk after it was taken in: one that had to be longer for a moment is cut to this.
const LOG_BYTES: &str = "4194304";
/// Free pages in the file after which they are given back.
const MAX_FREE_PAGES: i64 = 256;
/// Commits between two looks for free pages, and between two syncs of the counter.
const COMMITS_BETWEEN_LOOKS: i64 = 1_024;

/// Failpoint fault, for the tests that must notice it: commits are not synced to disk.
const SYNCHRONOUS: SqliteSynchronous =
    if cfg!(feature = "failpoint-no-fsync") { SqliteSynchronous::Off } else { SqliteSynchronous::Full };

/// An open file.
pub struct JournalFile {
    pub path: PathBuf,
    connection: SqliteConnection,
    /// Of the database and of its log, once there is one.
    identity: FileIdentity,
    log_identity: Option<FileIdentity>,
    counter: CommitCounter,
    format: i64,
    /// Whose saves it has. `None`: nobody said so yet, or a backend that does not tell.
    pub backend: Option<String>,
    /// What the file remembers itself by.
    origin: Option<String>,
    /// The number of the last commit.
    commits: i64,
    /// Commits that were acknowledged and are not there.
    pub missing: i64,
    /// Its tables are those of this format, and it says whose it is.
    claimed: bool,
}

/// What a file has.
#[derive(Default)]
pub struct Left {
    pub saves: Vec<Record>,
    /// Ids of processes that are dead for certain.
    pub server_ids: Vec<String>,
    /// Ids of processes that may be running elsewhere.
    pub unproven_ids: Vec<String>,
    /// Numbers of the rows that are not what was written.
    pub damaged: Vec<i64>,
}

impl Left {
    pub fn is_empty(&self) -> bool {
        self.saves.is_empty()
            && self.server_ids.is_empty()
            && self.unproven_ids.is_empty()
            && self.damaged.is_empty()
    }
}

impl JournalFile {
    /// Opens a file, or makes it. Of one that is there, nothing is changed: it can be read on a full disk too.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let new = prepare_database(path).map_err(|error| from_io(path, &error))?;
        let (mut connection, format) = connect(path).await?;
        if format > FORMAT {
            return Err(JournalError::Newer(format, FORMAT));
        }
        if !new {
            let damage = damage(&mut connection).await.map_err(|error| from_sqlx(path, &error))?;
            if let Some(damage) = damage {
                return Err(JournalError::Damaged(format!("{}: {damage}", path.display())));
            }
        }
        let (backend, origin, commits) = match format {
            FORMAT => stamp(&mut connection).await.map_err(|error| from_sqlx(path, &error))?,
            _ => (None, None, 0),
        };
        let (counter, counted) = CommitCounter::open(path);
        Ok(Self {
            path: path.to_owned(),
            connection,
            identity: FileIdentity::of(path).map_err(|error| from_io(path, &error))?,
            log_identity: None,
            counter,
            format,
            backend,
            origin,
            commits: commits.max(counted),
            missing: if new { 0 } else { (counted - commits).max(0) },
            claimed: false,
        })
    }

    fn failed(&self, error: &sqlx::Error) -> JournalError {
        from_sqlx(&self.path, error)
    }

    /// What is left in the file, for `backend` if it does not say itself.
    pub async fn left(&mut self) -> Result<Left, JournalError> {
        let mut left = Left::default();
        if self.format == 0 {
            return Ok(left);
        }
        let (rows, error) = format::rows(&mut self.connection, self.format).await;
        if let Some(error) = error {
            return Err(self.failed(&error));
        }
        for row in rows {
            let rowid = row.rowid;
            match row.record(self.format, self.backend.as_deref()) {
                Some(record) => left.saves.push(record),
                None => left.damaged.push(rowid),
            }
        }
        let ids = self.server_ids().await?;
        if self.is_proof() {
            left.server_ids = ids;
        } else {
            left.unproven_ids = ids;
        }
        Ok(left)
    }

    /// Whether its lock proves that whoever wrote to it is dead.
    fn is_proof(&self) -> bool {
        self.origin.as_deref() == Some(&*self.identity.origin(&self.path))
    }

    /// Ids of the processes that used the file.
    pub async fn server_ids(&mut self) -> Result<Vec<String>, JournalError> {
        let rows = sqlx::query("SELECT server_id FROM servers").fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| self.failed(&error))?;
        // One that cannot be read is nobody's.
        Ok(rows.iter().filter_map(|row| row.try_get("server_id").ok()).collect())
    }

    /// Makes it a file of this format, for saves of `backend`. Rows that are not what was written are put where a person
    /// finds them. Ids of processes that may be running elsewhere are forgotten.
    pub async fn claim(&mut self, backend: Option<&str>) -> Result<(), JournalError> {
        let left = self.left().await?;
        let origin = self.identity.origin(&self.path);
        let number = self.commits + 1;
        let claimed = async {
            begin(&mut self.connection).await?;
            if self.format == 1 {
                for column in ["commit_number", "checksum"] {
                    let sql = format!("ALTER TABLE saves ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0");
                    sqlx::query(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
                }
            }
            for table in TABLES {
                sqlx::query(table).execute(&mut self.connection).await?;
            }
            set_aside(&mut self.connection, &left.damaged).await?;
            if !left.saves.is_empty() && (self.format < FORMAT || self.backend.as_deref() != backend) {
                sqlx::query("DELETE FROM saves").execute(&mut self.connection).await?;
                insert(&mut self.connection, &left.saves, backend, number).await?;
            }
            if !left.unproven_ids.is_empty() {
                sqlx::query("DELETE FROM servers").execute(&mut self.connection).await?;
            }
            sqlx::query(
                "INSERT OR REPLACE INTO journal (id, backend, origin, commits) VALUES (1, $1, $2, $3)",
            )
            .bind(backend)
            .bind(&origin)
            .bind(number)
            .execute(&mut self.connection)
            .await?;
            sqlx::query("PRAGMA user_version = 2").execute(&mut self.connection).await?;
            commit(&mut self.connection).await
        };
        let claimed = claimed.await;
        self.ended(claimed, number).await?;
        (self.format, self.origin, self.claimed) = (FORMAT, Some(origin), true);
        self.backend = backend.map(str::to_owned);
        self.log_identity = Some(self.log().map_err(|error| from_io(&self.path, &error))?);
        // The commit made the file durable, not its name in the folder. Also when it is not new: whoever made it may have
        // been killed before this.
        self.path.parent().map_or(Ok(()), sync_folder).map_err(|error| from_io(&self.path, &error))
    }

    pub const fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// Does all of `changes`, durably. When it returns, the file is where it was: what is written to one that was removed
    /// is lost with it.
    pub async fn write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        if changes.is_empty() {
            return Ok(());
        }
        match self.try_write(changes).await {
            // A log that was taken in begins anew, in the space it has.
            Err(JournalError::Full(_)) if self.take_log_in().await => self.try_write(changes).await?,
            written => written?,
        }
        if self.commits % COMMITS_BETWEEN_LOOKS == 0 {
            self.give_pages_back().await;
        }
        Ok(())
    }

    async fn try_write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        let number = self.commits + 1;
        let written = write_changes(&mut self.connection, changes, self.backend.as_deref(), number).await;
        self.ended(written, number).await?;
        self.check_place()
    }

    /// A transaction has ended, as the one of this number if it was committed.
    async fn ended(&mut self, outcome: sqlx::Result<()>, number: i64) -> Result<(), JournalError> {
        match outcome {
            Ok(()) => {
                self.commits = number;
                self.counter.note(number);
                Ok(())
            }
            Err(error) => {
                // SQLite may have done so itself.
                let _ended = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
                Err(self.failed(&error))
            }
        }
    }

    fn log(&self) -> std::io::Result<FileIdentity> {
        FileIdentity::of(&with_ending(&self.path, "-wal"))
    }

    /// Whether the names still lead to the files that are written to.
    pub fn check_place(&self) -> Result<(), JournalError> {
        let here = FileIdentity::of(&self.path).is_ok_and(|found| found == self.identity);
        let log_here = self.log_identity.is_none_or(|log| self.log().is_ok_and(|found| found == log));
        if here && log_here { Ok(()) } else { Err(JournalError::Removed(self.path.display().to_string())) }
    }

    /// Forgets everything but rows that are damaged.
    pub async fn clear(&mut self) -> Result<(), JournalError> {
        let number = self.commits + 1;
        let cleared = async {
            begin(&mut self.connection).await?;
            for statement in ["DELETE FROM saves", "DELETE FROM servers"] {
                sqlx::query(statement).execute(&mut self.connection).await?;
            }
            if self.format == FORMAT {
                note_commit(&mut self.connection, number).await?;
            }
            commit(&mut self.connection).await
        };
        let cleared = cleared.await;
        self.ended(cleared, number).await
    }

    /// Gives disk space back, and makes the number of the last commit durable.
    pub async fn rest(&mut self) -> Result<(), JournalError> {
        self.give_pages_back().await;
        self.checkpoint("TRUNCATE").await.map_err(|error| self.failed(&error))
    }

    /// Whether the log is in the file now.
    async fn take_log_in(&mut self) -> bool {
        self.checkpoint("TRUNCATE").await.is_ok()
    }

    async fn checkpoint(&mut self, mode: &str) -> sqlx::Result<()> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        Ok(())
    }

    /// What fails here is tried again later: nothing is less safe for it.
    async fn give_pages_back(&mut self) {
        let given = async {
            if number_of(&mut self.connection, "auto_vacuum").await? != 2 {
                // A file of format 1. The next statement writes it anew, once.
                sqlx::query("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut self.connection).await?;
                sqlx::query("VACUUM").execute(&mut self.connection).await?;
            } else if number_of(&mut self.connection, "freelist_count").await? > MAX_FREE_PAGES {
                // It does a page at a time, one for each row that is asked for.
                sqlx::query("PRAGMA incremental_vacuum").fetch_all(&mut self.connection).await?;
            }
            Ok::<(), sqlx::Error>(())
        };
        if let Err(error) = given.await {
            tracing::debug!(path = %self.path.display(), %error, "free pages are not given back");
        }
        let mut counter = std::mem::replace(&mut self.counter, CommitCounter::none());
        let synced = tokio::task::spawn_blocking(move || {
            counter.sync();
            counter
        });
        if let Ok(counter) = synced.await {
            self.counter = counter;
        }
    }

    /// Whether everything in the file is settled by `changes`, so that it could be thrown away.
    pub async fn is_settled_by(&mut self, changes: &Changes, own_id: Option<&str>) -> bool {
        let Ok(left) = self.left().await else { return false };
        let settled = |save: &Record| {
            changes.settled.iter().any(|settled| {
                settled.sequence >= save.sequence
                    && settled.epoch == save.epoch
                    && settled.player_id == save.player_id
                    && settled.key == save.key
            })
        };
        left.damaged.is_empty()
            && left.saves.iter().all(settled)
            && left
                .server_ids
                .iter()
                .all(|id| changes.retired_servers.contains(id) || Some(id.as_str()) == own_id)
    }

    /// Removes the files.
    pub async fn remove(self) {
        let path = self.path.clone();
        self.close().await;
        for file in [with_ending(&path, "-wal"), path] {
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::debug!(path = %file.display(), %error, "not removed");
            }
        }
    }

    /// Lets the file go.
    pub async fn close(self) {
        // What was committed is durable whether or not the file is closed in good order.
        if let Err(error) = self.connection.close().await {
            tracing::debug!(path = %self.path.display(), %error, "a journal was not closed in good order");
        }
    }
}

/// The saves for `backend` that can still be read in a damaged file, each of them exactly as it was written.
pub async fn salvage(path: &Path, backend: Option<&str>) -> Result<Vec<Record>, JournalError> {
    let (mut connection, format) = connect(path).await?;
    // Without checksums nobody can tell.
    let saves = if format == FORMAT {
        let (rows, _damage) = format::rows(&mut connection, format).await;
        rows.into_iter().filter_map(|row| row.record(format, backend)).collect()
    } else {
        Vec::new()
    };
    if let Err(error) = connection.close().await {
        tracing::debug!(path = %path.display(), %error, "a damaged journal was not closed in good order");
    }
    Ok(saves)
}

/// The path of a file that belongs to another one.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Takes the exclusive lock, because it reads: in exclusive mode the log is opened under it. Gives the format.
async fn connect(path: &Path) -> Result<(SqliteConnection, i64), JournalError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SYNCHRONOUS)
        .busy_timeout(Duration::ZERO)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_BYTES)
        .disable_statement_logging();
    // Said only to a file that is made: to others it is written each time, which a full disk refuses.
    let empty = std::fs::metadata(path).map_or(true, |found| found.len() == 0);
    let options = if empty { options.auto_vacuum(SqliteAutoVacuum::Incremental) } else { options };
    let opened = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let format = number_of(&mut connection, "user_version").await?;
        Ok((connection, format))
    };
    opened.await.map_err(|error| from_sqlx(path, &error))
}

async fn number_of(connection: &mut SqliteConnection, pragma: &str) -> sqlx::Result<i64> {
    let sql = format!("PRAGMA {pragma}");
    sqlx::query(AssertSqlSafe(sql)).fetch_one(connection).await?.try_get(0)
}

/// Whose it is, what it remembers itself by, and the number of its last commit.
async fn stamp(connection: &mut SqliteConnection) -> sqlx::Result<(Option<String>, Option<String>, i64)> {
    let row = sqlx::query("SELECT backend, origin, commits FROM journal").fetch_optional(connection).await?;
    let Some(row) = row else { return Ok((None, None, 0)) };
    Ok((row.try_get("backend")?, row.try_get("origin")?, row.try_get("commits")?))
}

async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(connection).await.map(drop)
}

async fn commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

async fn note_commit(connection: &mut SqliteConnection, number: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE journal SET commits = $1").bind(number).execute(connection).await.map(drop)
}

async fn set_aside(connection: &mut SqliteConnection, rowids: &[i64]) -> sqlx::Result<()> {
    for rowid in rowids {
        for sql in [
            "INSERT INTO damaged SELECT player_id, document_key, epoch, sequence, value, commit_number, checksum \
             FROM saves NOT INDEXED WHERE rowid = $1",
            "DELETE FROM saves WHERE rowid = $1",
        ] {
            sqlx::query(sql).bind(rowid).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    saves: &[Record],
    backend: Option<&str>,
    commit_number: i64,
) -> sqlx::Result<()> {
    for records in saves.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO saves (player_id, document_key, epoch, sequence, value, commit_number, checksum) VALUES {} \
             ON CONFLICT DO UPDATE SET sequence = excluded.sequence, value = excluded.value, \
             commit_number = excluded.commit_number, checksum = excluded.checksum \
             WHERE excluded.sequence > saves.sequence",
            rows("(?, ?, ?, ?, ?, ?, ?)", records.len())
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql)).persistent(is_common(records.len()));
        for record in records {
            insert = insert
                .bind(&record.player_id)
                .bind(&record.key)
                .bind(record.epoch)
                .bind(record.sequence)
                .bind(record.value.as_str())
                .bind(commit_number)
                .bind(format::checksum(backend, record, commit_number));
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_changes(
    connection: &mut SqliteConnection,
    changes: &Changes,
    backend: Option<&str>,
    number: i64,
) -> sqlx::Result<()> {
    begin(connection).await?;
    insert(connection, &changes.saves, backend, number).await?;
    for settled in changes.settled.chunks(ROWS) {
        // The order of the join is given, so that rows of `saves` are found by its key.
        let sql = format!(
            "DELETE FROM saves WHERE rowid IN (SELECT saves.rowid FROM (VALUES {}) AS settled CROSS JOIN saves \
             ON player_id = column1 AND document_key = column2 AND epoch = column3 AND sequence <= column4)",
            rows("(?, ?, ?, ?)", settled.len())
        );
        let mut delete = sqlx::query(AssertSqlSafe(sql)).persistent(is_common(settled.len()));
        for settled in settled {
            delete =
                delete.bind(&settled.player_id).bind(&settled.key).bind(settled.epoch).bind(settled.sequence);
        }
        delete.execute(&mut *connection).await?;
    }
    if let Some(server_id) = &changes.server_id {
        sqlx::query("INSERT INTO servers (server_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(server_id)
            .execute(&mut *connection)
            .await?;
    }
    for server_id in &changes.retired_servers {
        sqlx::query("DELETE FROM servers WHERE server_id = $1")
            .bind(server_id)
            .execute(&mut *connection)
            .await?;
    }
    note_commit(connection, number).await?;
    commit(connection).await
}

/// The values of so many rows.
fn rows(row: &str, count: usize) -> String {
    vec![row; count].join(", ")
}

/// Whether a statement of so many rows is worth a place in the cache: one for each number would crowd the others out.
const fn is_common(rows: usize) -> bool {
    matches!(rows, 1 | ROWS)
}

/// By SQLite's primary result code, the low byte of the extended one (sqlite.org/rescode.html).
fn from_sqlx(path: &Path, error: &sqlx::Error) -> JournalError {
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<u32>().ok());
    let text = database.map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let text = format!("{}: {text}", path.display());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => JournalError::InUse(text),
        Some(8 | 14 | 3 | 23) => JournalError::ReadOnly(text),
        Some(13) => JournalError::Full(text),
        // 1: a table or a column that is not there.
        Some(1 | 11 | 26) => JournalError::Damaged(text),
        // A value of another type.
        None if !matches!(error, sqlx::Error::Io(_)) => JournalError::Damaged(text),
        _ => JournalError::Io(text),
    }
}

pub fn from_io(path: &Path, error: &std::io::Error) -> JournalError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => JournalError::Full(text),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            JournalError::ReadOnly(text)
        }
        _ => JournalError::Io(text),
    }
}
