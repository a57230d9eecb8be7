//! The tables of a world's index, and how a row is told from one that was changed.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row, Sqlite, Transaction};

/// Version of the tables, in the file's `user_version` and in the row of `commits`. 1: without the backend's identity; 2:
/// without checksums and commits; 3: the row of `commits` has no checksum.
pub const FORMAT: i64 = 4;

const TABLES: [&str; 3] = [
    "CREATE TABLE session (server_id TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, \
     version INTEGER NOT NULL DEFAULT 0, backend TEXT, origin TEXT, checksum INTEGER)",
    // sequence 0: waits for a commit.
    "CREATE TABLE changes (name TEXT NOT NULL, sequence INTEGER NOT NULL, hash TEXT, bytes INTEGER, \
     stored_bytes INTEGER, checksum INTEGER, PRIMARY KEY (name, sequence))",
    COMMITS,
];
const COMMITS: &str = "CREATE TABLE commits (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, \
                       format INTEGER NOT NULL DEFAULT 0, checksum INTEGER NOT NULL DEFAULT 0)";
const FROM_1: [&str; 3] = [
    "ALTER TABLE session ADD COLUMN version INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE session ADD COLUMN backend TEXT",
    "ALTER TABLE session ADD COLUMN origin TEXT",
];
const FROM_2: [&str; 3] = [
    "ALTER TABLE session ADD COLUMN checksum INTEGER",
    "ALTER TABLE changes ADD COLUMN checksum INTEGER",
    COMMITS,
];
const FROM_3: [&str; 2] = [
    "ALTER TABLE commits ADD COLUMN format INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE commits ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
];

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

/// The row of `session`.
pub struct SessionRow {
    pub session: Session,
    pub backend: Option<String>,
    pub origin: Option<String>,
    checksum: Option<i64>,
}

/// A row of `changes`.
pub struct ChangeRow {
    pub change: Change,
    /// 0: waits for a commit.
    pub sequence: i64,
    checksum: Option<i64>,
}

impl SessionRow {
    /// Whether the row is what was written.
    pub fn is_sound(&self) -> bool {
        self.is_sound_for(self.backend.as_deref())
    }

    /// Whether the row is what was written, but for the backend, which was this one.
    pub fn is_sound_for(&self, backend: Option<&str>) -> bool {
        self.checksum == Some(session_checksum(&self.session, backend, self.origin.as_deref()))
    }
}

impl ChangeRow {
    /// Whether the row is what was written.
    pub fn is_sound(&self) -> bool {
        self.checksum == Some(change_checksum(&self.change, self.sequence))
    }
}

fn session_checksum(session: &Session, backend: Option<&str>, origin: Option<&str>) -> i64 {
    checksum(
        &[Some(&session.server_id), backend, origin],
        &[session.epoch, session.sequence, session.version],
    )
}

fn change_checksum(change: &Change, sequence: i64) -> i64 {
    let object = change.object.as_ref();
    checksum(
        &[Some(&change.name), object.map(|object| &*object.hash)],
        &[
            sequence,
            object.map_or(0, |object| size(object.bytes)),
            object.map_or(0, |object| size(object.stored_bytes)),
        ],
    )
}

