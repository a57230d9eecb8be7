//! One search: the ticket is made, read until there is a match, answered, and traded for a ticket to the room.
//!
//! The ticket is in the backend's database. A lost connection or a restart of the backend costs a search nothing but the time that
//! it lasts; the requests that begin and end it can be repeated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::matchmaking::{
    AnswerProposal, CreateMatchmakingTicket, MatchmakingMatch, MatchmakingStatus, MatchmakingTicket,
};
use backend_protocol::rooms::{JoinTicket, RequestTicket};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Caller, Matchmaking, OnProgress, Progress, ReadyMatch, Request, Stage, backfill_players};
use crate::api::retry;
use crate::error::{ClientError, Fault};

/// A search without an answer of the backend ends after this time.
const MAX_OUTAGE: Duration = Duration::from_secs(120);
/// The same before the backend has answered at all.
const MAX_START: Duration = Duration::from_secs(30);
/// Time between two readings of a ticket at first, and while something is to happen soon.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The same after a long wait.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A search. Cheap to clone; clones are the same search.
#[derive(Clone)]
pub struct Search(Arc<Inner>);

struct Inner {
    matchmaking: Matchmaking,
    request: Request,
    /// Makes the request that begins the search repeatable.
    key: Uuid,
    on_progress: OnProgress,
    state: Mutex<State>,
    /// Wakes the task for an early reading.
    changed: Notify,
}

struct State {
    /// Whether the backend may have been asked for a ticket.
    began: bool,
    /// Whether the backend is known to have no ticket that can be cancelled.
    has_ended: bool,
    progress: Progress,
    /// The match that was answered, and how.
    answered: Option<(String, bool)>,
}

impl Search {
    pub(super) fn new(
        matchmaking: Matchmaking,
        request: Request,
        key: Uuid,
        on_progress: OnProgress,
    ) -> Self {
        let progress =
            Progress { stage: Stage::Searching, ticket: None, answer_until: None, connected: true };
        let state = Mutex::new(State { began: false, has_ended: false, progress, answered: None });
        Self(Arc::new(Inner { matchmaking, request, key, on_progress, state, changed: Notify::new() }))
    }

    /// Searches until there is a match with a room and, for a player, a ticket to it. If this is dropped, [`Self::cancel`] is to
    /// follow.
    pub async fn run(&self) -> Result<ReadyMatch, ClientError> {
        let outcome = self.until_ready().await;
        let settled = outcome.as_ref().err().is_none_or(|error| !error.is_unanswered());
        self.state().has_ended |= settled;
        outcome
    }

