//! What the backend does not have yet, in a SQLite file beside the local copy: `index.db`.
//!
//! Opened exclusively: whoever has it open is the only process that holds this world on this machine. WAL with
//! `synchronous=FULL`: a transaction is on disk when its commit returns. Each row has a checksum, and commits are counted, so
//! that neither a changed value nor a log that was cut passes for what was written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use super::index_format::{self, Change, FORMAT, Session, begin, write_change, write_session};
use crate::journal::commit_counter::CommitCounter;
use crate::journal::origin::FileIdentity;
use crate::platform::database_check::{damage, open_with, schema_damage};
use crate::platform::private_files::{prepare_database, sync_folder};

/// Bytes that the log keeps of the disk after it was taken in.
const LOG_BYTES: &str = "4194304";
/// Times the file may be written before its log is taken in. In a burst the log grows by some hundred kilobytes.
const CHECKPOINT_WRITES: u32 = 500;

/// Failpoint fault, for the tests that must notice it: commits are not synced to disk.
const SYNCHRONOUS: &str = if cfg!(feature = "failpoint-no-fsync") { "OFF" } else { "FULL" };

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
    #[error("{0} has format {1}, this version of the addon reads up to {FORMAT}")]
    Newer(String, i64),
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
    /// Commits to the file that were acknowledged and are not in it: what is found is older than what was there.
    pub missing: i64,
}

/// The open file.
pub struct Index {
    path: PathBuf,
    connection: SqliteConnection,
    identity: FileIdentity,
    /// Of the backend that has the world; `None`: it does not tell.
    backend: Option<String>,
    /// What is in the table `session`.
    session: Option<Session>,
    counter: CommitCounter,
    /// The number of the last commit to the file, and how many of them were acknowledged and are not in it.
    commits: i64,
    missing: i64,
    writes: u32,
}

impl Index {
    /// Opens or makes the index in `folder`, for changes of a world that is at `backend`.
    pub async fn open(folder: &Path, backend: Option<&str>) -> Result<(Self, Recovered), IndexError> {
        let mut index = Self::open_file(folder, backend).await?;
        match index.read().await {
            Ok(recovered) => Ok((index, recovered)),
            Err(error) => {
                index.close().await;
                Err(error)
            }
        }
    }

    /// What is left in `folder`, for whichever backend.
    pub async fn left_in(folder: &Path) -> Result<Recovered, IndexError> {
        let mut index = Self::open_file(folder, None).await?;
        let read = index.read_all().await;
        index.close().await;
        read.map(|(recovered, _, _)| recovered)
    }

    /// The other backend that the damaged index in `folder` has changes for. `None` if it has them for `backend` or for nobody,
    /// and also if its row of `session` cannot be read: then nobody can say any more whose they are.
    pub async fn other_owner(folder: &Path, backend: Option<&str>) -> Result<Option<String>, IndexError> {
        let mut connection = match open_raw(&folder.join("index.db")).await {
            Err(IndexError::InUse) => return Err(IndexError::InUse),
            Err(_) => return Ok(None),
            Ok(connection) => connection,
        };
        let read = async {
            match schema_damage(&mut connection).await {
                Ok(None) => index_format::session(&mut connection).await.ok().flatten(),
                _ => None,
            }
        };
        let row = read.await;
        close(connection).await;
        let Some(row) = row else { return Ok(None) };
        let is_ours = row.backend.as_deref() == backend || (!row.is_sound() && row.is_sound_for(backend));
        Ok(row.backend.filter(|_| !is_ours))
    }

    async fn open_file(folder: &Path, backend: Option<&str>) -> Result<Self, IndexError> {
        let path = folder.join("index.db");
        let (connection, identity, commits) = connect(&path).await?;
        let (counter, counted) = CommitCounter::open(&path);
        Ok(Self {
            path,
            connection,
            identity,
            backend: backend.map(str::to_owned),
            session: None,
            counter,
            commits: commits.max(counted),
            missing: (counted - commits).max(0),
            writes: 0,
        })
    }

