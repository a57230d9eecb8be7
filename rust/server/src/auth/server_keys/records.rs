//! Server keys in the database: created, listed, rotated, revoked. Only the hash of a key is stored.

use anyhow::{Context, bail};
pub use backend_protocol::admin::KeyRecord;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::generate;
use crate::auth::audit::Event;
use crate::config::Config;
use crate::database::{Database, Transaction, rfc3339};
use crate::digest::sha256;

/// What a new key is for.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The game whose servers may use it.
    pub game: String,
    /// See [`super::environment`].
    pub environment: String,
    /// Label that the operator chose, such as the name of the fleet.
    pub label: String,
}

/// A key that was made just now, shown this once.
pub struct MadeKey {
    /// The key itself.
    pub key: String,
    /// Its id.
    pub key_id: String,
}

/// The line of keys under which this backend itself lists rooms of players. Nobody has the key: no text that is one has this hash.
/// None: the operator has revoked it.
pub async fn of_relay(database: &Database, config: &Config) -> sqlx::Result<Option<String>> {
    let key_hash = sha256(format!("relay of {}", config.scope()).as_bytes());
    let new = NewKey {
        game: config.game.clone(),
        environment: config.environment.clone(),
        label: "relay".to_owned(),
    };
    let mut tx = database.begin().await?;
    store(&mut tx, &key_hash, &new, None).await?;
    let revoked: Option<i64> = sqlx::query("SELECT revoked_at FROM server_keys WHERE key_hash = $1")
        .bind(&key_hash)
        .fetch_one(&mut *tx.conn)
        .await?
        .try_get("revoked_at")?;
    tx.commit().await?;
    Ok(revoked.is_none().then_some(key_hash))
}

fn id_of(key_hash: &str) -> String {
    format!("key_{}", &key_hash[..12])
}

fn created(key_id: &str, new: &NewKey) {
    let scope = format!("game {}, environment {}", new.game, new.environment);
    Event::new("server_key_created").key(key_id).detail(scope).ok();
}

/// Creates a key.
pub async fn create(database: &Database, new: &NewKey) -> anyhow::Result<MadeKey> {
    let mut tx = database.begin().await?;
    let made = insert(&mut tx, new, None).await?;
    tx.commit().await?;
    created(&made.key_id, new);
    Ok(made)
}

async fn insert(tx: &mut Transaction, new: &NewKey, owner: Option<String>) -> anyhow::Result<MadeKey> {
    let key = generate(&new.environment)?;
    let key_hash = sha256(key.as_bytes());
    let key_id = id_of(&key_hash);
    store(tx, &key_hash, new, owner).await?;
    Ok(MadeKey { key, key_id })
}

async fn store(
    tx: &mut Transaction,
    key_hash: &str,
    new: &NewKey,
    owner: Option<String>,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "INSERT INTO server_keys (key_hash, key_id, owner, game, environment, label, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(key_hash)
    .bind(id_of(key_hash))
    .bind(owner.unwrap_or_else(|| key_hash.to_owned()))
    .bind(&new.game)
    .bind(&new.environment)
    .bind(&new.label)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    Ok(done.rows_affected())
}

/// The key of a key file: known from now on. One that was revoked stays so.
pub(super) async fn accept_key_file(database: &Database, config: &Config, key: &str) -> anyhow::Result<()> {
    let new = NewKey {
        game: config.game.clone(),
        environment: config.environment.clone(),
        label: "file".to_owned(),
    };
    let key_hash = sha256(key.as_bytes());
    let mut tx = database.begin().await?;
    let made = store(&mut tx, &key_hash, &new, None).await?;
    tx.commit().await?;
    if made > 0 {
        created(&id_of(&key_hash), &new);
    }
    Ok(())
}

/// Keys from before keys had a scope become this backend's, and so do players and worlds if all keys are.
pub(super) async fn adopt_unscoped_keys(database: &Database, config: &Config) -> sqlx::Result<()> {
    sqlx::query("UPDATE server_keys SET game = $1, environment = $2 WHERE game IS NULL")
        .bind(&config.game)
        .bind(&config.environment)
        .execute(database.pool())
        .await?;
    let scopes =
        sqlx::query("SELECT DISTINCT game, environment FROM server_keys").fetch_all(database.pool()).await?;
    let ours = |row: &AnyRow| {
        Ok::<_, sqlx::Error>(
            row.try_get::<String, _>("game")? == config.game
                && row.try_get::<String, _>("environment")? == config.environment,
        )
    };
    // With several on one database, it is unknown which one they belong to.
    if let [only] = scopes.as_slice()
        && ours(only)?
    {
        for sql in [
            "UPDATE players SET scope = $1 WHERE scope IS NULL",
            "UPDATE worlds SET scope = $1 WHERE scope IS NULL",
        ] {
            sqlx::query(sql).bind(config.scope()).execute(database.pool()).await?;
        }
    }
    Ok(())
}

