//! A backend whose database went back: a backup was restored, or an asynchronous replica took over. What it had said to be
//! saved may be gone.
//!
//! Whatever was saved under the present lease can be sent again under the number it had. That asks the question and mends
//! the damage in one: a backend that has the save answers `replayed`, one that lost it applies it, or keeps it as a conflict
//! if the lease is not ours any more. So it is done whenever there is a doubt: the backend forgot the server, a version is
//! lower than one it told before, a lease is lost. Documents that were only loaded have no number of ours. They are sent as new
//! saves, once it is certain that the backend went back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::player_store::{SaveOutcome, SaveResult};
use tokio::time::Instant;

use super::player::{Document, PendingSince, Player, RecoveredSave, Revision};
use super::state::StoreState;
use super::uploader::Sent;
use crate::failpoints::Failpoint;

/// Everything is sent again once for all that is noticed within this time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How often the documents of one player who is being released are sent again at most. A backend that never has what it says it
/// has is not to be asked for ever.
const MAX_REPETITIONS: u8 = 10;

impl StoreState {
    /// Sends again what the backend said it has of a player's present lease, under the same numbers.
    pub fn resend(&mut self, player_id: &str, now: Instant) {
        if Failpoint::NoResend.is_active() {
            return;
        }
        let Some(player) = self.players.get_mut(player_id).filter(|player| !player.lost) else { return };
        for (key, document) in &mut player.documents {
            if document.pending.is_some() || document.committed_sequence == 0 {
                continue;
            }
            let revision = Revision {
                sequence: document.committed_sequence,
                number: document.revision,
                body: document.body.clone(),
                bytes: document.bytes,
                loaded_version: None,
            };
            let name = (Arc::clone(&player.id), Arc::clone(key));
            document.committed = document.revision.saturating_sub(1);
            document.numbered = Some(revision.clone());
            document.pending = Some(PendingSince { first: now, last: now });
            self.bytes += document.bytes;
            // The journal is to keep it again.
            self.settled.remove(&(Arc::clone(&name.0), Arc::clone(&name.1), player.epoch));
            self.unsent.insert(name.clone());
            self.resent.push((name, player.epoch, revision));
        }
        self.next_due = None;
    }

    /// Whether players are held, those included whose release the backend has not confirmed.
    pub fn holds_anybody(&self) -> bool {
        !self.players.is_empty() || self.releases.values().any(|release| release.player.is_some())
    }

    /// [`Self::resend`] of everybody.
    pub fn resend_all(&mut self, now: Instant) {
        for player_id in self.players.keys().cloned().collect::<Vec<_>>() {
            self.resend(&player_id, now);
        }
    }

    /// It is certain that the backend went back: everything held is sent again. False if that was done just now.
    pub fn rolled_back(&mut self, now: Instant) -> bool {
        let is_news = self.rolled_back.is_none_or(|at| now >= at + SWEEP_INTERVAL);
        if is_news {
            self.resend_everything(now);
        }
        is_news
    }

    /// [`Self::rolled_back`], however short a time ago that was done: the backend itself says that it went back.
    pub fn reported_rollback(&mut self, now: Instant) -> bool {
        let is_news = self.rolled_back(now);
        if !is_news {
            self.resend_everything(now);
        }
        is_news
    }

