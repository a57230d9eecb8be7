//! A room that is created for a match. The players of the match wait for it as those of quick play do, so that its server is given up
//! when they are gone, and so that their seats are reserved in the moment in which it is there.

use backend_protocol::rooms::{RoomOptions, RoomVisibility};
use sqlx::{AssertSqlSafe, Row};

use super::{Waiting, end, lock};
use crate::allocation::records::{self, NewRoom, Status, StoredAllocation};
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::matchmaking::settings::Matchmaker;
use crate::room_creation::requests;
use crate::rooms::seats;
use crate::state::AppState;

/// A server that did not start is followed by the next one after this time.
const RETRY_MS: i64 = 10_000;

/// The room that was requested for a match last.
pub struct CreatedRoom {
    allocation: StoredAllocation,
    ended_at: Option<i64>,
}

impl CreatedRoom {
    /// The room, if it is there.
    pub fn ready(&self) -> Option<&str> {
        self.allocation.server_id.as_deref().filter(|_| self.allocation.status == Status::Ready)
    }

    /// The allocation of a room that is not there yet.
    pub fn starting(&self) -> Option<&str> {
        let is_starting = matches!(self.allocation.status, Status::Requested | Status::Starting);
        is_starting.then_some(self.allocation.allocation_id.as_str())
    }
}

/// Locks the allocation, so that its server does not register meanwhile. True: it has registered.
pub async fn lock_is_ready(state: &AppState, tx: &mut Transaction, allocation_id: &str) -> ApiResult<bool> {
    let scope = state.config.scope();
    let stored = records::find_for_update(&state.database, tx, &scope, allocation_id).await?;
    Ok(stored.is_some_and(|stored| stored.status == Status::Ready))
}

/// What the requests of a match are called. No client can name one like that.
fn request_id(waiting: &Waiting) -> String {
    format!("match:{}", waiting.match_id)
}

const FIND: &str = "SELECT allocations.* FROM room_requests JOIN allocations \
     ON allocations.allocation_id = room_requests.allocation_id AND allocations.scope = room_requests.scope \
     WHERE room_requests.scope = $1 AND room_requests.player_id = $2 AND room_requests.request_id = $3";

/// The room that was requested for the match.
pub async fn find(state: &AppState, waiting: &Waiting) -> ApiResult<Option<CreatedRoom>> {
    let mut connection = state.database.pool().acquire().await?;
    read(state, &mut connection, waiting).await
}

async fn read(
    state: &AppState,
    connection: &mut sqlx::AnyConnection,
    waiting: &Waiting,
) -> ApiResult<Option<CreatedRoom>> {
    let row = sqlx::query(FIND)
        .bind(state.config.scope())
        .bind(waiting.player_ids.first())
        .bind(request_id(waiting))
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(CreatedRoom { allocation: StoredAllocation::of(&row)?, ended_at: row.try_get("ended_at")? }))
}

/// Requests a room for the match, or notes that the match still waits for the one that starts. True: the match was placed.
pub async fn request(state: &AppState, matchmaker: &Matchmaker, waiting: &Waiting) -> ApiResult<bool> {
    let Some(settings) = state.allocation.settings() else { return Ok(false) };
    let Some(places) = u32::try_from(waiting.seats()).ok().filter(|seats| *seats <= settings.max_players)
    else {
        return Ok(false);
    };
    let mut tx = state.database.begin().await?;
    if waiting.deadline <= tx.now {
        return Ok(false);
    }
    if !lock(state, &mut tx, waiting).await? {
        return Ok(true);
    }
    let before = read(state, &mut tx.conn, waiting).await?;
    if let Some(before) = &before {
        match before.allocation.status {
            Status::Requested | Status::Starting => {
                wait_for(state, &mut tx, waiting, &before.allocation.allocation_id).await?;
                tx.commit().await?;
                return Ok(false);
            }
            // It is there, and does not take the players.
            Status::Ready => return Ok(false),
            Status::Failed | Status::Ended => {
                if before.ended_at.is_some_and(|ended_at| ended_at + RETRY_MS > tx.now) {
                    return Ok(false);
                }
            }
        }
    }
    let shared = matchmaker.room.shared;
    let room = RoomOptions {
        mode: matchmaker.room.mode.clone().unwrap_or_default(),
        map: matchmaker.room.map.clone().unwrap_or_default(),
        max_players: Some(if shared { settings.max_players } else { places }),
        // Others find it only if they are to come.
        visibility: if shared { RoomVisibility::Public } else { RoomVisibility::Unlisted },
        ..RoomOptions::default()
    };
    let new = NewRoom {
        creator: None,
        room: &room,
        password_hash: None,
        quick_play_key: None,
        max_players: room.max_players.unwrap_or(places),
    };
    let (allocation_id, ready) = requests::allocate(state, &mut tx, settings, &new).await?;
    wait_for(state, &mut tx, waiting, &allocation_id).await?;
    let is_placed = match ready {
        None => false,
        Some(room_id) => {
            let wanted = waiting.wanted(state, false);
            let reserved = seats::reserve_for_match(&state.database, &mut tx, &room_id, &wanted).await?;
            if reserved.is_some() {
                end(state, &mut tx, waiting, Some(&room_id)).await?;
            }
            reserved.is_some()
        }
    };
    tx.commit().await?;
    state.allocation.wake();
    if is_placed {
        state.rooms.rooms_changed();
    }
    Ok(is_placed)
}

/// Notes that the players of the match wait for the room.
async fn wait_for(
    state: &AppState,
    tx: &mut Transaction,
    waiting: &Waiting,
    allocation_id: &str,
) -> ApiResult<()> {
    // In one order, so that no two transactions wait for each other.
    let mut player_ids: Vec<&String> = waiting.player_ids.iter().collect();
    player_ids.sort_unstable();
    for player_id in player_ids {
        sqlx::query(
            "INSERT INTO room_requests (scope, player_id, request_id, request_hash, allocation_id, seats, polled_at) \
             VALUES ($1, $2, $3, '', $4, 1, $5) ON CONFLICT (scope, player_id, request_id) \
             DO UPDATE SET allocation_id = excluded.allocation_id, polled_at = excluded.polled_at",
        )
        .bind(state.config.scope())
        .bind(player_id)
        .bind(request_id(waiting))
        .bind(allocation_id)
        .bind(tx.now)
        .execute(&mut *tx.conn)
        .await?;
    }
    Ok(())
}

/// The match waits no more. A server that was to start for it is given up.
pub async fn forget(state: &AppState, tx: &mut Transaction, waiting: &Waiting) -> ApiResult<()> {
    let sql = format!(
        "DELETE FROM room_requests WHERE scope = $1 AND request_id = $2 AND player_id {}",
        state.database.is_in("$3")
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(state.config.scope())
        .bind(request_id(waiting))
        .bind(serde_json::to_string(&waiting.player_ids).map_err(anyhow::Error::from)?)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
