//! Matchmaking: a player's search for a match until there is a ticket for its room, and a running game's search for more players.

mod rules;
mod search;

use std::sync::Arc;

use backend_protocol::matchmaking::{
    CreateMatchmakingTicket, JoinParty, MatchmakingMatch, MatchmakingPlayer, MatchmakingTicket, PlacedMatch,
};
use backend_protocol::rooms::JoinTicket;
use tokio::time::Instant;

use crate::api::backend::Backend;
use crate::api::backend::matchmaking::MatchmakingBackend;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::platform::rng;
use crate::platform::secret::ServerKey;
use crate::session::Session;

pub use rules::MatchRules;
pub use search::Search;

/// Where a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Players of the party are still to join.
    Party,
    /// It waits for a match.
    Searching,
    /// There is a match, which this player has not answered.
    Proposed,
    /// This player has accepted the match; others have not yet.
    Accepted,
    /// The match waits for a room, or the player for a ticket to it.
    Placing,
}

/// What is known of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Where it is.
    pub stage: Stage,
    /// The ticket as the backend returned it last; none before it has returned one.
    pub ticket: Option<MatchmakingTicket>,
    /// Until when the match has to be accepted.
    pub answer_until: Option<Instant>,
    /// Whether the backend answered the last request.
    pub connected: bool,
}

/// Told about each change, on a worker thread.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// A match with its room.
#[derive(Clone)]
pub struct ReadyMatch {
    /// The match.
    pub formed: MatchmakingMatch,
    /// The ticket to its room; none for the game server that asked for players.
    pub ticket: Option<JoinTicket>,
}

/// Who searches.
#[derive(Clone)]
pub enum Caller {
    /// A player.
    Player(Session),
    /// A game server.
    Server(ServerKey),
}

impl Caller {
    async fn authorized<T, F>(&self, call: impl Fn(String) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        match self {
            Self::Player(session) => session.authorized(call).await,
            Self::Server(key) => call(key.expose().to_owned()).await,
        }
    }
}

/// What a search begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A ticket of its own.
    Create(CreateMatchmakingTicket),
    /// The ticket of another player's party.
    Join {
        /// Its id.
        ticket_id: String,
        /// Who joins.
        player: JoinParty,
    },
    /// The ticket of a running game that wants more players.
    Backfill {
        /// Name of the matchmaker.
        matchmaker: String,
        /// Id of the game server.
        server_id: String,
        /// Ids of the players who are in the game.
        present: Vec<String>,
    },
}

/// A backend's matchmaking in the name of a player or of a game server. Cheap to clone.
#[derive(Clone)]
pub struct Matchmaking {
    backend: Arc<dyn Backend>,
    calls: Arc<dyn MatchmakingBackend>,
    caller: Caller,
    clock: Arc<dyn Clock>,
}

impl Matchmaking {
    /// Asks in the name of `caller`.
    pub fn new(
        backend: Arc<dyn Backend>,
        caller: Caller,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let calls = Arc::clone(&backend).matchmaking().ok_or_else(|| {
            ClientError::new(Fault::NotConfigured, "this kind of backend has no matchmaking")
        })?;
        Ok(Self { backend, calls, caller, clock })
    }

    /// A search that has not begun.
    pub fn search(&self, request: Request, on_progress: OnProgress) -> Search {
        Search::new(self.clone(), request, rng::random_uuid(), on_progress)
    }

    /// The matches that were placed on a game server.
    pub async fn placed_matches(&self, server_id: &str) -> Result<Vec<PlacedMatch>, ClientError> {
        let Caller::Server(key) = &self.caller else {
            return Err(ClientError::new(Fault::Internal, "a player lists matches"));
        };
        Ok(self.calls.matches_of_server(key, server_id).await?.matches)
    }
}

/// The players of a running game with what the matchmaker knew of them.
fn backfill_players(
    placed: &[PlacedMatch],
    present: &[String],
) -> Result<Vec<MatchmakingPlayer>, ClientError> {
    let of = |id: &String| {
        // Of several matches, the newest.
        let mut known = placed.iter().rev().flat_map(|placed| &placed.players);
        known.find(|player| player.player_id.as_ref() == Some(id)).cloned().ok_or_else(|| {
            let rule = format!("has {id}, who is in no match of this server that the backend knows");
            ClientError::field("player_ids", rule)
        })
    };
    present.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
