//! Removes objects that no chunk refers to, once no commit can be about to refer to them.

use sqlx::{Executor, Row};

use crate::state::AppState;

/// An object that was uploaded, or reported as present, may be committed for this long.
const OBJECT_RETENTION_MS: i64 = 24 * 3_600 * 1_000;
/// Results of commits are remembered this long, for servers that were down with one in their journal.
const COMMIT_RETENTION_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// Objects taken out in one go: the next ones follow a minute later.
const MAX_PER_ROUND: i64 = 500;

/// One round. `round` counts them: each looks through one of the 256 folders for files that no row knows.
pub async fn run_once(state: &AppState, round: u64) -> anyhow::Result<()> {
    let mut tx = state.database.begin().await?;
    let unwanted = "DELETE FROM world_objects WHERE hash IN ( \
         SELECT o.hash FROM world_objects o WHERE o.wanted_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM world_chunks c WHERE c.hash = o.hash) LIMIT $2) RETURNING location";
    let rows = sqlx::query(unwanted)
        .bind(tx.now - OBJECT_RETENTION_MS)
        .bind(MAX_PER_ROUND)
        .fetch_all(&mut *tx.conn)
        .await?;
    let old =
        sqlx::query("DELETE FROM world_commits WHERE committed_at < $1").bind(tx.now - COMMIT_RETENTION_MS);
    tx.conn.execute(old).await?;
    let now = tx.now;
    // Rows first. A crash in between leaves files that no row knows, never a row without its file.
    tx.commit().await?;
    for row in rows {
        state.objects.delete(&row.try_get::<String, _>("location")?).await?;
    }
    // Uploads to signed addresses that were never committed, and what such a crash left.
    let folder = u8::try_from(round % 256)?;
    for location in state.objects.older(folder, now - OBJECT_RETENTION_MS).await? {
        let known = sqlx::query("SELECT hash FROM world_objects WHERE location = $1").bind(&location);
        if known.fetch_optional(state.database.pool()).await?.is_none() {
            tracing::debug!(location, "an object without an owner is removed");
            state.objects.delete(&location).await?;
        }
    }
    Ok(())
}
