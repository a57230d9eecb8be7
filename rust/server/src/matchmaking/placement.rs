//! Rooms for matches. A match gets its room together with the seats of its players, which nobody else takes until their tickets
//! would have expired. This is all that matchmaking knows of rooms: another way of getting one takes its place here.

mod created_room;

use backend_matchmaking::Match;
use backend_protocol::matchmaking::MatchmakingStatus;
use sqlx::{AssertSqlSafe, Row};

use super::settings::{Matchmaker, PLACED_MS};
use super::{optional, tickets};
use crate::allocation::records;
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::rooms;
use crate::rooms::seats::{self, MatchSeats};
use crate::state::AppState;

/// Rooms that are looked at.
const MAX_CANDIDATES: u32 = 200;

/// A match that waits for a room.
struct Waiting {
    match_id: String,
    formed: Match,
    /// Who comes.
    player_ids: Vec<String>,
    /// Seats for bots, and for players who come later.
    unnamed: u32,
    deadline: i64,
}

impl Waiting {
    fn of(row: &sqlx::any::AnyRow) -> ApiResult<Self> {
        let details: String = row.try_get("details")?;
        let formed: Match = serde_json::from_str(&details).map_err(anyhow::Error::from)?;
        let is_bot = |ticket_id: &String| !formed.tickets.contains(ticket_id);
        // Those of a running game sit there already.
        let comes = |ticket_id: &String| !is_bot(ticket_id) && formed.backfill.as_ref() != Some(ticket_id);
        let mut player_ids: Vec<String> = Vec::with_capacity(formed.players.len());
        player_ids.extend(
            formed.players.iter().filter(|one| comes(&one.ticket_id)).map(|one| one.player_id.clone()),
        );
        let bots = formed.players.iter().filter(|one| is_bot(&one.ticket_id)).count() as i64;
        let later = match formed.backfill {
            Some(_) => 0,
            None => row.try_get::<i64, _>("seats")? - formed.players.len() as i64,
        };
        let unnamed = u32::try_from(bots + later).unwrap_or_default();
        let (match_id, deadline) = (row.try_get("match_id")?, row.try_get("deadline")?);
        Ok(Self { match_id, formed, player_ids, unnamed, deadline })
    }

    fn seats(&self) -> i64 {
        self.player_ids.len() as i64 + i64::from(self.unnamed)
    }

    fn wanted(&self, state: &AppState, is_alone: bool) -> MatchSeats<'_> {
        let ticket_ms = i64::from(state.config.ticket_seconds) * 1000;
        MatchSeats { player_ids: &self.player_ids, unnamed: self.unnamed, is_alone, ticket_ms }
    }
}

/// Places the matches of a matchmaker that wait for a room, each in a transaction of its own: so none holds the row of more than one
/// room, and no two of them wait for each other.
pub async fn place_matches(state: &AppState, matchmaker: &Matchmaker) -> ApiResult<()> {
    let rows = sqlx::query(
        "SELECT match_id, details, seats, deadline FROM matchmaking_matches \
         WHERE scope = $1 AND matchmaker = $2 AND status = 'placing' ORDER BY deadline, match_id",
    )
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .fetch_all(state.database.pool())
    .await?;
    for row in &rows {
        place(state, matchmaker, &Waiting::of(row)?).await?;
    }
    Ok(())
}

/// Gives a match its room, or ends it when there was none in time.
async fn place(state: &AppState, matchmaker: &Matchmaker, waiting: &Waiting) -> ApiResult<()> {
    if let Some(backfill) = &waiting.formed.backfill {
        let room = running_game(state, backfill).await?;
        if let Some(room_id) = room
            && take(state, waiting, &room_id, false, None).await?
        {
            return Ok(());
        }
    } else {
        let own = created_room::find(state, waiting).await?;
        if let Some(room_id) = own.as_ref().and_then(created_room::CreatedRoom::ready)
            && take(state, waiting, room_id, false, None).await?
        {
            return Ok(());
        }
        let starting = own.as_ref().and_then(created_room::CreatedRoom::starting);
        for room_id in candidates(state, matchmaker, waiting).await? {
            if take(state, waiting, &room_id, !matchmaker.room.shared, starting).await? {
                return Ok(());
            }
        }
        if matchmaker.room.create && created_room::request(state, matchmaker, waiting).await? {
            return Ok(());
        }
    }
    fail_if_late(state, waiting).await
}

/// Places the match in the room, if the room takes its players. The server that starts for it is given up. True: nothing is left to be
/// done for the match.
async fn take(
    state: &AppState,
    waiting: &Waiting,
    room_id: &str,
    is_alone: bool,
    starting: Option<&str>,
) -> ApiResult<bool> {
    let mut tx = state.database.begin().await?;
    if !lock(state, &mut tx, waiting).await? {
        return Ok(true);
    }
    if let Some(allocation_id) = starting
        && created_room::lock_is_ready(state, &mut tx, allocation_id).await?
    {
        // The players have their seats there, and the next pass places them.
        return Ok(false);
    }
    let wanted = waiting.wanted(state, is_alone);
    if seats::reserve_for_match(&state.database, &mut tx, room_id, &wanted).await?.is_none() {
        return Ok(false);
    }
    end(state, &mut tx, waiting, Some(room_id)).await?;
    if let Some(allocation_id) = starting {
        records::fail(&mut tx, allocation_id, "its match has another room").await?;
    }
    tx.commit().await?;
    if let Some(allocation_id) = starting {
        state.allocation.note_settled(allocation_id);
        state.allocation.wake();
    }
    state.rooms.rooms_changed();
    Ok(true)
}

