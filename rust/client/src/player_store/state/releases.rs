//! Leases to let go.

use std::sync::Arc;

use super::{Document, JournalState, Player, Release, StoreState};

impl StoreState {
    /// Lets go of players who left and have nothing unsent.
    pub fn forget_released(&mut self) {
        // A lost player stays known until the backend has said what it has of the lease: if it went back, what was only
        // loaded is to be sent as well.
        let is_asking = |player: &Player| {
            let id = &player.id;
            player.lost && self.recovered.keys().any(|name| name.0 == *id && name.2 == player.epoch)
        };
        let has_all_sent = |player: &Player| {
            player.documents.values().all(|document| document.pending.is_none()) && !is_asking(player)
        };
        let done: Vec<Arc<str>> = self
            .releasing
            .iter()
            .filter(|id| self.players.get(*id).is_some_and(has_all_sent))
            .cloned()
            .collect();
        for id in done {
            let Some(player) = self.forget(&id) else { continue };
            if !player.lost {
                self.releases.insert(id, Release::new(player.epoch, Some(player)));
            }
        }
    }

    /// Lets a lease go under which nothing was saved here. A release of the player that has no answer yet stays: it knows what the
    /// backend has confirmed, and asks whether that is still there. If the lease is a later one, whoever waits for the player
    /// has it let go by the next heartbeat.
    pub fn release_lease(&mut self, player_id: String, epoch: i64) {
        let is_asking = |release: &Release| release.epoch == epoch || release.player.is_some();
        if !self.releases.get(&*player_id).is_some_and(is_asking) {
            self.releases.insert(player_id.into(), Release::new(epoch, None));
        }
    }

    /// At the end of the process: players whose unsent saves are not in the journal wait for nobody. Those whose saves are stay
    /// held, so that they arrive, from the journal, before another server loads the player.
    pub fn release_unjournalled(&mut self) {
        // A journal that can be written to is about to have them.
        if self.journal == JournalState::Good {
            return;
        }
        for id in &self.releasing {
            let Some(player) = self.players.get(id).filter(|player| !player.lost) else { continue };
            if !self.has_journalled_saves(id) {
                self.releases.insert(Arc::clone(id), Release::new(player.epoch, None));
            }
        }
    }

    /// Whether a held player has unsent saves that are in the journal.
    pub fn has_journalled_saves(&self, player_id: &str) -> bool {
        let is_kept = |document: &Document| document.pending.is_some() && document.durable.is_some();
        self.players
            .get(player_id)
            .is_some_and(|player| !player.lost && player.documents.values().any(is_kept))
    }
}
