//! The tables of a journal's file, and how one row is told from a damaged one.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

use super::Record;
use crate::player_store::RawJson;

/// Version of the tables, in the file's `user_version` and in its ownership. 1: without checksums, commits and the backend's
/// identity. 2: the ownership has no checksum. 3: without the loaded version.
pub const FORMAT: i64 = 4;
/// Most rows of one statement: each statement is a trip to SQLite's thread and back.
pub const ROWS: usize = 64;

/// Tables that a file of format 1 lacks, and those of one that is made anew.
pub const TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS saves (player_id TEXT NOT NULL, document_key TEXT NOT NULL, \
     epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, value TEXT NOT NULL, \
     commit_number INTEGER NOT NULL, checksum INTEGER NOT NULL, loaded_version INTEGER, \
     PRIMARY KEY (player_id, document_key, epoch))",
    "CREATE TABLE IF NOT EXISTS servers (server_id TEXT PRIMARY KEY)",
    // The ownership: whose saves these are, which file this is, and the number of the last commit.
    "CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY CHECK (id = 1), backend TEXT, origin TEXT NOT NULL, \
     commits INTEGER NOT NULL, format INTEGER NOT NULL DEFAULT 0, checksum INTEGER NOT NULL DEFAULT 0)",
    // Rows that are not what was written, for a person.
    "CREATE TABLE IF NOT EXISTS damaged (player_id, document_key, epoch, sequence, value, commit_number, checksum)",
];

/// A row of `saves`, whatever it holds.
pub struct Found {
    pub rowid: i64,
    player_id: Vec<u8>,
    key: Vec<u8>,
    epoch: i64,
    sequence: i64,
    value: Vec<u8>,
    commit_number: i64,
    checksum: Option<i64>,
    loaded_version: Option<i64>,
}

/// CRC-32 over everything in a row and whose it is: a row never passes for one of another backend.
pub fn checksum(backend: Option<&str>, record: &Record, commit_number: i64) -> i64 {
    of_parts(
        backend,
        [record.player_id.as_bytes(), record.key.as_bytes(), record.value.as_str().as_bytes()],
        [record.epoch, record.sequence, commit_number],
        record.loaded_version,
    )
}

/// Without a loaded version, it is that of formats 2 and 3.
fn of_parts(backend: Option<&str>, texts: [&[u8]; 3], numbers: [i64; 3], loaded_version: Option<i64>) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for text in std::iter::once(backend.unwrap_or_default().as_bytes()).chain(texts) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    for number in numbers.into_iter().chain(loaded_version) {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize().into()
}

impl Found {
    fn of(row: &SqliteRow) -> sqlx::Result<Self> {
        // Unchecked: in a damaged row a column can have any type.
        Ok(Self {
            rowid: row.try_get_unchecked(0)?,
            player_id: row.try_get_unchecked(1)?,
            key: row.try_get_unchecked(2)?,
            epoch: row.try_get_unchecked(3)?,
            sequence: row.try_get_unchecked(4)?,
            value: row.try_get_unchecked(5)?,
            commit_number: row.try_get_unchecked(6)?,
            checksum: row.try_get_unchecked(7)?,
            loaded_version: row.try_get_unchecked(8)?,
        })
    }

    /// Whether the row is what was written for this backend.
    pub fn is_sound_for(&self, backend: Option<&str>) -> bool {
        let right = of_parts(
            backend,
            [&self.player_id, &self.key, &self.value],
            [self.epoch, self.sequence, self.commit_number],
            self.loaded_version,
        );
        self.checksum == Some(right)
    }

    /// The save, if the row is what was written for this backend. Rows of format 1 have no checksum, and only have to make
    /// sense.
    pub fn record(self, format: i64, backend: Option<&str>) -> Option<Record> {
        if format > 1 && !self.is_sound_for(backend) {
            return None;
        }
        Some(Record {
            player_id: String::from_utf8(self.player_id).ok()?,
            key: String::from_utf8(self.key).ok()?,
            epoch: self.epoch,
            sequence: self.sequence,
            value: RawJson::parse(String::from_utf8(self.value).ok()?).ok()?,
            loaded_version: self.loaded_version,
        })
    }
}

/// All rows of `saves` that can be read at all, whatever they hold. The error is what kept the rest from being read.
pub async fn rows(connection: &mut SqliteConnection, format: i64) -> (Vec<Found>, Option<sqlx::Error>) {
    let mut found = Vec::new();
    let Err(error) = read_on(connection, format, true, &mut found).await else { return (found, None) };
    // Behind a damaged page there are others: from the other end.
    let mut from_the_end = Vec::new();
    let _damaged_there_too = read_on(connection, format, false, &mut from_the_end).await;
    let last = found.last().map_or(i64::MIN, |row| row.rowid);
    found.extend(from_the_end.into_iter().filter(|row| row.rowid > last));
    (found, Some(error))
}

async fn read_on(
    connection: &mut SqliteConnection,
    format: i64,
    forward: bool,
    found: &mut Vec<Found>,
) -> sqlx::Result<()> {
    let added = match format {
        0 | 1 => "0, NULL, NULL",
        2 | 3 => "commit_number, checksum, NULL",
        _ => "commit_number, checksum, loaded_version",
    };
    let (than, order) = if forward { (">", "ASC") } else { ("<", "DESC") };
    // By row number: no index is asked, which can be damaged by itself.
    let sql = format!(
        "SELECT rowid, player_id, document_key, epoch, sequence, value, {added} FROM saves NOT INDEXED \
         WHERE rowid {than} $1 ORDER BY rowid {order} LIMIT $2"
    );
    let mut from = if forward { i64::MIN } else { i64::MAX };
    let mut limit = ROWS as i64;
    loop {
        let page = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(from)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .and_then(|page| page.iter().map(Found::of).collect::<sqlx::Result<Vec<Found>>>());
        match page {
            Ok(page) => {
                let Some(last) = page.last() else { return Ok(()) };
                // What does not go on could go round in a circle.
                if (last.rowid > from) != forward {
                    return Err(sqlx::Error::Protocol("the rows are not in their order".to_owned()));
                }
                from = last.rowid;
                found.extend(page);
            }
            // One by one, up to the one that cannot be read.
            Err(_) if limit > 1 => limit = 1,
            Err(error) => return Err(error),
        }
    }
}
