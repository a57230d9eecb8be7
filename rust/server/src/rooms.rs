//! Rooms: registered servers as players see them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{JoinTicket, Room, RoomPage, RoomQuery, RoomSort};
use backend_protocol::{Code, Problem, limits};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::config::Config;
use crate::database::{rfc3339, unsigned};
use crate::idempotency::IdempotencyKey;
use crate::problem::{Outcome, QueryString, Refusal};
use crate::registration::status_of;
use crate::state::{AnyAuth, AppState, PlayerAuth};
use crate::tokens::sha256;

const COLUMNS: &str = "server_id, name, address, port, map, mode, region, version, tags, players, max_players, \
                       status, created_at";
/// Games and environments may share a database; a room is for the players of its own.
const OF_GAME: &str = "key_hash IN (SELECT key_hash FROM server_keys WHERE game = ?)";
const OF_ENVIRONMENT: &str = "key_hash IN (SELECT key_hash FROM server_keys WHERE environment = ?)";

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
    fn fingerprint(query: &RoomQuery) -> Outcome<String> {
        let whole = RoomQuery { cursor: None, limit: None, ..query.clone() };
        let bytes = serde_json::to_vec(&whole).map_err(anyhow::Error::from)?;
        Ok(sha256(&bytes)[..16].to_owned())
    }

    fn after(room: &Room, created_at: i64, query: &RoomQuery) -> Outcome<String> {
        let (text, number) = match query.sort {
            RoomSort::Name => (room.name.clone(), 0),
            RoomSort::Players => (String::new(), i64::from(room.players)),
            RoomSort::Created => (String::new(), created_at),
        };
        let cursor = Self { query: Self::fingerprint(query)?, text, number, room_id: room.room_id.clone() };
        let bytes = serde_json::to_vec(&cursor).map_err(anyhow::Error::from)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn read(text: &str, query: &RoomQuery) -> Outcome<Self> {
        let refusal = || {
            let mut problem = Problem::new(Code::InvalidCursor, "cursor: not one this list handed out");
            problem.field = Some("cursor".into());
            Refusal::from(problem)
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refusal())?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|_| refusal())?;
        if cursor.query != Self::fingerprint(query)?
            || limits::identifier("room_id", &cursor.room_id, 64).is_err()
        {
            return Err(refusal());
        }
        Ok(cursor)
    }
}

/// Values for the placeholders of a growing statement.
enum Bind {
    Text(String),
    Number(i64),
}

#[derive(Default)]
struct Conditions {
    sql: String,
    values: Vec<Bind>,
}

impl Conditions {
    /// Adds a condition in which `?` stands for `value`; the texts are constants of this file.
    fn and(&mut self, condition: &'static str, value: Bind) {
        self.values.push(value);
        let placeholder = format!("${}", self.values.len());
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
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

fn conditions(query: &RoomQuery, config: &Config, now: i64) -> Outcome<Conditions> {
    let mut conditions = Conditions::default();
    conditions.and("lease_until > ?", Bind::Number(now));
    conditions.and(OF_GAME, Bind::Text(config.game.clone()));
    conditions.and(OF_ENVIRONMENT, Bind::Text(config.environment.clone()));
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
        conditions.and("LOWER(name) LIKE ? ESCAPE '\\'", contains(&search.to_lowercase()));
    }
    for tag in query.tag_list() {
        conditions.and("tags LIKE ? ESCAPE '\\'", contains(&format!(",{tag},")));
    }
    // `? = 1` keeps one way of adding conditions; the value says that the filter is on.
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
        let (column, compare) = (sort_column(query.sort), if query.descending { '<' } else { '>' });
        conditions.values.push(value);
        conditions.values.push(Bind::Text(cursor.room_id));
        let id = before + 1;
        conditions.sql += &format!(
            " AND ({column} {compare} ${before} OR ({column} = ${before} AND server_id {compare} ${id}))"
        );
    }
    Ok(conditions)
}

const fn sort_column(sort: RoomSort) -> &'static str {
    match sort {
        RoomSort::Name => "name",
        RoomSort::Players => "players",
        RoomSort::Created => "created_at",
    }
}

