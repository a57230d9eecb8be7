//! Matchmaking: tickets of players who wait for a match.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};

/// Most players of a matchmaking ticket.
pub const MAX_TICKET_PLAYERS: usize = 200;
/// Most attributes of a player in matchmaking.
pub const MAX_ATTRIBUTES: usize = 64;
/// Most values of a list or map in an attribute.
pub const MAX_ATTRIBUTE_VALUES: usize = 100;
/// Longest text of an attribute, and longest name of a region, in characters.
pub const MAX_ATTRIBUTE_TEXT: usize = 100;
/// Most regions that a player states a latency to.
pub const MAX_REGIONS: usize = 50;
/// Highest latency, in milliseconds.
pub const MAX_LATENCY_MS: u32 = 100_000;

/// The value of an attribute: `5`, `"race"`, `["race", "hunt"]` or `{"pond": 20}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// Texts.
    TextList(Vec<String>),
    /// Numbers by name.
    NumberMap(BTreeMap<String, f64>),
}

/// A player of a ticket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchmakingPlayer {
    /// Id of the player. A player may leave out their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player_id: Option<String>,
    /// Attributes by name, as the rule set declares them.
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
    /// Latency to each region, in milliseconds.
    #[serde(default)]
    pub latency_ms: BTreeMap<String, u32>,
    /// The team that the player is in. Backfill only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// Asks for a match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMatchmakingTicket {
    /// Name of the matchmaker.
    pub matchmaker: String,
    /// The players: the caller alone, or any players if a game server asks.
    pub players: Vec<MatchmakingPlayer>,
    /// How many players the party has, if a player asks. The others join the ticket by its id; then the search begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party_size: Option<u32>,
    /// The running game that wants more players, if a game server asks; `players` are those who are in it. It replaces the
    /// ticket that this game has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill_server_id: Option<String>,
}

/// Joins the party of a ticket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinParty {
    /// Attributes by name, as the rule set declares them.
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
    /// Latency to each region, in milliseconds.
    #[serde(default)]
    pub latency_ms: BTreeMap<String, u32>,
}

/// Answers a proposed match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerProposal {
    /// Whether the player wants to play it.
    pub accept: bool,
}

/// Where a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchmakingStatus {
    /// Players of the party are still to join.
    Queued,
    /// It waits for a match.
    Searching,
    /// There is a match; its players have to accept it.
    RequiresAcceptance,
    /// There is a match; it waits for a room.
    Placing,
    /// There is a room: `match.room_id`.
    Completed,
    /// There was no room in time.
    Failed,
    /// A player cancelled it, rejected a match or did not answer.
    Cancelled,
    /// There was no match in time.
    TimedOut,
}

/// A player of a match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MatchedPlayer {
    /// Id of the player.
    pub player_id: String,
    /// Name of the team.
    pub team: String,
    /// Whether the game plays this player itself, because the matchmaker fills up matches with bots.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bot: bool,
}

/// The match of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MatchmakingMatch {
    /// Id of the match.
    pub match_id: String,
    /// The room, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
    /// All players.
    pub players: Vec<MatchedPlayer>,
    /// Regions that are near to all, nearest first.
    pub regions: Vec<String>,
    /// How many players have accepted it, while it has to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u32>,
    /// Seconds in which it has to be accepted, while it has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_within_seconds: Option<u32>,
}

/// A match that was placed in a room, as its game server gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlacedMatch {
    /// Id of the match.
    pub match_id: String,
    /// Name of the matchmaker.
    pub matchmaker: String,
    /// The players with their teams, attributes and latencies, as a backfill request takes them. Without bots.
    pub players: Vec<MatchmakingPlayer>,
    /// The bots with their teams.
    pub bots: Vec<MatchedPlayer>,
}

/// The matches that were placed in a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlacedMatches {
    /// The matches, the oldest first.
    pub matches: Vec<PlacedMatch>,
}

/// A ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MatchmakingTicket {
    /// Id of the ticket. Who has it can join the party.
    pub ticket_id: String,
    /// Name of the matchmaker.
    pub matchmaker: String,
    /// Where it is.
    pub status: MatchmakingStatus,
    /// Why it ended without a match: `cancelled`, `rejected`, `no_answer`, `timed_out`, `no_room`, `replaced` or `invalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many players it is for.
    pub party_size: u32,
    /// Those who are in it.
    pub player_ids: Vec<String>,
    /// RFC 3339 time of creation, UTC.
    pub created_at: String,
    /// Seconds until the search ends without a match, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u32>,
    /// What the last matched tickets waited, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_wait_seconds: Option<u32>,
    /// The match, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<MatchmakingMatch>,
}

fn check_values(
    attributes: &BTreeMap<String, AttributeValue>,
    latency_ms: &BTreeMap<String, u32>,
) -> Result<(), FieldError> {
    limits::at_most("attributes", attributes.len(), MAX_ATTRIBUTES)?;
    for (name, value) in attributes {
        limits::opaque("attributes", name, 1, 128)?;
        let text = |text: &str| limits::opaque(&format!("attributes.{name}"), text, 0, MAX_ATTRIBUTE_TEXT);
        let count = |count| limits::at_most(&format!("attributes.{name}"), count, MAX_ATTRIBUTE_VALUES);
        match value {
            AttributeValue::Number(_) => {}
            AttributeValue::Text(one) => text(one)?,
            AttributeValue::TextList(list) => {
                count(list.len())?;
                list.iter().try_for_each(|one| text(one))?;
            }
            AttributeValue::NumberMap(map) => {
                count(map.len())?;
                map.keys().try_for_each(|one| text(one))?;
            }
        }
    }
    limits::at_most("latency_ms", latency_ms.len(), MAX_REGIONS)?;
    for (region, ms) in latency_ms {
        limits::opaque("latency_ms", region, 1, MAX_ATTRIBUTE_TEXT)?;
        if *ms > MAX_LATENCY_MS {
            return Err(FieldError::new(
                format!("latency_ms.{region}"),
                format!("must be at most {MAX_LATENCY_MS}"),
            ));
        }
    }
    Ok(())
}

impl Check for CreateMatchmakingTicket {
    fn check(&self) -> Result<(), FieldError> {
        limits::opaque("matchmaker", &self.matchmaker, 1, limits::MAX_LABEL)?;
        if self.players.is_empty() {
            return Err(FieldError::new("players", "must have at least one player"));
        }
        limits::at_most("players", self.players.len(), MAX_TICKET_PLAYERS)?;
        for (index, player) in self.players.iter().enumerate() {
            let within = |error: FieldError| error.within(&format!("players[{index}]"));
            check_values(&player.attributes, &player.latency_ms).map_err(within)?;
            if let Some(id) = &player.player_id {
                limits::identifier("player_id", id, 64).map_err(within)?;
            }
            if let Some(team) = &player.team {
                limits::opaque("team", team, 1, 140).map_err(within)?;
            }
        }
        if self.party_size.is_some_and(|size| size == 0 || size as usize > MAX_TICKET_PLAYERS) {
            return Err(FieldError::new("party_size", format!("must be 1 to {MAX_TICKET_PLAYERS}")));
        }
        match &self.backfill_server_id {
            Some(id) => limits::identifier("backfill_server_id", id, 64),
            None => Ok(()),
        }
    }
}

impl Check for JoinParty {
    fn check(&self) -> Result<(), FieldError> {
        check_values(&self.attributes, &self.latency_ms)
    }
}

impl Check for AnswerProposal {
    fn check(&self) -> Result<(), FieldError> {
        Ok(())
    }
}
