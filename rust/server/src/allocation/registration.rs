//! What a registration and a heartbeat mean for the allocation that a server was started for.

use std::collections::HashSet;

use backend_protocol::Code;
use backend_protocol::registration::RegisterServer;
use backend_protocol::rooms::{ABANDONED_AFTER_SECONDS, RoomOptions};
use sqlx::Row;

use super::records::{self, Status, StoredAllocation, json};
use crate::auth::tokens::Tokens;
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};
use crate::rooms::seats::{self, Arrival};
use crate::state::AppState;

/// What is stored of the assigned room of a spare that is nobody's yet.
pub const SPARE: &str = "";

/// The allocation of a server that registers.
pub struct RegisteringAllocation {
    stored: StoredAllocation,
    /// For `servers.assigned_room`.
    pub assigned_room: Option<String>,
    /// The room for the reply.
    pub room: Option<RoomOptions>,
}

/// Finds what the server was started for and describes it as its room was requested. Refused if nobody waits for it any more, or
/// another server is the room's.
pub async fn begin(
    state: &AppState,
    tx: &mut Transaction,
    key_hash: &str,
    entry: &mut RegisterServer,
) -> ApiResult<Option<RegisteringAllocation>> {
    let Some(allocation_id) = entry.allocation_id.clone() else { return Ok(None) };
    let scope = state.config.scope();
    let stored = records::find_for_update(&state.database, tx, &scope, &allocation_id).await?;
    let open = stored.filter(|stored| matches!(stored.status, Status::Starting | Status::Ready));
    let Some(stored) = open else {
        return Err(ended("nobody waits any more for what this server was started for; exit"));
    };
    let registered = match &stored.server_id {
        None => None,
        Some(server_id) => Some(registered_room(tx, server_id, key_hash, &entry.instance_id).await?),
    };
    let assigned_room = match (registered, stored.is_spare) {
        (_, true) => Some(SPARE.to_owned()),
        (None, false) => Some(json(&stored.room)?),
        (Some(assigned_room), false) => assigned_room,
    };
    if assigned_room.is_some() {
        describe(entry, &stored.room);
    }
    let room = assigned_room.as_deref().and_then(assigned);
    Ok(Some(RegisteringAllocation { stored, assigned_room, room }))
}

/// What the registered server of an allocation has yet to take over. Refused for any other server: the room is over when its own is
/// gone.
async fn registered_room(
    tx: &mut Transaction,
    server_id: &str,
    key_hash: &str,
    instance_id: &str,
) -> ApiResult<Option<String>> {
    let row = sqlx::query(
        "SELECT assigned_room FROM servers WHERE server_id = $1 AND key_hash = $2 AND instance_id = $3",
    )
    .bind(server_id)
    .bind(key_hash)
    .bind(instance_id)
    .fetch_optional(&mut *tx.conn)
    .await?
    .ok_or_else(|| ended("another server has registered for the room that this one was started for; exit"))?;
    Ok(row.try_get("assigned_room")?)
}

fn ended(detail: &str) -> ApiError {
    ApiError::new(Code::AllocationEnded, detail)
}

/// The room as a server receives it. None: it has it already, or is nobody's yet.
pub fn assigned(stored: &str) -> Option<RoomOptions> {
    (stored != SPARE).then(|| serde_json::from_str(stored).ok()).flatten()
}

fn describe(entry: &mut RegisterServer, room: &RoomOptions) {
    for (own, requested) in
        [(&mut entry.name, &room.name), (&mut entry.map, &room.map), (&mut entry.mode, &room.mode)]
    {
        if !requested.is_empty() {
            own.clone_from(requested);
        }
    }
    if !room.tags.is_empty() {
        entry.tags.clone_from(&room.tags);
    }
    if !room.attributes.is_empty() {
        entry.attributes.clone_from(&room.attributes);
    }
    entry.visibility = room.visibility;
    if let Some(max_players) = room.max_players {
        entry.max_players = max_players;
    }
}

impl RegisteringAllocation {
    /// The hash of the password that the room was requested with, until the server has taken the room over: it may have changed since.
    pub fn password_hash(&self) -> Option<String> {
        self.stored.password_hash.clone().filter(|_| self.assigned_room.is_some())
    }

    /// The server is on the list: the room is ready, and whoever waits for it has a seat. Returns the rooms that have changed, for
    /// the transaction to record at its end, once for all: each player may have left a seat elsewhere.
    pub async fn complete(
        &self,
        state: &AppState,
        tx: &mut Transaction,
        server_id: &str,
    ) -> ApiResult<Vec<String>> {
        let mut changed = vec![server_id.to_owned()];
        if self.stored.status == Status::Ready {
            return Ok(changed);
        }
        sqlx::query("UPDATE allocations SET status = 'ready', server_id = $1 WHERE allocation_id = $2")
            .bind(server_id)
            .bind(&self.stored.allocation_id)
            .execute(&mut *tx.conn)
            .await?;
        // Those whose clients are gone take no seat from others, and keep what they have elsewhere.
        let waiting = sqlx::query(
            "SELECT player_id, request_id, seats FROM room_requests WHERE allocation_id = $1 AND polled_at >= $2 \
             ORDER BY polled_at DESC, player_id",
        )
        .bind(&self.stored.allocation_id)
        .bind(tx.now - i64::from(ABANDONED_AFTER_SECONDS) * 1000)
        .fetch_all(&mut *tx.conn)
        .await?;
        let player_ids =
            waiting.iter().map(|row| row.try_get("player_id")).collect::<sqlx::Result<Vec<String>>>()?;
        seats::lock_reserved(&state.database, tx, &player_ids).await?;
        let scope = state.config.scope();
        let mut seated = HashSet::new();
        for row in waiting {
            let (player_id, request_id): (String, String) =
                (row.try_get("player_id")?, row.try_get("request_id")?);
            // Of several requests of a player, the one that was repeated last.
            if !seated.insert(player_id.clone()) {
                continue;
            }
            let seats = u32::try_from(row.try_get::<i64, _>("seats")?).unwrap_or(1);
            let ticket_id = Tokens::new_id();
            let ticket_ms = i64::from(state.config.ticket_seconds) * 1000;
            let arrival = Arrival { player_id: &player_id, ticket_id: &ticket_id, ticket_ms };
            match seats::reserve_unrecorded(&state.database, tx, server_id, &arrival, seats).await {
                Ok((_party_code, rooms)) => {
                    changed.extend(rooms);
                    note_ticket(tx, &scope, &player_id, &request_id, &ticket_id).await?;
                }
                // The server has fewer places than it was started for.
                Err(error) if error.0.code == Code::RoomFull => {}
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    /// After the commit.
    pub fn notify(&self, state: &AppState) {
        state.allocation.note_settled(&self.stored.allocation_id);
    }
}

/// Notes for which ticket a request has reserved a seat, so that its cancellation gives back this seat and no later one.
pub async fn note_ticket(
    tx: &mut Transaction,
    scope: &str,
    player_id: &str,
    request_id: &str,
    ticket_id: &str,
) -> ApiResult<()> {
    sqlx::query(
        "UPDATE room_requests SET ticket_id = $1 WHERE scope = $2 AND player_id = $3 AND request_id = $4",
    )
    .bind(ticket_id)
    .bind(scope)
    .bind(player_id)
    .bind(request_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}
