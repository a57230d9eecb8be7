//! Rooms: registered servers as players see them.

pub mod caches;
mod page_cache;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{JoinTicket, Room, RoomPage, RoomQuery, RoomSort};
use backend_protocol::{Code, Problem, limits};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::auth::authorization::AuthSnapshot;
use crate::auth::extractors::{PlayerAuth, PlayerOrServer};
use crate::auth::tokens::Subject;
use crate::database::{Database, rfc3339, unsigned};
use crate::digest::sha256;
use crate::http::etag::{EtaggedJson, IfNoneMatch};
use crate::http::idempotency::IdempotencyKey;
use crate::http::{ApiError, ApiResult, query};
use crate::registration::{folded, status_of};
use crate::state::AppState;

use caches::LiveRoom;
use page_cache::CachedPage;

const COLUMNS: &str = "server_id, name, address, port, query_port, map, mode, region, version, tags, players, max_players, \
                       status, created_at";
/// Games and environments may share a database; a room is for the players of its own. Written so that each planner knows
/// that most rooms are, and goes through them in the order of the list.
fn of_scope(database: &Database, game: &str, environment: &str) -> String {
    let keys =
        format!("SELECT key_hash FROM server_keys WHERE game = {game} AND environment = {environment}");
    if database.is_sqlite() {
        format!("+key_hash IN ({keys})")
    } else {
        format!("key_hash = ANY(ARRAY({keys}))")
    }
}

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

/// `+` keeps an index from being chosen for it: nearly all servers are alive, and the list's order is what saves work.
fn live_rooms(database: &Database) -> String {
    format!("+lease_until > {}", database.clock())
}

fn conditions(query: &RoomQuery, state: &AppState) -> ApiResult<Conditions> {
    let (config, database) = (&state.config, &state.database);
    let mut conditions = Conditions {
        sql: format!(" WHERE {} AND {}", live_rooms(database), of_scope(database, "$1", "$2")),
        values: vec![Bind::Text(config.game.clone()), Bind::Text(config.environment.clone())],
    };
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
    // `? = 1` keeps one way of adding conditions; the value switches the filter on.
    if query.not_full {
        conditions.and("players < max_players AND ? = 1", Bind::Number(1));
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
    let sql = format!("SELECT {COLUMNS} FROM {from}{}", conditions.sql);
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

/// Returns a live room.
#[utoipa::path(get, path = "/v1/rooms/{room_id}", operation_id = "rooms_get", tag = "rooms", params(("room_id" = String, Path)),
    security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = Room), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn get(
    State(state): State<AppState>,
    PlayerOrServer(caller): PlayerOrServer,
    Path(room_id): Path<String>,
) -> ApiResult<Response> {
    let (live, _now) = live(&state, &caller, room_id).await?;
    let mut response = Response::new(Body::from(live.json.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Creates a ticket for one join of a room.
#[utoipa::path(post, path = "/v1/rooms/{room_id}/ticket", operation_id = "rooms_create_ticket", tag = "rooms", params(("room_id" = String, Path)),
    security(("access_token" = [])),
    responses((status = 200, body = JoinTicket), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn ticket(
    State(state): State<AppState>,
    player: PlayerAuth,
    _key: IdempotencyKey,
    Path(room_id): Path<String>,
) -> ApiResult<Json<JoinTicket>> {
    let (live, now) = live(&state, &player.1, room_id).await?;
    let room = &live.room;
    if room.status == ServerStatus::Draining {
        return Err(ApiError::new(Code::RoomDraining, "the room takes nobody in any more"));
    }
    if room.players >= room.max_players {
        return Err(ApiError::new(Code::RoomFull, "the room is full"));
    }
    let expires_in = state.config.ticket_seconds;
    // Never older than the token it was got with, which may be younger than the clock says; see `session`.
    let issued_at = now.max(player.0.iat as i64 * 1000);
    let subject =
        Subject { player_id: &player.0.sub, name: &player.0.name, session_id: player.0.sid.as_deref() };
    let ticket = state.tokens.sign(&subject, Some(&room.room_id), expires_in, issued_at)?;
    Ok(Json(JoinTicket { ticket, expires_in, room: room.clone(), certificate: live.certificate.clone() }))
}

/// The room, and the time by the database's clock. `caller` is what was found when the request came.
async fn live(state: &AppState, caller: &AuthSnapshot, room_id: String) -> ApiResult<(Arc<LiveRoom>, i64)> {
    limits::identifier("room_id", &room_id, 64)?;
    if let Some(version) = caller.version
        && let Some(live) = state.rooms.room_cache.get(version, &room_id)
        && live.lease_until > caller.now
    {
        return Ok((live, caller.now));
    }
    let app = state.clone();
    let read = move |(), room_ids| {
        let state = app.clone();
        async move { read_live(&state, room_ids).await }
    };
    let live = state.rooms.room_loader.load((), room_id.clone(), read).await?;
    let live = live.ok_or_else(|| ApiError::new(Code::RoomNotFound, "there is no such room (any more)"))?;
    if let Some(version) = caller.version {
        state.rooms.room_cache.insert(version, room_id, Arc::clone(&live));
    }
    let now = live.read_at;
    Ok((live, now))
}

async fn read_live(state: &AppState, room_ids: Vec<String>) -> ApiResult<Vec<Option<Arc<LiveRoom>>>> {
    let sql = format!(
        "SELECT {COLUMNS}, certificate, lease_until, {} AS now FROM servers WHERE server_id {} AND {} AND status <> 'unhealthy' AND {}",
        state.database.clock(),
        state.database.is_in("$1"),
        live_rooms(&state.database),
        of_scope(&state.database, "$2", "$3"),
    );
    let unique: HashSet<&str> = room_ids.iter().map(String::as_str).collect();
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(serde_json::to_string(&unique).map_err(anyhow::Error::from)?)
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .fetch_all(state.database.pool())
        .await?;
    let mut live = HashMap::with_capacity(rows.len());
    for row in &rows {
        let room = room(row)?;
        let json = serde_json::to_vec(&room).map_err(anyhow::Error::from)?.into();
        let one = LiveRoom {
            json,
            certificate: row.try_get("certificate")?,
            lease_until: row.try_get("lease_until")?,
            read_at: row.try_get("now")?,
            room,
        };
        live.insert(one.room.room_id.clone(), Arc::new(one));
    }
    Ok(room_ids.iter().map(|room_id| live.get(room_id).cloned()).collect())
}

fn room(row: &AnyRow) -> sqlx::Result<Room> {
    let tags: String = row.try_get("tags")?;
    let status: String = row.try_get("status")?;
    Ok(Room {
        room_id: row.try_get("server_id")?,
        name: row.try_get("name")?,
        address: row.try_get("address")?,
        port: u16::try_from(row.try_get::<i64, _>("port")?).unwrap_or_default(),
        query_port: row.try_get::<Option<i64>, _>("query_port")?.and_then(|port| u16::try_from(port).ok()),
        map: row.try_get("map")?,
        mode: row.try_get("mode")?,
        region: row.try_get("region")?,
        version: row.try_get("version")?,
        tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        players: unsigned(row, "players")?,
        max_players: unsigned(row, "max_players")?,
        status: status_of(&status),
        created_at: rfc3339(row.try_get("created_at")?),
    })
}
