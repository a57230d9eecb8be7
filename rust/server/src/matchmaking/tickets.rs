//! Tickets as they are stored.

use backend_matchmaking::{AttributeValue, Match, Player};
use backend_protocol::matchmaking::{
    self as wire, MatchedPlayer, MatchmakingMatch, MatchmakingPlayer, MatchmakingStatus, MatchmakingTicket,
};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::optional;
use crate::database::{Transaction, rfc3339, unsigned};
use crate::http::ApiResult;
use crate::state::AppState;

const STATUSES: [(MatchmakingStatus, &str); 8] = [
    (MatchmakingStatus::Queued, "queued"),
    (MatchmakingStatus::Searching, "searching"),
    (MatchmakingStatus::RequiresAcceptance, "requires_acceptance"),
    (MatchmakingStatus::Placing, "placing"),
    (MatchmakingStatus::Completed, "completed"),
    (MatchmakingStatus::Failed, "failed"),
    (MatchmakingStatus::Cancelled, "cancelled"),
    (MatchmakingStatus::TimedOut, "timed_out"),
];

pub fn status_text(status: MatchmakingStatus) -> &'static str {
    STATUSES.iter().find(|(known, _text)| *known == status).map_or("failed", |(_known, text)| text)
}

fn status_of(text: &str) -> MatchmakingStatus {
    STATUSES
        .iter()
        .find(|(_status, known)| *known == text)
        .map_or(MatchmakingStatus::Failed, |(status, _text)| *status)
}

/// A ticket.
pub struct StoredTicket {
    pub ticket_id: String,
    pub scope: String,
    pub matchmaker: String,
    pub status: MatchmakingStatus,
    pub reason: String,
    pub creator: String,
    pub party_size: u32,
    pub players: Vec<Player>,
    pub match_id: Option<String>,
    pub created_at: i64,
    pub expires_at: i64,
    pub has_ended: bool,
    /// When the ticket was read.
    pub now: i64,
}

pub fn players_json(players: &[Player]) -> ApiResult<String> {
    Ok(serde_json::to_string(players).map_err(anyhow::Error::from)?)
}

pub fn engine_player(player: &MatchmakingPlayer) -> Player {
    let attributes = player.attributes.iter().map(|(name, value)| {
        let value = match value {
            wire::AttributeValue::Number(number) => AttributeValue::Number(*number),
            wire::AttributeValue::Text(text) => AttributeValue::Text(text.clone()),
            wire::AttributeValue::TextList(list) => AttributeValue::TextList(list.clone()),
            wire::AttributeValue::NumberMap(map) => AttributeValue::NumberMap(map.clone()),
        };
        (name.clone(), value)
    });
    Player {
        id: player.player_id.clone().unwrap_or_default(),
        attributes: attributes.collect(),
        latency_ms: player.latency_ms.clone(),
        team: player.team.clone(),
    }
}

impl StoredTicket {
    pub fn of(row: &AnyRow) -> ApiResult<Self> {
        let players: String = row.try_get("players")?;
        let ended_at: Option<i64> = row.try_get("ended_at")?;
        Ok(Self {
            ticket_id: row.try_get("ticket_id")?,
            scope: row.try_get("scope")?,
            matchmaker: row.try_get("matchmaker")?,
            status: status_of(&row.try_get::<String, _>("status")?),
            reason: row.try_get("reason")?,
            creator: row.try_get("creator")?,
            party_size: unsigned(row, "party_size")?,
            players: serde_json::from_str(&players).map_err(anyhow::Error::from)?,
            match_id: optional(row, "match_id")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            has_ended: ended_at.is_some(),
            now: row.try_get("now")?,
        })
    }

    /// Whether it is the business of a player or game server.
    pub fn is_of(&self, caller: &str) -> bool {
        self.creator == caller || self.players.iter().any(|player| player.id == caller)
    }

    pub async fn shown(self, tx: &mut Transaction) -> ApiResult<MatchmakingTicket> {
        self.shown_by(&mut tx.conn).await
    }

    /// The ticket as the wire has it.
    pub async fn shown_by(self, connection: &mut AnyConnection) -> ApiResult<MatchmakingTicket> {
        let has_match = matches!(
            self.status,
            MatchmakingStatus::RequiresAcceptance | MatchmakingStatus::Placing | MatchmakingStatus::Completed
        );
        let formed = match self.match_id.filter(|_id| has_match) {
            Some(match_id) => stored_match(connection, match_id, self.now).await?,
            None => None,
        };
        let is_waiting = matches!(self.status, MatchmakingStatus::Queued | MatchmakingStatus::Searching);
        let expires_in_seconds = is_waiting.then(|| seconds(self.expires_at - self.now));
        let estimated_wait_seconds = if self.has_ended {
            None
        } else {
            estimated_wait(connection, &self.scope, &self.matchmaker).await?
        };
        Ok(MatchmakingTicket {
            ticket_id: self.ticket_id,
            matchmaker: self.matchmaker,
            status: self.status,
            reason: Some(self.reason).filter(|reason| !reason.is_empty()),
            party_size: self.party_size,
            player_ids: self.players.into_iter().map(|player| player.id).collect(),
            created_at: rfc3339(self.created_at),
            expires_in_seconds,
            estimated_wait_seconds,
            r#match: formed,
        })
    }
}

