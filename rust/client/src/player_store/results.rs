//! What the backend made of a batch: versions, conflicts, refusals, and what the journal need not keep any more.

use std::sync::Arc;

use backend_protocol::player_store::{SaveOutcome, SaveResult};
use backend_protocol::{Code, Problem};
use tokio::time::Instant;

use super::Event;
use super::state::StoreState;
use super::uploader::Sent;
use crate::error::ClientError;

impl StoreState {
    pub fn apply_results(&mut self, sent: &[Sent], results: Vec<SaveResult>, now: Instant) -> Vec<Event> {
        let mut news = Vec::with_capacity(sent.len());
        let mut rolled_back = false;
        for (sent, result) in sent.iter().zip(results) {
            let (player_id, key) = (sent.name.0.to_string(), sent.name.1.to_string());
            let &Sent { epoch, sequence, revision, is_repeated, .. } = sent;
            rolled_back |= Self::shows_rollback(sent, &result);
            if self.was_lost_meanwhile(sent) {
                // The answer may be from before the backend went back and gave the player away anew. It is sent again, which asks.
                continue;
            }
            if self.is_superseded_by_others(sent, &result) {
                // Nobody else has this lease. It is not saved, and not said to be.
                rolled_back = true;
                self.send_above(sent);
                continue;
            }
            self.settle(sent, &result, now);
            if result.outcome == SaveOutcome::Conflicted {
                self.conflicted += 1;
                let state = self.players.get(&sent.name.0);
                if state.is_some_and(|player| player.epoch == epoch && !player.lost) {
                    // What the backend should have had before it gave the player away.
                    self.resend(&player_id, now);
                    if result.code == Some(Code::RolledBack) {
                        // Before the player is forgotten, who may be leaving.
                        self.resend_loaded(&player_id, now);
                    }
                    self.lose(&player_id);
                    news.push(Event::LeaseLost { player_id: player_id.clone() });
                }
                news.push(Event::Conflicted { player_id, key, epoch, sequence });
            } else if result.outcome == SaveOutcome::Refused {
                // For good: the backend does not keep it, and sending it again changes nothing. Who has one document too many
                // still has the player.
                let state = self.players.get(&sent.name.0);
                let is_lost = result.code != Some(Code::TooManyDocuments);
                if is_lost && state.is_some_and(|player| player.epoch == epoch && !player.lost) {
                    self.lose(&player_id);
                    news.push(Event::LeaseLost { player_id: player_id.clone() });
                }
                let code = result.code.unwrap_or(Code::LeaseLost);
                let detail = format!("the backend refuses the save for good: {}", code.as_str());
                let error = ClientError::from(Problem::new(code, detail));
                self.note_refused(&player_id, &key, &error, now);
                news.push(Event::SaveFailed { player_id, key, error });
            } else if !(is_repeated || sent.loaded_version.is_some())
                || result.outcome == SaveOutcome::Applied
            {
                let version = result.version;
                news.push(Event::Saved { player_id, key, version, revision, epoch, sequence });
            }
        }
        if rolled_back && self.rolled_back(now) {
            news.push(Event::RollbackDetected);
        }
        self.forget_released();
        news
    }

    /// Whether the player's lease was lost while the save was on its way.
    fn was_lost_meanwhile(&self, sent: &Sent) -> bool {
        let name = (Arc::clone(&sent.name.0), Arc::clone(&sent.name.1), sent.epoch);
        // What was sent as an ended lease's has revision 0.
        sent.revision > 0 && self.recovered.contains_key(&name)
    }

    /// The backend has this save, as the document or as a conflict.
    fn settle(&mut self, sent: &Sent, result: &SaveResult, now: Instant) {
        let living =
            self.players.get_mut(&sent.name.0).filter(|player| player.epoch == sent.epoch && !player.lost);
        let Some(document) = living.and_then(|player| player.documents.get_mut(&sent.name.1)) else {
            let name = (Arc::clone(&sent.name.0), Arc::clone(&sent.name.1), sent.epoch);
            self.note_repeated(sent, result);
            return self.settle_recovered(&name, sent.sequence);
        };
        // A backend that went back counts from where it is.
        document.version = if result.version > 0 { result.version } else { document.version };
        document.committed = document.committed.max(sent.revision);
        document.committed_sequence =
            if matches!(result.outcome, SaveOutcome::Conflicted | SaveOutcome::Refused) {
                // The conflict covers what was committed before, whose content is not here any more.
                0
            } else if sent.loaded_version.is_some() && result.outcome == SaveOutcome::Replayed {
                // The backend has the document, and nothing under this number.
                document.committed_sequence
            } else {
                document.committed_sequence.max(sent.sequence)
            };
        if result.outcome == SaveOutcome::Conflicted {
            document.loaded_version = None;
        }
        if let Some(pending) = document.pending {
            self.last_flush = now.saturating_duration_since(pending.first);
        }
        if document.revision == document.committed {
            if document.pending.take().is_some() {
                self.bytes = self.bytes.saturating_sub(document.bytes);
            }
            document.numbered = None;
            document.durable = None;
            self.unsent.remove(&sent.name);
        } else if let Some(pending) = &mut document.pending {
            // Changed while it was on its way: what waits now is younger.
            pending.first = pending.last;
        }
        let name = (Arc::clone(&sent.name.0), Arc::clone(&sent.name.1), sent.epoch);
        self.settle_in_journal(name, sent.sequence);
    }
}
