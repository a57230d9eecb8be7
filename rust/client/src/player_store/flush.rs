//! Waiting for what was unsaved at the call. What a game saves meanwhile is for the next call: the end of a flush does not
//! move, however often the game saves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::state::{Epoched, JournalState, StoreState};
use super::{Inner, PlayerStore};
use crate::error::ClientError;

/// What a flush achieved, in documents: of those that were unsaved when it was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Committed by the backend.
    pub saved: usize,
    /// Not at the backend yet.
    pub unsaved: usize,
    /// Those of the unsaved that are durable on local disk.
    pub journalled: usize,
    /// At the backend, but as conflicts: another server had taken the player over.
    pub conflicted: usize,
    /// Documents whose last save was refused: what the game handed in is nowhere.
    pub refused: usize,
}

/// One document with what it had unsaved.
struct Target {
    name: Epoched,
    /// The newest change at the call; 0 for a save that was left over.
    revision: u64,
}

impl Target {
    /// The backend has it, as the document or as a conflict.
    fn is_settled(&self, state: &StoreState) -> bool {
        if state.recovered.contains_key(&self.name) {
            return false;
        }
        let (player_id, key, epoch) = &self.name;
        let living = state.players.get(player_id).filter(|player| player.epoch == *epoch && !player.lost);
        living
            .and_then(|player| player.documents.get(key))
            .is_none_or(|document| document.pending.is_none() || document.committed >= self.revision)
    }

    fn is_durable(&self, state: &StoreState) -> bool {
        if let Some(left) = state.recovered.get(&self.name) {
            return left.journalled;
        }
        let (player_id, key, _) = &self.name;
        let document = state.players.get(player_id).and_then(|player| player.documents.get(key));
        let durable = document.and_then(|document| document.durable.as_ref());
        durable.is_some_and(|revision| revision.number >= self.revision)
    }
}

/// Everything that was unsaved at one moment.
struct Targets {
    all: Vec<Target>,
    /// So many from the beginning are where they should be, and will not come back.
    done: AtomicUsize,
}

impl Targets {
    fn of(state: &StoreState, player_id: Option<&str>) -> Self {
        let wanted = |id: &str| player_id.is_none_or(|wanted| wanted == id);
        let living = state.unsent.iter().filter(|name| wanted(&name.0)).filter_map(|name| {
            let (player, document) = state.document(name)?;
            let name = (Arc::clone(&name.0), Arc::clone(&name.1), player.epoch);
            Some(Target { name, revision: document.revision })
        });
        let left = state.recovered.keys().filter(|name| wanted(&name.0));
        let left = left.map(|name| Target { name: name.clone(), revision: 0 });
        Self { all: living.chain(left).collect(), done: AtomicUsize::new(0) }
    }

    /// Looks on from where it has come to: asked at every commit, it must not look through all of them each time.
    fn are_all(&self, is_there: impl Fn(&Target) -> bool) -> bool {
        let mut done = self.done.load(Ordering::Relaxed);
        while self.all.get(done).is_some_and(&is_there) {
            done += 1;
        }
        self.done.store(done, Ordering::Relaxed);
        done == self.all.len()
    }
}

impl PlayerStore {
    /// Waits until everything that is unsaved now is durable on local disk, at most `within`. Returns how many documents are
    /// not.
    pub async fn flush_local(&self, within: Duration) -> usize {
        let targets = Targets::of(&self.0.lock(), None);
        self.0.wake_journal.notify_one();
        let is_safe =
            |state: &StoreState, target: &Target| target.is_durable(state) || target.is_settled(state);
        self.0.wait_until(within, |state| targets.are_all(|target| is_safe(state, target))).await;
        let state = self.0.lock();
        targets.all.iter().filter(|target| !is_safe(&state, target)).count()
    }

    /// Sends everything that is unsaved now, of one player or of all, and waits until it is committed or `within` is over.
    /// What is left stays pending and goes on being sent. While it is unknown what an earlier run left in the journal, that
    /// counts as one unsaved document.
    pub async fn flush(&self, player_id: Option<&str>, within: Duration) -> Flushed {
        let until = self.0.clock.now() + within;
        let is_known = |state: &StoreState| state.journal != JournalState::Opening && !state.is_taking_over;
        let is_open = self.0.wait_until(within, is_known).await;
        let (targets, conflicted) = {
            let state = self.0.lock();
            (Targets::of(&state, player_id), state.conflicted)
        };
        if is_open && !targets.all.is_empty() {
            let _all_due = FlushGuard::begin(&self.0);
            let left = until.saturating_duration_since(self.0.clock.now());
            self.0.wait_until(left, |state| targets.are_all(|target| target.is_settled(state))).await;
        }
        let mut state = self.0.lock();
        let unknown = usize::from(!is_open);
        let unsettled: Vec<&Target> =
            targets.all.iter().filter(|target| !target.is_settled(&state)).collect();
        let journalled = unsettled.iter().filter(|target| target.is_durable(&state)).count();
        let settled = targets.all.len() - unsettled.len();
        let conflicted = (state.conflicted - conflicted).min(settled);
        Flushed {
            saved: settled - conflicted,
            unsaved: unsettled.len() + unknown,
            journalled: journalled + unknown,
            conflicted,
            refused: state.report_refused(player_id),
        }
    }

    /// Documents of all players whose last save was refused. What concerns players who are not here is told once.
    pub fn report_refused(&self) -> usize {
        self.0.lock().report_refused(None)
    }

    /// [`Self::flush`] of one player; the error of the player's last save if that was refused.
    pub async fn save_now(&self, player_id: &str, within: Duration) -> Result<Flushed, ClientError> {
        let flushed = self.flush(Some(player_id), within).await;
        let refused = self.0.lock().refusals.last_of(player_id);
        refused.map_or(Ok(flushed), Err)
    }
}

/// While this lives, nothing waits for company, and attempts follow each other quickly.
pub(super) struct FlushGuard<'a>(&'a Inner);

impl<'a> FlushGuard<'a> {
    pub fn begin(inner: &'a Inner) -> Self {
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
