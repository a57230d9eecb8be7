//! Matchmaking: tickets, the matches that one replica at a time forms of them, and the rooms of those.

mod bots;
mod pass;
mod placed;
mod placement;
pub(crate) mod proposals;
pub mod settings;
mod tickets;

pub use pass::run;
pub use placed::{__path_matches, matches};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_matchmaking::Pool;
use backend_protocol::matchmaking::{
    AnswerProposal, CreateMatchmakingTicket, JoinParty, MatchmakingPlayer, MatchmakingStatus,
    MatchmakingTicket,
};
use backend_protocol::{Code, Problem, limits};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::auth::extractors::{Caller, PlayerAuth};
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::idempotency::IdempotencyKey;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;
use settings::Matchmaker;
use tickets::StoredTicket;

fn ticket_not_found() -> ApiError {
    ApiError::new(
        Code::MatchmakingTicketNotFound,
        "there is no such matchmaking ticket (any more), or it is of other players",
    )
}

fn closed(status: MatchmakingStatus) -> ApiError {
    let status = tickets::status_text(status);
    ApiError::new(
        Code::MatchmakingTicketClosed,
        format!("the ticket is {status}: that is not possible (any more)"),
    )
}

impl Caller {
    /// As tickets name who made them.
    fn creator(&self) -> String {
        match self {
            Self::Player(player) => player.0.sub.clone(),
            Self::Server(server) => format!("key:{}", server.key_hash),
        }
    }
}

/// Asks for a match.
#[utoipa::path(post, path = "/v1/matchmaking/tickets", operation_id = "matchmaking_create_ticket", tag = "matchmaking",
    request_body = CreateMatchmakingTicket, security(("access_token" = []), ("server_key" = [])),
    responses((status = 201, body = MatchmakingTicket), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    caller: Caller,
    key: IdempotencyKey,
    body: JsonBody<CreateMatchmakingTicket>,
) -> ApiResult<(StatusCode, Json<MatchmakingTicket>)> {
    let request_key = key.0.map(|key| sha256(format!("{key}{}", body.hash("matchmaking")).as_bytes()));
    let mut request = body.value;
    let creator = caller.creator();
    let matchmaker = state.matchmaking.named(&request.matchmaker)?;
    let party_size = match &caller {
        Caller::Player(player) => own_ticket(&player.0.sub, &mut request)?,
        Caller::Server(_) => servers_ticket(&request)?,
    };
    let most = matchmaker.rule_set.stages.iter().flat_map(|stage| &stage.teams).map(|team| team.max).max();
    if request.backfill_server_id.is_none() && party_size > most.unwrap_or(0) {
        let rule = format!("the largest team of this matchmaker has {} players", most.unwrap_or(0));
        return Err(ApiError::field("party_size", &rule));
    }
    let ticket_id = Uuid::new_v4().to_string();
    let mut tx = state.database.begin().await?;
    if let Some(before) = repeated(&state, &mut tx, &creator, request_key.as_deref()).await? {
        let shown = before.shown(&mut tx).await?;
        return Ok((StatusCode::CREATED, Json(shown)));
    }
    match (&request.backfill_server_id, &caller) {
        (Some(server_id), _) => replace_backfill(&state, &mut tx, &caller, server_id).await?,
        (None, Caller::Player(player)) => replace_own(&state, &mut tx, &player.0.sub).await?,
        (None, Caller::Server(_)) => {}
    }
    let players =
        checked(matchmaker, &ticket_id, tx.now, &request.players, request.backfill_server_id.is_some())?;
    let status = if players.len() < party_size as usize {
        MatchmakingStatus::Queued
    } else {
        MatchmakingStatus::Searching
    };
    let expires_at = tx.now + matchmaker.request_timeout_ms();
    let inserted = sqlx::query(
        "INSERT INTO matchmaking_tickets (ticket_id, scope, matchmaker, status, creator, request_key, party_size, players, \
         backfill_server_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
    )
    .bind(&ticket_id)
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .bind(tickets::status_text(status))
    .bind(&creator)
    .bind(&request_key)
    .bind(i64::from(party_size))
    .bind(tickets::players_json(&players)?)
    .bind(&request.backfill_server_id)
    .bind(tx.now)
    .bind(expires_at)
    .execute(&mut *tx.conn)
    .await?;
    if inserted.rows_affected() == 0 {
        // Another attempt of the same request was faster.
        let before =
            repeated(&state, &mut tx, &creator, request_key.as_deref()).await?.ok_or(Code::Unavailable)?;
        return Ok((StatusCode::CREATED, Json(before.shown(&mut tx).await?)));
    }
    if request.backfill_server_id.is_none() {
        for player in &players {
            take_place(&state, &mut tx, &player.id, &ticket_id).await?;
        }
    }
    Ok((StatusCode::CREATED, Json(commit_and_show(&state, tx, &ticket_id).await?)))
}

