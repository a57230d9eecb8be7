//! The keys tokens are signed with: kept in the database, shared by all replicas, rotated and revoked by the operator.
//!
//! A new key is published before it signs, for as long as verifiers may still have an older set, and the one before it stays
//! published until the last token it signed has expired: no token is rejected because of a rotation. A revoked key is
//! gone at once, with every token it signed.

use anyhow::{Context, bail, ensure};
use backend_protocol::validation::MAX_ACCESS_TOKEN_SECONDS;
use backend_token::{MAX_KEYS, SigningKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::Row;

use crate::auth::audit::Event;
use crate::database::secrets::shared_secret;
use crate::database::{Database, Transaction, rfc3339};

/// Seconds for which verifiers may cache the published keys.
pub const MAX_AGE_SECONDS: u32 = 600;
/// Seconds a new key is published before it signs, unless the operator chooses otherwise: twice what is cached.
pub const PUBLISHED_AHEAD_SECONDS: u32 = 2 * MAX_AGE_SECONDS;
/// How long a key stays published after it signed for the last time: the longest life of a token, and a minute of leeway.
const RETIREMENT_MS: i64 = (MAX_ACCESS_TOKEN_SECONDS as i64 + 60) * 1_000;

/// A signing key as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SigningKeyRecord {
    /// Its name, as in the header of tokens.
    pub kid: String,
    /// `signing`, `published` (before or after it signs), `retired` or `revoked`.
    pub state: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub signs_from: String,
    /// RFC 3339; set when a later one was made.
    pub retires_at: Option<String>,
    /// RFC 3339.
    pub revoked_at: Option<String>,
}

/// The keys that are published now; the first one signs.
pub async fn published(database: &Database) -> anyhow::Result<Vec<SigningKey>> {
    let now = database.now().await?;
    let rows = sqlx::query(
        "SELECT pkcs8 FROM signing_keys WHERE revoked_at IS NULL AND (retires_at IS NULL OR retires_at > $1) \
         ORDER BY CASE WHEN signs_from <= $1 THEN 0 ELSE 1 END, signs_from DESC, kid",
    )
    .bind(now)
    .fetch_all(database.pool())
    .await?;
    rows.iter()
        .map(|row| {
            let bytes = STANDARD.decode(row.try_get::<String, _>("pkcs8")?)?;
            SigningKey::from_pkcs8(&bytes).context("a stored signing key is damaged")
        })
        .collect()
}

/// The names of the keys that are published at `now`.
pub(crate) async fn active_kids(tx: &mut sqlx::AnyConnection, now: i64) -> sqlx::Result<Vec<String>> {
    let rows = sqlx::query(
        "SELECT kid FROM signing_keys WHERE revoked_at IS NULL AND (retires_at IS NULL OR retires_at > $1) ORDER BY kid",
    )
    .bind(now)
    .fetch_all(tx)
    .await?;
    rows.iter().map(|row| row.try_get("kid")).collect()
}

/// Creates the first key if there is none yet. All replicas that start at once agree on it.
pub async fn ensure_first(database: &Database) -> anyhow::Result<()> {
    let made = SigningKey::generate()?.to_pkcs8();
    let first = SigningKey::from_pkcs8(&shared_secret(database, "signing_key", &made).await?)
        .context("the stored signing key is damaged")?;
    let mut tx = database.begin().await?;
    let now = tx.now;
    store(&mut tx, &first, now).await?;
    tx.commit().await?;
    Ok(())
}

async fn store(tx: &mut Transaction, key: &SigningKey, signs_from: i64) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO signing_keys (kid, pkcs8, created_at, signs_from) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(key.kid())
    .bind(STANDARD.encode(key.to_pkcs8()))
    .bind(tx.now)
    .bind(signs_from)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Creates a key that is published now and signs in `ahead` seconds; those before it retire when their last token has expired.