    /// Accepts or rejects the match that is proposed.
    pub async fn answer(&self, accept: bool) -> Result<(), ClientError> {
        let (ticket_id, match_id) = self.proposed()?;
        let (matchmaking, body) = (&self.0.matchmaking, AnswerProposal { accept });
        let ticket_id = ticket_id.as_str();
        let call =
            |token: String| async move { matchmaking.calls.answer_proposal(&token, ticket_id, &body).await };
        let ticket = matchmaking.caller.authorized(call).await?;
        self.state().answered = Some((match_id, accept));
        self.note(&ticket);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Whether [`Self::cancel`] has something to do.
    pub fn is_cancellable(&self) -> bool {
        let state = self.state();
        state.began && !state.has_ended
    }

    /// Takes the search back. A match that gets its room already is not stopped.
    pub async fn cancel(&self) -> Result<(), ClientError> {
        if !self.is_cancellable() {
            return Ok(());
        }
        let known = self.state().progress.ticket.as_ref().map(|ticket| ticket.ticket_id.clone());
        let ticket_id = match (&known, &self.0.request) {
            (Some(ticket_id), _) | (None, Request::Join { ticket_id, .. }) => ticket_id.clone(),
            // The reply was not waited for: a repetition returns the same ticket.
            (None, _) => self.begin().await?.ticket_id,
        };
        let (matchmaking, ticket_id) = (&self.0.matchmaking, ticket_id.as_str());
        let call = |token: String| async move {
            matchmaking.calls.cancel_matchmaking_ticket(&token, ticket_id).await
        };
        match matchmaking.caller.authorized(call).await {
            Ok(_) => {}
            Err(error) if error.is(Code::MatchmakingTicketNotFound) => {}
            Err(error) => return Err(error),
        }
        self.state().has_ended = true;
        self.0.changed.notify_one();
        Ok(())
    }

    async fn until_ready(&self) -> Result<ReadyMatch, ClientError> {
        self.state().began = true;
        let started = self.now();
        let mut ticket = self.repeated(MAX_START, || self.begin()).await?;
        loop {
            self.note(&ticket);
            if let Some(outcome) = outcome_of(&ticket) {
                return self.ready(outcome?).await;
            }
            let interval = poll_interval(ticket.status, self.now() - started);
            tokio::select! {
                () = self.0.matchmaking.clock.sleep(retry::jittered(interval)) => {}
                () = self.0.changed.notified() => {}
            }
            let ticket_id = ticket.ticket_id.clone();
            ticket = self.repeated(MAX_OUTAGE, || self.read(&ticket_id)).await?;
        }
    }

    async fn begin(&self) -> Result<MatchmakingTicket, ClientError> {
        let (matchmaking, key) = (&self.0.matchmaking, self.0.key);
        let body = match &self.0.request {
            Request::Create(body) => body.clone(),
            Request::Backfill { matchmaker, server_id, present } => CreateMatchmakingTicket {
                matchmaker: matchmaker.clone(),
                players: backfill_players(&matchmaking.placed_matches(server_id).await?, present)?,
                party_size: None,
                backfill_server_id: Some(server_id.clone()),
            },
            Request::Join { ticket_id, player } => {
                let call = |token: String| async move {
                    matchmaking.calls.join_matchmaking_party(&token, ticket_id, player).await
                };
                return matchmaking.caller.authorized(call).await;
            }
        };
        let body = &body;
        let call = |token: String| async move {
            matchmaking.calls.create_matchmaking_ticket(&token, key, body).await
        };
        matchmaking.caller.authorized(call).await
    }

    async fn read(&self, ticket_id: &str) -> Result<MatchmakingTicket, ClientError> {
        let matchmaking = &self.0.matchmaking;
        let call =
            |token: String| async move { matchmaking.calls.matchmaking_ticket(&token, ticket_id).await };
        matchmaking.caller.authorized(call).await
    }

    /// The ticket to the room.
    async fn ready(&self, formed: MatchmakingMatch) -> Result<ReadyMatch, ClientError> {
        // The ticket of the search has ended.
        self.state().has_ended = true;
        let ticket = match (&self.0.matchmaking.caller, &formed.room_id) {
            (Caller::Player(_), Some(room_id)) => {
                Some(self.repeated(MAX_OUTAGE, || self.room_ticket(room_id)).await?)
            }
            _ => None,
        };
        Ok(ReadyMatch { formed, ticket })
    }

    async fn room_ticket(&self, room_id: &str) -> Result<JoinTicket, ClientError> {
        let (matchmaking, request) = (&self.0.matchmaking, RequestTicket::default());
        let request = &request;
        let call = |token: String| async move { matchmaking.backend.ticket(&token, room_id, request).await };
        matchmaking.caller.authorized(call).await
    }

    /// Repeats `call` until the backend answers, at most for `timeout`.
    async fn repeated<T, F>(&self, timeout: Duration, call: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let until = self.now() + timeout;
        let mut attempt = 0;
        loop {
            let error = match call().await {
                Ok(reply) => {
                    self.publish(|progress| progress.connected = true);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let pause = retry::pause_at_most(error.retry_after, attempt, MAX_POLL_INTERVAL);
            if !error.is_unanswered() || self.now() + pause >= until {
                return Err(error);
            }
            tracing::debug!(
                code = error.code(),
                attempt,
                "the search for a match goes on when the backend answers"
            );
            self.publish(|progress| progress.connected = false);
            self.0.matchmaking.clock.sleep(pause).await;
            attempt += 1;
        }
    }

    fn proposed(&self) -> Result<(String, String), ClientError> {
        let state = self.state();
        let ticket = state.progress.ticket.as_ref();
        let ticket = ticket
            .filter(|ticket| !state.has_ended && ticket.status == MatchmakingStatus::RequiresAcceptance);
        let proposed = ticket.and_then(|ticket| Some((ticket.ticket_id.clone(), ticket.r#match.as_ref()?)));
        let (ticket_id, proposed) = proposed
            .ok_or_else(|| ClientError::new(Fault::NoMatch, "there is no match to accept or to reject"))?;
        Ok((ticket_id, proposed.match_id.clone()))
    }

    /// Takes over what the backend returned.
    fn note(&self, ticket: &MatchmakingTicket) {
        let now = self.now();
        let mut state = self.state();
        let proposed = ticket.r#match.as_ref();
        let accepted = state.answered.as_ref().is_some_and(|(match_id, accepted)| {
            *accepted && proposed.is_some_and(|formed| formed.match_id == *match_id)
        });
        let stage = match ticket.status {
            MatchmakingStatus::Queued => Stage::Party,
            MatchmakingStatus::RequiresAcceptance if accepted => Stage::Accepted,
            MatchmakingStatus::RequiresAcceptance => Stage::Proposed,
            MatchmakingStatus::Placing | MatchmakingStatus::Completed => Stage::Placing,
            _ => Stage::Searching,
        };
        // The end of a search is its result, not a stage.
        let has_failed = matches!(
            ticket.status,
            MatchmakingStatus::Failed | MatchmakingStatus::Cancelled | MatchmakingStatus::TimedOut
        );
        if has_failed {
            return;
        }
        let answer_until = proposed
            .and_then(|formed| formed.answer_within_seconds)
            .map(|seconds| now + Duration::from_secs(seconds.into()));
        let progress = Progress { stage, ticket: Some(ticket.clone()), answer_until, connected: true };
        state.progress = progress.clone();
        drop(state);
        (self.0.on_progress)(progress);
    }

    fn publish(&self, change: impl FnOnce(&mut Progress)) {
        let mut state = self.state();
        let before = state.progress.clone();
        change(&mut state.progress);
        if state.progress != before {
            let progress = state.progress.clone();
            drop(state);
            (self.0.on_progress)(progress);
        }
    }

    fn now(&self) -> Instant {
        self.0.matchmaking.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait before a ticket is read again. The longer a search has lasted, the less often.
fn poll_interval(status: MatchmakingStatus, waited: Duration) -> Duration {
    match status {
        MatchmakingStatus::Queued | MatchmakingStatus::Searching => {
            (waited / 20).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)
        }
        _ => MIN_POLL_INTERVAL,
    }
}

/// What became of a ticket that has ended.
fn outcome_of(ticket: &MatchmakingTicket) -> Option<Result<MatchmakingMatch, ClientError>> {
    let fail = |fault, message: &'static str| Some(Err(ClientError::new(fault, message)));
    match ticket.status {
        MatchmakingStatus::Completed => Some(ticket.r#match.clone().ok_or_else(|| {
            ClientError::new(
                Fault::BadReply,
                "the backend's reply is not understood: a completed ticket has no match",
            )
        })),
        MatchmakingStatus::Failed if ticket.reason.as_deref() == Some("no_room") => {
            fail(Fault::NoRoom, "a match was found, but no room was free for it in time")
        }
        MatchmakingStatus::Failed => {
            fail(Fault::NoMatch, "the rules of matchmaking were changed; search again")
        }
        MatchmakingStatus::TimedOut => fail(Fault::NoMatch, "no match was found in time"),
        MatchmakingStatus::Cancelled => match ticket.reason.as_deref() {
            Some("rejected") => {
                fail(Fault::MatchNotAccepted, "the match was rejected by you or by your party")
            }
            Some("no_answer") => fail(Fault::MatchNotAccepted, "the match was not accepted in time"),
            Some("replaced") => {
                fail(Fault::Cancelled, "another search of the same player took the place of this one")
            }
            _ => fail(Fault::Cancelled, "the search was cancelled"),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
