//! Saves that earlier runs left, and what the journal need not keep any more.

use std::sync::Arc;

use super::{Epoched, RecoveredSave, StoreState};
use crate::journal::{Record, Settled};

impl StoreState {
    pub fn has_recovered_saves(&self, player_id: &str) -> bool {
        self.recovered.keys().any(|name| &*name.0 == player_id)
    }

    /// What a journal had, unless this process knows better.
    pub fn adopt(&mut self, records: Vec<Record>) {
        for record in records {
            let player_id: Arc<str> = record.player_id.into();
            let living =
                self.players.get(&player_id).filter(|player| player.epoch == record.epoch && !player.lost);
            // An earlier or equal number of a document that is alive here is covered by it.
            if living.is_some_and(|player| player.next_sequence > record.sequence) {
                continue;
            }
            let bytes = record.value.as_str().len();
            let left = RecoveredSave {
                sequence: record.sequence,
                body: record.value.into(),
                bytes,
                journalled: true,
                is_repeated: false,
                loaded_version: record.loaded_version,
            };
            let name = (player_id, record.key.into(), record.epoch);
            if self.recovered.get(&name).is_some_and(|known| known.sequence >= left.sequence) {
                continue;
            }
            self.bytes += left.bytes;
            if let Some(before) = self.recovered.insert(name, left) {
                self.bytes = self.bytes.saturating_sub(before.bytes);
            }
        }
    }

    /// A left-over save is with the backend.
    pub fn settle_recovered(&mut self, name: &Epoched, sequence: i64) {
        if self.recovered.get(name).is_some_and(|left| left.sequence <= sequence)
            && let Some(left) = self.recovered.remove(name)
        {
            self.bytes = self.bytes.saturating_sub(left.bytes);
        }
        self.settle_in_journal(name.clone(), sequence);
    }

    /// The journal need not have this any more.
    pub fn settle_in_journal(&mut self, name: Epoched, sequence: i64) {
        let settled = self.settled.entry(name).or_insert(sequence);
        *settled = (*settled).max(sequence);
    }

    /// The same for one that could not be written.
    pub fn note_settled(&mut self, settled: Settled) {
        let name = (settled.player_id.into(), settled.key.into(), settled.epoch);
        self.settle_in_journal(name, settled.sequence);
    }

    /// Whether it is known what dead processes left.
    pub const fn knows_what_was_left(&self) -> bool {
        self.has_recovered && !self.is_taking_over
    }
}
