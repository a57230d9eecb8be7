//! Admin keys: for the operator's own tools. They open nothing but `/v1/admin`, and nothing else opens that.

use sqlx::Row;

use crate::auth::audit::Event;
use crate::auth::server_keys::MadeKey;
use crate::database::{Database, rfc3339};
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::key_format::{self, ADMIN_KEY_PREFIX};
use backend_protocol::Code;

const LAST_USED_INTERVAL_MS: i64 = 60_000;

/// An admin key as it may be shown.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdminKeyRecord {
    /// What `revoke` names it by.
    pub key_id: String,
    /// Label that the operator chose.
    pub label: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339, to the minute.
    pub last_used_at: Option<String>,
    /// RFC 3339.
    pub revoked_at: Option<String>,
}

/// Creates a key.
pub async fn create(database: &Database, label: &str) -> anyhow::Result<MadeKey> {
    let key = key_format::generate(ADMIN_KEY_PREFIX, "admin")?;
    let key_hash = sha256(key.as_bytes());
    let key_id = format!("key_{}", &key_hash[..12]);
    let mut tx = database.begin().await?;
    sqlx::query("INSERT INTO admin_keys (key_hash, key_id, label, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&key_hash)
        .bind(&key_id)
        .bind(label)
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
    tx.commit().await?;
    Event::new("admin_key_created").key(&key_id).ok();
    Ok(MadeKey { key, key_id })
}

/// All keys, the oldest first.
pub async fn list(database: &Database) -> sqlx::Result<Vec<AdminKeyRecord>> {
    let select = "SELECT key_id, label, created_at, last_used_at, revoked_at FROM admin_keys ORDER BY created_at, key_id";
    let rows = sqlx::query(select).fetch_all(database.pool()).await?;
    rows.iter()
        .map(|row| {
            Ok(AdminKeyRecord {
                key_id: row.try_get("key_id")?,
                label: row.try_get("label")?,
                created_at: rfc3339(row.try_get("created_at")?),
                last_used_at: row.try_get::<Option<i64>, _>("last_used_at")?.map(rfc3339),
                revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(rfc3339),
            })
        })
        .collect()
}

/// Revokes a key immediately. Returns false if there is no such key.
pub async fn revoke(database: &Database, key_id: &str) -> sqlx::Result<bool> {
    let mut tx = database.begin().await?;
    let done = sqlx::query("UPDATE admin_keys SET revoked_at = COALESCE(revoked_at, $1) WHERE key_id = $2")
        .bind(tx.now)
        .bind(key_id)
        .execute(&mut *tx.conn)
        .await?;
    tx.commit().await?;
    let found = done.rows_affected() > 0;
    if found {
        Event::new("admin_key_revoked").key(key_id).ok();
    }
    Ok(found)
}

/// Returns the id of a valid key.
pub(crate) async fn verify(database: &Database, key: &str) -> ApiResult<String> {
    let invalid = || ApiError::new(Code::AdminKeyInvalid, "the admin key is unknown or revoked");
    if !key.starts_with(ADMIN_KEY_PREFIX) {
        return Err(ApiError::new(Code::Unauthorized, "this needs an admin key"));
    }
    if !key_format::is_admin_key(key) {
        return Err(invalid());
    }
    let key_hash = sha256(key.as_bytes());
    let row =
        sqlx::query("SELECT key_id, last_used_at FROM admin_keys WHERE key_hash = $1 AND revoked_at IS NULL")
            .bind(&key_hash)
            .fetch_optional(database.pool())
            .await?
            .ok_or_else(invalid)?;
    let now = database.now().await?;
    if row.try_get::<Option<i64>, _>("last_used_at")?.is_none_or(|at| at < now - LAST_USED_INTERVAL_MS) {
        let mut tx = database.begin().await?;
        sqlx::query("UPDATE admin_keys SET last_used_at = $1 WHERE key_hash = $2")
            .bind(now)
            .bind(&key_hash)
            .execute(&mut *tx.conn)
            .await?;
        tx.commit().await?;
    }
    Ok(row.try_get("key_id")?)
}
