//! Server keys, players and sessions as they are in the database now, and what they permit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backend_protocol::Code;
use backend_protocol::validation::Claims;
use sqlx::Row;

use super::tokens;
use crate::database::Database;
use crate::database::batch_loader::BatchLoader;
use crate::http::{ApiError, ApiResult};

/// What a request needs to have looked up.
#[derive(Default, Clone, Copy)]
pub struct Lookup<'a> {
    /// SHA-256 of a server key.
    pub key_hash: Option<&'a str>,
    pub player_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
}

impl<'a> Lookup<'a> {
    /// The player and the session that these claims name.
    pub fn of_player(claims: &'a Claims) -> Self {
        Self { key_hash: None, player_id: Some(&claims.sub), session_id: claims.sid.as_deref() }
    }
}

/// A look-up that waits in the batch loader.
struct OwnedLookup {
    key_hash: Option<String>,
    player_id: Option<String>,
    session_id: Option<String>,
}

/// The rows of one look-up, all of one moment.
pub struct AuthSnapshot {
    /// Milliseconds since 1970 by the database's clock.
    pub now: i64,
    /// None: no such key, or not looked up.
    pub key: Option<Arc<KeyRow>>,
    /// None: no such player, or not looked up.
    pub player: Option<Arc<PlayerRow>>,
    /// None: no such session (any more), or not looked up.
    pub session: Option<Arc<SessionRow>>,
}

/// A server key; see the columns of these names.
pub struct KeyRow {
    pub owner: String,
    pub game: Option<String>,
    pub environment: Option<String>,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

/// A player; see the columns of these names.
pub struct PlayerRow {
    pub tokens_before: i64,
    pub banned_at: Option<i64>,
    pub banned_until: Option<i64>,
}

/// A session; see the columns of these names.
pub struct SessionRow {
    pub revoked_at: Option<i64>,
}

/// Loads them, for many requests with one statement. Nothing is cached: whoever was banned, and a key that was revoked, is
/// rejected from the next request on, by every replica.
pub struct AuthorizationLoader {
    /// Players of another game or environment are not found.
    scope: Arc<str>,
    loader: BatchLoader<(), OwnedLookup, AuthSnapshot, ApiError>,
}

impl AuthorizationLoader {
    pub fn new(scope: &str) -> Self {
        Self { scope: scope.into(), loader: BatchLoader::default() }
    }

    pub async fn load(&self, database: &Database, lookup: Lookup<'_>) -> ApiResult<AuthSnapshot> {
        let (database, scope) = (database.clone(), Arc::clone(&self.scope));
        let read = move |(), lookups| {
            let (database, scope) = (database.clone(), Arc::clone(&scope));
            async move { read(&database, &scope, lookups).await }
        };
        let lookup = OwnedLookup {
            key_hash: lookup.key_hash.map(str::to_owned),
            player_id: lookup.player_id.map(str::to_owned),
            session_id: lookup.session_id.map(str::to_owned),
        };
        self.loader.load((), lookup, read).await
    }

