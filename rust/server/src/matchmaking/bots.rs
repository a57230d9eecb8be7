//! Bots, for development: a player who waits alone gets a match whose other players the game plays itself.

use backend_matchmaking::{Match, Player, Pool, Ticket, Work};
use sqlx::Row;

use super::settings::Matchmaker;
use crate::http::ApiResult;
use crate::state::AppState;

/// What the ids of bots, and of their tickets, begin with.
const PREFIX: &str = "bot-";

/// The ticket that waits longest, and how many players wait.
struct Waiting {
    oldest: Ticket,
    players: usize,
}

/// A match of the ticket that waits longest with bots, if it has waited long enough.
pub async fn fill_up(
    state: &AppState,
    matchmaker: &Matchmaker,
    pool: &mut Pool,
    now: i64,
) -> ApiResult<Option<Match>> {
    let Some(after_ms) = matchmaker.bots_after_ms() else { return Ok(None) };
    let Some(waiting) = waiting(state, matchmaker, now - after_ms).await? else { return Ok(None) };
    let rule_set = &matchmaker.rule_set;
    let stage = &rule_set.stages[rule_set.stage_at(now - waiting.oldest.created_at_ms)];
    let fewest: u32 = stage.teams.iter().map(|team| team.min).sum();
    let most = (stage.max_players() as usize).saturating_sub(waiting.oldest.players.len());
    // As few bots as possible, so that everybody who fits is in the match.
    let least = (fewest as usize).saturating_sub(waiting.players).clamp(1, most.max(1));
    let mut added = 0;
    let mut found = None;
    while added < most && found.is_none() {
        added += 1;
        pool.add(&bot(&waiting.oldest, added))
            .map_err(|error| anyhow::anyhow!("a bot does not fit the rule set: {error}"))?;
        if added >= least {
            let pass = pool.form_matches(now, added as u64, Work::default());
            found = pass.matches.into_iter().find(|formed| formed.tickets.contains(&waiting.oldest.id));
        }
    }
    for number in 1..=added {
        pool.remove(&bot_id(number));
    }
    Ok(found.map(|formed| Match {
        tickets: formed.tickets.into_iter().filter(|ticket| !ticket.starts_with(PREFIX)).collect(),
        ..formed
    }))
}

fn bot_id(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// A bot has the attributes and latencies of a player whom it plays with.
fn bot(oldest: &Ticket, number: usize) -> Ticket {
    let model = oldest.players.get(number % oldest.players.len().max(1));
    let player = Player {
        id: bot_id(number),
        attributes: model.map(|player| player.attributes.clone()).unwrap_or_default(),
        latency_ms: model.map(|player| player.latency_ms.clone()).unwrap_or_default(),
        team: None,
    };
    // As old as who waits, so that expansions are those of that ticket.
    Ticket { id: bot_id(number), created_at_ms: oldest.created_at_ms, players: vec![player], backfill: false }
}

async fn waiting(state: &AppState, matchmaker: &Matchmaker, before: i64) -> ApiResult<Option<Waiting>> {
    let rows = sqlx::query(
        "SELECT ticket_id, players, party_size, created_at FROM matchmaking_tickets \
         WHERE scope = $1 AND matchmaker = $2 AND status = 'searching' AND ended_at IS NULL AND backfill_server_id IS NULL \
         ORDER BY created_at, ticket_id",
    )
    .bind(state.config.scope())
    .bind(&matchmaker.name)
    .fetch_all(state.database.pool())
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let created_at_ms: i64 = first.try_get("created_at")?;
    if created_at_ms > before {
        return Ok(None);
    }
    let players: Vec<Player> =
        serde_json::from_str(&first.try_get::<String, _>("players")?).map_err(anyhow::Error::from)?;
    let mut count = 0;
    for row in &rows {
        count += usize::try_from(row.try_get::<i64, _>("party_size")?).unwrap_or_default();
    }
    let oldest = Ticket { id: first.try_get("ticket_id")?, created_at_ms, players, backfill: false };
    Ok(Some(Waiting { oldest, players: count }))
}
