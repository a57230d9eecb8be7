//! Lists of rooms from a server that only answers: in pages as the backend hands them out, and all at once for clients that
//! take a list in one piece.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use backend_client::platform::clock::SystemClock;
use backend_client::protocol::registration::ServerStatus;
use backend_client::protocol::rooms::{Attributes, Room, RoomPage, RoomQuery, RoomVisibility};
use backend_client::protocol::routes;
use backend_client::protocol::session::Session;
use backend_client::server_query::{Facts, QueryOptions, ServerQuery};
use uuid::Uuid;

/// Mode of rooms whose servers answer pings.
const ANSWERING: &str = "answering";
/// Where whole lists are: their size follows.
pub const WHOLE: &str = "/rooms/";

pub fn routes() -> Router {
    Router::new()
        .route(routes::AUTH_ANONYMOUS, post(login))
        .route(routes::ROOMS, get(page))
        .route(&format!("{WHOLE}{{count}}"), get(whole))
}

async fn login() -> Json<Session> {
    Json(Session {
        player_id: Uuid::nil().to_string(),
        display_name: "Ada".into(),
        access_token: "e30.e30.y".into(),
        expires_in: 600,
        refresh_token: "refresh".into(),
        refresh_expires_in: 6_000,
        created: true,
    })
}

/// The map says how many there are in all; the cursor, how many came before.
async fn page(Query(query): Query<RoomQuery>) -> Result<Json<RoomPage>, StatusCode> {
    let number =
        |text: &Option<String>| text.as_deref().unwrap_or("0").parse().map_err(|_| StatusCode::BAD_REQUEST);
    let (count, from): (usize, usize) = (number(&query.map)?, number(&query.cursor)?);
    let to = count.min(from + query.limit.unwrap_or(50) as usize);
    let next_cursor = (to < count).then(|| to.to_string());
    let mut rooms: Vec<Room> = (from..to).map(|index| room(index, count)).collect();
    if query.mode.as_deref() == Some(ANSWERING) {
        let ports = answering(count).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        for (room, port) in rooms.iter_mut().zip(&ports[from..to]) {
            (room.address, room.query_port) = ("127.0.0.1".into(), Some(*port));
        }
    }
    Ok(Json(RoomPage { rooms, next_cursor }))
}

/// Ports of so many game servers that answer pings, as long as this process runs.
fn answering(count: usize) -> anyhow::Result<Vec<u16>> {
    static OPEN: Mutex<Vec<(ServerQuery, u16)>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    while open.len() < count {
        // It counts as healthy as long as nobody waits for its next frame: none has any.
        let server = ServerQuery::new(Arc::new(SystemClock), Duration::from_secs(3_600));
        server.publish(Facts::default());
        let port = server.open(QueryOptions { port: 0, lan_discovery: false })?;
        open.push((server, port));
    }
    Ok(open.iter().map(|(_, port)| *port).collect())
}

async fn whole(Path(count): Path<usize>) -> Result<impl IntoResponse, StatusCode> {
    static MADE: Mutex<Option<HashMap<usize, String>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let lists = made.get_or_insert_default();
    let list = match lists.entry(count) {
        Entry::Occupied(made) => made.get().clone(),
        Entry::Vacant(none) => {
            let rooms = (0..count).map(|index| room(index, count)).collect();
            let body = serde_json::to_string(&RoomPage { rooms, next_cursor: None })
                .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
            none.insert(body).clone()
        }
    };
    Ok(([(CONTENT_TYPE, "application/json")], list))
}

/// Some 200 bytes more or less, in no order by name.
fn room(index: usize, count: usize) -> Room {
    Room {
        room_id: format!("0190f5fe-7c00-7a00-8000-{index:012x}"),
        name: format!("Pond {}", index.wrapping_mul(7_919) % count.max(1)),
        address: "192.0.2.7".into(),
        port: 41_234,
        query_port: None,
        map: count.to_string(),
        mode: "race".into(),
        region: "eu".into(),
        version: "1.2.3".into(),
        tags: Vec::new(),
        players: (index % 9) as u32,
        reserved: 0,
        max_players: 8,
        status: ServerStatus::Ready,
        created_at: "2026-01-01T00:00:00Z".into(),
        visibility: RoomVisibility::Public,
        has_password: false,
        attributes: Attributes::new(),
    }
}