/// CRC-32. A text that is not there is another one than an empty text.
fn checksum(texts: &[Option<&str>], numbers: &[i64]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for text in texts {
        let length = text.map_or(-1, |text| size(text.len() as u64));
        hasher.update(&length.to_le_bytes());
        hasher.update(text.unwrap_or_default().as_bytes());
    }
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize().into()
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Makes the tables, or makes those of an earlier format into these.
pub async fn upgrade(connection: &mut SqliteConnection, from: i64) -> sqlx::Result<()> {
    let statements = match from {
        0 => TABLES.to_vec(),
        1 => [FROM_1, FROM_2].concat(),
        2 => FROM_2.to_vec(),
        _ => FROM_3.to_vec(),
    };
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    for statement in statements {
        sqlx::query(statement).execute(&mut *tx).await?;
    }
    // Rows of format 3 have a checksum, and may be damaged.
    if from < 3 {
        if let Some(row) = session(&mut tx).await? {
            let (backend, origin) = (row.backend.as_deref(), row.origin.as_deref());
            sqlx::query("UPDATE session SET checksum = $1")
                .bind(session_checksum(&row.session, backend, origin))
                .execute(&mut *tx)
                .await?;
        }
        for row in changes(&mut tx).await? {
            write_change(&mut tx, &row.change, row.sequence).await?;
        }
    }
    let number: Option<i64> =
        sqlx::query_scalar("SELECT number FROM commits").fetch_optional(&mut *tx).await?;
    write_commits(&mut tx, number.unwrap_or(0)).await?;
    sqlx::query(AssertSqlSafe(format!("PRAGMA user_version = {FORMAT}"))).execute(&mut *tx).await?;
    tx.commit().await
}

/// The format that the tables have, whatever the header says; 0 if there are none.
pub async fn format_of_tables(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let session = columns(connection, "session").await?;
    let commits = columns(connection, "commits").await?;
    let has = |columns: &[String], name: &str| columns.iter().any(|column| column == name);
    Ok(if has(&commits, "checksum") {
        FORMAT
    } else if has(&session, "checksum") || !commits.is_empty() {
        3
    } else if has(&session, "backend") {
        2
    } else {
        i64::from(!session.is_empty())
    })
}

async fn columns(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(table).fetch_all(connection).await
}

/// The number of the last commit; `None` if the row is not what was written.
pub async fn commits(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
    let row = sqlx::query("SELECT number, format, checksum FROM commits").fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let (number, format, found): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok((format == FORMAT && found == checksum(&[], &[number, format])).then_some(number))
}

async fn write_commits(tx: &mut Transaction<'_, Sqlite>, number: i64) -> sqlx::Result<()> {
    sqlx::query("INSERT OR REPLACE INTO commits (id, number, format, checksum) VALUES (1, $1, $2, $3)")
        .bind(number)
        .bind(FORMAT)
        .bind(checksum(&[], &[number, FORMAT]))
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Begins the transaction of this number.
pub async fn begin(connection: &mut SqliteConnection, number: i64) -> sqlx::Result<Transaction<'_, Sqlite>> {
    let mut tx = connection.begin().await?;
    write_commits(&mut tx, number).await?;
    Ok(tx)
}

pub async fn session(connection: &mut SqliteConnection) -> sqlx::Result<Option<SessionRow>> {
    let row =
        sqlx::query("SELECT server_id, epoch, sequence, version, backend, origin, checksum FROM session")
            .fetch_optional(connection)
            .await?;
    let of = |row: SqliteRow| {
        Ok(SessionRow {
            session: Session {
                server_id: row.try_get("server_id")?,
                epoch: row.try_get("epoch")?,
                sequence: row.try_get("sequence")?,
                version: row.try_get("version")?,
            },
            backend: row.try_get("backend")?,
            origin: row.try_get("origin")?,
            checksum: row.try_get("checksum")?,
        })
    };
    row.map(of).transpose()
}

/// All changes, in the order in which they were made.
pub async fn changes(connection: &mut SqliteConnection) -> sqlx::Result<Vec<ChangeRow>> {
    let rows =
        sqlx::query("SELECT name, sequence, hash, bytes, stored_bytes, checksum FROM changes ORDER BY rowid")
            .fetch_all(connection)
            .await?;
    let of = |row: SqliteRow| {
        let hash: Option<String> = row.try_get("hash")?;
        let object = match hash {
            Some(hash) => Some(Object {
                hash,
                bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
                stored_bytes: row.try_get::<i64, _>("stored_bytes")?.unsigned_abs(),
            }),
            None => None,
        };
        Ok(ChangeRow {
            change: Change { name: row.try_get("name")?, object, since: 0 },
            sequence: row.try_get("sequence")?,
            checksum: row.try_get("checksum")?,
        })
    };
    rows.into_iter().map(of).collect()
}

/// Writes the row of `session`, or removes it.
pub async fn write_session(
    tx: &mut Transaction<'_, Sqlite>,
    session: Option<&Session>,
    backend: Option<&str>,
    origin: &str,
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM session").execute(&mut **tx).await?;
    let Some(session) = session else { return Ok(()) };
    sqlx::query(
        "INSERT INTO session (server_id, epoch, sequence, version, backend, origin, checksum) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&session.server_id)
    .bind(session.epoch)
    .bind(session.sequence)
    .bind(session.version)
    .bind(backend)
    .bind(origin)
    .bind(session_checksum(session, backend, Some(origin)))
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Writes a row of `changes`, in the place of one of that name and number.
pub async fn write_change(
    tx: &mut Transaction<'_, Sqlite>,
    change: &Change,
    sequence: i64,
) -> sqlx::Result<()> {
    let object = change.object.as_ref();
    sqlx::query(
        "INSERT OR REPLACE INTO changes (name, sequence, hash, bytes, stored_bytes, checksum) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&change.name)
    .bind(sequence)
    .bind(object.map(|object| &object.hash))
    .bind(object.map(|object| size(object.bytes)))
    .bind(object.map(|object| size(object.stored_bytes)))
    .bind(change_checksum(change, sequence))
    .execute(&mut **tx)
    .await
    .map(drop)
}