    /// Looks a player up by the verified claims of its token, and rejects it if the token is over or the player may not play.
    pub async fn authorize_player(&self, database: &Database, claims: &Claims) -> ApiResult<AuthSnapshot> {
        let snapshot = self.load(database, Lookup::of_player(claims)).await?;
        verify_player(claims, &snapshot)?;
        Ok(snapshot)
    }
}

async fn read(database: &Database, scope: &str, lookups: Vec<OwnedLookup>) -> ApiResult<Vec<AuthSnapshot>> {
    let mut keys = HashMap::new();
    let mut players = HashMap::new();
    let mut sessions = HashMap::new();
    let key_hashes = list(lookups.iter().filter_map(|lookup| lookup.key_hash.as_deref()))?;
    let player_ids = list(lookups.iter().filter_map(|lookup| lookup.player_id.as_deref()))?;
    let session_ids = list(lookups.iter().filter_map(|lookup| lookup.session_id.as_deref()))?;
    let sql = statement(database, key_hashes.is_some(), player_ids.is_some(), session_ids.is_some());
    let mut statement = sqlx::query(sqlx::AssertSqlSafe(sql));
    let asks_players = player_ids.is_some();
    for list in [key_hashes, player_ids, session_ids].into_iter().flatten() {
        statement = statement.bind(list);
    }
    if asks_players {
        statement = statement.bind(scope);
    }
    let rows = statement.fetch_all(database.pool()).await?;
    let mut now = 0;
    for row in &rows {
        let id = || row.try_get::<String, _>("id");
        match row.try_get::<i64, _>("kind")? {
            0 => now = row.try_get("first")?,
            1 => {
                let key = KeyRow {
                    owner: row.try_get("owner")?,
                    game: row.try_get("game")?,
                    environment: row.try_get("environment")?,
                    expires_at: row.try_get("first")?,
                    revoked_at: row.try_get("second")?,
                    last_used_at: row.try_get("third")?,
                };
                keys.insert(id()?, Arc::new(key));
            }
            2 => {
                let player = PlayerRow {
                    tokens_before: row.try_get("first")?,
                    banned_at: row.try_get("second")?,
                    banned_until: row.try_get("third")?,
                };
                players.insert(id()?, Arc::new(player));
            }
            _ => {
                sessions.insert(id()?, Arc::new(SessionRow { revoked_at: row.try_get("first")? }));
            }
        }
    }
    let snapshot = |lookup: OwnedLookup| AuthSnapshot {
        now,
        key: lookup.key_hash.and_then(|hash| keys.get(&hash).cloned()),
        player: lookup.player_id.and_then(|id| players.get(&id).cloned()),
        session: lookup.session_id.and_then(|id| sessions.get(&id).cloned()),
    };
    Ok(lookups.into_iter().map(snapshot).collect())
}

/// One statement for any number of look-ups, so that it stays prepared. Tables that no look-up needs are left out.
fn statement(database: &Database, keys: bool, players: bool, sessions: bool) -> String {
    let mut places = ["$1", "$2", "$3"].into_iter();
    let mut next = || places.next().unwrap_or_default();
    // Behind the lists.
    let scope = format!("${}", [keys, players, sessions].into_iter().filter(|lookup| *lookup).count() + 1);
    let mut sql = format!(
        "SELECT CAST(0 AS BIGINT) AS kind, CAST('' AS TEXT) AS id, CAST('' AS TEXT) AS owner, CAST(NULL AS TEXT) AS game, \
         CAST(NULL AS TEXT) AS environment, {} AS first, CAST(NULL AS BIGINT) AS second, CAST(NULL AS BIGINT) AS third",
        database.clock(),
    );
    if keys {
        sql += " UNION ALL SELECT 1, key_hash, owner, game, environment, expires_at, revoked_at, last_used_at \
                FROM server_keys WHERE key_hash ";
        sql += &database.is_in(next());
    }
    if players {
        sql += " UNION ALL SELECT 2, player_id, '', NULL, NULL, tokens_before, banned_at, banned_until \
                FROM players WHERE player_id ";
        sql += &database.is_in(next());
        sql += &format!(" AND (scope = {scope} OR scope IS NULL)");
    }
    if sessions {
        sql += " UNION ALL SELECT 3, session_id, '', NULL, NULL, revoked_at, NULL, NULL FROM sessions WHERE session_id ";
        sql += &database.is_in(next());
    }
    sql
}

/// Each once, as a JSON list. None: none.
fn list<'a>(ids: impl Iterator<Item = &'a str>) -> ApiResult<Option<String>> {
    let ids: HashSet<&str> = ids.collect();
    let text = serde_json::to_string(&ids).map_err(anyhow::Error::from)?;
    Ok((!ids.is_empty()).then_some(text))
}

pub fn is_banned(at: Option<i64>, until: Option<i64>, now: i64) -> bool {
    at.is_some() && until.is_none_or(|until| until > now)
}

/// Whether a token with these verified claims is still valid for its player, and the player may play. Returns the database's
/// time.
pub fn verify_player(claims: &Claims, snapshot: &AuthSnapshot) -> ApiResult<i64> {
    let now = snapshot.now;
    tokens::unexpired(claims, now)?;
    let player = snapshot
        .player
        .as_ref()
        .ok_or_else(|| ApiError::new(Code::TokenInvalid, "the token does not verify"))?;
    if is_banned(player.banned_at, player.banned_until, now) {
        return Err(ApiError::new(Code::Banned, "this account may not play"));
    }
    if i64::try_from(claims.iat).unwrap_or(i64::MAX) <= player.tokens_before {
        return Err(session_over());
    }
    // Tokens without it were issued by a version that did not name the session.
    if claims.sid.is_some() && snapshot.session.as_ref().is_none_or(|session| session.revoked_at.is_some()) {
        return Err(session_over());
    }
    Ok(now)
}

fn session_over() -> ApiError {
    ApiError::new(Code::TokenInvalid, "the session of this token was ended")
}