/// A player's own ticket: the size of its party.
fn own_ticket(player_id: &str, request: &mut CreateMatchmakingTicket) -> ApiResult<u32> {
    if request.backfill_server_id.is_some() {
        return Err(ApiError::field("backfill_server_id", "is for game servers"));
    }
    let [player] = request.players.as_mut_slice() else {
        return Err(ApiError::field(
            "players",
            "must have you alone; the others of your party join the ticket themselves",
        ));
    };
    if player.player_id.as_ref().is_some_and(|id| id != player_id) {
        return Err(ApiError::field("players[0].player_id", "must be your own id, or left out"));
    }
    player.player_id = Some(player_id.to_owned());
    Ok(request.party_size.unwrap_or(1))
}

/// The ticket of a game server: the size of its party.
fn servers_ticket(request: &CreateMatchmakingTicket) -> ApiResult<u32> {
    if let Some(index) = request.players.iter().position(|player| player.player_id.is_none()) {
        return Err(ApiError::field(
            &format!("players[{index}].player_id"),
            "is required from a game server",
        ));
    }
    let count = request.players.len() as u32;
    if request.party_size.is_some_and(|size| size != count) {
        return Err(ApiError::field("party_size", "must be the number of players, or left out"));
    }
    Ok(count)
}

/// The players as the matchmaker takes them.
fn checked(
    matchmaker: &Matchmaker,
    ticket_id: &str,
    now: i64,
    players: &[MatchmakingPlayer],
    backfill: bool,
) -> ApiResult<Vec<backend_matchmaking::Player>> {
    let players: Vec<_> = players.iter().map(tickets::engine_player).collect();
    let ticket = backend_matchmaking::Ticket {
        id: ticket_id.to_owned(),
        created_at_ms: now,
        players: players.clone(),
        backfill,
    };
    Pool::check(&matchmaker.rule_set, &ticket)
        .map_err(|error| ApiError::field(&error.field, &error.problem))?;
    Ok(players)
}

/// The ticket that an earlier attempt of the same request made.
async fn repeated(
    state: &AppState,
    tx: &mut Transaction,
    creator: &str,
    request_key: Option<&str>,
) -> ApiResult<Option<StoredTicket>> {
    let Some(request_key) = request_key else { return Ok(None) };
    let sql = format!("{} WHERE creator = $1 AND request_key = $2", tickets::select(state));
    let row =
        sqlx::query(AssertSqlSafe(sql)).bind(creator).bind(request_key).fetch_optional(&mut *tx.conn).await?;
    row.map(|row| StoredTicket::of(&row)).transpose()
}

