//! Whether a SQLite file is one that can be read: the journal and the index of a world are checked when they are opened.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Executor, Row};

/// Reads every page, and compares tables with their indexes: damage would otherwise be noticed when a save is lost.
/// Returns what is wrong with the file, or `None` if nothing is.
pub async fn damage(connection: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
    // First of all: sqlx reads the declared types of columns as text. Where they are not text, its thread panics, and the
    // connection never answers.
    let schema =
        connection.fetch_all("SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema").await?;
    for row in schema {
        for column in 0..2 {
            let text: Option<Vec<u8>> = row.try_get(column)?;
            if str::from_utf8(&text.unwrap_or_default()).is_err() {
                return Ok(Some("its schema is not text".into()));
            }
        }
    }
    let verdict: String = connection.fetch_one("PRAGMA integrity_check(1)").await?.try_get(0)?;
    Ok((verdict != "ok").then_some(verdict))
}