    fn resend_everything(&mut self, now: Instant) {
        self.rolled_back = Some(now);
        self.resend_all(now);
        let players: Vec<Arc<str>> = self.players.keys().cloned().collect();
        for player_id in players {
            self.resend_loaded(&player_id, now);
        }
        // Of those who are leaving, too, as long as the backend has not confirmed it.
        let leaving = self.releases.iter().filter(|(_, release)| release.player.is_some());
        for player_id in leaving.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
            self.keep_for_resending(&player_id);
        }
        self.next_due = None;
    }

    /// Sends what this server has only loaded of a player, for a backend that went back.
    pub fn resend_loaded(&mut self, player_id: &str, now: Instant) {
        let Some(player) = self.players.get_mut(player_id) else { return };
        let id = Arc::clone(&player.id);
        // What this server changed and the backend kept as a conflict is not one of them: it would be kept twice.
        let is_loaded = |document: &Document| {
            let is_unchanged = document.revision == 0 || document.loaded_version.is_some();
            let is_there = document.committed_sequence == 0 && document.version > 0;
            document.pending.is_none() && is_there && is_unchanged
        };
        let loaded = player.documents.iter().filter(|(_, document)| is_loaded(document));
        let loaded: Vec<Arc<str>> = loaded.map(|(key, _)| Arc::clone(key)).collect();
        for key in loaded {
            if player.lost {
                let Some(left) = player.kept_apart(&key) else { continue };
                self.bytes += left.bytes;
                self.recovered.insert((Arc::clone(&id), key, player.epoch), left);
            } else if let Some(document) = player.documents.get_mut(&key) {
                self.changes += 1;
                document.revision = self.changes;
                document.loaded_version = Some(document.version);
                document.bytes = document.body.text().as_str().len();
                document.pending = Some(PendingSince { first: now, last: now });
                self.bytes += document.bytes;
                let name = (Arc::clone(&id), key);
                self.unsent.insert(name.clone());
                self.unnumbered.push(name);
            }
        }
    }

    /// The backend lacks what it had confirmed of a player who is being released: it is sent again, and the lease stays until
    /// that has arrived. What is known of the player stays, too: the backend may go back once more before it has released the
    /// player. False if nothing is known.
    pub fn keep_for_resending(&mut self, player_id: &str) -> bool {
        if Failpoint::NoResend.is_active() {
            return false;
        }
        let Some((id, mut release)) = self.releases.remove_entry(player_id) else { return false };
        let epoch = release.epoch;
        let mut sent_again = 0;
        if let Some(player) = &mut release.player {
            for key in player.documents.keys().cloned().collect::<Vec<_>>() {
                let Some(document) = player.documents.get_mut(&key) else { continue };
                let left = if document.committed_sequence > 0 {
                    if release.repetitions == 0 {
                        document.loaded_version = None;
                    }
                    let body = document.body.clone();
                    let bytes = body.text().as_str().len();
                    let sequence = document.committed_sequence;
                    RecoveredSave {
                        sequence,
                        body,
                        bytes,
                        journalled: false,
                        // One that was only loaded, and sent again without an answer yet.
                        is_repeated: document.loaded_version.is_none(),
                        loaded_version: document.loaded_version,
                    }
                } else if document.version > 0 {
                    let Some(left) = player.kept_apart(&key) else { continue };
                    left
                } else {
                    continue;
                };
                sent_again += 1;
                self.bytes += left.bytes;
                // The journal is to keep it again.
                self.settled.remove(&(Arc::clone(&id), Arc::clone(&key), epoch));
                if let Some(before) = self.recovered.insert((Arc::clone(&id), key, epoch), left) {
                    self.bytes = self.bytes.saturating_sub(before.bytes);
                }
            }
            self.ended_leases.note(player);
            release.repetitions += 1;
        }
        if release.repetitions == MAX_REPETITIONS {
            tracing::warn!(
                player_id = &*id,
                "the backend lacked saves that it had confirmed {MAX_REPETITIONS} times: they are sent once more, and the player is \
                 then released without a check"
            );
        }
        if sent_again == 0 || release.repetitions == MAX_REPETITIONS {
            release.player = None;
        }
        self.releases.insert(id, release);
        sent_again > 0
    }

    /// What the backend has now of a player who is being released and whose documents were sent again.
    pub fn note_repeated(&mut self, sent: &Sent, result: &SaveResult) {
        let Some(release) = self.releases.get_mut(&sent.name.0) else { return };
        if release.epoch != sent.epoch {
            return;
        }
        if matches!(result.outcome, SaveOutcome::Conflicted | SaveOutcome::Refused) {
            // The lease is not this server's any more, and a release without effect.
            release.player = None;
            return;
        }
        let player = release.player.as_mut();
        let Some(document) = player.and_then(|player| player.documents.get_mut(&sent.name.1)) else { return };
        document.version = if result.version > 0 { result.version } else { document.version };
        document.loaded_version = None;
        if sent.loaded_version.is_some() && result.outcome == SaveOutcome::Replayed {
            // The backend has the document, and nothing under this number.
            document.committed_sequence = 0;
        }
    }

    /// Versions of a held player's documents that the backend has told.
    pub fn known_versions(&self, player_id: &str) -> HashMap<Arc<str>, i64> {
        let player = self.players.get(player_id);
        let versions = player.into_iter().flat_map(|player| &player.documents);
        versions.map(|(key, document)| (Arc::clone(key), document.version)).collect()
    }

    /// The lease under which a player is held, and the largest number of it that the backend has confirmed.
    pub fn largest_confirmed(&self, player_id: &str) -> Option<(i64, i64)> {
        let player = self.players.get(player_id).filter(|player| !player.lost)?;
        let largest = player.documents.values().map(|document| document.committed_sequence).max();
        Some((player.epoch, largest.unwrap_or(0)))
    }

    /// Whether a result can only come from a backend that has lost what it had told before.
    pub fn shows_rollback(sent: &Sent, result: &SaveResult) -> bool {
        match result.outcome {
            // It had said already that it has this.
            SaveOutcome::Applied | SaveOutcome::Conflicted if sent.is_repeated => true,
            // It does not know the lease under which this was saved.
            SaveOutcome::Conflicted => result.code == Some(Code::RolledBack),
            SaveOutcome::Applied => result.version <= sent.known_version,
            SaveOutcome::Replayed | SaveOutcome::Superseded => result.version < sent.known_version,
            SaveOutcome::Refused => false,
        }
    }

    /// Whether the backend says that it has a later save of the document, where this server has made none: what was sent is
    /// nowhere, whoever wrote the other one.
    pub fn is_superseded_by_others(&self, sent: &Sent, result: &SaveResult) -> bool {
        let name = &sent.name;
        let player = self.players.get(&name.0).filter(|player| player.epoch == sent.epoch && !player.lost);
        let document = player.and_then(|player| player.documents.get(&name.1));
        result.outcome == SaveOutcome::Superseded
            && document.is_some_and(|document| document.sent_sequence <= sent.sequence)
    }

    /// Such a document is sent once more, under a number that is well above.
    pub fn send_above(&mut self, sent: &Sent) {
        let Some(player) = self.players.get_mut(&sent.name.0) else { return };
        player.next_sequence = player.next_sequence.saturating_add(SKIPPED);
        let Some(document) = player.documents.get_mut(&sent.name.1) else { return };
        (document.numbered, document.durable) = (None, None);
        self.unnumbered.push(sent.name.clone());
    }
}

/// Numbers that are left out to get above somebody else's.
const SKIPPED: i64 = 1_000_000;

impl Player {
    /// Sum of the documents' newest numbers of this lease that the backend has confirmed. Whatever the backend lacks of them
    /// makes its own sum smaller; the largest number alone says nothing of the other documents.
    pub fn saved_sequences(&self) -> i64 {
        let sequences = self.documents.values().map(|document| document.committed_sequence);
        sequences.fold(0, i64::saturating_add)
    }

    /// Sum of the versions that the backend has confirmed.
    pub fn saved_versions(&self) -> i64 {
        self.documents.values().map(|document| document.version).sum()
    }

    /// A document of a lost player as a save that comes too late.
    fn kept_apart(&mut self, key: &str) -> Option<RecoveredSave> {
        let document = self.documents.get_mut(key)?;
        let body = document.body.clone();
        let bytes = body.text().as_str().len();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        document.committed_sequence = sequence;
        let loaded_version = Some(document.version);
        document.loaded_version = loaded_version;
        Some(RecoveredSave { sequence, body, bytes, journalled: false, is_repeated: false, loaded_version })
    }
}
