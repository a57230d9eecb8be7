//! The matches of a room, for its game server: who plays in which team.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use backend_matchmaking::{AttributeValue, Match, Player};
use backend_protocol::matchmaking::{self as wire, MatchmakingPlayer, PlacedMatch, PlacedMatches};
use backend_protocol::{Code, Problem, limits};
use sqlx::Row;

use super::tickets::matched_players;
use crate::auth::extractors::ServerAuth;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// Matches of one room that are returned, the newest.
const MAX_MATCHES: i64 = 100;

/// Lists the matches that were placed in the room of a game server in the last quarter of an hour, with the team of each player.
#[utoipa::path(get, path = "/v1/servers/{server_id}/matches", operation_id = "matchmaking_list_matches", tag = "matchmaking",
    params(("server_id" = String, Path)), security(("server_key" = [])),
    responses((status = 200, body = PlacedMatches), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn matches(
    State(state): State<AppState>,
    server: ServerAuth,
    Path(server_id): Path<String>,
) -> ApiResult<Json<PlacedMatches>> {
    limits::identifier("server_id", &server_id, 64)?;
    let mut connection = state.database.pool().acquire().await?;
    let own = sqlx::query("SELECT server_id FROM servers WHERE server_id = $1 AND key_hash = $2")
        .bind(&server_id)
        .bind(&server.key_hash)
        .fetch_optional(&mut *connection)
        .await?;
    if own.is_none() {
        return Err(ApiError::new(
            Code::ServerUnknown,
            "no server has this id and was registered with this key",
        ));
    }
    let rows = sqlx::query(
        "SELECT match_id, matchmaker, details FROM matchmaking_matches \
         WHERE scope = $1 AND server_id = $2 AND status = 'placed' ORDER BY match_id DESC LIMIT $3",
    )
    .bind(state.config.scope())
    .bind(&server_id)
    .bind(MAX_MATCHES)
    .fetch_all(&mut *connection)
    .await?;
    let mut matches = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        let match_id: String = row.try_get("match_id")?;
        let tickets =
            sqlx::query("SELECT players FROM matchmaking_tickets WHERE match_id = $1 ORDER BY ticket_id")
                .bind(&match_id)
                .fetch_all(&mut *connection)
                .await?;
        let mut players: BTreeMap<String, Player> = BTreeMap::new();
        for ticket in tickets {
            let of_ticket: Vec<Player> = serde_json::from_str(&ticket.try_get::<String, _>("players")?)
                .map_err(anyhow::Error::from)?;
            players.extend(of_ticket.into_iter().map(|player| (player.id.clone(), player)));
        }
        let formed: Match =
            serde_json::from_str(&row.try_get::<String, _>("details")?).map_err(anyhow::Error::from)?;
        matches.push(placed_match(match_id, row.try_get("matchmaker")?, &formed, players));
    }
    Ok(Json(PlacedMatches { matches }))
}

fn placed_match(
    match_id: String,
    matchmaker: String,
    formed: &Match,
    mut known: BTreeMap<String, Player>,
) -> PlacedMatch {
    let (bots, others): (Vec<_>, Vec<_>) =
        matched_players(formed).into_iter().partition(|player| player.is_bot);
    let players = others.into_iter().map(|player| {
        let known = known.remove(&player.player_id);
        let (attributes, latency_ms) =
            known.map(|known| (known.attributes, known.latency_ms)).unwrap_or_default();
        MatchmakingPlayer {
            player_id: Some(player.player_id),
            attributes: attributes.into_iter().map(|(name, value)| (name, wire_value(value))).collect(),
            latency_ms,
            team: Some(player.team),
        }
    });
    PlacedMatch { match_id, matchmaker, players: players.collect(), bots }
}

fn wire_value(value: AttributeValue) -> wire::AttributeValue {
    match value {
        AttributeValue::Number(number) => wire::AttributeValue::Number(number),
        AttributeValue::Text(text) => wire::AttributeValue::Text(text),
        AttributeValue::TextList(list) => wire::AttributeValue::TextList(list),
        AttributeValue::NumberMap(map) => wire::AttributeValue::NumberMap(map),
    }
}
