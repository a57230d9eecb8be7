//! Players who wait for a room: what creation and quick play have in common.
//!
//! A request is repeated under its id until there is a ticket, and each repetition waits a while for it. What it waits for is in the
//! database, so that any replica may answer the next repetition.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::rooms::{
    DEFAULT_WAIT_SECONDS, JoinTicket, RoomCreation, RoomCreationStatus, RoomOptions,
};
use backend_protocol::validation::Claims;
use backend_protocol::{Code, Problem, limits};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use tokio::time::Instant;

use crate::allocation::records::{self, NewRoom, Status, StoredAllocation};
use crate::allocation::registration::note_ticket;
use crate::allocation::settings::{AllocationSettings, Creators};
use crate::allocation::spares;
use crate::auth::extractors::PlayerAuth;
use crate::auth::tokens::Tokens;
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};
use crate::rooms::live::live;
use crate::rooms::seats::{self, Arrival};
use crate::rooms::{attempt_limits, changes, tickets};
use crate::state::AppState;

/// Repetitions are noted this often while a request waits. Well below the time after which it counts as given up.
const NOTED_EVERY_MS: i64 = 10_000;

/// A request that is repeated until there is a ticket.
pub struct RoomRequest<'a> {
    pub claims: &'a Claims,
    pub request_id: &'a str,
    /// Tells another request under the same id.
    pub hash: &'a str,
    pub seats: u32,
    /// Whether the room is the player's own, who then gets its invite code.
    pub is_creation: bool,
}

/// How far a request is.
pub enum Progress {
    /// A seat is reserved in this room, with the code for the others of the party.
    Seated { room_id: String, ticket_id: String, party_code: Option<String> },
    /// Not yet. The allocation that it waits for, if there is one.
    Pending(RoomCreationStatus, Option<String>),
}

/// Repeats `attempt` until there is a seat or the time is over. `attempt` is passed whether the request has just arrived.
pub async fn wait<F: Future<Output = ApiResult<Progress>>>(
    state: &AppState,
    request: &RoomRequest<'_>,
    wait_seconds: Option<u32>,
    attempt: impl Fn(bool) -> F,
) -> ApiResult<RoomCreation> {
    let until = Instant::now() + Duration::from_secs(wait_seconds.unwrap_or(DEFAULT_WAIT_SECONDS).into());
    let waiting = state.allocation.waiting.enter(&request.claims.sub);
    let mut has_arrived = true;
    loop {
        let mut changes = state.allocation.changes();
        let (status, allocation_id) = match attempt(has_arrived).await? {
            Progress::Seated { room_id, ticket_id, party_code } => {
                match ticket(state, request, room_id, &ticket_id, party_code).await {
                    Ok(ticket) => {
                        return Ok(RoomCreation { status: RoomCreationStatus::Ready, ticket: Some(ticket) });
                    }
                    // It ended in this moment.
                    Err(error) if error.0.code == Code::RoomNotFound => (RoomCreationStatus::Waiting, None),
                    Err(error) => return Err(error),
                }
            }
            Progress::Pending(status, allocation_id) => (status, allocation_id),
        };
        has_arrived = false;
        let (allocation, allocation_id) = (&state.allocation, allocation_id.as_deref());
        let stops = || state.is_stopping();
        if !waiting.is_to_look_again(allocation, &mut changes, allocation_id, until, stops).await {
            return Ok(RoomCreation { status, ticket: None });
        }
    }
}

/// What is stored of a request.
pub struct StoredRequest {
    pub allocation: Option<StoredAllocation>,
    /// Whether a repetition was noted a short time ago.
    is_fresh: bool,
}

