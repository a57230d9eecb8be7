//! Server keys: what they look like, and which are accepted.

pub(super) mod records;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use backend_protocol::Code;
use sqlx::Row;

use crate::config::Config;
use crate::database::Database;
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::key_format::{self, SERVER_KEY_PREFIX, is_server_key};
use crate::private_files;

pub use crate::config::parsers::environment;
pub use records::{KeyRecord, MadeKey, NewKey, create, list, rotate};
pub(crate) use records::{mark_revoked, of_relay};

/// The use of a key is recorded at most this often.
pub(super) const LAST_USED_INTERVAL_MS: i64 = 60_000;

/// A new key: `gsk_<environment>_` + 43 random characters + 6 characters of checksum.
pub fn generate(environment: &str) -> anyhow::Result<String> {
    key_format::generate(SERVER_KEY_PREFIX, environment)
}

/// The environment that a well-formed key names.
fn environment_of(key: &str) -> &str {
    key.strip_prefix(SERVER_KEY_PREFIX).and_then(|rest| rest.split('_').next()).unwrap_or_default()
}

pub(super) const FOREIGN: &str = "the server key is not one of this backend's";

pub(super) fn invalid_key(words: &str) -> ApiError {
    ApiError::new(Code::ServerKeyInvalid, words)
}

/// What a key is known by, if it is one at all.
pub(crate) fn hash_of(key: &str) -> ApiResult<String> {
    if is_server_key(key) {
        return Ok(sha256(key.as_bytes()));
    }
    Err(if key.starts_with(SERVER_KEY_PREFIX) {
        invalid_key(FOREIGN)
    } else {
        ApiError::new(Code::Unauthorized, "this needs a server key, not a player's token")
    })
}

/// When this process last recorded the use of each key: many requests at once see that it is due.
#[derive(Default)]
pub struct KeyUses(Mutex<HashMap<String, i64>>);

impl KeyUses {
    /// Called for valid keys only, of which there are few.
    pub(super) fn is_due(&self, key_hash: &str, now: i64) -> bool {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.get(key_hash).is_some_and(|at| *at >= now - LAST_USED_INTERVAL_MS) {
            return false;
        }
        recorded.insert(key_hash.to_owned(), now);
        true
    }
}

/// Before the start: keys from before keys had a scope get this one, and the key of a key file is written if absent, accepted
/// if present.
pub(crate) async fn prepare(database: &Database, config: &Config) -> anyhow::Result<()> {
    records::adopt_unscoped_keys(database, config).await?;
    let Some(path) = config.server_key_file.as_deref() else { return Ok(()) };
    let key = read_or_write(path, || generate(&config.environment))?;
    if !is_server_key(&key) {
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
    records::accept_key_file(database, config, &key).await
}

/// Whether the text of a key file is a key of this environment.
pub(crate) fn check_text(key: &str, config: &Config) -> anyhow::Result<()> {
    if !is_server_key(key) {
        bail!("it does not hold a server key; name another file");
    }
    let named = environment_of(key);
    if named != config.environment {
        bail!("its key is of the environment {named:?}, this is {:?}", config.environment);
    }
    Ok(())
}

/// Creates the first key of this game and environment and returns it. It must be shown, because nothing keeps it: called when
/// nothing of the start can fail any more. With a key file, no key is created here.
pub(crate) async fn create_first(database: &Database, config: &Config) -> anyhow::Result<Option<String>> {
    if config.server_key_file.is_some() {
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
