//! Server keys: made here, shown once, stored as a hash.

use std::path::Path;

use anyhow::{Context, bail};
use backend_protocol::Code;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::Row;

use crate::database::Database;
use crate::problem::{Outcome, Refusal};
use crate::tokens::sha256;

/// Every key begins with this, so that a scanner finds one that leaked.
pub const PREFIX: &str = "gsk_";

/// A new key: `gsk_live_` + 43 random characters + 6 characters of checksum.
pub fn generate() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    let body = format!("{PREFIX}live_{}", URL_SAFE_NO_PAD.encode(bytes));
    let checksum = checksum(&body);
    Ok(format!("{body}{checksum}"))
}

fn checksum(body: &str) -> String {
    format!("{:06x}", crc32fast::hash(body.as_bytes()) & 0x00ff_ffff)
}

/// Whether `key` is a key at all: a mistyped one is found without asking the database.
pub fn is_well_formed(key: &str) -> bool {
    key.starts_with(PREFIX)
        && key.is_ascii()
        && key.len() > PREFIX.len() + 6
        && key.len() <= 256
        && checksum(&key[..key.len() - 6]) == key[key.len() - 6..]
}

/// The hash of a key that is accepted.
pub(crate) async fn verify(database: &Database, key: &str) -> Outcome<String> {
    let refusal = || Refusal::new(Code::ServerKeyInvalid, "the server key is not one of this backend's");
    if !is_well_formed(key) {
        return Err(if key.starts_with(PREFIX) {
            refusal()
        } else {
            Refusal::new(Code::Unauthorized, "this needs a server key, not a player's token")
        });
    }
    let hash = sha256(key.as_bytes());
    let row = sqlx::query("SELECT key_hash FROM server_keys WHERE key_hash = $1 AND revoked_at IS NULL")
        .bind(&hash)
        .fetch_optional(database.pool())
        .await?;
    row.map(|_| hash).ok_or_else(refusal)
}

/// Makes sure there is a key. With `file`, the key is the file's: written if absent, accepted if present. Returns a
/// key that was made and must be shown, because nothing keeps it.
pub async fn provide(database: &Database, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    if let Some(path) = file {
        let key = match std::fs::read_to_string(path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = generate()?;
                write_private(path, &key)
                    .with_context(|| format!("cannot write the server key to {}", path.display()))?;
                key
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        if !is_well_formed(&key) {
            bail!("{} does not hold a server key", path.display());
        }
        accept(database, &key).await?;
        return Ok(None);
    }
    let count: i64 =
        sqlx::query("SELECT COUNT(*) FROM server_keys").fetch_one(database.pool()).await?.try_get(0)?;
    if count > 0 {
        return Ok(None);
    }
    let key = generate()?;
    accept(database, &key).await?;
    Ok(Some(key))
}

async fn accept(database: &Database, key: &str) -> anyhow::Result<()> {
    let mut work = database.begin().await?;
    sqlx::query(
        "INSERT INTO server_keys (key_hash, created_at) VALUES ($1, $2) ON CONFLICT (key_hash) DO NOTHING",
    )
    .bind(sha256(key.as_bytes()))
    .bind(work.now)
    .execute(&mut *work.tx)
    .await?;
    work.commit().await?;
    Ok(())
}

fn write_private(path: &Path, key: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_found_by_its_checksum() {
        let key = generate().expect("key");
        assert!(is_well_formed(&key));
        let mut wrong = key.clone().into_bytes();
        wrong[12] = if wrong[12] == b'a' { b'b' } else { b'a' };
        assert!(!is_well_formed(&String::from_utf8(wrong).expect("ascii")));
        assert!(!is_well_formed("gsk_"));
        assert!(!is_well_formed(&key[..key.len() - 1]));
    }
}