/// Reads what is stored of a request, without a transaction. Refuses another request under the same id.
pub async fn find(state: &AppState, request: &RoomRequest<'_>) -> ApiResult<Option<StoredRequest>> {
    let sql = format!(
        "SELECT allocations.*, room_requests.request_hash, \
         CAST(CASE WHEN room_requests.polled_at > {} - $4 THEN 1 ELSE 0 END AS BIGINT) AS fresh \
         FROM room_requests LEFT JOIN allocations ON allocations.allocation_id = room_requests.allocation_id \
         AND allocations.scope = room_requests.scope \
         WHERE room_requests.scope = $1 AND room_requests.player_id = $2 AND room_requests.request_id = $3",
        state.database.clock()
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(state.config.scope())
        .bind(&request.claims.sub)
        .bind(request.request_id)
        .bind(NOTED_EVERY_MS)
        .fetch_optional(state.database.pool())
        .await?;
    let Some(row) = row else { return Ok(None) };
    check_hash(request, &row)?;
    let has_allocation = row.try_get::<Option<String>, _>("allocation_id")?.is_some();
    Ok(Some(StoredRequest {
        allocation: has_allocation.then(|| StoredAllocation::of(&row)).transpose()?,
        is_fresh: row.try_get::<i64, _>("fresh")? != 0,
    }))
}

fn check_hash(request: &RoomRequest<'_>, row: &AnyRow) -> ApiResult<()> {
    if row.try_get::<String, _>("request_hash")? != request.hash {
        return Err(ApiError::field("request_id", "came with another request before; choose a new one"));
    }
    Ok(())
}

/// Notes that a request which goes on waiting was repeated, unless that was noted a short time ago and it has not just arrived.
pub async fn note_repeated(
    state: &AppState,
    request: &RoomRequest<'_>,
    stored: Option<&StoredRequest>,
    has_arrived: bool,
) -> ApiResult<()> {
    if has_arrived || !stored.is_some_and(|stored| stored.is_fresh) {
        let mut tx = state.database.begin().await?;
        enter(state, &mut tx, request).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn ticket(
    state: &AppState,
    request: &RoomRequest<'_>,
    room_id: String,
    ticket_id: &str,
    party_code: Option<String>,
) -> ApiResult<JoinTicket> {
    let live = live(state, room_id).await?;
    let mut ticket = tickets::signed(state, request.claims, &live, ticket_id, party_code)?;
    if request.is_creation {
        ticket.invite_code.clone_from(&live.invite_code);
    }
    Ok(ticket)
}

/// Reserves the seats of a request.
pub async fn reserve(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    room_id: &str,
) -> ApiResult<Progress> {
    let ticket_id = Tokens::new_id();
    let ticket_ms = i64::from(state.config.ticket_seconds) * 1000;
    let arrival = Arrival { player_id: &request.claims.sub, ticket_id: &ticket_id, ticket_ms };
    let counted = attempt_limits::reserve_seats(&state.rate_limits, request.seats)?;
    let party_code = seats::reserve(&state.database, tx, room_id, &arrival, request.seats)
        .await
        .inspect_err(|_| counted.give_back())?;
    note_ticket(tx, &state.config.scope(), &request.claims.sub, request.request_id, &ticket_id).await?;
    Ok(Progress::Seated { room_id: room_id.to_owned(), ticket_id, party_code })
}

/// Stores the request, or that it was repeated. Returns the allocation that it waits for; refuses another request under the same id.
pub async fn enter(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
) -> ApiResult<Option<StoredAllocation>> {
    let scope = state.config.scope();
    // Of two repetitions at the same time, one waits here for the other.
    let row = sqlx::query(
        "INSERT INTO room_requests (scope, player_id, request_id, request_hash, seats, polled_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope, player_id, request_id) DO UPDATE SET polled_at = excluded.polled_at \
         RETURNING request_hash, allocation_id",
    )
    .bind(&scope)
    .bind(&request.claims.sub)
    .bind(request.request_id)
    .bind(request.hash)
    .bind(i64::from(request.seats))
    .bind(tx.now)
    .fetch_one(&mut *tx.conn)
    .await?;
    check_hash(request, &row)?;
    match row.try_get::<Option<String>, _>("allocation_id")? {
        None => Ok(None),
        Some(allocation_id) => {
            let sql = "SELECT * FROM allocations WHERE allocation_id = $1 AND scope = $2";
            let row = sqlx::query(sql).bind(allocation_id).bind(scope).fetch_optional(&mut *tx.conn).await?;
            row.map(|row| StoredAllocation::of(&row)).transpose()
        }
    }
}

/// Notes which allocation the request waits for.
pub async fn wait_for(
    state: &AppState,
    tx: &mut Transaction,
    request: &RoomRequest<'_>,
    allocation_id: Option<&str>,
) -> ApiResult<()> {
    sqlx::query(
        "UPDATE room_requests SET allocation_id = $1 WHERE scope = $2 AND player_id = $3 AND request_id = $4",
    )
    .bind(allocation_id)
    .bind(state.config.scope())
    .bind(&request.claims.sub)
    .bind(request.request_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

pub fn start_failed(reason: &str) -> ApiError {
    ApiError::new(Code::RoomStartFailed, format!("the room's server did not start: {reason}"))
}

/// How far a request is that waits for this allocation, as long as the room starts.
pub fn pending(allocation: &StoredAllocation) -> Option<Progress> {
    let status = match allocation.status {
        Status::Requested => RoomCreationStatus::Requested,
        Status::Starting => RoomCreationStatus::Starting,
        Status::Ready | Status::Failed | Status::Ended => return None,
    };
    Some(Progress::Pending(status, Some(allocation.allocation_id.clone())))
}

/// The options with everything that a server has to know.
pub fn resolved(settings: &AllocationSettings, room: &RoomOptions) -> ApiResult<RoomOptions> {
    let most = settings.max_players;
    let max_players = room.max_players.unwrap_or(most);
    if max_players > most {
        return Err(ApiError::field("room.max_players", &format!("must be 1 to {most} here")));
    }
    Ok(RoomOptions { max_players: Some(max_players), ..room.clone() })
}

/// Whether the player may create another room. Holds back other requests of the same player until the transaction ends.
pub async fn check_creator(
    state: &AppState,
    tx: &mut Transaction,
    settings: &AllocationSettings,
    player_id: &str,
) -> ApiResult<()> {
    let sql = format!("SELECT player_id FROM players WHERE player_id = $1{}", state.database.for_update());
    sqlx::query(AssertSqlSafe(sql)).bind(player_id).fetch_optional(&mut *tx.conn).await?;
    check_right(state, &mut tx.conn, settings, player_id).await
}

/// Whether the player may create another room, as far as can be known without a transaction.
pub async fn check_right(
    state: &AppState,
    conn: &mut AnyConnection,
    settings: &AllocationSettings,
    player_id: &str,
) -> ApiResult<()> {
    let row = sqlx::query(
        "SELECT CAST(CASE WHEN password_hash IS NOT NULL OR EXISTS (SELECT 1 FROM identities WHERE identities.player_id = players.player_id) \
         THEN 1 ELSE 0 END AS BIGINT) AS has_account FROM players WHERE player_id = $1",
    )
    .bind(player_id)
    .fetch_optional(&mut *conn)
    .await?;
    let has_account = match row {
        Some(row) => row.try_get::<i64, _>("has_account")? != 0,
        None => false,
    };
    if settings.creators == Creators::Accounts && !has_account {
        return Err(ApiError::new(
            Code::RoomCreationRefused,
            "guests create no rooms here; link the account to a password or a platform first",
        ));
    }
    if settings.rooms_per_player > 0 {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM allocations WHERE creator = $1 AND scope = $2 AND ended_at IS NULL",
        )
        .bind(player_id)
        .bind(state.config.scope())
        .fetch_one(&mut *conn)
        .await?;
        let count: i64 = row.try_get(0)?;
        if count >= i64::from(settings.rooms_per_player) {
            return Err(ApiError::new(
                Code::RoomLimitReached,
                format!(
                    "the player has {count} rooms, the most that one may have here; they end when they are empty"
                ),
            ));
        }
    }
    Ok(())
}

/// Takes a spare, or requests a server. Returns the allocation, and the room if it is ready.
pub async fn allocate(
    state: &AppState,
    tx: &mut Transaction,
    settings: &AllocationSettings,
    new: &NewRoom<'_>,
) -> ApiResult<(String, Option<String>)> {
    if let Some((allocation_id, server_id)) = spares::take(state, tx, new).await? {
        return Ok((allocation_id, Some(server_id)));
    }
    let allocation_id = records::insert(tx, &state.config.scope(), settings, new).await?;
    state.allocation.note_pending(&allocation_id);
    Ok((allocation_id, None))
}

/// Gives up a request for a room. A server that nobody waits for any more is stopped.
#[utoipa::path(delete, path = "/v1/rooms/requests/{request_id}", operation_id = "rooms_cancel_request", tag = "rooms",
    params(("request_id" = String, Path)), security(("access_token" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub async fn cancel(
    State(state): State<AppState>,
    player: PlayerAuth,
    Path(request_id): Path<String>,
) -> ApiResult<StatusCode> {
    limits::identifier("request_id", &request_id, 64)?;
    let (scope, player_id) = (state.config.scope(), &player.0.sub);
    let mut tx = state.database.begin().await?;
    let row = sqlx::query(
        "DELETE FROM room_requests WHERE scope = $1 AND player_id = $2 AND request_id = $3 RETURNING allocation_id, ticket_id",
    )
    .bind(&scope)
    .bind(player_id)
    .bind(&request_id)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let stored = |column: &str| -> sqlx::Result<Option<String>> {
        Ok(row.as_ref().map(|row| row.try_get::<Option<String>, _>(column)).transpose()?.flatten())
    };
    let (allocation_id, ticket_id) = (stored("allocation_id")?, stored("ticket_id")?);
    if let Some(allocation_id) = &allocation_id {
        give_up(&state, &mut tx, allocation_id, player_id, ticket_id.as_deref()).await?;
    }
    tx.commit().await?;
    if let Some(allocation_id) = &allocation_id {
        state.allocation.note_settled(allocation_id);
        state.allocation.wake();
        state.rooms.rooms_changed();
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn give_up(
    state: &AppState,
    tx: &mut Transaction,
    allocation_id: &str,
    player_id: &str,
    ticket_id: Option<&str>,
) -> ApiResult<()> {
    let scope = state.config.scope();
    let stored = records::find_for_update(&state.database, tx, &scope, allocation_id).await?;
    let Some(stored) = stored else { return Ok(()) };
    let others = sqlx::query("SELECT COUNT(*) FROM room_requests WHERE allocation_id = $1")
        .bind(allocation_id)
        .fetch_one(&mut *tx.conn)
        .await?;
    let is_last = others.try_get::<i64, _>(0)? == 0;
    if is_last && records::fail(tx, allocation_id, "it was given up").await? {
        return Ok(());
    }
    let Some(server_id) = stored.server_id.filter(|_| stored.status == Status::Ready) else { return Ok(()) };
    // Before its seats, as everywhere.
    let sql = format!("SELECT server_id FROM servers WHERE server_id = $1{}", state.database.for_update());
    sqlx::query(AssertSqlSafe(sql)).bind(&server_id).fetch_optional(&mut *tx.conn).await?;
    // A later request of the player may have a seat in the same room.
    let given_back =
        sqlx::query("DELETE FROM seats WHERE server_id = $1 AND player_id = $2 AND seat_id = $3")
            .bind(&server_id)
            .bind(player_id)
            .bind(ticket_id)
            .execute(&mut *tx.conn)
            .await?;
    if given_back.rows_affected() > 0 {
        sqlx::query("DELETE FROM seats WHERE server_id = $1 AND leader_id = $2 AND player_id IS NULL")
            .bind(&server_id)
            .bind(player_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    let is_own = stored.creator.as_deref() == Some(player_id);
    if is_last && is_own && records::is_empty(&state.database, tx, &server_id, true).await? {
        records::end(tx, allocation_id, "it was given up").await?;
        return Ok(());
    }
    changes::record(&state.database, tx, &[server_id]).await?;
    Ok(())
}
