//! Quick play: a seat in a room that fits, else in one that starts, else in a new one.
//!
//! Requests place themselves one after the other, across replicas: each sees where those before it have gone. So a crowd that comes at
//! once fills one room after the other, and a room is started only for those who fit into none.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::State;
use backend_protocol::rooms::{
    QuickPlay, RoomCreation, RoomCreationStatus, RoomOptions, RoomQuery, RoomSort,
};
use backend_protocol::{Code, Problem};
use sqlx::{AssertSqlSafe, Row};

use super::growing_statement::Bind;
use super::list::conditions::statement;
use super::requests::{self, Progress, RoomRequest};
use super::room;
use crate::allocation::records::{self, NewRoom, Status, json};
use crate::allocation::settings::AllocationSettings;
use crate::auth::extractors::PlayerAuth;
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::{ApiResult, JsonBody};
use crate::state::AppState;

/// Rooms that are tried. One that others fill at this moment is followed by the next.
const CANDIDATES: u32 = 20;

/// Finds a room with free seats, or creates one, and reserves seats in it. Repeat the request until the reply has a ticket.
#[utoipa::path(post, path = "/v1/rooms/quick-play", operation_id = "rooms_quick_play", tag = "rooms", request_body = QuickPlay, security(("access_token" = [])),
    responses((status = 200, body = RoomCreation), (status = 403, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn quick_play(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<QuickPlay>,
) -> ApiResult<Json<RoomCreation>> {
    let wanted = &body.value;
    let seats = wanted.seats.unwrap_or(1);
    let query = RoomQuery {
        not_full: true,
        no_password: true,
        include_draining: false,
        fields: None,
        cursor: None,
        limit: Some(CANDIDATES),
        sort: RoomSort::Players,
        // The fullest one is the best for one player, and the least likely to have places for a party.
        descending: seats == 1,
        ..wanted.query.clone()
    };
    let room = match (&wanted.room, state.allocation.settings()) {
        (Some(room), Some(settings)) => {
            let mut room = requests::resolved(settings, room)?;
            for (own, searched) in [(&mut room.map, &query.map), (&mut room.mode, &query.mode)] {
                if let Some(searched) = searched.as_ref().filter(|_| own.is_empty()) {
                    own.clone_from(searched);
                }
            }
            Some(room)
        }
        _ => None,
    };
    let request = RoomRequest {
        claims: &player.0,
        request_id: &wanted.request_id,
        hash: &sha256(json(&(&wanted.query, &wanted.room, seats))?.as_bytes()),
        seats,
    };
    let search = Search { query, key: records::quick_play_key(&(&wanted.query, &room))?, room };
    let reply = requests::wait(&state, &request, wanted.wait_seconds, || attempt(&state, &request, &search));
    reply.await.map(Json)
}

struct Search {
    query: RoomQuery,
    /// What a new room is like.
    room: Option<RoomOptions>,
    /// Who searches the same waits for the same room.
    key: String,
}

async fn attempt(state: &AppState, request: &RoomRequest<'_>, search: &Search) -> ApiResult<Progress> {
    let _turn = state.allocation.placing.lock().await;
    let mut tx = state.database.begin().await?;
    take_turn(state, &mut tx).await?;
    let progress = match requests::enter(state, &mut tx, request).await? {
        None => place(state, &mut tx, request, search).await?,
        Some(allocation) => match (requests::pending_status(allocation.status), &allocation.server_id) {
            (Some(status), _) => Progress::Pending(status, Some(allocation.allocation_id)),
            (None, Some(room_id)) if allocation.status == Status::Ready => {
                // Its seats are reserved unless it came back too late, or the server has fewer than it should.
                match seat(state, &mut tx, request, room_id).await? {
                    ControlFlow::Break(seated) => seated,
                    ControlFlow::Continue(()) => place(state, &mut tx, request, search).await?,
                }
            }
            _ if allocation.status == Status::Failed => {
                tx.commit().await?;
                return Err(requests::start_failed(&allocation.reason));
            }
            _ => place(state, &mut tx, request, search).await?,
        },
    };
    tx.commit().await?;
    state.allocation.wake();
    if matches!(progress, Progress::Seated { .. }) {
        state.rooms.rooms_changed();
    }
    Ok(progress)
}

/// Until the transaction ends, no other request of any replica places itself. SQLite has one writer anyway.
async fn take_turn(state: &AppState, tx: &mut Transaction) -> ApiResult<()> {
    if !state.database.is_sqlite() {
        sqlx::query("SELECT CAST(1 AS BIGINT) FROM (SELECT pg_advisory_xact_lock(hashtext($1))) AS taken")
            .bind(format!("quick play {}", state.config.scope()))
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

/// Reserves seats, unless the room has none for the request.
async fn seat(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    room_id: &str,
) -> ApiResult<ControlFlow<Progress>> {
    match requests::reserve(state, tx, request, room_id).await {
        Ok(seated) => Ok(ControlFlow::Break(seated)),
        Err(error) if matches!(error.0.code, Code::RoomFull | Code::RoomNotFound | Code::RoomDraining) => {
            Ok(ControlFlow::Continue(()))
        }
        Err(error) => Err(error),
    }
}

async fn place(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    search: &Search,
) -> ApiResult<Progress> {
    requests::wait_for(state, tx, request, None).await?;
    if let Some(seated) = find(state, tx, request, search).await? {
        return Ok(seated);
    }
    let waiting = || Progress::Pending(RoomCreationStatus::Waiting, None);
    let Some((settings, room)) = state.allocation.settings().zip(search.room.as_ref()) else {
        return Ok(waiting());
    };
    if let Some(allocation_id) = starting(state, tx, request, search).await? {
        requests::wait_for(state, tx, request, Some(&allocation_id)).await?;
        return Ok(Progress::Pending(RoomCreationStatus::Starting, Some(allocation_id)));
    }
    if !settings.quick_play_creates || room.max_players.is_some_and(|most| most < request.seats) {
        return Ok(waiting());
    }
    create(state, tx, request, search, settings, room).await
}

/// A seat in the fullest room that fits.
async fn find(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    search: &Search,
) -> ApiResult<Option<Progress>> {
    let config = &state.config;
    let conditions = statement(&search.query, &state.database, &config.game, &config.environment)?;
    let mut found = sqlx::query(AssertSqlSafe(conditions.sql));
    for value in conditions.values {
        found = match value {
            Bind::Text(text) => found.bind(text),
            Bind::Number(number) => found.bind(number),
            Bind::Float(number) => found.bind(number),
        };
    }
    let rows = found.fetch_all(&mut *tx.conn).await?;
    for row in &rows {
        let room = room(row)?;
        if room.free_seats() >= request.seats
            && let ControlFlow::Break(seated) = seat(state, tx, request, &room.room_id).await?
        {
            return Ok(Some(seated));
        }
    }
    Ok(None)
}

/// A room that starts for others who search the same, and has seats left that nobody waits for.
async fn starting(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    search: &Search,
) -> ApiResult<Option<String>> {
    let row = sqlx::query(
        "SELECT allocation_id FROM allocations WHERE scope = $1 AND status IN ('requested', 'starting') AND ended_at IS NULL \
         AND quick_play_key = $2 AND max_players - (SELECT CAST(COALESCE(SUM(seats), 0) AS BIGINT) FROM room_requests \
         WHERE room_requests.allocation_id = allocations.allocation_id) >= $3 ORDER BY created_at, allocation_id LIMIT 1",
    )
    .bind(state.config.scope())
    .bind(&search.key)
    .bind(i64::from(request.seats))
    .fetch_optional(&mut *tx.conn)
    .await?;
    Ok(row.map(|row| row.try_get("allocation_id")).transpose()?)
}

async fn create(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    search: &Search,
    settings: &AllocationSettings,
    room: &RoomOptions,
) -> ApiResult<Progress> {
    match requests::check_creator(state, tx, settings, &request.claims.sub).await {
        Err(error) if matches!(error.0.code, Code::RoomLimitReached | Code::RoomCreationRefused) => {
            return Ok(Progress::Pending(RoomCreationStatus::Waiting, None));
        }
        checked => checked?,
    }
    let new = NewRoom {
        creator: &request.claims.sub,
        room,
        password_hash: None,
        quick_play_key: Some(&search.key),
        max_players: room.max_players.unwrap_or(settings.max_players),
    };
    let (allocation_id, ready) = requests::allocate(state, tx, settings, &new).await?;
    requests::wait_for(state, tx, request, Some(&allocation_id)).await?;
    match ready {
        Some(room_id) => requests::reserve(state, tx, request, &room_id).await,
        None => Ok(Progress::Pending(RoomCreationStatus::Requested, Some(allocation_id))),
    }
}
