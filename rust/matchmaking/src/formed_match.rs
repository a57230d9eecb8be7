//! A match that was formed.

use serde::{Deserialize, Serialize};

use crate::draft::{Draft, OWN_TEAMS};
use crate::evaluate::Evaluation;
use crate::pool::Pool;

/// A player of a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Id of the player.
    pub player_id: String,
    /// The ticket of the player.
    pub ticket_id: String,
    /// The team.
    pub team: String,
}

/// Tickets that play together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// The tickets, the one that the match was built around first.
    pub tickets: Vec<String>,
    /// The ticket of the running game that the others join, if it is one.
    pub backfill: Option<String>,
    /// All players, those of a running game included.
    pub players: Vec<Placement>,
    /// The regions that all latency rules allow, nearest first. Empty without a latency rule.
    pub regions: Vec<String>,
}

impl Match {
    pub(crate) fn of(pool: &Pool, draft: &Draft, stage: usize) -> Self {
        let rule_set = &pool.rule_set;
        let mut players = Vec::with_capacity(draft.players as usize);
        for member in &draft.members {
            let entry = pool.entry(member.ticket);
            for player in &entry.players {
                let team = if member.team == OWN_TEAMS { player.team } else { member.team };
                players.push(Placement {
                    player_id: player.id.to_string(),
                    ticket_id: entry.id.to_string(),
                    team: rule_set.teams[usize::from(team)].name.clone(),
                });
            }
        }
        let regions = Evaluation { rule_set, pool, draft, stage }.regions();
        Self {
            tickets: draft.members.iter().map(|member| pool.entry(member.ticket).id.to_string()).collect(),
            backfill: draft.backfill.map(|ticket| pool.entry(ticket).id.to_string()),
            players,
            regions: regions.into_iter().map(|region| pool.texts.text(region).to_owned()).collect(),
        }
    }
}