/// Lists live rooms.
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", params(RoomQuery), security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = RoomPage), (status = 304), (status = "4XX", body = Problem)))]
pub async fn list(
    State(state): State<AppState>,
    _auth: AnyAuth,
    headers: HeaderMap,
    QueryString(query): QueryString<RoomQuery>,
) -> Outcome<Response> {
    let now = state.database.now().await?;
    let limit = query.limit.unwrap_or(limits::DEFAULT_PAGE);
    let mut conditions = conditions(&query, &state.config, now)?;
    let direction = if query.descending { "DESC" } else { "ASC" };
    let column = sort_column(query.sort);
    conditions.sql += &format!(" ORDER BY {column} {direction}, server_id {direction}");
    // One more than asked for tells whether there is a next page.
    conditions.limit(limit + 1);
    let sql = format!("SELECT {COLUMNS} FROM servers{}", conditions.sql);
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
        (true, Some(last), Some(row)) => Some(Cursor::after(last, row.try_get("created_at")?, &query)?),
        _ => None,
    };
    unless_unchanged(&headers, &RoomPage { rooms, next_cursor })
}

/// One live room.
#[utoipa::path(get, path = "/v1/rooms/{room_id}", tag = "rooms", params(("room_id" = String, Path)),
    security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = Room), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn get(
    State(state): State<AppState>,
    _auth: AnyAuth,
    Path(room_id): Path<String>,
) -> Outcome<Json<Room>> {
    Ok(Json(room(&live(&state, &room_id).await?)?))
}

/// A ticket for one room, good for one join.
#[utoipa::path(post, path = "/v1/rooms/{room_id}/ticket", tag = "rooms", params(("room_id" = String, Path)),
    security(("access_token" = [])),
    responses((status = 200, body = JoinTicket), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn ticket(
    State(state): State<AppState>,
    player: PlayerAuth,
    _key: IdempotencyKey,
    Path(room_id): Path<String>,
) -> Outcome<Json<JoinTicket>> {
    let row = live(&state, &room_id).await?;
    let room = room(&row)?;
    if room.status == ServerStatus::Draining {
        return Err(Refusal::new(Code::RoomDraining, "the room takes nobody in any more"));
    }
    if room.players >= room.max_players {
        return Err(Refusal::new(Code::RoomFull, "the room is full"));
    }
    let expires_in = state.config.ticket_seconds;
    // Never older than the token it was got with, which may be younger than the clock says; see `session`.
    let issued_at = state.database.now().await?.max(player.0.iat as i64 * 1000);
    let ticket =
        state.tokens.sign(&player.0.sub, &player.0.name, Some(&room.room_id), expires_in, issued_at)?;
    Ok(Json(JoinTicket { ticket, expires_in, room, certificate: row.try_get("certificate")? }))
}

/// The row of a room that players may join, with its certificate.
async fn live(state: &AppState, room_id: &str) -> Outcome<AnyRow> {
    limits::identifier("room_id", room_id, 64)?;
    let now = state.database.now().await?;
    let sql = format!(
        "SELECT {COLUMNS}, certificate FROM servers WHERE server_id = $1 AND lease_until > $2 AND status <> 'unhealthy' \
         AND {} AND {}",
        OF_GAME.replace('?', "$3"),
        OF_ENVIRONMENT.replace('?', "$4"),
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(room_id)
        .bind(now)
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .fetch_optional(state.database.pool())
        .await?
        .ok_or_else(|| Refusal::new(Code::RoomNotFound, "there is no such room (any more)"))
}

fn room(row: &AnyRow) -> sqlx::Result<Room> {
    let tags: String = row.try_get("tags")?;
    let status: String = row.try_get("status")?;
    Ok(Room {
        room_id: row.try_get("server_id")?,
        name: row.try_get("name")?,
        address: row.try_get("address")?,
        port: u16::try_from(row.try_get::<i64, _>("port")?).unwrap_or_default(),
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

/// `body` as JSON under its ETag, or 304 when the caller has it already (RFC 9110 §13.1.2).
pub fn unless_unchanged(headers: &HeaderMap, body: &impl Serialize) -> Outcome<Response> {
    let bytes = serde_json::to_vec(body).map_err(anyhow::Error::from)?;
    let tag = format!("\"{}\"", &sha256(&bytes)[..32]);
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| {
        known.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
    });
    let mut response =
        if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { bytes.into_response() };
    if !unchanged {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, value);
    }
    Ok(response)
}
