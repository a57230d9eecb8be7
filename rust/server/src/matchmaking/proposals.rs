//! Matches after they are formed: accepted by their players, then placed in a room.

use backend_matchmaking::Match;
use backend_protocol::matchmaking::MatchmakingStatus;
use sqlx::{AssertSqlSafe, Row};

use super::settings::{Matchmaker, SEAT_MS};
use super::{optional, placement, tickets};
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::state::AppState;

/// Moves the matches of a matchmaker on.
pub async fn advance(state: &AppState, tx: &mut Transaction, matchmaker: &Matchmaker) -> ApiResult<()> {
    for (match_id, row) in of_status(state, tx, matchmaker, "requires_acceptance").await? {
        judge(state, tx, matchmaker, &match_id, &row).await?;
    }
    for (match_id, row) in of_status(state, tx, matchmaker, "placing").await? {
        place(state, tx, matchmaker, &match_id, &row).await?;
    }
    Ok(())
}

async fn of_status(
    state: &AppState,
    tx: &mut Transaction,
    matchmaker: &Matchmaker,
    status: &str,
) -> ApiResult<Vec<(String, sqlx::any::AnyRow)>> {
    let rows = sqlx::query(
        "SELECT match_id, details, tickets, seats, deadline FROM matchmaking_matches \
         WHERE scope = $1 AND matchmaker = $2 AND status = $3 ORDER BY deadline, match_id",
    )
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .bind(status)
    .fetch_all(&mut *tx.conn)
    .await?;
    let named = rows.into_iter().map(|row| Ok((row.try_get("match_id")?, row)));
    Ok(named.collect::<sqlx::Result<_>>()?)
}

/// Looks whether everybody has accepted a match, or somebody has not.
async fn judge(
    state: &AppState,
    tx: &mut Transaction,
    matchmaker: &Matchmaker,
    match_id: &str,
    row: &sqlx::any::AnyRow,
) -> ApiResult<()> {
    let (count, deadline): (i64, i64) = (row.try_get("tickets")?, row.try_get("deadline")?);
    let lock = state.database.for_update();
    let sql = format!(
        "SELECT ticket_id FROM matchmaking_tickets WHERE match_id = $1 AND status = 'requires_acceptance' ORDER BY ticket_id{lock}"
    );
    let open: Vec<String> = sqlx::query(AssertSqlSafe(sql))
        .bind(match_id)
        .fetch_all(&mut *tx.conn)
        .await?
        .iter()
        .map(|row| row.try_get("ticket_id"))
        .collect::<sqlx::Result<_>>()?;
    let is_late = deadline <= tx.now;
    let (mut undecided, mut leaving) = (false, Vec::new());
    for ticket_id in &open {
        let answers = sqlx::query("SELECT accepted FROM matchmaking_players WHERE ticket_id = $1")
            .bind(ticket_id)
            .fetch_all(&mut *tx.conn)
            .await?;
        let answers: Vec<Option<i64>> =
            answers.iter().map(|row| row.try_get("accepted")).collect::<sqlx::Result<_>>()?;
        if answers.contains(&Some(0)) {
            leaving.push((ticket_id, "rejected"));
        } else if answers.contains(&None) {
            undecided = true;
            if is_late {
                leaving.push((ticket_id, "no_answer"));
            }
        }
    }
    if leaving.is_empty() && open.len() as i64 == count {
        if !undecided {
            set_status(
                tx,
                match_id,
                &open,
                MatchmakingStatus::Placing,
                tx.now + matchmaker.placement_timeout_ms(),
            )
            .await?;
        }
        return Ok(());
    }
    // Those who wanted to play search on, with their age.
    for ticket_id in &open {
        if let Some((_id, reason)) = leaving.iter().find(|(id, _reason)| *id == ticket_id) {
            tickets::end(tx, ticket_id, MatchmakingStatus::Cancelled, reason).await?;
            continue;
        }
        sqlx::query("UPDATE matchmaking_tickets SET status = 'searching', match_id = NULL, matched_at = NULL WHERE ticket_id = $1")
            .bind(ticket_id)
            .execute(&mut *tx.conn)
            .await?;
        sqlx::query("UPDATE matchmaking_players SET accepted = NULL WHERE ticket_id = $1")
            .bind(ticket_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    sqlx::query("DELETE FROM matchmaking_matches WHERE match_id = $1")
        .bind(match_id)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

async fn set_status(
    tx: &mut Transaction,
    match_id: &str,
    ticket_ids: &[String],
    status: MatchmakingStatus,
    deadline: i64,
) -> sqlx::Result<()> {
    let text = tickets::status_text(status);
    sqlx::query("UPDATE matchmaking_matches SET status = $1, deadline = $2 WHERE match_id = $3")
        .bind(text)
        .bind(deadline)
        .bind(match_id)
        .execute(&mut *tx.conn)
        .await?;
    for ticket_id in ticket_ids {
        sqlx::query("UPDATE matchmaking_tickets SET status = $1 WHERE ticket_id = $2")
            .bind(text)
            .bind(ticket_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

/// Gives a match its room, or ends it when there was none in time.
async fn place(
    state: &AppState,
    tx: &mut Transaction,
    matchmaker: &Matchmaker,
    match_id: &str,
    row: &sqlx::any::AnyRow,
) -> ApiResult<()> {
    let (seats, deadline): (i64, i64) = (row.try_get("seats")?, row.try_get("deadline")?);
    let details: String = row.try_get("details")?;
    let formed: Match = serde_json::from_str(&details).map_err(anyhow::Error::from)?;
    let room = match &formed.backfill {
        Some(ticket_id) => running_game(tx, ticket_id).await?,
        None => placement::find_room(state, tx, matchmaker, &formed, seats).await?,
    };
    let (status, reason) = match &room {
        Some(_) => (MatchmakingStatus::Completed, ""),
        None if deadline <= tx.now => (MatchmakingStatus::Failed, "no_room"),
        None => return Ok(()),
    };
    for ticket_id in &formed.tickets {
        tickets::end(tx, ticket_id, status, reason).await?;
        sqlx::query("UPDATE matchmaking_tickets SET server_id = $1 WHERE ticket_id = $2")
            .bind(&room)
            .bind(ticket_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    let placed = if room.is_some() { "placed" } else { "failed" };
    sqlx::query(
        "UPDATE matchmaking_matches SET status = $1, server_id = $2, deadline = $3 WHERE match_id = $4",
    )
    .bind(placed)
    .bind(&room)
    .bind(tx.now + SEAT_MS)
    .bind(match_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// The server of the game that others join, if it is alive.
async fn running_game(tx: &mut Transaction, ticket_id: &str) -> sqlx::Result<Option<String>> {
    let row = sqlx::query(
        "SELECT servers.server_id FROM matchmaking_tickets JOIN servers ON servers.server_id = backfill_server_id \
         WHERE ticket_id = $1 AND lease_until > $2",
    )
    .bind(ticket_id)
    .bind(tx.now)
    .fetch_optional(&mut *tx.conn)
    .await?;
    row.map(|row| Ok(optional(&row, "server_id")?.unwrap_or_default())).transpose()
}
