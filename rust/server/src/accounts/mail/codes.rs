//! Codes in mails: ten characters that a person types into the game, 50 bits of chance.

use anyhow::Context;
use sqlx::Row;

use crate::database::{Database, Transaction};
use crate::digest::sha256;
use crate::http::ApiResult;

pub const VERIFICATION: &str = "verification";
pub const RESET: &str = "reset";

/// Without I, L, O and U, which are read as others (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 10;

/// A new code, as it stands in the mail: two groups of five with a hyphen between them.
pub fn new() -> anyhow::Result<String> {
    let mut bytes = [0_u8; LENGTH];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    let mut code: String = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    code.insert(LENGTH / 2, '-');
    Ok(code)
}

/// What is kept of a code for one purpose and address. What a person types is read kindly.
pub fn hash(purpose: &str, email: &str, code: &str) -> String {
    let typed = code.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
    let code: String = typed
        .map(|letter| match letter.to_ascii_uppercase() {
            'I' | 'L' => '1',
            'O' => '0',
            other => other,
        })
        .collect();
    sha256(format!("{purpose} {email} {code}").as_bytes())
}

/// Keeps a code in place of the one before.
pub async fn store(
    tx: &mut Transaction,
    player_id: &str,
    purpose: &str,
    code_hash: &str,
    lifetime_ms: i64,
) -> ApiResult<()> {
    sqlx::query(
        "INSERT INTO mail_codes (player_id, purpose, code_hash, expires_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (player_id, purpose) DO UPDATE SET code_hash = excluded.code_hash, expires_at = excluded.expires_at",
    )
    .bind(player_id)
    .bind(purpose)
    .bind(code_hash)
    .bind(tx.now + lifetime_ms)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Whether there is such a code now.
pub async fn is_valid(database: &Database, code_hash: &str) -> ApiResult<bool> {
    let now = database.now().await?;
    let row = sqlx::query("SELECT COUNT(*) FROM mail_codes WHERE code_hash = $1 AND expires_at > $2")
        .bind(code_hash)
        .bind(now)
        .fetch_one(database.pool())
        .await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// Consumes a code. Returns the player it belonged to, if it was valid.
pub async fn consume(tx: &mut Transaction, code_hash: &str) -> ApiResult<Option<String>> {
    let row =
        sqlx::query("DELETE FROM mail_codes WHERE code_hash = $1 AND expires_at > $2 RETURNING player_id")
            .bind(code_hash)
            .bind(tx.now)
            .fetch_optional(&mut *tx.conn)
            .await?;
    Ok(row.map(|row| row.try_get("player_id")).transpose()?)
}

#[cfg(test)]
mod tests;
