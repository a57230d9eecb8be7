//! Seats: a ticket keeps a place in its room until the server counts the player, or the ticket has expired.
//!
//! The row of the room is locked while seats are counted and taken, so that no two requests get the last one, whichever replica
//! they came to. A seat ends with the heartbeat that names its ticket, in the same transaction that stores the number of players
//! in which its player is counted; or when the ticket has expired. Transactions lock rooms before seats, and no room after a seat;
//! those that lock several seats do so in the order of their ids.

use anyhow::Context;
use backend_protocol::Code;
use backend_protocol::registration::ServerStatus;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::changes;
use super::live::not_found;
use crate::database::{Database, Transaction};
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::rooms::columns::status_of;

/// A server may take a ticket this much later than it expires: the leeway for its clock, and the time until its heartbeat.
pub const GRACE_MS: i64 = 10_000;

/// Who wants to come.
pub struct Arrival<'a> {
    pub player_id: &'a str,
    /// The id of the ticket that the seat is for.
    pub ticket_id: &'a str,
    pub ticket_ms: i64,
}

/// Who comes by a match. Each has a seat under their own name, which their ticket takes over.
pub struct MatchSeats<'a> {
    pub player_ids: &'a [String],
    /// Seats for nobody in particular: for bots, and for players who come later.
    pub unnamed: u32,
    /// Only in a room in which nobody is, and to which nobody is on the way.
    pub is_alone: bool,
    pub ticket_ms: i64,
}

/// Seats of a room that are taken but not used yet, as a part of a statement over `servers`.
pub fn reserved(database: &Database) -> String {
    format!(
        "(SELECT COUNT(*) FROM seats WHERE seats.server_id = servers.server_id AND seats.expires_at > {})",
        database.clock()
    )
}

/// The same, with those that have expired and are not removed yet.
pub const RECORDED: &str = "(SELECT COUNT(*) FROM seats WHERE seats.server_id = servers.server_id)";

/// The places of a room as its server counts them.
struct Places {
    players: i64,
    /// Those that no player is counted for.
    free: i64,
}

