//! One journal as a SQLite file, opened exclusively.
//!
//! WAL with `synchronous=FULL`: a transaction is on disk when its commit returns. The log is taken into the file whenever it
//! has [`CHECKPOINT_PAGES`], also in the midst of a burst, and begins anew after that; pages that got free are given back. So
//! the files have the size of what is unsent, plus a few MiB.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::commit_counter::CommitCounter;
use super::format::{self, FORMAT, TABLES};
use super::origin::FileIdentity;
use super::ownership::{FoundOwnership, Ownership, PROVEN, format_of_tables};
use super::statements::{begin, commit, insert, set_aside, write_changes};
use super::{Changes, JournalError, Record};
use crate::platform::database_check::{damage, open_with};
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
const SYNCHRONOUS: &str = if cfg!(feature = "failpoint-no-fsync") { "OFF" } else { "FULL" };

/// An open file.
pub struct JournalFile {
    pub path: PathBuf,
    connection: SqliteConnection,
    /// Of the database and of its log, once there is one.
    identity: FileIdentity,
    log_identity: Option<FileIdentity>,
    counter: CommitCounter,
    format: i64,
    /// Whose saves it has, and the number of the last commit.
    ownership: Ownership,
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
        let ownership = if new {
            Ok(Ownership::default())
        } else {
            checked_ownership(&mut connection, path, format).await
        };
        let ownership = match ownership {
            Ok(ownership) => ownership,
            Err(error) => {
                // Whoever looks into a damaged file next needs its lock.
                close(connection, path).await;
                return Err(error);
            }
        };
        let (counter, counted) = CommitCounter::open(path);
        Ok(Self {
            path: path.to_owned(),
            connection,
            identity: FileIdentity::of(path).map_err(|error| from_io(path, &error))?,
            log_identity: None,
            counter,
            format,
            missing: if new { 0 } else { (counted - ownership.commits).max(0) },
            ownership: Ownership { commits: ownership.commits.max(counted), ..ownership },
            claimed: false,
        })
    }

    /// Whose saves it has. `None`: nobody said so yet, or a backend that does not tell.
    pub fn backend(&self) -> Option<&str> {
        self.ownership.backend.as_deref()
    }

    /// What it says is proven by a checksum.
    pub const fn has_proof(&self) -> bool {
        self.format >= PROVEN
    }

    /// The ownership as of the next commit.
    fn next_ownership(&self) -> Ownership {
        Ownership { commits: self.ownership.commits + 1, ..self.ownership.clone() }
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
            match row.record(self.format, self.ownership.backend.as_deref()) {
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
        self.ownership.origin.as_deref() == Some(&*self.identity.origin(&self.path))
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
        let ownership = Ownership {
            backend: backend.map(str::to_owned),
            origin: Some(self.identity.origin(&self.path)),
            commits: self.ownership.commits + 1,
        };
        let claimed = async {
            begin(&mut self.connection).await?;
            if self.format == 1 {
                for column in ["commit_number", "checksum"] {
                    let sql = format!("ALTER TABLE saves ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0");
                    sqlx::query(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
                }
            }
            if self.format == 2 {
                for column in ["format", "checksum"] {
                    let sql = format!("ALTER TABLE journal ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0");
                    sqlx::query(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
                }
            }
            if matches!(self.format, 1..FORMAT) {
                let sql = "ALTER TABLE saves ADD COLUMN loaded_version INTEGER";
                sqlx::query(sql).execute(&mut self.connection).await?;
            }
            for table in TABLES {
                sqlx::query(table).execute(&mut self.connection).await?;
            }
            set_aside(&mut self.connection, &left.damaged).await?;
            if !left.saves.is_empty() && (self.format < 2 || self.ownership.backend != ownership.backend) {
                sqlx::query("DELETE FROM saves").execute(&mut self.connection).await?;
                insert(&mut self.connection, &left.saves, backend, ownership.commits).await?;
            }
            if !left.unproven_ids.is_empty() {
                sqlx::query("DELETE FROM servers").execute(&mut self.connection).await?;
            }
            ownership.write(&mut self.connection).await?;
            let format = format!("PRAGMA user_version = {FORMAT}");
            sqlx::query(AssertSqlSafe(format)).execute(&mut self.connection).await?;
            commit(&mut self.connection).await
        };
        let claimed = claimed.await;
        self.ended(claimed, ownership).await?;
        (self.format, self.claimed) = (FORMAT, true);
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
        if self.ownership.commits % COMMITS_BETWEEN_LOOKS == 0 {
            self.give_pages_back().await;
        }
        Ok(())
    }

    async fn try_write(&mut self, changes: &Changes) -> Result<(), JournalError> {
        let ownership = self.next_ownership();
        let written = write_changes(&mut self.connection, changes, &ownership).await;
        self.ended(written, ownership).await?;
        self.check_place()
    }

    /// A transaction has ended, with this ownership if it was committed.
    async fn ended(&mut self, outcome: sqlx::Result<()>, ownership: Ownership) -> Result<(), JournalError> {
        match outcome {
            Ok(()) => {
                self.counter.note(ownership.commits);
                self.ownership = ownership;
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
        let ownership = self.next_ownership();
        let cleared = async {
            begin(&mut self.connection).await?;
            for statement in ["DELETE FROM saves", "DELETE FROM servers"] {
                sqlx::query(statement).execute(&mut self.connection).await?;
            }
            match self.format {
                PROVEN.. => ownership.note_commit(&mut self.connection, self.format).await?,
                2 => {
                    sqlx::query("UPDATE journal SET commits = $1")
                        .bind(ownership.commits)
                        .execute(&mut self.connection)
                        .await?;
                }
                _ => {}
            }
            commit(&mut self.connection).await
        };
        let cleared = cleared.await;
        self.ended(cleared, ownership).await
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

    /// Whether everything in the file is settled by `changes`, so that it could be thrown away. One with rows that are kept
    /// for a person is not.
    pub async fn is_settled_by(&mut self, changes: &Changes, own_id: Option<&str>) -> bool {
        let Ok(left) = self.left().await else { return false };
        let kept = sqlx::query("SELECT 1 FROM damaged LIMIT 1").fetch_optional(&mut self.connection).await;
        if self.format >= 2 && !matches!(kept, Ok(None)) {
            return false;
        }
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
        close(self.connection, &self.path).await;
    }
}

/// What was committed is durable whether or not a file is closed in good order.
pub async fn close(connection: SqliteConnection, path: &Path) {
    if let Err(error) = connection.close().await {
        tracing::debug!(path = %path.display(), %error, "a journal was not closed in good order");
    }
}

/// Checks a file that is there, and gives its ownership. `header`: the format that its header says.
async fn checked_ownership(
    connection: &mut SqliteConnection,
    path: &Path,
    header: i64,
) -> Result<Ownership, JournalError> {
    let failed = |error: sqlx::Error| from_sqlx(path, &error);
    let damaged = |why: String| JournalError::Damaged(format!("{}: {why}", path.display()));
    let newer = || JournalError::Newer { path: path.display().to_string(), format: header, known: FORMAT };
    if let Some(damage) = damage(connection).await.map_err(failed)? {
        // A later version may find nothing wrong with it.
        return Err(if header > FORMAT { newer() } else { damaged(damage) });
    }
    let tables = format_of_tables(connection).await.map_err(failed)?;
    let ownership = match tables {
        0 | 1 => None,
        _ => FoundOwnership::read(connection, tables).await.map_err(failed)?,
    };
    let sound = ownership.as_ref().and_then(FoundOwnership::sound);
    let contradicts =
        || damaged(format!("its header says format {header}, its tables are of format {tables}"));
    match (header, sound) {
        (header, _) if header == tables && tables < 2 => Ok(Ownership::default()),
        (header, Some(ownership)) if header == tables => Ok(ownership),
        (header, None) if header == tables => {
            Err(damaged("the row that says whose saves it has was changed".into()))
        }
        // A later format says so in its ownership as well, so that this one's is not what was written.
        (header, sound) if header > FORMAT && (tables == 0 || tables == FORMAT && sound.is_none()) => {
            Err(newer())
        }
        _ => Err(contradicts()),
    }
}

/// The path of a file that belongs to another one.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Takes the exclusive lock, because it reads: in exclusive mode the log is opened under it. Gives the format.
pub async fn connect(path: &Path) -> Result<(SqliteConnection, i64), JournalError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging();
    // Said only to a file that is made: to others it is written each time, which a full disk refuses.
    let empty = std::fs::metadata(path).map_or(true, |found| found.len() == 0);
    let auto_vacuum = if empty { "PRAGMA auto_vacuum = INCREMENTAL;" } else { "" };
    let pragmas = format!(
        "PRAGMA locking_mode = EXCLUSIVE; {auto_vacuum} PRAGMA journal_mode = WAL; PRAGMA synchronous = {SYNCHRONOUS}; \
         PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA journal_size_limit = {LOG_BYTES};"
    );
    let failed = |error: sqlx::Error| from_sqlx(path, &error);
    let mut connection = open_with(&options, pragmas).await.map_err(failed)?;
    match number_of(&mut connection, "user_version").await {
        Ok(format) => Ok((connection, format)),
        Err(error) => {
            close(connection, path).await;
            Err(failed(error))
        }
    }
}

async fn number_of(connection: &mut SqliteConnection, pragma: &str) -> sqlx::Result<i64> {
    let sql = format!("PRAGMA {pragma}");
    sqlx::query(AssertSqlSafe(sql)).fetch_one(connection).await?.try_get(0)
}

/// By SQLite's primary result code, the low byte of the extended one (sqlite.org/rescode.html).
pub fn from_sqlx(path: &Path, error: &sqlx::Error) -> JournalError {
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