async fn stored_match(
    connection: &mut AnyConnection,
    match_id: String,
    now: i64,
) -> ApiResult<Option<MatchmakingMatch>> {
    let row = sqlx::query(
        "SELECT details, server_id, status, deadline FROM matchmaking_matches WHERE match_id = $1",
    )
    .bind(&match_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let details: String = row.try_get("details")?;
    let formed: Match = serde_json::from_str(&details).map_err(anyhow::Error::from)?;
    let room_id = optional(&row, "server_id")?;
    let is_proposed =
        row.try_get::<String, _>("status")? == status_text(MatchmakingStatus::RequiresAcceptance);
    let (accepted, answer_within_seconds) = if is_proposed {
        let deadline: i64 = row.try_get("deadline")?;
        (Some(accepted(connection, &match_id).await?), Some(seconds(deadline - now)))
    } else {
        (None, None)
    };
    Ok(Some(MatchmakingMatch {
        match_id,
        room_id,
        players: matched_players(&formed),
        regions: formed.regions,
        accepted,
        answer_within_seconds,
    }))
}

/// The players of a match with their teams. Those of no ticket are bots.
pub fn matched_players(formed: &Match) -> Vec<MatchedPlayer> {
    let matched = formed.players.iter().map(|player| MatchedPlayer {
        player_id: player.player_id.clone(),
        team: player.team.clone(),
        is_bot: !formed.tickets.contains(&player.ticket_id),
    });
    matched.collect()
}

/// How many players have accepted a match.
async fn accepted(connection: &mut AnyConnection, match_id: &str) -> sqlx::Result<u32> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS accepted FROM matchmaking_players \
         JOIN matchmaking_tickets ON matchmaking_tickets.ticket_id = matchmaking_players.ticket_id \
         WHERE match_id = $1 AND accepted = 1",
    )
    .bind(match_id)
    .fetch_one(connection)
    .await?;
    unsigned(&row, "accepted")
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0).unsigned_abs().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// What the last 50 matched tickets waited.
async fn estimated_wait(
    connection: &mut AnyConnection,
    scope: &str,
    matchmaker: &str,
) -> ApiResult<Option<u32>> {
    let row = sqlx::query(
        "SELECT CAST(AVG(wait) AS BIGINT) AS mean FROM (SELECT matched_at - created_at AS wait FROM matchmaking_tickets \
         WHERE scope = $1 AND matchmaker = $2 AND matched_at IS NOT NULL ORDER BY matched_at DESC LIMIT 50) AS waits",
    )
    .bind(scope)
    .bind(matchmaker)
    .fetch_one(connection)
    .await?;
    let mean: Option<i64> = row.try_get("mean")?;
    Ok(mean.map(seconds))
}

/// The part of a statement that reads tickets, in front of its conditions.
pub fn select(state: &AppState) -> String {
    format!("SELECT matchmaking_tickets.*, {} AS now FROM matchmaking_tickets", state.database.clock())
}

pub async fn read(
    connection: &mut AnyConnection,
    state: &AppState,
    ticket_id: &str,
) -> ApiResult<Option<StoredTicket>> {
    let sql = format!("{} WHERE ticket_id = $1 AND scope = $2", select(state));
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(ticket_id)
        .bind(state.config.scope())
        .fetch_optional(connection)
        .await?;
    row.map(|row| StoredTicket::of(&row)).transpose()
}

pub async fn find(
    tx: &mut Transaction,
    state: &AppState,
    ticket_id: &str,
) -> ApiResult<Option<StoredTicket>> {
    read(&mut tx.conn, state, ticket_id).await
}

/// The ticket, which nobody else changes until the transaction ends.
pub async fn find_for_update(
    tx: &mut Transaction,
    state: &AppState,
    ticket_id: &str,
) -> ApiResult<Option<StoredTicket>> {
    let lock = state.database.for_update();
    let sql = format!("{} WHERE ticket_id = $1 AND scope = $2{lock}", select(state));
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(ticket_id)
        .bind(state.config.scope())
        .fetch_optional(&mut *tx.conn)
        .await?;
    row.map(|row| StoredTicket::of(&row)).transpose()
}

/// Ends a ticket; its players can ask for another match.
pub async fn end(
    tx: &mut Transaction,
    ticket_id: &str,
    status: MatchmakingStatus,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE matchmaking_tickets SET status = $1, reason = $2, ended_at = $3 WHERE ticket_id = $4",
    )
    .bind(status_text(status))
    .bind(reason)
    .bind(tx.now)
    .bind(ticket_id)
    .execute(&mut *tx.conn)
    .await?;
    sqlx::query("DELETE FROM matchmaking_players WHERE ticket_id = $1")
        .bind(ticket_id)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
