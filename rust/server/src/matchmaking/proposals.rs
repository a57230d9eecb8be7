//! Matches that their players have to accept before they are placed in a room.

use backend_protocol::matchmaking::MatchmakingStatus;
use sqlx::{AssertSqlSafe, Row};

use super::settings::Matchmaker;
use super::tickets;
use crate::database::Transaction;
use crate::http::ApiResult;
use crate::state::AppState;

/// Moves the matches of a matchmaker on that wait for answers.
pub async fn advance(state: &AppState, tx: &mut Transaction, matchmaker: &Matchmaker) -> ApiResult<()> {
    let rows = sqlx::query(
        "SELECT match_id, tickets, deadline FROM matchmaking_matches \
         WHERE scope = $1 AND matchmaker = $2 AND status = 'requires_acceptance' ORDER BY deadline, match_id",
    )
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .fetch_all(&mut *tx.conn)
    .await?;
    for row in rows {
        judge(state, tx, matchmaker, &row.try_get::<String, _>("match_id")?, &row).await?;
    }
    Ok(())
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
