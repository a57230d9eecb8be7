//! Waiting until changes are on local disk, and at the backend.

use std::time::Duration;

use super::state::State;
use super::{Flushed, Inner, WorldStore};

impl WorldStore {
    /// Waits until every change made so far is durable on local disk, at most `within`. Gives how many are not.
    pub async fn flush_local(&self, within: Duration) -> usize {
        let targets = self.0.lock().targets();
        self.0.wait_until(within, |state| targets.are_all(|name| !targets.is_unkept(state, name))).await;
        let state = self.0.lock();
        targets.names.iter().filter(|name| targets.is_unkept(&state, name)).count()
    }

    /// Sends every change made so far and waits until all are committed, at most `within`. What is left goes on being sent;
    /// what is changed meanwhile is for the next call. Changes that are put aside meanwhile count as unsaved.
    pub async fn flush(&self, within: Duration) -> Flushed {
        let (targets, gone) = {
            let state = self.0.lock();
            (state.targets(), (state.aside, state.failed))
        };
        let _all_due = FlushGuard::begin(&self.0);
        let is_done = |state: &State| state.lost || targets.are_all(|name| !targets.is_pending(state, name));
        self.0.wait_until(within, is_done).await;
        let state = self.0.lock();
        let (aside, failed) = (state.aside - gone.0, state.failed - gone.1);
        let pending = targets.names.iter().filter(|name| targets.is_pending(&state, name));
        let (left, unkept) = pending.fold((0, 0), |(left, unkept), name| {
            (left + 1, unkept + usize::from(targets.is_unkept(&state, name)))
        });
        let unsaved = left + aside + failed;
        Flushed {
            saved: targets.names.len().saturating_sub(unsaved),
            unsaved,
            local: unsaved.saturating_sub(unkept + failed),
            refused: state.refusals.count(None),
        }
    }
}

/// While this lives, nothing waits for company.
pub(super) struct FlushGuard<'a>(&'a Inner);

impl<'a> FlushGuard<'a> {
    pub(super) fn begin(inner: &'a Inner) -> Self {
        inner.lock().flushing += 1;
        inner.wake_sender.notify_one();
        Self(inner)
    }
}

impl Drop for FlushGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().flushing -= 1;
    }
}
