//! The matchmaking calls, for players and for game servers.

use async_trait::async_trait;
use backend_protocol::matchmaking::{
    AnswerProposal, CreateMatchmakingTicket, JoinParty, MatchmakingTicket, PlacedMatches,
};
use uuid::Uuid;

use super::Reply;
use crate::platform::secret::ServerKey;

/// A backend with matchmaking. `bearer` is an access token or a server key.
#[async_trait]
#[allow(
    missing_docs,
    reason = "each method is the route of the same name, documented in backend_protocol::routes"
)]
pub trait MatchmakingBackend: Send + Sync {
    /// With the same `key`, a repetition is answered with the ticket that the first attempt made.
    async fn create_matchmaking_ticket(
        &self,
        bearer: &str,
        key: Uuid,
        body: &CreateMatchmakingTicket,
    ) -> Reply<MatchmakingTicket>;
    async fn matchmaking_ticket(&self, bearer: &str, ticket_id: &str) -> Reply<MatchmakingTicket>;
    async fn cancel_matchmaking_ticket(&self, bearer: &str, ticket_id: &str) -> Reply<MatchmakingTicket>;
    async fn join_matchmaking_party(
        &self,
        access_token: &str,
        ticket_id: &str,
        body: &JoinParty,
    ) -> Reply<MatchmakingTicket>;
    async fn answer_proposal(
        &self,
        access_token: &str,
        ticket_id: &str,
        body: &AnswerProposal,
    ) -> Reply<MatchmakingTicket>;
    async fn matches_of_server(&self, key: &ServerKey, server_id: &str) -> Reply<PlacedMatches>;
}