/// A game has one ticket: the one before is cancelled.
async fn replace_backfill(
    state: &AppState,
    tx: &mut Transaction,
    caller: &Caller,
    server_id: &str,
) -> ApiResult<()> {
    let Caller::Server(server) = caller else {
        return Err(ApiError::field("backfill_server_id", "is for game servers"));
    };
    let own = sqlx::query(
        "SELECT server_id FROM servers WHERE server_id = $1 AND key_hash = $2 AND lease_until > $3",
    )
    .bind(server_id)
    .bind(&server.key_hash)
    .bind(tx.now)
    .fetch_optional(&mut *tx.conn)
    .await?;
    if own.is_none() {
        return Err(ApiError::field(
            "backfill_server_id",
            "must be a live server that is registered with this key",
        ));
    }
    sqlx::query(
        "UPDATE matchmaking_tickets SET status = 'cancelled', reason = 'replaced', ended_at = $1 \
         WHERE scope = $2 AND backfill_server_id = $3 AND ended_at IS NULL AND status = 'searching'",
    )
    .bind(tx.now)
    .bind(state.config.scope())
    .bind(server_id)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// A player has one ticket: the one that they made before is cancelled, so that a game that was closed or lost its connection
/// keeps nobody from searching again. A match that gets its room goes on.
async fn replace_own(state: &AppState, tx: &mut Transaction, player_id: &str) -> ApiResult<()> {
    let row = sqlx::query("SELECT ticket_id FROM matchmaking_players WHERE scope = $1 AND player_id = $2")
        .bind(state.config.scope())
        .bind(player_id)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let Some(row) = row else { return Ok(()) };
    let before = tickets::find_for_update(tx, state, &row.try_get::<String, _>("ticket_id")?).await?;
    match before {
        Some(before)
            if before.creator == player_id
                && !before.has_ended
                && before.status != MatchmakingStatus::Placing =>
        {
            Ok(tickets::end(tx, &before.ticket_id, MatchmakingStatus::Cancelled, "replaced").await?)
        }
        _ => Ok(()),
    }
}

/// Claims the player for the ticket.
async fn take_place(
    state: &AppState,
    tx: &mut Transaction,
    player_id: &str,
    ticket_id: &str,
) -> ApiResult<()> {
    let taken = sqlx::query(
        "INSERT INTO matchmaking_players (scope, player_id, ticket_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(state.config.scope())
    .bind(player_id)
    .bind(ticket_id)
    .execute(&mut *tx.conn)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(());
    }
    let detail = format!("player {player_id} waits with another matchmaking ticket; cancel it first");
    Err(ApiError::new(Code::AlreadyInMatchmaking, detail))
}

/// The ticket as the transaction leaves it.
async fn commit_and_show(
    state: &AppState,
    mut tx: Transaction,
    ticket_id: &str,
) -> ApiResult<MatchmakingTicket> {
    let ticket = tickets::find(&mut tx, state, ticket_id).await?.ok_or_else(ticket_not_found)?;
    let shown = ticket.shown(&mut tx).await?;
    tx.commit().await?;
    Ok(shown)
}

/// The ticket, locked, if the caller may see it.
async fn locked(
    state: &AppState,
    tx: &mut Transaction,
    caller: &str,
    ticket_id: &str,
) -> ApiResult<StoredTicket> {
    limits::identifier("ticket_id", ticket_id, 64)?;
    let ticket = tickets::find_for_update(tx, state, ticket_id).await?;
    ticket.filter(|ticket| ticket.is_of(caller)).ok_or_else(ticket_not_found)
}

/// Returns a ticket.
#[utoipa::path(get, path = "/v1/matchmaking/tickets/{ticket_id}", operation_id = "matchmaking_get_ticket", tag = "matchmaking",
    params(("ticket_id" = String, Path)), security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = MatchmakingTicket), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn get(
    State(state): State<AppState>,
    caller: Caller,
    Path(ticket_id): Path<String>,
) -> ApiResult<Json<MatchmakingTicket>> {
    limits::identifier("ticket_id", &ticket_id, 64)?;
    let mut connection = state.database.pool().acquire().await?;
    let ticket = tickets::read(&mut connection, &state, &ticket_id).await?;
    let ticket = ticket.filter(|ticket| ticket.is_of(&caller.creator())).ok_or_else(ticket_not_found)?;
    Ok(Json(ticket.shown_by(&mut connection).await?))
}

