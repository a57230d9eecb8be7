//! The list of public rooms: filters, orders and pages.

use std::time::Instant;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use backend_protocol::rooms::{Room, RoomPage, RoomQuery, RoomSort};
use backend_protocol::{Code, Problem, limits};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Row};

use super::page_cache::CachedPage;
use super::{columns, live_rooms, of_scope, room, seats};
use crate::auth::extractors::PlayerOrServer;
use crate::digest::sha256;
use crate::http::etag::{EtaggedJson, IfNoneMatch};
use crate::http::{ApiError, ApiResult, query};
use crate::registration::folded;
use crate::state::AppState;

/// Where a page ended. Bound to the query it continues.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    query: String,
    text: String,
    number: i64,
    room_id: String,
}

impl Cursor {
    fn fingerprint(query: &RoomQuery) -> ApiResult<String> {
        let whole = RoomQuery { cursor: None, limit: None, ..query.clone() };
        let bytes = serde_json::to_vec(&whole).map_err(anyhow::Error::from)?;
        Ok(sha256(&bytes)[..16].to_owned())
    }

    fn after(room: &Room, created_at: i64, query: &RoomQuery) -> ApiResult<String> {
        let (text, number) = match query.sort {
            RoomSort::Name => (room.name.clone(), 0),
            RoomSort::Players => (String::new(), i64::from(room.players)),
            RoomSort::Created => (String::new(), created_at),
        };
        let cursor = Self { query: Self::fingerprint(query)?, text, number, room_id: room.room_id.clone() };
        let bytes = serde_json::to_vec(&cursor).map_err(anyhow::Error::from)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn read(text: &str, query: &RoomQuery) -> ApiResult<Self> {
        let invalid = || {
            let mut problem = Problem::new(Code::InvalidCursor, "cursor: not one this list handed out");
            problem.field = Some("cursor".into());
            ApiError::from(problem)
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if cursor.query != Self::fingerprint(query)?
            || limits::identifier("room_id", &cursor.room_id, 64).is_err()
            // A room's name: one with a NUL is none, and PostgreSQL takes no such text.
            || limits::text("name", &cursor.text, 0, limits::MAX_SERVER_NAME).is_err()
        {
            return Err(invalid());
        }
        Ok(cursor)
    }
}

/// Values for the placeholders of a growing statement.
#[derive(Clone)]
enum Bind {
    Text(String),
    Number(i64),
}

#[derive(Clone)]
struct Conditions {
    sql: String,
    values: Vec<Bind>,
}

impl Conditions {
    /// Adds a condition in which `?` stands for `value`; the texts are constants of this file.
    fn and(&mut self, condition: &'static str, value: Bind) {
        self.values.push(value);
        let placeholder = format!("${}", self.values.len());
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replace('?', &placeholder));
    }

    fn limit(&mut self, rows: u32) {
        self.values.push(Bind::Number(rows.into()));
        self.sql.push_str(" LIMIT $");
        self.sql.push_str(&self.values.len().to_string());
    }
}

/// `text` anywhere, with LIKE's own characters taken literally.
fn contains(text: &str) -> Bind {
    let literal = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    Bind::Text(format!("%{literal}%"))
}

fn conditions(query: &RoomQuery, state: &AppState) -> ApiResult<Conditions> {
    let (config, database) = (&state.config, &state.database);
    let mut conditions = Conditions {
        sql: format!(" WHERE {} AND {}", live_rooms(database), of_scope(database, "$1", "$2")),
        values: vec![Bind::Text(config.game.clone()), Bind::Text(config.environment.clone())],
    };
    conditions.and("visibility = ?", Bind::Text("public".into()));
    conditions.and("status <> ?", Bind::Text("unhealthy".into()));
    if !query.include_draining {
        conditions.and("status <> ?", Bind::Text("draining".into()));
    }
    for (condition, value) in [
        ("map = ?", &query.map),
        ("mode = ?", &query.mode),
        ("region = ?", &query.region),
        ("version = ?", &query.version),
    ] {
        if let Some(value) = value {
            conditions.and(condition, Bind::Text(value.clone()));
        }
    }
    if let Some(search) = &query.search {
        conditions.and("name_folded LIKE ? ESCAPE '\\'", contains(&folded(search)));
    }
    for tag in query.tag_list() {
        // LIKE of SQLite takes a capital for a small letter.
        let is_in = if database.is_sqlite() { "instr(tags, ?) > 0" } else { "strpos(tags, ?) > 0" };
        conditions.and(is_in, Bind::Text(format!(",{tag},")));
    }
    if query.not_full {
        conditions.sql +=
            &format!(" AND players < max_players AND players + {} < max_players", seats::reserved(database));
    }
    if query.not_empty {
        conditions.and("players > ?", Bind::Number(0));
    }
    if let Some(text) = &query.cursor {
        let cursor = Cursor::read(text, query)?;
        let value = match query.sort {
            RoomSort::Name => Bind::Text(cursor.text),
            _ => Bind::Number(cursor.number),
        };
        let before = conditions.values.len() + 1;
        let ((column, id_column), compare) = (order(query.sort), if query.descending { '<' } else { '>' });
        conditions.values.push(value);
        conditions.values.push(Bind::Text(cursor.room_id));
        let id = before + 1;
        conditions.sql += &format!(" AND ({column}, {id_column}) {compare} (${before}, ${id})");
    }
    Ok(conditions)
}

/// The columns of an order, which an index keeps.
const fn order(sort: RoomSort) -> (&'static str, &'static str) {
    match sort {
        RoomSort::Name => ("name", "server_id"),
        RoomSort::Players => ("player_count", "listed_id"),
        RoomSort::Created => ("created_at", "server_id"),
    }
}

/// Lists live rooms.
#[utoipa::path(get, path = "/v1/rooms", operation_id = "rooms_list", tag = "rooms", params(RoomQuery), security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = RoomPage), (status = 304), (status = "4XX", body = Problem)))]
pub async fn list(
    State(state): State<AppState>,
    _auth: PlayerOrServer,
    if_none_match: IfNoneMatch,
    uri: Uri,
) -> ApiResult<Response> {
    let rooms = &state.rooms;
    // By the text of the query string: the same text was parsed and checked when the page was cached.
    let query_text = uri.query().unwrap_or_default();
    if let Some(page) = rooms.page_cache.get(query_text) {
        return Ok(page.unless_matched(&if_none_match));
    }
    let query: RoomQuery = query(&uri)?;
    let key = serde_json::to_string(&query).map_err(anyhow::Error::from)?;
    // Rejected before the page is loaded, so that only valid cursors are cached.
    let conditions = conditions(&query, &state)?;
    let app = state.clone();
    let read = move |_key, waiters: Vec<()>| {
        let (state, query, conditions) = (app.clone(), query.clone(), conditions.clone());
        async move {
            let page = EtaggedJson::json(&page(&state, &query, conditions).await?)?;
            Ok(vec![page; waiters.len()])
        }
    };
    let (at, revision) = (Instant::now(), rooms.page_cache.revision());
    let page = rooms.page_loader.load(key, (), read).await?;
    rooms.page_cache.insert(query_text.to_owned(), CachedPage { at, revision, page: page.clone() });
    Ok(page.unless_matched(&if_none_match))
}

async fn page(state: &AppState, query: &RoomQuery, mut conditions: Conditions) -> ApiResult<RoomPage> {
    let limit = query.limit.unwrap_or(limits::DEFAULT_PAGE);
    let direction = if query.descending { "DESC" } else { "ASC" };
    let (column, id) = order(query.sort);
    if query.sort == RoomSort::Players {
        conditions.sql += " AND server_id = listed_id";
        if state.database.is_sqlite() {
            // It would prepare for all servers, reading each of them, and does not see that the page ends soon.
            conditions.sql += " AND unlikely(+player_count >= 0)";
        }
    }
    conditions.sql += &format!(" ORDER BY {column} {direction}, {id} {direction}");
    // One more than requested shows whether there is a next page.
    conditions.limit(limit + 1);
    // CROSS makes SQLite begin with the order; PostgreSQL finds that out.
    let from = if query.sort == RoomSort::Players { "server_players CROSS JOIN servers" } else { "servers" };
    let sql = format!("SELECT {} FROM {from}{}", columns(&state.database), conditions.sql);
    let mut statement = sqlx::query(AssertSqlSafe(sql));
    for value in conditions.values {
        statement = match value {
            Bind::Text(text) => statement.bind(text),
            Bind::Number(number) => statement.bind(number),
        };
    }
    let rows = statement.fetch_all(state.database.pool()).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rooms = Vec::with_capacity(rows.len().min(wanted));
    for row in rows.iter().take(wanted) {
        rooms.push(room(row)?);
    }
    let next_cursor = match (rows.len() > wanted, rooms.last(), rows.get(wanted.saturating_sub(1))) {
        (true, Some(last), Some(row)) => Some(Cursor::after(last, row.try_get("created_at")?, query)?),
        _ => None,
    };
    Ok(RoomPage { rooms, next_cursor })
}
