//! Takes out objects no chunk refers to, once nobody can be about to refer to them.

use sqlx::{Executor, Row};

use crate::state::AppState;

/// An object that was sent, or said to be here, may be committed for this long.
const KEPT_MS: i64 = 24 * 3_600 * 1_000;
/// Results of commits are remembered this long, for servers that were down with one in their journal.
const COMMITS_KEPT_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// Objects taken out in one go: the next ones follow a minute later.
const AT_A_TIME: i64 = 500;

/// One round. `round` counts them: each looks through one of the 256 folders for files that no row knows.
pub async fn once(state: &AppState, round: u64) -> anyhow::Result<()> {
    let mut work = state.database.begin().await?;
    let unwanted = "DELETE FROM world_objects WHERE hash IN ( \
         SELECT o.hash FROM world_objects o WHERE o.wanted_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM world_chunks c WHERE c.hash = o.hash) LIMIT $2) RETURNING location";
    let rows =
        sqlx::query(unwanted).bind(work.now - KEPT_MS).bind(AT_A_TIME).fetch_all(&mut *work.tx).await?;
    let old =
        sqlx::query("DELETE FROM world_commits WHERE committed_at < $1").bind(work.now - COMMITS_KEPT_MS);
    work.tx.execute(old).await?;
    let now = work.now;
    // Rows first. A crash in between leaves files that no row knows, never a row without its file.
    work.commit().await?;
    for row in rows {
        state.objects.delete(&row.try_get::<String, _>("location")?).await?;
    }
    // Uploads to signed addresses that were never committed, and what such a crash left.
    let folder = u8::try_from(round % 256)?;
    for location in state.objects.older(folder, now - KEPT_MS).await? {
        let known = sqlx::query("SELECT hash FROM world_objects WHERE location = $1").bind(&location);
        if known.fetch_optional(state.database.pool()).await?.is_none() {
            tracing::debug!(location, "an object without an owner is removed");
            state.objects.delete(&location).await?;
        }
    }
    Ok(())
}
