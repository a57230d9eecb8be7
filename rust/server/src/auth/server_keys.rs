//! Server keys: what they look like, and which are accepted.

mod records;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use backend_protocol::Code;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::Row;

use crate::auth::authorization::AuthSnapshot;
use crate::config::Config;
use crate::database::Database;
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::private_files;
use crate::state::AppState;

pub use records::{KeyRecord, MadeKey, NewKey, create, list, revoke, rotate};

/// Every key begins with this, so that a scanner finds one that leaked.
pub const PREFIX: &str = "gsk_";
/// The use of a key is recorded at most this often.
const LAST_USED_INTERVAL_MS: i64 = 60_000;

/// A new key: `gsk_<environment>_` + 43 random characters + 6 characters of checksum.
pub fn generate(environment: &str) -> anyhow::Result<String> {
    generate_with(PREFIX, environment)
}

/// A new key of any kind: `<prefix><environment>_` + 43 random characters + 6 characters of checksum.
pub(crate) fn generate_with(prefix: &str, environment: &str) -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    let body = format!("{prefix}{environment}_{}", URL_SAFE_NO_PAD.encode(bytes));
    let checksum = checksum(&body);
    Ok(format!("{body}{checksum}"))
}

fn checksum(body: &str) -> String {
    format!("{:06x}", crc32fast::hash(body.as_bytes()) & 0x00ff_ffff)
}

/// Whether `key` is a server key at all: a mistyped one is found without asking the database.
pub fn is_well_formed(key: &str) -> bool {
    is_well_formed_with(PREFIX, key)
}

pub(crate) fn is_well_formed_with(prefix: &str, key: &str) -> bool {
    key.starts_with(prefix) && key.is_ascii() && key.len() > prefix.len() + 6 && key.len() <= 256 && {
        let (body, told) = key.split_at(key.len() - 6);
        // As `checksum` writes it, and no other way.
        let lower_case = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        told.bytes().all(lower_case)
            && u32::from_str_radix(told, 16) == Ok(crc32fast::hash(body.as_bytes()) & 0x00ff_ffff)
    }
}

/// The environment that a well-formed key names.
fn environment_of(key: &str) -> &str {
    key.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()).unwrap_or_default()
}

/// The name of an environment: 1 to 16 of `[a-z0-9-]`. It stands in every key, between underscores.
pub fn environment(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=16).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 16 characters of a-z, 0-9 and '-'".to_owned())
    }
}

const FOREIGN: &str = "the server key is not one of this backend's";

fn invalid_key(words: &str) -> ApiError {
    ApiError::new(Code::ServerKeyInvalid, words)
}

/// What a key is known by, if it is one at all.
pub(crate) fn hash_of(key: &str) -> ApiResult<String> {
    if is_well_formed(key) {
        return Ok(sha256(key.as_bytes()));
    }
    Err(if key.starts_with(PREFIX) {
        invalid_key(FOREIGN)
    } else {
        ApiError::new(Code::Unauthorized, "this needs a server key, not a player's token")
    })
}

/// Accepts a key and returns the hash of the first key of its line. `snapshot` was read after the request
/// came, so that a revoked key is refused from the next request on, by every replica.
pub(crate) async fn verify(state: &AppState, key_hash: &str, snapshot: &AuthSnapshot) -> ApiResult<String> {
    let now = snapshot.now;
    let row = snapshot.key.as_ref().ok_or_else(|| invalid_key(FOREIGN))?;
    if row.revoked_at.is_some() || row.expires_at.is_some_and(|end| end <= now) {
        return Err(invalid_key("the server key was revoked, or replaced by a newer one"));
    }
    let config = &state.config;
    if row.game.as_ref() != Some(&config.game) || row.environment.as_ref() != Some(&config.environment) {
        return Err(invalid_key("the server key is for another game or environment"));
    }
    if row.last_used_at.is_none_or(|at| at < now - LAST_USED_INTERVAL_MS)
        && state.key_uses.is_due(key_hash, now)
    {
        records::record_use(&state.database, key_hash).await;
    }
    Ok(row.owner.clone())
}

/// When this process last recorded the use of each key: many requests at once see that it is due.
#[derive(Default)]
pub struct KeyUses(Mutex<HashMap<String, i64>>);

impl KeyUses {
    /// Only of keys that are good, of which there are few.
    fn is_due(&self, key_hash: &str, now: i64) -> bool {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.get(key_hash).is_some_and(|at| *at >= now - LAST_USED_INTERVAL_MS) {
            return false;
        }
        recorded.insert(key_hash.to_owned(), now);
        true
    }
}

/// Makes sure there is a key for this game and environment. With a key file, the key is the file's: written if absent,
/// accepted if present. Returns a key that was made and must be shown, because nothing keeps it.
pub(crate) async fn ensure_first(database: &Database, config: &Config) -> anyhow::Result<Option<String>> {
    records::adopt_unscoped_keys(database, config).await?;
    if let Some(path) = config.server_key_file.as_deref() {
        let key = read_or_write(path, || generate(&config.environment))?;
        if !is_well_formed(&key) {
            bail!(
                "--server-key-file {} does not hold a server key: name another file, or remove it to have a key made",
                path.display()
            );
        }
        let named = environment_of(&key);
        if named != config.environment {
            bail!(
                "{} holds a key of the environment {named:?}; this is {:?}",
                path.display(),
                config.environment
            );
        }
        private_files::check_secret(path).with_context(|| format!("--server-key-file {}", path.display()))?;
        records::accept_key_file(database, config, &key).await?;
        return Ok(None);
    }
    let count: i64 = sqlx::query("SELECT COUNT(*) FROM server_keys WHERE game = $1 AND environment = $2")
        .bind(&config.game)
        .bind(&config.environment)
        .fetch_one(database.pool())
        .await?
        .try_get(0)?;
    if count > 0 {
        return Ok(None);
    }
    let new = NewKey {
        game: config.game.clone(),
        environment: config.environment.clone(),
        label: "first".to_owned(),
    };
    Ok(Some(create(database, &new).await?.key))
}

/// The trimmed text of `path`; made by `make` and written for its owner alone when there is no such file.
pub(crate) fn read_or_write(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = make()?;
            write_private(path, &key).with_context(|| {
                format!("--server-key-file {}: a new key cannot be written there", path.display())
            })?;
            Ok(key)
        }
        Err(error) => {
            Err(error).with_context(|| format!("--server-key-file {} cannot be read", path.display()))
        }
    }
}

/// Writes a new file that only its owner may read.
pub fn write_private(path: &Path, key: &str) -> std::io::Result<()> {
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
mod tests;