    /// Where the file is, for a person.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether what is written here is where the next process looks for it.
    fn check_place(&self) -> Result<(), IndexError> {
        if FileIdentity::of(&self.path).is_ok_and(|found| found == self.identity) {
            Ok(())
        } else {
            Err(IndexError::Removed(self.path.display().to_string()))
        }
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
        (self.connection, self.identity, _) = connect(&self.path).await?;
        let origin = self.identity.origin(&self.path);
        let rewritten = async {
            let mut tx = begin(&mut self.connection, self.commits + 1).await?;
            write_session(&mut tx, Some(session), self.backend.as_deref(), &origin).await?;
            sqlx::query("DELETE FROM changes").execute(&mut *tx).await?;
            for (sequence, changes) in [(session.sequence, outgoing), (0, waiting)] {
                for change in changes {
                    write_change(&mut tx, change, sequence).await?;
                }
            }
            tx.commit().await
        };
        let rewritten = rewritten.await;
        self.ended(rewritten)?;
        self.session = Some(session.clone());
        Ok(())
    }

    /// Begins to write under another lease.
    pub async fn begin_session(&mut self, session: &Session) -> Result<(), IndexError> {
        self.change_session(Some(session.clone()), &[], None).await
    }

    /// The world was released: the next process owes nobody anything.
    pub async fn end_session(&mut self) -> Result<(), IndexError> {
        self.change_session(None, &[], None).await
    }

    /// Notes changes that wait for a commit. A later change of a chunk takes the place of the one that waits.
    pub async fn note(&mut self, changes: &[Change]) -> Result<(), IndexError> {
        let noted = async {
            let mut tx = begin(&mut self.connection, self.commits + 1).await?;
            for change in changes {
                write_change(&mut tx, change, 0).await?;
            }
            tx.commit().await
        };
        let noted = noted.await;
        self.ended(noted)?;
        self.check_place()?;
        self.written().await
    }

    /// Gives waiting changes to the commit `sequence`. From here on that number stands for exactly these changes.
    pub async fn assign(&mut self, sequence: i64, changes: &[Change]) -> Result<(), IndexError> {
        let session = self.session.clone().map(|session| Session { sequence, ..session });
        self.change_session(session, changes, None).await
    }

    /// The commit `sequence` is done with; the world has this version now.
    pub async fn settle(&mut self, sequence: i64, version: i64) -> Result<(), IndexError> {
        let session = self.session.clone().map(|session| Session { version, ..session });
        self.change_session(session, &[], Some(sequence)).await?;
        self.written().await
    }

    /// Nothing of this session will be committed any more.
    pub async fn clear(&mut self) -> Result<(), IndexError> {
        let cleared = async {
            let mut tx = begin(&mut self.connection, self.commits + 1).await?;
            for statement in ["DELETE FROM changes", "DELETE FROM session"] {
                sqlx::query(statement).execute(&mut *tx).await?;
            }
            tx.commit().await
        };
        let cleared = cleared.await;
        self.ended(cleared)?;
        self.session = None;
        Ok(())
    }

    /// Writes the session, moves waiting changes to its commit, and removes those of a commit that is done with.
    async fn change_session(
        &mut self,
        session: Option<Session>,
        assigned: &[Change],
        settled: Option<i64>,
    ) -> Result<(), IndexError> {
        let origin = self.identity.origin(&self.path);
        let changed = async {
            let mut tx = begin(&mut self.connection, self.commits + 1).await?;
            write_session(&mut tx, session.as_ref(), self.backend.as_deref(), &origin).await?;
            for (change, session) in assigned.iter().zip(session.iter().cycle()) {
                sqlx::query("DELETE FROM changes WHERE name = $1 AND sequence = 0")
                    .bind(&change.name)
                    .execute(&mut *tx)
                    .await?;
                write_change(&mut tx, change, session.sequence).await?;
            }
            if let Some(sequence) = settled {
                sqlx::query("DELETE FROM changes WHERE sequence = $1")
                    .bind(sequence)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        };
        let changed = changed.await;
        self.ended(changed)?;
        self.session = session;
        Ok(())
    }

    /// A transaction has ended.
    fn ended(&mut self, outcome: sqlx::Result<()>) -> Result<(), IndexError> {
        outcome.map_err(sort)?;
        self.commits += 1;
        self.counter.note(self.commits);
        Ok(())
    }

    /// Lets the file go. What was committed is durable whether or not it is closed in good order.
    pub async fn close(self) {
        close(self.connection).await;
    }

    async fn written(&mut self) -> Result<(), IndexError> {
        self.writes += 1;
        if self.writes >= CHECKPOINT_WRITES {
            self.writes = 0;
            self.sync_counter().await;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&mut self.connection)
                .await
                .map_err(sort)?;
        }
        Ok(())
    }

