//! Tickets: a party of players who want to play together, or the players of a running game who want more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The largest number of players of one ticket.
pub const MAX_PLAYERS_PER_TICKET: usize = 200;
/// The largest number of regions with a latency, per player.
pub const MAX_REGIONS_PER_PLAYER: usize = 50;
/// The largest number of values of one list or map of a player.
pub const MAX_VALUES_PER_ATTRIBUTE: usize = 100;
/// The longest text of an attribute, in characters.
pub const MAX_TEXT: usize = 100;
/// The highest latency, in milliseconds.
pub const MAX_LATENCY_MS: u32 = 100_000;

/// A value of an attribute, written as FlexMatch writes it: `{"N": 5}`, `{"S": "deathmatch"}`, `{"SL": ["a", "b"]}`,
/// `{"SDM": {"map1": 20}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// A text.
    #[serde(rename = "S")]
    Text(String),
    /// A number.
    #[serde(rename = "N")]
    Number(f64),
    /// A list of texts.
    #[serde(rename = "SL")]
    TextList(Vec<String>),
    /// Numbers by name.
    #[serde(rename = "SDM")]
    NumberMap(BTreeMap<String, f64>),
}

/// A player of a ticket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Player {
    /// Id of the player.
    pub id: String,
    /// Attributes by name. An attribute that the rule set does not declare is ignored.
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
    /// Latency to each region, in milliseconds.
    #[serde(default)]
    pub latency_ms: BTreeMap<String, u32>,
    /// The team that the player is in already. Backfill only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

/// A party that waits for a match, or a running game that waits for players.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Id of the ticket.
    pub id: String,
    /// When the ticket was created, in milliseconds of the clock that the passes are given.
    pub created_at_ms: i64,
    /// The players. A match has all of them, in one team; those of a backfill ticket stay in their teams.
    pub players: Vec<Player>,
    /// Whether the players are in a game already, which wants more.
    #[serde(default)]
    pub backfill: bool,
}

/// Why a ticket is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TicketError {
    /// The field, such as `players[2].attributes[skill]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl TicketError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}
