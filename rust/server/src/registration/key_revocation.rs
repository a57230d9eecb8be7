//! The end of a server key, and of the registrations made with it.

use sqlx::Row;

use crate::auth::audit::Event;
use crate::auth::server_keys;
use crate::database::Database;
use crate::rooms::changes;

/// Revokes a key immediately. When no other key of its line is left, its servers leave the room list as well. False: no such key.
pub async fn revoke_server_key(database: &Database, key_id: &str) -> sqlx::Result<bool> {
    let mut tx = database.begin().await?;
    let Some(owner) = server_keys::mark_revoked(&mut tx, key_id).await? else { return Ok(false) };
    let rows = sqlx::query(
        "UPDATE servers SET lease_until = 0 WHERE key_hash = $1 AND NOT EXISTS (SELECT 1 FROM server_keys k \
         WHERE k.owner = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)) RETURNING server_id",
    )
    .bind(&owner)
    .bind(tx.now)
    .fetch_all(&mut *tx.conn)
    .await?;
    let ended = rows.iter().map(|row| row.try_get("server_id")).collect::<sqlx::Result<Vec<String>>>()?;
    changes::record(database, &mut tx, &ended).await?;
    tx.commit().await?;
    Event::new("server_key_revoked").key(key_id).ok();
    Ok(true)
}
