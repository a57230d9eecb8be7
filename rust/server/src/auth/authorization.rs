//! Who may do something: server keys, players and their sessions as the database has them now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::Row;

use crate::database::batch_loader::Gathered;
use crate::database::{Database, Moment, Remembered};
use crate::http::Outcome;

/// Whom a request is about.
#[derive(Default, Clone, Copy)]
pub struct Question<'a> {
    /// SHA-256 of a server key.
    pub key_hash: Option<&'a str>,
    pub player_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
}

/// The same, for who answers it later.
struct Asked {
    key_hash: Option<String>,
    player_id: Option<String>,
    session_id: Option<String>,
}

/// What the database says, at one moment.
pub struct Standing {
    /// Milliseconds since 1970 by the database's clock.
    pub now: i64,
    /// None: no such key, or not asked for.
    pub key: Option<Arc<KeyRow>>,
    /// None: no such player, or not asked for.
    pub player: Option<Arc<PlayerRow>>,
    /// None: no such session (any more), or not asked for.
    pub session: Option<Arc<SessionRow>>,
    /// The state of the database after the question came, if one can tell: see [`Database::moment`].
    pub moment: Option<Moment>,
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

/// Asks for them, many requests with one statement; not at all what was read before, while nothing was committed since.
pub struct Standings {
    /// Players of another game or environment are not found.
    scope: Arc<str>,
    gathered: Gathered<(), Asked, Standing>,
    keys: Remembered<KeyRow>,
    players: Remembered<PlayerRow>,
    sessions: Remembered<SessionRow>,
}

impl Standings {
    pub fn new(scope: &str) -> Self {
        Self {
            scope: scope.into(),
            gathered: Gathered::default(),
            keys: Remembered::default(),
            players: Remembered::default(),
            sessions: Remembered::default(),
        }
    }

    pub async fn of(&self, database: &Database, question: Question<'_>) -> Outcome<Standing> {
        let Some((moment, now)) = database.moment().await else {
            return self.read(database, question).await;
        };
        if let Some(standing) = self.remembered(moment, now, question) {
            return Ok(standing);
        }
        let mut standing = self.read(database, question).await?;
        standing.moment = Some(moment);
        if let (Some(hash), Some(key)) = (question.key_hash, &standing.key) {
            self.keys.keep(moment, hash.to_owned(), Arc::clone(key));
        }
        if let (Some(id), Some(player)) = (question.player_id, &standing.player) {
            self.players.keep(moment, id.to_owned(), Arc::clone(player));
        }
        if let (Some(id), Some(session)) = (question.session_id, &standing.session) {
            self.sessions.keep(moment, id.to_owned(), Arc::clone(session));
        }
        Ok(standing)
    }

    /// Only what is there is remembered: whoever asks for what is not cannot fill the memory.
    fn remembered(&self, moment: Moment, now: i64, question: Question<'_>) -> Option<Standing> {
        let key = question.key_hash.map(|hash| self.keys.get(moment, hash).ok_or(())).transpose().ok()?;
        let player = question.player_id.map(|id| self.players.get(moment, id).ok_or(())).transpose().ok()?;
        let session =
            question.session_id.map(|id| self.sessions.get(moment, id).ok_or(())).transpose().ok()?;
        Some(Standing { now, key, player, session, moment: Some(moment) })
    }

    async fn read(&self, database: &Database, question: Question<'_>) -> Outcome<Standing> {
        let (database, scope) = (database.clone(), Arc::clone(&self.scope));
        let read = move |(), questions| {
            let (database, scope) = (database.clone(), Arc::clone(&scope));
            async move { read(&database, &scope, questions).await }
        };
        let asked = Asked {
            key_hash: question.key_hash.map(str::to_owned),
            player_id: question.player_id.map(str::to_owned),
            session_id: question.session_id.map(str::to_owned),
        };
        self.gathered.ask((), asked, read).await
    }
}

async fn read(database: &Database, scope: &str, questions: Vec<Asked>) -> Outcome<Vec<Standing>> {
    let mut keys = HashMap::new();
    let mut players = HashMap::new();
    let mut sessions = HashMap::new();
    let key_hashes = list(questions.iter().filter_map(|question| question.key_hash.as_deref()))?;
    let player_ids = list(questions.iter().filter_map(|question| question.player_id.as_deref()))?;
    let session_ids = list(questions.iter().filter_map(|question| question.session_id.as_deref()))?;
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
    let answer = |question: Asked| Standing {
        now,
        key: question.key_hash.and_then(|hash| keys.get(&hash).cloned()),
        player: question.player_id.and_then(|id| players.get(&id).cloned()),
        session: question.session_id.and_then(|id| sessions.get(&id).cloned()),
        moment: None,
    };
    Ok(questions.into_iter().map(answer).collect())
}

/// One statement for any number of questions, so that it stays prepared, without the tables that nobody asks about.
fn statement(database: &Database, keys: bool, players: bool, sessions: bool) -> String {
    let mut places = ["$1", "$2", "$3"].into_iter();
    let mut next = || places.next().unwrap_or_default();
    // Behind the lists.
    let scope = format!("${}", [keys, players, sessions].into_iter().filter(|asked| *asked).count() + 1);
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
fn list<'a>(ids: impl Iterator<Item = &'a str>) -> Outcome<Option<String>> {
    let ids: HashSet<&str> = ids.collect();
    let text = serde_json::to_string(&ids).map_err(anyhow::Error::from)?;
    Ok((!ids.is_empty()).then_some(text))
}
