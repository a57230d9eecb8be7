//! The IP addresses from which each account was logged in to with its password.

use sqlx::Row;

use crate::database::{Database, Transaction};
use crate::digest::sha256;
use crate::http::ApiResult;
use crate::http::client_ip::subscriber;
use crate::http::context;

fn address_hash(player_id: &str) -> Option<String> {
    let address = subscriber(context::address()?);
    Some(sha256(format!("{player_id} {address}").as_bytes()))
}

/// Whether the password of `player_id` was right from this address before. Called for accounts that do not exist as well, so
/// that both take the same time.
pub async fn contains(database: &Database, player_id: &str) -> ApiResult<bool> {
    let Some(address_hash) = address_hash(player_id) else { return Ok(false) };
    let row =
        sqlx::query("SELECT COUNT(*) FROM familiar_addresses WHERE player_id = $1 AND address_hash = $2")
            .bind(player_id)
            .bind(address_hash)
            .fetch_one(database.pool())
            .await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// Records that the password was right from this address.
pub async fn insert(tx: &mut Transaction, player_id: &str) -> ApiResult<()> {
    let Some(address_hash) = address_hash(player_id) else { return Ok(()) };
    sqlx::query(
        "INSERT INTO familiar_addresses (player_id, address_hash, seen_at) VALUES ($1, $2, $3) \
         ON CONFLICT (player_id, address_hash) DO UPDATE SET seen_at = excluded.seen_at",
    )
    .bind(player_id)
    .bind(address_hash)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}