/// Returns its id.
pub async fn rotate(database: &Database, ahead: u32) -> anyhow::Result<String> {
    let key = SigningKey::generate()?;
    let mut tx = database.begin().await?;
    let signs_from = tx.now + i64::from(ahead) * 1_000;
    let published: i64 = sqlx::query(
        "SELECT COUNT(*) AS published FROM signing_keys WHERE revoked_at IS NULL AND (retires_at IS NULL OR retires_at > $1)",
    )
    .bind(tx.now)
    .fetch_one(&mut *tx.conn)
    .await?
    .try_get("published")?;
    ensure!(
        published < MAX_KEYS as i64,
        "{MAX_KEYS} keys are published: wait until some retire, or revoke them"
    );
    sqlx::query("UPDATE signing_keys SET retires_at = $1 WHERE retires_at IS NULL AND revoked_at IS NULL")
        .bind(signs_from + RETIREMENT_MS)
        .execute(&mut *tx.conn)
        .await?;
    store(&mut tx, &key, signs_from).await?;
    tx.commit().await?;
    Event::new("signing_key_created").key(key.kid()).ok();
    Ok(key.kid().to_owned())
}

/// Revokes a key immediately, with every token it signed. If it was the one that signs, another takes over at once: the next in
/// line, or a new one. Game servers receive it in the reply to their next heartbeat.
pub async fn revoke(database: &Database, kid: &str) -> anyhow::Result<()> {
    let mut tx = database.begin().await?;
    let done = sqlx::query("UPDATE signing_keys SET revoked_at = $1 WHERE kid = $2 AND revoked_at IS NULL")
        .bind(tx.now)
        .bind(kid)
        .execute(&mut *tx.conn)
        .await?;
    if done.rows_affected() == 0 {
        bail!("there is no such key, or it is revoked already; `signing-keys list` shows them");
    }
    let successor = sqlx::query(
        "SELECT kid, signs_from FROM signing_keys WHERE revoked_at IS NULL AND retires_at IS NULL ORDER BY signs_from DESC",
    )
    .fetch_optional(&mut *tx.conn)
    .await?;
    match successor {
        Some(row) if row.try_get::<i64, _>("signs_from")? <= tx.now => {}
        Some(row) => {
            // Only if nobody else signs meanwhile.
            let signing = sqlx::query(
                "SELECT kid FROM signing_keys WHERE revoked_at IS NULL AND retires_at > $1 AND signs_from <= $1",
            )
            .bind(tx.now)
            .fetch_optional(&mut *tx.conn)
            .await?;
            if signing.is_none() {
                sqlx::query("UPDATE signing_keys SET signs_from = $1 WHERE kid = $2")
                    .bind(tx.now)
                    .bind(row.try_get::<String, _>("kid")?)
                    .execute(&mut *tx.conn)
                    .await?;
            }
        }
        None => {
            let now = tx.now;
            store(&mut tx, &SigningKey::generate()?, now).await?;
        }
    }
    tx.commit().await?;
    Event::new("signing_key_revoked").key(kid).ok();
    Ok(())
}

/// All keys, the newest first.
pub async fn list(database: &Database) -> anyhow::Result<Vec<SigningKeyRecord>> {
    let now = database.now().await?;
    let signing = published(database).await?.first().map(|key| key.kid().to_owned());
    let rows = sqlx::query(
        "SELECT kid, created_at, signs_from, retires_at, revoked_at FROM signing_keys ORDER BY signs_from DESC, kid",
    )
    .fetch_all(database.pool())
    .await?;
    let records = rows.iter().map(|row| {
        let kid: String = row.try_get("kid")?;
        let retires_at: Option<i64> = row.try_get("retires_at")?;
        let revoked_at: Option<i64> = row.try_get("revoked_at")?;
        let state = match (revoked_at, retires_at) {
            (Some(_), _) => "revoked",
            (None, Some(at)) if at <= now => "retired",
            _ if signing.as_deref() == Some(&*kid) => "signing",
            _ => "published",
        };
        Ok(SigningKeyRecord {
            kid,
            state: state.to_owned(),
            created_at: rfc3339(row.try_get("created_at")?),
            signs_from: rfc3339(row.try_get("signs_from")?),
            retires_at: retires_at.map(rfc3339),
            revoked_at: revoked_at.map(rfc3339),
        })
    });
    records.collect()
}