/// Locks the match. False: another replica has ended it.
async fn lock(state: &AppState, tx: &mut Transaction, waiting: &Waiting) -> sqlx::Result<bool> {
    let sql = format!(
        "SELECT match_id FROM matchmaking_matches WHERE match_id = $1 AND status = 'placing'{}",
        state.database.for_update()
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(&waiting.match_id).fetch_optional(&mut *tx.conn).await?;
    Ok(row.is_some())
}

async fn fail_if_late(state: &AppState, waiting: &Waiting) -> ApiResult<()> {
    let now = state.database.now().await?;
    if waiting.deadline > now {
        return Ok(());
    }
    let mut tx = state.database.begin().await?;
    if lock(state, &mut tx, waiting).await? {
        end(state, &mut tx, waiting, None).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Ends the tickets of a match: with its room, or because there was none.
async fn end(
    state: &AppState,
    tx: &mut Transaction,
    waiting: &Waiting,
    room_id: Option<&str>,
) -> ApiResult<()> {
    let (status, reason) = match room_id {
        Some(_) => (MatchmakingStatus::Completed, ""),
        None => (MatchmakingStatus::Failed, "no_room"),
    };
    // In one order, so that no two transactions wait for each other.
    let mut ticket_ids: Vec<&String> = waiting.formed.tickets.iter().collect();
    ticket_ids.sort_unstable();
    for ticket_id in ticket_ids {
        tickets::end(tx, ticket_id, status, reason).await?;
        sqlx::query("UPDATE matchmaking_tickets SET server_id = $1 WHERE ticket_id = $2")
            .bind(room_id)
            .bind(ticket_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    sqlx::query(
        "UPDATE matchmaking_matches SET status = $1, server_id = $2, deadline = $3 WHERE match_id = $4",
    )
    .bind(if room_id.is_some() { "placed" } else { "failed" })
    .bind(room_id)
    .bind(tx.now + PLACED_MS)
    .bind(&waiting.match_id)
    .execute(&mut *tx.conn)
    .await?;
    created_room::forget(state, tx, waiting).await
}

/// Live rooms with enough free seats for the match, those in a region that is near to its players first.
async fn candidates(
    state: &AppState,
    matchmaker: &Matchmaker,
    waiting: &Waiting,
) -> sqlx::Result<Vec<String>> {
    let sql = format!(
        "SELECT server_id, region, players, max_players, {} AS reserved \
         FROM servers WHERE {} AND {} AND status = 'ready' AND visibility <> 'private' AND password_hash IS NULL \
         AND ($3 = '' OR mode = $3) AND ($4 = '' OR map = $4) AND ($5 = '' OR version = $5) \
         AND max_players - players >= $6 AND ($7 = 1 OR players = 0) ORDER BY players DESC, server_id LIMIT {MAX_CANDIDATES}",
        seats::reserved(&state.database),
        rooms::live_rooms(&state.database),
        rooms::of_scope(&state.database, "$1", "$2"),
    );
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let room = &matchmaker.room;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .bind(text(&room.mode))
        .bind(text(&room.map))
        .bind(text(&room.version))
        .bind(waiting.seats())
        .bind(i64::from(room.shared))
        .fetch_all(state.database.pool())
        .await?;
    let regions = &waiting.formed.regions;
    let mut found = Vec::new();
    for row in &rows {
        let (players, most, reserved): (i64, i64, i64) =
            (row.try_get("players")?, row.try_get("max_players")?, row.try_get("reserved")?);
        if most - players - reserved < waiting.seats() || (!room.shared && reserved > 0) {
            continue;
        }
        let region: String = row.try_get("region")?;
        let rank = regions.iter().position(|near| *near == region).unwrap_or(regions.len());
        found.push((rank, row.try_get("server_id")?));
    }
    // Stable: within a region, the order of the statement is kept.
    found.sort_by_key(|(rank, _)| *rank);
    Ok(found.into_iter().map(|(_, server_id)| server_id).collect())
}

/// The server of the game that others join, if it is alive.
async fn running_game(state: &AppState, ticket_id: &str) -> sqlx::Result<Option<String>> {
    let sql = format!(
        "SELECT servers.server_id FROM matchmaking_tickets JOIN servers ON servers.server_id = backfill_server_id \
         WHERE ticket_id = $1 AND lease_until > {}",
        state.database.clock()
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(ticket_id).fetch_optional(state.database.pool()).await?;
    row.map(|row| Ok(optional(&row, "server_id")?.unwrap_or_default())).transpose()
}
