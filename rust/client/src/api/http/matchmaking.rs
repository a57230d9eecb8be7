//! The matchmaking calls over our own protocol, for players and for game servers.

use async_trait::async_trait;
use backend_protocol::matchmaking::{
    AnswerProposal, CreateMatchmakingTicket, JoinParty, MatchmakingTicket, PlacedMatches,
};
use backend_protocol::routes;
use reqwest::Method;
use uuid::Uuid;

use super::{Call, HttpBackend, Reply, checked_id};
use crate::api::backend::matchmaking::MatchmakingBackend;
use crate::platform::secret::ServerKey;

fn of_ticket(route: &str, ticket_id: &str) -> Reply<String> {
    Ok(routes::of_matchmaking_ticket(route, &checked_id("ticket_id", ticket_id)?))
}

#[async_trait]
impl MatchmakingBackend for HttpBackend {
    async fn create_matchmaking_ticket(
        &self,
        bearer: &str,
        key: Uuid,
        body: &CreateMatchmakingTicket,
    ) -> Reply<MatchmakingTicket> {
        let mut call = Call::post(routes::MATCHMAKING_TICKETS, body)?.with(bearer);
        call.idempotency_key = Some(key);
        self.call(call).await
    }

    async fn matchmaking_ticket(&self, bearer: &str, ticket_id: &str) -> Reply<MatchmakingTicket> {
        self.call(Call::get(of_ticket(routes::MATCHMAKING_TICKET, ticket_id)?).with(bearer)).await
    }

    // Repeatable: a ticket that has ended stays as it is.
    async fn cancel_matchmaking_ticket(&self, bearer: &str, ticket_id: &str) -> Reply<MatchmakingTicket> {
        let path = of_ticket(routes::MATCHMAKING_TICKET, ticket_id)?;
        self.call(Call { method: Method::DELETE, ..Call::get(path) }.with(bearer)).await
    }

    // Repeatable: who is in the party already stays in it.
    async fn join_matchmaking_party(
        &self,
        access_token: &str,
        ticket_id: &str,
        body: &JoinParty,
    ) -> Reply<MatchmakingTicket> {
        let path = of_ticket(routes::MATCHMAKING_PARTY, ticket_id)?;
        self.call(Call::post(path, body)?.repeated().with(access_token)).await
    }

    // Repeatable: the first answer counts.
    async fn answer_proposal(
        &self,
        access_token: &str,
        ticket_id: &str,
        body: &AnswerProposal,
    ) -> Reply<MatchmakingTicket> {
        let path = of_ticket(routes::MATCHMAKING_ANSWER, ticket_id)?;
        self.call(Call::post(path, body)?.repeated().with(access_token)).await
    }

    async fn matches_of_server(&self, key: &ServerKey, server_id: &str) -> Reply<PlacedMatches> {
        let path = routes::server_matches(&checked_id("server_id", server_id)?);
        self.call(Call::get(path).with(key.expose())).await
    }
}
