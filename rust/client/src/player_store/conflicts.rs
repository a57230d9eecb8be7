//! Saves that came too late: announced, merged, and taken off the backend's list.

use std::time::Duration;

use backend_protocol::player_store::{Conflict, ResolveConflicts};

use super::flush::FlushGuard;
use super::player::Player;
use super::{Event, Inner, PlayerStore, Resolution};
use crate::error::{ClientError, Fault};

/// Longest time a merged document may take to reach the backend.
const MERGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Conflicts remembered as announced.
const MAX_ANNOUNCED: usize = 10_000;

impl PlayerStore {
    /// Saves of this player that came too late and wait to be merged.
    pub async fn conflicts(&self, player_id: &str) -> Result<Vec<Conflict>, ClientError> {
        let reply = self.0.backend.player_conflicts(self.0.registration.key(), player_id).await?;
        Ok(reply.conflicts)
    }

    /// Makes one document of two states, and then takes the conflict off the backend's list. The player must be loaded here.
    pub async fn resolve(&self, conflict: &Conflict, resolution: Resolution) -> Result<(), ClientError> {
        let merged = self.merge(conflict, resolution)?;
        self.settle(conflict, merged).await
    }

    /// The first half of [`Self::resolve`]: changes the document at once, and returns the change, if it made one. Called by
    /// the thread that saves, it cannot overwrite what that thread saves meanwhile.
    pub fn merge(&self, conflict: &Conflict, resolution: Resolution) -> Result<Option<u64>, ClientError> {
        let (player_id, key) = (conflict.player_id.as_str(), conflict.key.as_str());
        let merged = match resolution {
            Resolution::Ours => Ok(None),
            Resolution::Theirs => self.save(player_id, key, conflict.value.clone()).map(Some),
            Resolution::MergePatch => self.merge_patch(player_id, key, &conflict.value).map(Some),
            Resolution::Value(merged) => self.save(player_id, key, merged).map(Some),
        };
        merged.inspect_err(|_| self.announce_again(conflict))
    }

    /// The second half of [`Self::resolve`]: takes a conflict off the backend's list once the change that covers it is
    /// committed. When it fails, the conflict is announced again.
    pub async fn settle(&self, conflict: &Conflict, merged: Option<u64>) -> Result<(), ClientError> {
        self.settle_once(conflict, merged).await.inspect_err(|_| self.announce_again(conflict))
    }

    async fn settle_once(&self, conflict: &Conflict, merged: Option<u64>) -> Result<(), ClientError> {
        let (player_id, key) = (conflict.player_id.as_str(), conflict.key.as_str());
        if let Some(revision) = merged {
            let _hurry = FlushGuard::begin(&self.0);
            // The conflict goes only when what was made of it is committed.
            let made = |player: &Player| {
                player.documents.get(key).map_or(0, |document| document.revision) >= revision
            };
            let committed = |player: &Player| {
                player.documents.get(key).is_some_and(|document| {
                    document.committed >= revision || document.pending.is_none() && made(player)
                })
            };
            // Loaded anew under another lease, the player has not what was made: it comes too late, and is a conflict of its own.
            let settled = self.0.wait_until(MERGE_TIMEOUT, |state| {
                state
                    .players
                    .get(player_id)
                    .is_none_or(|player| player.lost || !made(player) || committed(player))
            });
            let settled = settled.await;
            let state = self.0.lock();
            if !settled || state.players.get(player_id).is_none_or(|player| player.lost || !committed(player))
            {
                return Err(ClientError::new(
                    Fault::Timeout,
                    "the merged document is not at the backend yet",
                ));
            }
        }
        let body = ResolveConflicts {
            server_id: self.0.server_id()?,
            conflict_ids: vec![conflict.conflict_id.clone()],
        };
        self.0.backend.resolve_conflicts(self.0.registration.key(), &body).await
    }

    /// The next heartbeat tells of it again.
    fn announce_again(&self, conflict: &Conflict) {
        self.0.lock().announced_conflicts.remove(&conflict.conflict_id);
    }
}

impl Inner {
    /// Emits those that were not announced yet.
    pub(super) fn announce(&self, conflicts: Vec<Conflict>) {
        let fresh: Vec<Conflict> = {
            let mut state = self.lock();
            if state.announced_conflicts.len() > MAX_ANNOUNCED {
                state.announced_conflicts.clear();
            }
            let new = |conflict: &Conflict| state.announced_conflicts.insert(conflict.conflict_id.clone());
            conflicts.into_iter().filter(new).collect()
        };
        self.tell(fresh.into_iter().map(Event::ConflictFound));
    }
}
