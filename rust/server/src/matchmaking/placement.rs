//! Rooms for matches. This is all that matchmaking knows of rooms: another way of getting one takes its place here.

use backend_matchmaking::Match;
use sqlx::{AssertSqlSafe, Row};

use super::settings::Matchmaker;
use crate::database::Transaction;
use crate::rooms;
use crate::state::AppState;

/// Rooms that are looked at.
const MAX_CANDIDATES: u32 = 200;

/// A live room with enough free seats for the match, in a region that is near to its players if there is one. Seats of
/// matches whose players are on their way are not free.
pub async fn find_room(
    state: &AppState,
    tx: &mut Transaction,
    matchmaker: &Matchmaker,
    formed: &Match,
    seats: i64,
) -> sqlx::Result<Option<String>> {
    let sql = format!(
        "SELECT server_id, region, players, max_players, \
         (SELECT CAST(COALESCE(SUM(seats), 0) AS BIGINT) FROM matchmaking_matches \
          WHERE matchmaking_matches.server_id = servers.server_id AND status = 'placed' AND deadline > $3) + {} AS held \
         FROM servers WHERE {} AND {} AND status = 'ready' AND visibility <> 'private' AND password_hash IS NULL \
         AND ($4 = '' OR mode = $4) AND ($5 = '' OR map = $5) AND ($6 = '' OR version = $6) \
         AND max_players - players >= $7 AND ($8 = 1 OR players = 0) ORDER BY players DESC, server_id LIMIT {MAX_CANDIDATES}",
        rooms::seats::reserved(&state.database),
        rooms::live_rooms(&state.database),
        rooms::of_scope(&state.database, "$1", "$2"),
    );
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let room = &matchmaker.room;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&state.config.game)
        .bind(&state.config.environment)
        .bind(tx.now)
        .bind(text(&room.mode))
        .bind(text(&room.map))
        .bind(text(&room.version))
        .bind(seats)
        .bind(i64::from(room.shared))
        .fetch_all(&mut *tx.conn)
        .await?;
    let mut best: Option<(usize, String)> = None;
    for row in &rows {
        let (players, most, held): (i64, i64, i64) =
            (row.try_get("players")?, row.try_get("max_players")?, row.try_get("held")?);
        if most - players - held < seats || (!room.shared && held > 0) {
            continue;
        }
        let region: String = row.try_get("region")?;
        let rank = formed.regions.iter().position(|near| *near == region).unwrap_or(formed.regions.len());
        if best.as_ref().is_none_or(|(least, _id)| rank < *least) {
            best = Some((rank, row.try_get("server_id")?));
        }
    }
    Ok(best.map(|(_rank, server_id)| server_id))
}
