//! The row that says whose saves a journal has, and what tells it from one that was damaged.
//!
//! The format is in the file twice: in the header, as `user_version`, and in this row. A header that says something else than
//! the tables do is damage, whatever it says: an older number would have the tables made anew, a newer one would keep the
//! file from being read for ever.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use super::format::FORMAT;

/// The first format whose ownership has a checksum.
pub const PROVEN: i64 = 3;

/// Whose saves a file has, which file it is, and how many commits it has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// `None`: nobody said so yet, or a backend that does not tell.
    pub backend: Option<String>,
    /// What the file remembers itself by.
    pub origin: Option<String>,
    /// The number of the last commit.
    pub commits: i64,
}

/// The row as it was found.
#[derive(Debug)]
pub struct FoundOwnership {
    backend: Option<Vec<u8>>,
    origin: Option<Vec<u8>>,
    commits: i64,
    /// The format of the tables.
    tables: i64,
    /// Its own format and its checksum, which files of format 2 lack.
    proof: Option<(i64, i64)>,
}

impl Ownership {
    /// Writes the row.
    pub async fn write(&self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO journal (id, backend, origin, commits, format, checksum) \
             VALUES (1, $1, $2, $3, $4, $5)",
        )
        .bind(&self.backend)
        .bind(self.origin.as_deref().unwrap_or_default())
        .bind(self.commits)
        .bind(FORMAT)
        .bind(self.checksum(FORMAT))
        .execute(connection)
        .await
        .map(drop)
    }

    /// Writes the number of a commit to the row that is there, in a file of this format.
    pub async fn note_commit(&self, connection: &mut SqliteConnection, format: i64) -> sqlx::Result<()> {
        sqlx::query("UPDATE journal SET commits = $1, checksum = $2")
            .bind(self.commits)
            .bind(self.checksum(format))
            .execute(connection)
            .await
            .map(drop)
    }

    fn checksum(&self, format: i64) -> i64 {
        let text = |text: &Option<String>| text.clone().map(String::into_bytes);
        checksum(
            text(&self.backend).as_deref(),
            self.origin.as_deref().unwrap_or_default().as_bytes(),
            self.commits,
            format,
        )
    }
}

/// CRC-32. A backend that is not there is another one than an empty name.
fn checksum(backend: Option<&[u8]>, origin: &[u8], commits: i64, format: i64) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for text in [backend, Some(origin)] {
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        hasher.update(&length.to_le_bytes());
        hasher.update(text.unwrap_or_default());
    }
    for number in [commits, format] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize().into()
}

impl FoundOwnership {
    /// Reads the row; `None` if there is none. `tables` is the format of the tables.
    pub async fn read(connection: &mut SqliteConnection, tables: i64) -> sqlx::Result<Option<Self>> {
        let proof = if tables >= PROVEN { "format, checksum" } else { "NULL, NULL" };
        let sql = format!("SELECT backend, origin, commits, {proof} FROM journal");
        let Some(row) = sqlx::query(AssertSqlSafe(sql)).fetch_optional(connection).await? else {
            return Ok(None);
        };
        // Unchecked: in a damaged row a column can have any type.
        let proof: (Option<i64>, Option<i64>) = (row.try_get_unchecked(3)?, row.try_get_unchecked(4)?);
        Ok(Some(Self {
            backend: row.try_get_unchecked(0)?,
            origin: row.try_get_unchecked(1)?,
            commits: row.try_get_unchecked(2)?,
            tables,
            proof: (tables >= PROVEN).then(|| (proof.0.unwrap_or(-1), proof.1.unwrap_or(-1))),
        }))
    }

    /// What the row says, if it is what was written. In a file of format 2, it only has to make sense.
    pub fn sound(&self) -> Option<Ownership> {
        if self.proof.is_some() && !self.is_sound_for(self.backend.as_deref()) {
            return None;
        }
        let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(String::from_utf8).transpose().ok();
        Some(Ownership { backend: text(&self.backend)?, origin: text(&self.origin)?, commits: self.commits })
    }

    /// Whether the row is what was written, but for the backend, which was this one.
    pub fn is_sound_for(&self, backend: Option<&[u8]>) -> bool {
        let right = checksum(backend, self.origin.as_deref().unwrap_or_default(), self.commits, self.tables);
        self.proof == Some((self.tables, right))
    }

    /// Whether its checksum shows that it is what was written.
    pub fn is_proven(&self) -> bool {
        self.is_sound_for(self.backend.as_deref())
    }

    /// The backend that it names, right or wrong.
    pub fn backend(&self) -> Option<&[u8]> {
        self.backend.as_deref()
    }
}

/// The format that the tables have, whatever the header says; 0 if there are none.
pub async fn format_of_tables(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let saves = columns(connection, "saves").await?;
    let journal = columns(connection, "journal").await?;
    let has = |columns: &[String], name: &str| columns.iter().any(|column| column == name);
    Ok(if has(&journal, "checksum") {
        if has(&saves, "loaded_version") { FORMAT } else { PROVEN }
    } else if has(&saves, "checksum") || !journal.is_empty() {
        2
    } else {
        i64::from(!saves.is_empty())
    })
}

async fn columns(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(table).fetch_all(connection).await
}