    /// Makes the number of the last commit durable.
    async fn sync_counter(&mut self) {
        let mut counter = std::mem::replace(&mut self.counter, CommitCounter::none());
        let synced = tokio::task::spawn_blocking(move || {
            counter.sync();
            counter
        });
        if let Ok(counter) = synced.await {
            self.counter = counter;
        }
    }

    async fn read(&mut self) -> Result<Recovered, IndexError> {
        let (recovered, backend, origin) = self.read_all().await?;
        // As with journals: what nobody claims is whoever's comes first.
        match backend {
            Some(backend) if Some(&backend) != self.backend.as_ref() => Err(IndexError::Foreign(backend)),
            _ => {
                let own = self.identity.origin(&self.path);
                let unproven = origin.is_some_and(|origin| origin != own);
                self.session.clone_from(&recovered.session);
                Ok(Recovered { unproven, ..recovered })
            }
        }
    }

    /// What is left, whose it is, and what the file remembered itself by.
    async fn read_all(&mut self) -> Result<(Recovered, Option<String>, Option<String>), IndexError> {
        let mut recovered = Recovered { missing: self.missing, ..Recovered::default() };
        let (mut backend, mut origin) = (None, None);
        let damaged =
            |table| IndexError::Damaged(format!("{}: a row of {table} was changed", self.path.display()));
        if let Some(row) = index_format::session(&mut self.connection).await.map_err(sort)? {
            if !row.is_sound() {
                return Err(damaged("session"));
            }
            (backend, origin) = (row.backend, row.origin);
            recovered.session = Some(row.session);
        }
        for row in index_format::changes(&mut self.connection).await.map_err(sort)? {
            if !row.is_sound() {
                return Err(damaged("changes"));
            }
            let changes = if row.sequence == 0 { &mut recovered.waiting } else { &mut recovered.outgoing };
            changes.push(row.change);
        }
        Ok((recovered, backend, origin))
    }
}

/// Gives the number of the last commit, too.
async fn connect(path: &Path) -> Result<(SqliteConnection, FileIdentity, i64), IndexError> {
    let new = prepare_database(path).map_err(|error| IndexError::Failed(error.to_string()))?;
    let mut connection = open_raw(path).await?;
    match prepare(&mut connection, path, new).await {
        Ok((identity, commits)) => Ok((connection, identity, commits)),
        Err(error) => {
            close(connection).await;
            Err(error)
        }
    }
}

async fn open_raw(path: &Path) -> Result<SqliteConnection, IndexError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging();
    let pragmas = format!(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = {SYNCHRONOUS}; \
         PRAGMA journal_size_limit = {LOG_BYTES};"
    );
    open_with(&options, pragmas).await.map_err(sort)
}

async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "a world's index was not closed in good order");
    }
}

/// Checks a file, and makes it one of this format.
async fn prepare(
    connection: &mut SqliteConnection,
    path: &Path,
    new: bool,
) -> Result<(FileIdentity, i64), IndexError> {
    let row = sqlx::query("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(sort)?;
    let header: i64 = row.try_get(0).map_err(sort)?;
    let newer = || IndexError::Newer(path.display().to_string(), header);
    let damaged = |why: String| IndexError::Damaged(format!("{}: {why}", path.display()));
    if !new && let Some(damage) = damage(connection).await.map_err(sort)? {
        // A later version may find nothing wrong with it.
        return Err(if header > FORMAT { newer() } else { damaged(damage) });
    }
    let tables = index_format::format_of_tables(connection).await.map_err(sort)?;
    if header != tables {
        // A later format says so in its row of commits as well, so that this one's is not what was written.
        let may_be_later = match tables {
            0 => true,
            FORMAT => index_format::commits(connection).await.map_err(sort)?.is_none(),
            _ => false,
        };
        return Err(if header > FORMAT && may_be_later {
            newer()
        } else {
            damaged(format!("its header says format {header}, its tables are of format {tables}"))
        });
    }
    if tables < FORMAT {
        index_format::upgrade(connection, tables).await.map_err(sort)?;
    }
    let commits = index_format::commits(connection).await.map_err(sort)?;
    let commits = commits.ok_or_else(|| damaged("the row of commits was changed".to_owned()))?;
    // The commit made the file durable, not its name in the folder. Also when it is not new: whoever made it may have been
    // killed before this.
    let failed = |error: std::io::Error| IndexError::Failed(error.to_string());
    path.parent().map_or(Ok(()), sync_folder).map_err(failed)?;
    Ok((FileIdentity::of(path).map_err(failed)?, commits))
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
