//! What a transaction of a journal says to SQLite.

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::format::{self, FORMAT, ROWS};
use super::ownership::Ownership;
use super::{Changes, Record};

pub async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(connection).await.map(drop)
}

pub async fn commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

/// Puts rows that are not what was written where they outlive the others, for a person.
pub async fn set_aside(connection: &mut SqliteConnection, rowids: &[i64]) -> sqlx::Result<()> {
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

/// Writes saves. An older one of the same document and epoch is replaced.
pub async fn insert(
    connection: &mut SqliteConnection,
    saves: &[Record],
    backend: Option<&str>,
    commit_number: i64,
) -> sqlx::Result<()> {
    for records in saves.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO saves (player_id, document_key, epoch, sequence, value, commit_number, checksum, loaded_version) \
             VALUES {} \
             ON CONFLICT DO UPDATE SET sequence = excluded.sequence, value = excluded.value, \
             commit_number = excluded.commit_number, checksum = excluded.checksum, \
             loaded_version = excluded.loaded_version \
             WHERE excluded.sequence > saves.sequence",
            rows("(?, ?, ?, ?, ?, ?, ?, ?)", records.len())
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
                .bind(format::checksum(backend, record, commit_number))
                .bind(record.loaded_version);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Does all of `changes`, as the commit that `ownership` counts.
pub async fn write_changes(
    connection: &mut SqliteConnection,
    changes: &Changes,
    ownership: &Ownership,
) -> sqlx::Result<()> {
    begin(connection).await?;
    insert(connection, &changes.saves, ownership.backend.as_deref(), ownership.commits).await?;
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
    ownership.note_commit(connection, FORMAT).await?;
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