/// Cancels a ticket. One that has ended stays as it is.
#[utoipa::path(delete, path = "/v1/matchmaking/tickets/{ticket_id}", operation_id = "matchmaking_cancel_ticket", tag = "matchmaking",
    params(("ticket_id" = String, Path)), security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = MatchmakingTicket), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(ticket_id): Path<String>,
) -> ApiResult<Json<MatchmakingTicket>> {
    let mut tx = state.database.begin().await?;
    let ticket = locked(&state, &mut tx, &caller.creator(), &ticket_id).await?;
    if ticket.status == MatchmakingStatus::Placing {
        return Err(closed(ticket.status));
    }
    if !ticket.has_ended {
        tickets::end(&mut tx, &ticket_id, MatchmakingStatus::Cancelled, "cancelled").await?;
    }
    Ok(Json(commit_and_show(&state, tx, &ticket_id).await?))
}

/// Joins the party of a ticket, whose id is the invitation. The search begins when the party is complete.
#[utoipa::path(post, path = "/v1/matchmaking/tickets/{ticket_id}/players", operation_id = "matchmaking_join_party", tag = "matchmaking",
    params(("ticket_id" = String, Path)), request_body = JoinParty, security(("access_token" = [])),
    responses((status = 200, body = MatchmakingTicket), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn join_party(
    State(state): State<AppState>,
    player: PlayerAuth,
    Path(ticket_id): Path<String>,
    body: JsonBody<JoinParty>,
) -> ApiResult<Json<MatchmakingTicket>> {
    limits::identifier("ticket_id", &ticket_id, 64)?;
    let player_id = player.0.sub.clone();
    let JoinParty { attributes, latency_ms } = body.value;
    let mut tx = state.database.begin().await?;
    let ticket = tickets::find_for_update(&mut tx, &state, &ticket_id).await?.ok_or_else(ticket_not_found)?;
    // A repetition finds the player there already.
    if !ticket.is_of(&player_id) {
        if ticket.status != MatchmakingStatus::Queued {
            return Err(closed(ticket.status));
        }
        let matchmaker = state.matchmaking.named(&ticket.matchmaker)?;
        let joining =
            MatchmakingPlayer { player_id: Some(player_id.clone()), attributes, latency_ms, team: None };
        let mut players = ticket.players.clone();
        players.extend(checked(matchmaker, &ticket_id, tx.now, &[joining], false)?);
        take_place(&state, &mut tx, &player_id, &ticket_id).await?;
        let complete = players.len() >= ticket.party_size as usize;
        let status = if complete { MatchmakingStatus::Searching } else { MatchmakingStatus::Queued };
        sqlx::query("UPDATE matchmaking_tickets SET players = $1, status = $2 WHERE ticket_id = $3")
            .bind(tickets::players_json(&players)?)
            .bind(tickets::status_text(status))
            .bind(&ticket_id)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(Json(commit_and_show(&state, tx, &ticket_id).await?))
}

/// Accepts or rejects the match that was proposed to a ticket.
#[utoipa::path(post, path = "/v1/matchmaking/tickets/{ticket_id}/answer", operation_id = "matchmaking_answer", tag = "matchmaking",
    params(("ticket_id" = String, Path)), request_body = AnswerProposal, security(("access_token" = [])),
    responses((status = 200, body = MatchmakingTicket), (status = 404, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn answer(
    State(state): State<AppState>,
    player: PlayerAuth,
    Path(ticket_id): Path<String>,
    body: JsonBody<AnswerProposal>,
) -> ApiResult<Json<MatchmakingTicket>> {
    let mut tx = state.database.begin().await?;
    let ticket = locked(&state, &mut tx, &player.0.sub, &ticket_id).await?;
    if ticket.status != MatchmakingStatus::RequiresAcceptance {
        return Err(closed(ticket.status));
    }
    // The first answer counts.
    sqlx::query(
        "UPDATE matchmaking_players SET accepted = $1 WHERE scope = $2 AND player_id = $3 AND ticket_id = $4 AND accepted IS NULL",
    )
    .bind(i64::from(body.value.accept))
    .bind(state.config.scope())
    .bind(&player.0.sub)
    .bind(&ticket_id)
    .execute(&mut *tx.conn)
    .await?;
    let shown = ticket.shown(&mut tx).await?;
    tx.commit().await?;
    Ok(Json(shown))
}

/// A column of a row that may be absent.
fn optional(row: &sqlx::any::AnyRow, column: &str) -> sqlx::Result<Option<String>> {
    row.try_get(column)
}