/// Locks the room and returns its places.
async fn lock_room(database: &Database, tx: &mut Transaction, room_id: &str) -> ApiResult<Places> {
    let sql = format!(
        "SELECT players, max_players, status FROM servers WHERE server_id = $1 AND lease_until > $2{}",
        database.for_update()
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(room_id)
        .bind(tx.now)
        .fetch_optional(&mut *tx.conn)
        .await?
        .ok_or_else(not_found)?;
    match status_of(&row.try_get::<String, _>("status")?) {
        ServerStatus::Ready => {}
        ServerStatus::Draining => return Err(draining()),
        ServerStatus::Unhealthy => return Err(not_found()),
    }
    let players: i64 = row.try_get("players")?;
    Ok(Places { players, free: row.try_get::<i64, _>("max_players")? - players })
}

pub fn draining() -> ApiError {
    ApiError::new(Code::RoomDraining, "the room accepts no new players")
}

/// Reserves `seats` places, all or none. What the player had reserved before, anywhere, is given back; if the room is full, it is
/// kept. Returns the code by which others claim the places beyond the first.
pub async fn reserve(
    database: &Database,
    tx: &mut Transaction,
    room_id: &str,
    arrival: &Arrival<'_>,
    seats: u32,
) -> ApiResult<Option<String>> {
    let (party_code, changed) = reserve_unrecorded(database, tx, room_id, arrival, seats).await?;
    changes::record(database, tx, &changed).await?;
    Ok(party_code)
}

/// The same for a transaction that records the changed rooms, which are returned, itself.
pub async fn reserve_unrecorded(
    database: &Database,
    tx: &mut Transaction,
    room_id: &str,
    arrival: &Arrival<'_>,
    seats: u32,
) -> ApiResult<(Option<String>, Vec<String>)> {
    let places = lock_room(database, tx, room_id).await?.free;
    // By others: whoever holds a seat, or the leader whose party has yet to claim it.
    let taken: i64 = sqlx::query(
        "SELECT COUNT(*) FROM seats WHERE server_id = $1 AND expires_at > $2 AND COALESCE(player_id, leader_id, '') <> $3",
    )
    .bind(room_id)
    .bind(tx.now)
    .bind(arrival.player_id)
    .fetch_one(&mut *tx.conn)
    .await?
    .try_get(0)?;
    let free = (places - taken).max(0);
    if free < i64::from(seats) {
        return Err(ApiError::new(
            Code::RoomFull,
            format!("the room has {free} free seats, {seats} are needed"),
        ));
    }
    let mut changed = vec![room_id.to_owned()];
    for own in [
        "DELETE FROM seats WHERE player_id = $1 RETURNING server_id",
        "DELETE FROM seats WHERE leader_id = $1 AND player_id IS NULL RETURNING server_id",
    ] {
        let rows = sqlx::query(own).bind(arrival.player_id).fetch_all(&mut *tx.conn).await?;
        for row in rows {
            changed.push(row.try_get("server_id")?);
        }
    }
    let party_code = (seats > 1).then(party_code).transpose()?;
    let party_hash = party_code.as_deref().map(party_hash);
    for index in 0..seats {
        let own = index == 0;
        let seat_id = if own { arrival.ticket_id.to_owned() } else { Uuid::now_v7().simple().to_string() };
        sqlx::query(
            "INSERT INTO seats (seat_id, server_id, player_id, party_hash, leader_id, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(seat_id)
        .bind(room_id)
        .bind(own.then_some(arrival.player_id))
        .bind(&party_hash)
        .bind(party_hash.is_some().then_some(arrival.player_id))
        .bind(tx.now + arrival.ticket_ms + GRACE_MS)
        .execute(&mut *tx.conn)
        .await?;
    }
    changed.sort_unstable();
    changed.dedup();
    Ok((party_code, changed))
}

/// Reserves the seats of a match, all or none. What its players had reserved before, anywhere, is given back. Returns the rooms that
/// have changed, which are recorded already; None: the room does not take them.
pub async fn reserve_for_match(
    database: &Database,
    tx: &mut Transaction,
    room_id: &str,
    wanted: &MatchSeats<'_>,
) -> ApiResult<Option<Vec<String>>> {
    let places = match lock_room(database, tx, room_id).await {
        Ok(places) => places,
        Err(error) if matches!(error.0.code, Code::RoomDraining | Code::RoomNotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    lock_reserved(database, tx, wanted.player_ids).await?;
    let player_ids = serde_json::to_string(wanted.player_ids).map_err(anyhow::Error::from)?;
    let others = format!("NOT (COALESCE(player_id, leader_id, '') {})", database.is_in("$3"));
    let sql = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN {others} THEN 1 ELSE 0 END), 0) AS BIGINT) FROM seats \
         WHERE server_id = $1 AND expires_at > $2"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(room_id)
        .bind(tx.now)
        .bind(&player_ids)
        .fetch_one(&mut *tx.conn)
        .await?;
    let (taken, by_others): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let needed = wanted.player_ids.len() as i64 + i64::from(wanted.unnamed);
    if places.free - by_others < needed || (wanted.is_alone && places.players + taken > 0) {
        return Ok(None);
    }
    let mut changed = vec![room_id.to_owned()];
    for own in ["player_id {}", "leader_id {} AND player_id IS NULL"] {
        let own = own.replace("{}", &database.is_in("$1"));
        let sql = format!("DELETE FROM seats WHERE {own} RETURNING server_id");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(&player_ids).fetch_all(&mut *tx.conn).await?;
        for row in rows {
            changed.push(row.try_get("server_id")?);
        }
    }
    let named = wanted.player_ids.iter().map(Some);
    for player_id in named.chain((0..wanted.unnamed).map(|_| None)) {
        sqlx::query("INSERT INTO seats (seat_id, server_id, player_id, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(Uuid::now_v7().simple().to_string())
            .bind(room_id)
            .bind(player_id)
            .bind(tx.now + wanted.ticket_ms + GRACE_MS)
            .execute(&mut *tx.conn)
            .await?;
    }
    changed.sort_unstable();
    changed.dedup();
    changes::record(database, tx, &changed).await?;
    Ok(Some(changed))
}

/// Claims a seat of a party in the room: the one that the player has claimed before, or one that nobody has.
pub async fn claim(
    database: &Database,
    tx: &mut Transaction,
    room_id: &str,
    arrival: &Arrival<'_>,
    party_code: &str,
) -> ApiResult<()> {
    lock_room(database, tx, room_id).await?;
    let party_hash = party_hash(party_code);
    let claimed = sqlx::query(
        "UPDATE seats SET seat_id = $1, player_id = $2, expires_at = $3 WHERE seat_id = \
         (SELECT seat_id FROM seats WHERE party_hash = $4 AND server_id = $5 AND expires_at > $6 \
          AND (player_id = $2 OR player_id IS NULL) \
          ORDER BY CASE WHEN player_id IS NULL THEN 1 ELSE 0 END, seat_id LIMIT 1)",
    )
    .bind(arrival.ticket_id)
    .bind(arrival.player_id)
    .bind(tx.now + arrival.ticket_ms + GRACE_MS)
    .bind(&party_hash)
    .bind(room_id)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    if claimed.rows_affected() == 0 {
        return Err(party_code_unknown());
    }
    // One player sits in one place.
    let rows = sqlx::query("DELETE FROM seats WHERE player_id = $1 AND seat_id <> $2 RETURNING server_id")
        .bind(arrival.player_id)
        .bind(arrival.ticket_id)
        .fetch_all(&mut *tx.conn)
        .await?;
    let mut changed =
        rows.iter().map(|row| row.try_get("server_id")).collect::<sqlx::Result<Vec<String>>>()?;
    changed.sort_unstable();
    changed.dedup();
    changes::record(database, tx, &changed).await?;
    Ok(())
}

pub fn party_code_unknown() -> ApiError {
    ApiError::new(
        Code::PartyCodeUnknown,
        "this party has no seat left here: claimed by others, expired, or never reserved",
    )
}

/// Ends the seats of tickets whose players are counted by their server from now on, or were turned away. Returns
/// whether there were any.
pub async fn end(
    database: &Database,
    tx: &mut Transaction,
    server_id: &str,
    tickets: &[String],
) -> ApiResult<bool> {
    if tickets.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "DELETE FROM seats WHERE seat_id IN (SELECT seat_id FROM seats WHERE server_id = $1 AND seat_id {} ORDER BY seat_id{})",
        database.is_in("$2"),
        database.for_update()
    );
    let ended = sqlx::query(AssertSqlSafe(sql))
        .bind(server_id)
        .bind(serde_json::to_string(tickets).map_err(anyhow::Error::from)?)
        .execute(&mut *tx.conn)
        .await?;
    Ok(ended.rows_affected() > 0)
}

/// Keeps the seat of a ticket that was just consumed until the server has had the time to count its player.
pub async fn keep_for_heartbeat(tx: &mut Transaction, ticket_id: &str) -> ApiResult<()> {
    sqlx::query("UPDATE seats SET expires_at = $1 WHERE seat_id = $2 AND expires_at < $1")
        .bind(tx.now + GRACE_MS)
        .bind(ticket_id)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Ends all seats of a room that is gone.
pub async fn end_all(database: &Database, tx: &mut Transaction, server_id: &str) -> ApiResult<()> {
    let sql = format!(
        "DELETE FROM seats WHERE seat_id IN (SELECT seat_id FROM seats WHERE server_id = $1 ORDER BY seat_id{})",
        database.for_update()
    );
    sqlx::query(AssertSqlSafe(sql)).bind(server_id).execute(&mut *tx.conn).await?;
    Ok(())
}

/// Locks what these players have reserved, for a transaction that reserves seats for one after the other.
pub async fn lock_reserved(
    database: &Database,
    tx: &mut Transaction,
    player_ids: &[String],
) -> ApiResult<()> {
    let sql = format!(
        "SELECT seat_id FROM seats WHERE player_id {0} OR (player_id IS NULL AND leader_id {0}) ORDER BY seat_id{1}",
        database.is_in("$1"),
        database.for_update()
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(serde_json::to_string(player_ids).map_err(anyhow::Error::from)?)
        .fetch_all(&mut *tx.conn)
        .await?;
    Ok(())
}

/// 128 bits of chance, passed from game to game.
fn party_code() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn party_hash(code: &str) -> String {
    sha256(format!("party {code}").as_bytes())
}
