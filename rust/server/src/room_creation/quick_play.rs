//! Quick play: a seat in a room that fits, else in one that starts, else in a new one.
//!
//! Requests place themselves one after the other, across replicas: each sees where those before it have gone. So a crowd that comes at
//! once fills one room after the other, and a room is started only for those who fit into none.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::State;
use backend_protocol::rooms::{
    ABANDONED_AFTER_SECONDS, QuickPlay, Room, RoomCreation, RoomCreationStatus, RoomOptions, RoomQuery,
    RoomSort,
};
use backend_protocol::{Code, Problem};
use sqlx::{Any, AssertSqlSafe, Executor, Row};

use super::requests::{self, Progress, RoomRequest};
use crate::allocation::records::{self, NewRoom, Status, json};
use crate::allocation::settings::AllocationSettings;
use crate::auth::extractors::PlayerAuth;
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::{ApiResult, JsonBody};
use crate::rooms::growing_statement::Bind;
use crate::rooms::list::conditions::statement;
use crate::rooms::room;
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
        is_creation: false,
    };
    let search = Search { query, key: records::quick_play_key(&(&wanted.query, &room))?, room };
    let reply = requests::wait(&state, &request, wanted.wait_seconds, |has_arrived| {
        attempt(&state, &request, &search, has_arrived)
    });
    reply.await.map(Json)
}

struct Search {
    query: RoomQuery,
    /// What a new room is like.
    room: Option<RoomOptions>,
    /// Who searches the same waits for the same room.
    key: String,
}

impl Search {
    /// The settings, and what a new room is like, if one can be created for the request.
    fn new_room<'a>(
        &'a self,
        state: &'a AppState,
        request: &RoomRequest<'_>,
    ) -> Option<(&'a AllocationSettings, &'a RoomOptions)> {
        let (settings, room) = state.allocation.settings().zip(self.room.as_ref())?;
        let is_large_enough = room.max_players.is_none_or(|most| most >= request.seats);
        (settings.quick_play_creates && is_large_enough).then_some((settings, room))
    }
}

async fn attempt(
    state: &AppState,
    request: &RoomRequest<'_>,
    search: &Search,
    has_arrived: bool,
) -> ApiResult<Progress> {
    let stored = requests::find(state, request).await?;
    let allocation = stored.as_ref().and_then(|stored| stored.allocation.as_ref());
    let unchanged = match allocation {
        Some(allocation) => requests::pending(allocation),
        None => waiting(state, request, search).await?,
    };
    if let Some(progress) = unchanged {
        requests::note_repeated(state, request, stored.as_ref(), has_arrived).await?;
        return Ok(progress);
    }
    let _turn = state.allocation.placing.lock().await;
    let mut tx = state.database.begin().await?;
    take_turn(state, &mut tx).await?;
    let progress = match requests::enter(state, &mut tx, request).await? {
        None => place(state, &mut tx, request, search).await?,
        Some(allocation) => match (requests::pending(&allocation), &allocation.server_id) {
            (Some(pending), _) => pending,
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

/// Without holding back others: whether the request goes on waiting, because no room has seats for it, none starts, and none may be
/// created.
async fn waiting(
    state: &AppState,
    request: &RoomRequest<'_>,
    search: &Search,
) -> ApiResult<Option<Progress>> {
    if let Some((settings, _)) = search.new_room(state, request) {
        let mut conn = state.database.pool().acquire().await?;
        match requests::check_right(state, &mut conn, settings, &request.claims.sub).await {
            Err(error) if matches!(error.0.code, Code::RoomLimitReached | Code::RoomCreationRefused) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(None),
        }
    }
    let can_share = state.allocation.settings().is_some() && search.room.is_some();
    if can_share && starting(state, state.database.pool(), request, search).await?.is_some() {
        return Ok(None);
    }
    let (app, query) = (state.clone(), search.query.clone());
    let read = move |_key, waiters: Vec<()>| {
        let (state, query) = (app.clone(), query.clone());
        async move {
            let rooms = candidates(&state, state.database.pool(), &query).await?;
            let most = rooms.iter().map(Room::free_seats).max().unwrap_or_default();
            Ok(vec![most; waiters.len()])
        }
    };
    let free_seats = state.rooms.free_seats_loader.load(json(&search.query)?, (), read).await?;
    Ok((free_seats < request.seats).then_some(Progress::Pending(RoomCreationStatus::Waiting, None)))
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
    if state.allocation.settings().is_some() && search.room.is_some() {
        while let Some(allocation_id) = starting(state, &mut *tx.conn, request, search).await? {
            let scope = state.config.scope();
            let found = records::find_for_update(&state.database, tx, &scope, &allocation_id).await?;
            if let Some(pending) = found.as_ref().and_then(requests::pending) {
                requests::wait_for(state, tx, request, Some(&allocation_id)).await?;
                return Ok(pending);
            }
            // It became ready, or failed, in this moment, and is not found as starting again.
            if let Some(seated) = find(state, tx, request, search).await? {
                return Ok(seated);
            }
        }
    }
    match search.new_room(state, request) {
        Some((settings, room)) => create(state, tx, request, search, settings, room).await,
        None => Ok(Progress::Pending(RoomCreationStatus::Waiting, None)),
    }
}

/// The rooms that fit, in the order in which they are taken.
async fn candidates<'c>(
    state: &AppState,
    executor: impl Executor<'c, Database = Any>,
    query: &RoomQuery,
) -> ApiResult<Vec<Room>> {
    let config = &state.config;
    let conditions = statement(query, &state.database, &config.game, &config.environment)?;
    let mut found = sqlx::query(AssertSqlSafe(conditions.sql));
    for value in conditions.values {
        found = match value {
            Bind::Text(text) => found.bind(text),
            Bind::Number(number) => found.bind(number),
            Bind::Float(number) => found.bind(number),
        };
    }
    found.fetch_all(executor).await?.iter().map(room).collect()
}

/// A seat in the first room that fits.
async fn find(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    search: &Search,
) -> ApiResult<Option<Progress>> {
    for room in candidates(state, &mut *tx.conn, &search.query).await? {
        if room.free_seats() >= request.seats
            && let ControlFlow::Break(seated) = seat(state, tx, request, &room.room_id).await?
        {
            return Ok(Some(seated));
        }
    }
    Ok(None)
}

/// A room that starts for others who search the same, and has seats left that nobody waits for. Who is gone waits no more, and
/// whoever waits with several requests needs the seats of one.
async fn starting<'c>(
    state: &AppState,
    executor: impl Executor<'c, Database = Any>,
    request: &RoomRequest<'_>,
    search: &Search,
) -> ApiResult<Option<String>> {
    let sql = format!(
        "SELECT allocation_id FROM allocations WHERE scope = $1 AND status IN ('requested', 'starting') AND ended_at IS NULL \
         AND quick_play_key = $2 AND max_players - (SELECT CAST(COALESCE(SUM(seats), 0) AS BIGINT) FROM (SELECT MAX(seats) AS seats \
         FROM room_requests WHERE room_requests.allocation_id = allocations.allocation_id AND room_requests.polled_at >= {} - $4 \
         AND player_id <> $5 GROUP BY player_id) AS players) >= $3 \
         ORDER BY created_at, allocation_id LIMIT 1",
        state.database.clock()
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(state.config.scope())
        .bind(&search.key)
        .bind(i64::from(request.seats))
        .bind(i64::from(ABANDONED_AFTER_SECONDS) * 1000)
        .bind(&request.claims.sub)
        .fetch_optional(executor)
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
        creator: Some(&request.claims.sub),
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
