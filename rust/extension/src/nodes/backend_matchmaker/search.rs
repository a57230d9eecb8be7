//! A search under way: its start, what it reaches, its end.

use std::sync::Arc;
use std::time::Instant;

use backend_client::error::{ClientError, Fault};
use backend_client::matchmaking::{Matchmaking, Progress, ReadyMatch, Request, Search, Stage};
use godot::prelude::*;

use super::BackendMatchmaker;
use crate::results::backend_error::Failure;
use crate::results::backend_match::BackendMatch;
use crate::results::backend_request::BackendRequest;
use crate::runtime::{background_tasks, main_thread_queue};

/// A search under way.
pub(super) struct Running {
    /// Tells late news of an earlier search apart.
    number: u64,
    pub(super) search: Search,
    pub(super) started: Instant,
    pub(super) progress: Option<Progress>,
}

/// Takes a search back that nobody waits for any more.
pub(super) struct CancelOnDrop(pub(super) Search);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.0.is_cancellable() {
            return;
        }
        let search = self.0.clone();
        background_tasks::spawn(async move {
            if let Err(error) = search.cancel().await {
                tracing::debug!(code = error.code(), "a search for a match was not cancelled at the backend");
            }
        });
    }
}

impl BackendMatchmaker {
    pub(super) fn start(&self, prepared: Result<(Matchmaking, Request), ClientError>) -> Gd<BackendRequest> {
        let busy =
            || ClientError::new(Fault::AlreadySearching, "this node searches already; cancel that first");
        let prepared =
            prepared.and_then(|prepared| if self.is_searching() { Err(busy()) } else { Ok(prepared) });
        let (matchmaking, request) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.calls.start(std::future::ready(Err(error)), BackendMatch::answer),
        };
        let id = self.base().instance_id();
        let number = self.next_number.get() + 1;
        self.next_number.set(number);
        let on_progress = Arc::new(move |progress| {
            main_thread_queue::enqueue(move || Self::note(id, number, progress));
        });
        let search = matchmaking.search(request, on_progress);
        let running = Running { number, search: search.clone(), started: Instant::now(), progress: None };
        self.running.replace(Some(running));
        main_thread_queue::enqueue(move || Self::announce_start(id, number));
        let open = CancelOnDrop(search);
        let work = async move { open.0.run().await };
        self.calls.start(work, move |outcome| {
            Self::finish(id, number, &outcome);
            BackendMatch::answer(outcome)
        })
    }

    fn announce_start(id: InstanceId, number: u64) {
        if let Some((node, ())) = Self::of_search(id, number, |_running| ()) {
            node.signals().status_changed().emit(Self::STATUS_SEARCHING);
        }
    }

    /// The node, and what `read` returns, if the node still has this search.
    fn of_search<T>(
        id: InstanceId,
        number: u64,
        read: impl FnOnce(&mut Running) -> T,
    ) -> Option<(Gd<Self>, T)> {
        // The node may have been freed.
        let node = Gd::<Self>::try_from_instance_id(id).ok()?;
        let value = {
            let this = node.bind();
            let mut running = this.running.borrow_mut();
            read(running.as_mut().filter(|running| running.number == number)?)
        };
        Some((node, value))
    }

    /// Takes over what a search has reached, and tells the script what of it is new.
    fn note(id: InstanceId, number: u64, progress: Progress) {
        let taken_over = Self::of_search(id, number, |running| {
            let status_before = running.status();
            let before = running.progress.replace(progress.clone());
            (status_before, before, running.status())
        });
        let Some((node, (status_before, before, status))) = taken_over else { return };
        let before = before.as_ref();
        // Handlers may end the search, but not take back what was reached.
        if before.is_some_and(|before| before.connected != progress.connected)
            || (before.is_none() && !progress.connected)
        {
            node.signals().connection_changed().emit(progress.connected);
        }
        if status != status_before {
            node.signals().status_changed().emit(status);
        }
        let wait = estimated_wait(&progress);
        if wait != before.and_then(estimated_wait) {
            node.signals().estimated_wait_changed().emit(wait.unwrap_or(-1.0));
        }
        if players(&progress) != before.map_or((0, 0), players) {
            node.signals().players_changed().emit();
        }
        if status == Self::STATUS_PROPOSED
            && match_id(&progress) != before.and_then(match_id)
            && let Some(proposal) = proposal(&progress)
        {
            node.signals().match_proposed().emit(&proposal);
        }
    }

    fn finish(id: InstanceId, number: u64, outcome: &Result<ReadyMatch, Failure>) {
        let Some((node, ())) = Self::of_search(id, number, |_running| ()) else { return };
        let status = if outcome.is_ok() { Self::STATUS_READY } else { Self::STATUS_FAILED };
        {
            let this = node.bind();
            this.running.replace(None);
            this.ended.set(status);
        }
        node.signals().status_changed().emit(status);
        match outcome {
            Ok(ready) => node.signals().match_ready().emit(&BackendMatch::object(Ok(ready.clone()))),
            Err(failure) => node.signals().search_failed().emit(&failure.clone().into_object()),
        }
    }
}

impl Running {
    pub(super) fn status(&self) -> i64 {
        match self.progress.as_ref().map(|progress| progress.stage) {
            Some(Stage::Party) => BackendMatchmaker::STATUS_PARTY,
            None | Some(Stage::Searching) => BackendMatchmaker::STATUS_SEARCHING,
            Some(Stage::Proposed) => BackendMatchmaker::STATUS_PROPOSED,
            Some(Stage::Accepted) => BackendMatchmaker::STATUS_ACCEPTED,
            Some(Stage::Placing) => BackendMatchmaker::STATUS_PLACING,
        }
    }
}

pub(super) fn estimated_wait(progress: &Progress) -> Option<f64> {
    progress.ticket.as_ref()?.estimated_wait_seconds.map(f64::from)
}

/// Players of the party, and players who have accepted.
fn players(progress: &Progress) -> (usize, u32) {
    let Some(ticket) = &progress.ticket else { return (0, 0) };
    let accepted = ticket.r#match.as_ref().and_then(|formed| formed.accepted);
    (ticket.player_ids.len(), accepted.unwrap_or_default())
}

fn match_id(progress: &Progress) -> Option<&str> {
    Some(&progress.ticket.as_ref()?.r#match.as_ref()?.match_id)
}

pub(super) fn proposal(progress: &Progress) -> Option<Gd<BackendMatch>> {
    let formed = progress.ticket.as_ref()?.r#match.clone()?;
    Some(BackendMatch::object(Ok(ReadyMatch { formed, ticket: None })))
}
