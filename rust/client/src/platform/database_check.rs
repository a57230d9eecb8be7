//! Whether a SQLite file is one that can be read: the journal and the index of a world are checked when they are opened.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

/// Opens a database and says `pragmas` to it, which may read it. If that fails, it is closed when this returns: a connection
/// that is merely dropped has its locks for a moment longer, and whoever looks into the damaged file would take it for one
/// that is in use.
pub async fn open_with(options: &SqliteConnectOptions, pragmas: String) -> sqlx::Result<SqliteConnection> {
    let mut connection = options.connect().await?;
    match connection.execute(AssertSqlSafe(pragmas)).await {
        Ok(_) => Ok(connection),
        Err(error) => {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "not closed in good order");
            }
            Err(error)
        }
    }
}

/// Reads every page, and compares tables with their indexes: damage would otherwise be noticed when a save is lost.
/// Returns what is wrong with the file, or `None` if nothing is.
pub async fn damage(connection: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
    if let Some(damage) = schema_damage(connection).await? {
        return Ok(Some(damage));
    }
    let verdict: String = connection.fetch_one("PRAGMA integrity_check(1)").await?.try_get(0)?;
    Ok((verdict != "ok").then_some(verdict))
}

/// What is wrong with the schema. To be asked first of all: sqlx reads the declared types of columns as text. Where they are
/// not text, its thread panics, and the connection never answers.
pub async fn schema_damage(connection: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
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
    Ok(None)
}