/// Records that the key was used. A failure does not reject the request.
pub(in crate::auth) async fn record_use(database: &Database, key_hash: &str) {
    if let Err(error) = try_record_use(database, key_hash).await {
        tracing::warn!(%error, "cannot note the use of a server key");
    }
}

async fn try_record_use(database: &Database, key_hash: &str) -> sqlx::Result<()> {
    let mut tx = database.begin().await?;
    sqlx::query(
        "UPDATE server_keys SET last_used_at = $1 WHERE key_hash = $2 AND (last_used_at IS NULL OR last_used_at < $3)",
    )
    .bind(tx.now)
    .bind(key_hash)
    .bind(tx.now - super::LAST_USED_INTERVAL_MS)
    .execute(&mut *tx.conn)
    .await?;
    tx.commit().await
}

/// All keys, the oldest first.
pub async fn list(database: &Database) -> sqlx::Result<Vec<KeyRecord>> {
    let now = database.now().await?;
    let rows = sqlx::query(
        "SELECT key_id, game, environment, label, created_at, last_used_at, expires_at, revoked_at \
         FROM server_keys ORDER BY created_at, key_id",
    )
    .fetch_all(database.pool())
    .await?;
    rows.iter()
        .map(|row| {
            let (expires, revoked): (Option<i64>, Option<i64>) =
                (row.try_get("expires_at")?, row.try_get("revoked_at")?);
            let state = match (revoked, expires) {
                (Some(_), _) => "revoked",
                (None, Some(end)) if end <= now => "expired",
                (None, Some(_)) => "expiring",
                (None, None) => "active",
            };
            Ok(KeyRecord {
                key_id: row.try_get("key_id")?,
                game: row.try_get("game")?,
                environment: row.try_get("environment")?,
                label: row.try_get("label")?,
                state: state.to_owned(),
                created_at: rfc3339(row.try_get("created_at")?),
                last_used_at: row.try_get::<Option<i64>, _>("last_used_at")?.map(rfc3339),
                expires_at: expires.map(rfc3339),
                revoked_at: revoked.map(rfc3339),
            })
        })
        .collect()
}

/// Replaces `key_id` by a new key, which is valid immediately. The old one stays valid for `grace_seconds`. The new one is of the same
/// line: servers that restart with it keep their players, worlds and unsent saves.
pub async fn rotate(database: &Database, key_id: &str, grace_seconds: u32) -> anyhow::Result<MadeKey> {
    let mut tx = database.begin().await?;
    let select = "SELECT key_hash, owner, game, environment, label, expires_at, revoked_at FROM server_keys WHERE key_id = $1";
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{select}{}", database.for_update())))
        .bind(key_id)
        .fetch_optional(&mut *tx.conn)
        .await?
        .with_context(|| format!("there is no key {key_id}; `keys list` shows them"))?;
    let (expires, revoked): (Option<i64>, Option<i64>) =
        (row.try_get("expires_at")?, row.try_get("revoked_at")?);
    if revoked.is_some() || expires.is_some() {
        bail!("{key_id} was revoked or rotated before; rotate the newest key of its line, or create one");
    }
    let scope: (Option<String>, Option<String>) = (row.try_get("game")?, row.try_get("environment")?);
    let (Some(game), Some(environment)) = scope else {
        bail!("{key_id} has no scope yet: start the backend once on this database");
    };
    let new = NewKey { game, environment, label: row.try_get("label")? };
    let made = insert(&mut tx, &new, Some(row.try_get("owner")?)).await?;
    sqlx::query("UPDATE server_keys SET expires_at = $1 WHERE key_id = $2")
        .bind(tx.now + i64::from(grace_seconds) * 1000)
        .bind(key_id)
        .execute(&mut *tx.conn)
        .await?;
    tx.commit().await?;
    Event::new("server_key_rotated")
        .key(key_id)
        .detail(format!("replaced by {}, good for {grace_seconds} s", made.key_id))
        .ok();
    Ok(made)
}

/// Revokes a key in `tx`. Returns the owner that all keys of its line have; `None`: there is no such key.
pub(crate) async fn mark_revoked(tx: &mut Transaction, key_id: &str) -> sqlx::Result<Option<String>> {
    let row = sqlx::query("SELECT owner FROM server_keys WHERE key_id = $1")
        .bind(key_id)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    sqlx::query("UPDATE server_keys SET revoked_at = $1 WHERE key_id = $2 AND revoked_at IS NULL")
        .bind(tx.now)
        .bind(key_id)
        .execute(&mut *tx.conn)
        .await?;
    row.try_get("owner").map(Some)
}
