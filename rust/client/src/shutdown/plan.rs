//! The phases of a shutdown, one after the other, on a worker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Inner, LAST_CHANCE, LAST_CHANCE_SHARE, OVERRUN, Pending, Phase, SoFar, Store, since};
use crate::player_store::Flushed;

/// Longest wait for the main thread to hand in final state, and the part of the grace it may take.
pub(super) const COLLECT: Duration = Duration::from_secs(2);
const COLLECT_SHARE: f64 = 0.3;
/// Part of the grace for which sending waits for the journal.
const JOURNAL_SHARE: f64 = 0.25;
/// Parts of the grace at which sending, releasing and leaving the registry are over.
const SENT_BY: f64 = 0.8;
const RELEASED_BY: f64 = 0.85;
const DEREGISTERED_BY: f64 = 0.9;
/// Longest wait for the host to know that everything is done, and the part of the grace at which that is over.
const LEAVE_HOST: Duration = Duration::from_secs(1);
const HOST_LEFT_BY: f64 = 0.94;
/// Longest wait for the main thread to leave once all is done.
const LEAVE: Duration = Duration::from_secs(2);

impl Inner {
    /// Returns when the process may end, or has ended it.
    pub(super) async fn run(&self) {
        let begun = self.so_far().begun.unwrap_or_else(|| self.clock.now());
        let reason = self.so_far().summary.reason.clone();
        (self.on_phase)(Phase::Draining(reason, self.grace()));
        self.participants.drain();

        (self.on_phase)(Phase::Collecting);
        let stores = self.participants.stores();
        self.so_far().summary.players = stores.iter().map(|store| store.players()).sum();
        let in_time = self
            .at_most(COLLECT.min(self.grace().mul_f64(COLLECT_SHARE)), self.collected.cancelled())
            .await
            .is_some();
        let not_collected = if in_time { 0 } else { self.so_far().summary.players };
        if !in_time {
            tracing::warn!(
                not_collected,
                "the game did not hand in its final state in time; what it handed over before is saved"
            );
        }
        if in_time {
            self.seal();
        }
        // What was not handed in is lost with the process, unless the game still does it while there is time to send it.
        let lost_state = !in_time && stores.iter().any(|store| store.awaits_state());
        drop(stores);
        let unsent = self.pending().documents;
        let collected = self.clock.now();
        {
            let mut so_far = self.so_far();
            so_far.collected = true;
            so_far.summary.not_collected = Some(not_collected);
            so_far.lost_state = lost_state;
            so_far.summary.collect = since(begun, collected);
        }

        (self.on_phase)(Phase::Journalling);
        let not_durable: usize = self
            .each(self.grace().mul_f64(JOURNAL_SHARE), |store, within| async move {
                store.flush_local(within).await
            })
            .await
            .into_iter()
            .sum();
        let journalled = self.clock.now();
        {
            let mut so_far = self.so_far();
            so_far.summary.saved_locally = unsent.saturating_sub(not_durable);
            so_far.summary.journal = since(collected, journalled);
        }
        if not_durable > 0 {
            tracing::error!(
                documents = not_durable,
                "not on local disk; only the backend can keep these saves"
            );
        }

        (self.on_phase)(Phase::Sending);
        // What was journalled may have been sent meanwhile.
        self.so_far().summary.saved = unsent.saturating_sub(self.pending().documents);
        let within = since(self.clock.now(), begun + self.grace().mul_f64(SENT_BY));
        let flushed = self.each(within, |store, within| async move { store.flush(within).await }).await;
        self.so_far().add(&flushed);
        let sent = self.clock.now();
        self.so_far().summary.send = since(journalled, sent);

        (self.on_phase)(Phase::Releasing);
        // A game that did not hand in its final state in time had until now.
        if !in_time && self.collected.is_cancelled() {
            let mut so_far = self.so_far();
            so_far.summary.not_collected = Some(0);
            so_far.lost_state = false;
        }
        self.seal();
        let within = since(sent, begun + self.grace().mul_f64(RELEASED_BY));
        let released = self.each(within, |store, within| async move { store.release(within).await }).await;
        self.so_far().add(&released);
        let within = since(self.clock.now(), begun + self.grace().mul_f64(DEREGISTERED_BY));
        let deregistered = self.leave_registry(within).await;
        self.leave_host(begun).await;
        let done = self.clock.now();

        if self.pending().may_be_more {
            // Of what was opened in vain meanwhile nobody has asked yet.
            let within = LAST_CHANCE.min(self.grace().mul_f64(LAST_CHANCE_SHARE));
            self.each(within, |store, within| async move { store.flush_local(within).await }).await;
        }
        let pending = self.pending();
        let refused = self.participants.stores().iter().map(|store| store.refused()).sum();
        let summary = {
            let mut so_far = self.so_far();
            so_far.summary.deregistered = deregistered;
            so_far.summary.release = since(sent, done);
            so_far.summary.total = since(begun, done);
            let lost_state = so_far.lost_state;
            so_far.summary.left(pending, lost_state);
            so_far.summary.refused = Some(refused);
            so_far.complete = true;
            so_far.summary.clone()
        };
        (self.on_phase)(Phase::Completed(summary.clone()));
        let answered = self.at_most(LEAVE, self.leaving.cancelled()).await.is_some();
        if !answered {
            tracing::warn!("the main thread does not answer; ending the process without it");
        }
        if !answered || self.abandoned.load(Ordering::SeqCst) {
            (self.exit)(summary.exit_code(), &summary);
        }
    }

    /// What stores have is final from now on.
    fn seal(&self) {
        self.participants.stores().iter().for_each(|store| store.seal());
    }

    /// Lets every store do the same, side by side: a slow one takes nothing from the others.
    async fn each<T, W>(&self, within: Duration, work: impl Fn(Arc<dyn Store>, Duration) -> W) -> Vec<T>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        let mut tasks: JoinSet<T> =
            self.participants.stores().into_iter().map(|store| work(store, within)).collect();
        let mut results = Vec::new();
        let all = async {
            while let Some(outcome) = tasks.join_next().await {
                match outcome {
                    Ok(result) => results.push(result),
                    Err(error) => tracing::error!(%error, "a store failed while shutting down"),
                }
            }
        };
        if self.at_most(within + OVERRUN, all).await.is_none() {
            tracing::error!("a store does not keep to its time; the shutdown goes on without it");
        }
        results
    }

    /// Deregistering releases all players. Of whom the journal has saves, the lease stays until the next run has sent them:
    /// another server would load an older state. Nor does a release that got no answer become one without a question.
    async fn leave_registry(&self, within: Duration) -> bool {
        // Also where a newer change is not in the journal: an earlier one may be.
        !self.owes_saves() && self.at_most(within, self.participants.deregister()).await.unwrap_or(false)
    }

    fn owes_saves(&self) -> bool {
        self.pending().documents > 0 || self.participants.stores().iter().any(|store| store.awaits_answer())
    }

    async fn leave_host(&self, begun: Instant) {
        let within = since(self.clock.now(), begun + self.grace().mul_f64(HOST_LEFT_BY)).min(LEAVE_HOST);
        let owes_saves = self.owes_saves() || self.pending().may_be_more;
        // Late or not, the process ends.
        let _left = self.at_most(within, self.participants.leave_host(owes_saves)).await;
    }

    fn pending(&self) -> Pending {
        self.participants.stores().iter().map(|store| store.pending()).sum()
    }
}

impl SoFar {
    fn add(&mut self, flushed: &[Flushed]) {
        for flushed in flushed {
            self.summary.saved += flushed.saved;
            self.summary.conflicted += flushed.conflicted;
        }
    }
}
