//! What is to be sent next, and when.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::limits::{MAX_BATCH, MAX_LOAD};
use backend_protocol::player_store::ReleasePlayer;
use tokio::time::Instant;

use super::super::player::{Document, PendingSince, Player, Revision};
use super::super::state::{JournalState, Name, Release, StoreState};
use super::{IDLE_INTERVAL, Pace, Sent, Work};
use crate::failpoints::Failpoint;

impl StoreState {
    pub(super) fn next_work(&mut self, now: Instant) -> Work {
        // In turns: a game that saves without a pause must not keep players, or a dead server's, from being let go.
        if std::mem::take(&mut self.was_saving)
            && let Some(work) = self.next_release()
        {
            return work;
        }
        let quiet = self.idle_for(now);
        let batch = if quiet.is_some() { Vec::new() } else { self.collect(now) };
        if !batch.is_empty() {
            self.was_saving = true;
            return Work::Save(batch);
        }
        let idle = |state: &mut Self| Work::Idle(quiet.unwrap_or_else(|| state.due_in(now)));
        self.next_release().unwrap_or_else(|| idle(self))
    }

    /// Leases to let go, if there are any: of players who left, or of a dead process whose saves are settled.
    fn next_release(&self) -> Option<Work> {
        let release = |(id, release): (&Arc<str>, &Release)| ReleasePlayer {
            player_id: id.to_string(),
            epoch: release.epoch,
            saved_sequences: release.player.as_ref().map(Player::saved_sequences),
            saved_versions: release.player.as_ref().map(Player::saved_versions),
        };
        // Of those who wait for what is sent again, or whose saves got into the journal meanwhile, the lease stays until that has
        // arrived.
        let is_ready = |id: &str| !self.has_recovered_saves(id) && !self.has_journalled_saves(id);
        let ready = self.releases.iter().filter(|(id, _)| is_ready(id));
        let released: Vec<ReleasePlayer> = ready.take(MAX_LOAD).map(release).collect();
        if !released.is_empty() {
            return Some(Work::Release(released));
        }
        // Under an id that this server had before, it may hold players still.
        let is_settled = |id: &&String| self.unsent.is_empty() || !self.own_ids.contains(*id);
        let dead = self.predecessors.iter().find(is_settled).filter(|_| self.recovered.is_empty())?;
        Some(Work::RetireServer(dead.clone()))
    }

    pub(super) fn note_requested(&mut self, players: &[ReleasePlayer]) {
        for player in players {
            if let Some(release) = self.releases.get_mut(&*player.player_id) {
                release.is_requested = true;
            }
        }
    }

    /// How long nothing is due for certain, whatever is journalled meanwhile. The journal's task wakes this one at every
    /// commit: in a burst, looking through everything each time would hold the lock on which the game's thread waits.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let calm = self.flushing == 0 && self.releasing.is_empty() && self.recovered.is_empty();
        self.next_due.filter(|until| calm && *until > now).map(|until| until - now)
    }

    fn is_due(&self, pending: PendingSince, leaving: bool, now: Instant) -> bool {
        leaving
            || self.flushing > 0
            || now >= pending.last + self.pace.debounce
            || now >= pending.first + self.pace.max_delay
    }

    /// The newest change that may be sent: one that is in the journal, or any while there is no journal.
    fn sendable<'a>(&self, document: &'a Document) -> Option<&'a Revision> {
        let revision = match self.journal {
            JournalState::Failed => document.numbered.as_ref(),
            JournalState::Opening | JournalState::Good => document.durable.as_ref(),
        };
        revision.filter(|revision| revision.number > document.committed)
    }

    /// Up to one batch of what is due, left-over saves first.
    fn collect(&mut self, now: Instant) -> Vec<Sent> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let limit = self.batch_bytes;
        let mut add = |size: usize, sent: &dyn Fn() -> Sent| {
            if batch.len() == MAX_BATCH || (bytes > 0 && bytes + size > limit) {
                return false;
            }
            bytes += size;
            batch.push(sent());
            true
        };
        let all_left =
            self.recovered.iter().filter(|(_, left)| left.journalled || self.journal == JournalState::Failed);
        let mut room = true;
        for (name, left) in all_left {
            let sent = || Sent {
                name: (Arc::clone(&name.0), Arc::clone(&name.1)),
                epoch: name.2,
                sequence: left.sequence,
                revision: 0,
                body: left.body.clone(),
                known_version: 0,
                is_repeated: left.is_repeated,
                loaded_version: left.loaded_version,
            };
            room = room && add(left.bytes, &sent);
        }
        if Failpoint::FreshSequence.is_active() {
            self.renumber();
        }
        let after = self.sent_last.as_ref();
        let first = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let last = after.map(|after| (Bound::Unbounded, Bound::Included(after)));
        let in_turn = self.unsent.range::<Name, _>(first);
        let in_turn = in_turn.chain(last.into_iter().flat_map(|last| self.unsent.range::<Name, _>(last)));
        for name in in_turn {
            let Some((player, document)) = self.document(name) else { continue };
            let (Some(pending), Some(revision)) = (document.pending, self.sendable(document)) else {
                continue;
            };
            let leaving = !self.releasing.is_empty() && self.releasing.contains(&name.0);
            let due = self.is_due(pending, leaving, now);
            let sent = || Sent {
                name: name.clone(),
                epoch: player.epoch,
                sequence: revision.sequence,
                revision: revision.number,
                body: revision.body.clone(),
                known_version: document.version,
                is_repeated: revision.sequence <= document.committed_sequence,
                loaded_version: revision.loaded_version,
            };
            room = room && (!due || add(revision.bytes, &sent));
            if !room {
                break;
            }
        }
        for sent in &batch {
            let player = self.players.get_mut(&sent.name.0).filter(|player| player.epoch == sent.epoch);
            if let Some(document) = player.and_then(|player| player.documents.get_mut(&sent.name.1)) {
                document.sent_sequence = document.sent_sequence.max(sent.sequence);
            }
        }
        self.sent_last = batch.last().map(|sent| sent.name.clone()).or_else(|| self.sent_last.take());
        batch
    }

    /// Failpoint fault, for the tests that must notice it: every attempt counts as a new save.
    fn renumber(&mut self) {
        for name in self.unsent.clone() {
            let Some(player) = self.players.get_mut(&name.0) else { continue };
            let next = player.next_sequence;
            let Some(durable) =
                player.documents.get_mut(&name.1).and_then(|document| document.durable.as_mut())
            else {
                continue;
            };
            durable.sequence = next;
            player.next_sequence += 1;
        }
    }

    /// Time until the next document is due.
    fn due_in(&mut self, now: Instant) -> Duration {
        let Pace { debounce, max_delay } = self.pace;
        let mut due: Option<Instant> = None;
        // Whatever changes from now on is not due before this.
        let mut next_due = now + debounce.min(max_delay);
        for name in &self.unsent {
            let Some((_, document)) = self.document(name) else { continue };
            let Some(pending) = document.pending else { continue };
            let at = (pending.last + debounce).min(pending.first + max_delay);
            // Also what cannot be sent yet: it can be as soon as it is journalled.
            next_due = next_due.min(at);
            if self.sendable(document).is_some() {
                due = Some(due.map_or(at, |due| due.min(at)));
            }
        }
        self.next_due = Some(next_due);
        due.map_or(IDLE_INTERVAL, |at| at.saturating_duration_since(now))
    }
}
