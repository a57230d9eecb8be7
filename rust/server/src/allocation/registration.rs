//! What a registration and a heartbeat mean for the allocation that a server was started for.

use backend_protocol::Code;
use backend_protocol::registration::RegisterServer;
use backend_protocol::rooms::RoomOptions;
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

/// Finds what the server was started for and describes it as its room was requested. Refused if nobody waits for it any more.
pub async fn begin(
    state: &AppState,
    tx: &mut Transaction,
    entry: &mut RegisterServer,
) -> ApiResult<Option<RegisteringAllocation>> {
    let Some(allocation_id) = entry.allocation_id.clone() else { return Ok(None) };
    let scope = state.config.scope();
    let stored = records::find_for_update(&state.database, tx, &scope, &allocation_id).await?;
    let open = stored.filter(|stored| matches!(stored.status, Status::Starting | Status::Ready));
    let Some(stored) = open else {
        return Err(ApiError::new(
            Code::AllocationEnded,
            "nobody waits any more for what this server was started for; exit",
        ));
    };
    let assigned_room = match (&stored.server_id, stored.is_spare) {
        (_, true) => Some(SPARE.to_owned()),
        (None, false) => Some(json(&stored.room)?),
        (Some(server_id), false) => {
            let row = sqlx::query("SELECT assigned_room FROM servers WHERE server_id = $1")
                .bind(server_id)
                .fetch_optional(&mut *tx.conn)
                .await?;
            row.map(|row| row.try_get::<Option<String>, _>("assigned_room")).transpose()?.flatten()
        }
    };
    if assigned_room.is_some() {
        describe(entry, &stored.room);
    }
    let room = assigned_room.as_deref().and_then(assigned);
    Ok(Some(RegisteringAllocation { stored, assigned_room, room }))
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
    /// The hash of the password that the room was requested with.
    pub fn password_hash(&self) -> Option<String> {
        self.stored.password_hash.clone()
    }

    /// The server is on the list: the room is ready, and whoever waits for it has a seat.
    pub async fn complete(&self, state: &AppState, tx: &mut Transaction, server_id: &str) -> ApiResult<()> {
        if self.stored.status == Status::Ready {
            return Ok(());
        }
        sqlx::query("UPDATE allocations SET status = 'ready', server_id = $1 WHERE allocation_id = $2")
            .bind(server_id)
            .bind(&self.stored.allocation_id)
            .execute(&mut *tx.conn)
            .await?;
        let waiting = sqlx::query(
            "SELECT player_id, seats FROM room_requests WHERE allocation_id = $1 ORDER BY polled_at, player_id",
        )
        .bind(&self.stored.allocation_id)
        .fetch_all(&mut *tx.conn)
        .await?;
        for row in waiting {
            let player_id: String = row.try_get("player_id")?;
            let seats = u32::try_from(row.try_get::<i64, _>("seats")?).unwrap_or(1);
            let ticket_id = Tokens::new_id();
            let ticket_ms = i64::from(state.config.ticket_seconds) * 1000;
            let arrival = Arrival { player_id: &player_id, ticket_id: &ticket_id, ticket_ms };
            match seats::reserve(&state.database, tx, server_id, &arrival, seats).await {
                Ok(_party_code) => {}
                // The server has fewer places than it was started for.
                Err(error) if error.0.code == Code::RoomFull => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// After the commit.
    pub fn notify(&self, state: &AppState) {
        state.allocation.note_settled(&self.stored.allocation_id);
    }
}
