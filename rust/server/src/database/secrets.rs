//! Secrets that all replicas share through the database.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::Row;

use super::Database;

/// The secret all replicas share under `name`; the first of them to start brings `offered`.
pub async fn shared_secret(database: &Database, name: &str, offered: &[u8]) -> anyhow::Result<Vec<u8>> {
    sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(STANDARD.encode(offered))
        .execute(database.pool())
        .await?;
    let row = sqlx::query("SELECT value FROM secrets WHERE name = $1")
        .bind(name)
        .fetch_one(database.pool())
        .await?;
    let text: String = row.try_get("value")?;
    STANDARD.decode(text).context("a stored secret is damaged")
}
