//! What may be missing after a database went back or a journal was damaged, and what may not.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Ledger, Place, number_of};
use crate::disk::Damage;
use crate::fake_backend::State;

/// What the backend had when its database was copied.
#[derive(Clone)]
pub struct Copied {
    documents: BTreeMap<(String, String), (i64, usize)>,
    /// How far each document and epoch had come: number of the save, sequence.
    arrived: BTreeMap<Place, (usize, i64)>,
    saves: BTreeSet<usize>,
}

/// A document that the backend lost and a server has: it held the player all the time.
pub(super) struct Owed {
    process: usize,
    place: Place,
    number: usize,
    /// The version as which it was only loaded; `None` if it was saved under the lease itself.
    loaded: Option<i64>,
}

impl Owed {
    pub(super) const fn process(&self) -> usize {
        self.process
    }
}

impl Checker {
    /// The database is copied.
    pub fn copy(&self) -> Copied {
        let book = self.book();
        Copied {
            documents: book.documents.clone(),
            arrived: book
                .places
                .iter()
                .map(|(place, at)| (place.clone(), (at.arrived, at.sequence)))
                .collect(),
            saves: book.saves_at_backend().collect(),
        }
    }

    /// The database is as it was when it was copied. What came since is lost there. Whoever holds a player has to bring it in
    /// again; of players who were released, nobody can.
    pub fn went_back(&self, copied: &Copied, state: &State) {
        let mut book = self.book();
        book.restores += 1;
        // What has been brought in again since the last time is owed only by who holds the player now.
        let mut owed = std::mem::take(&mut book.owed);
        owed.retain(|owed| !book.is_brought_in(owed));
        owed.extend(book.owed_without(copied));
        book.owed = owed;
        let before: Vec<usize> =
            book.saves_at_backend().filter(|save| !copied.saves.contains(save)).collect();
        for number in before {
            book.saves[number].at_backend = false;
            book.lost.insert(number);
        }
        // A copy may be newer than what the backend had, which had gone back further before.
        for number in &copied.saves {
            book.saves[*number].at_backend = true;
            book.lost.remove(number);
        }
        for (place, known) in &mut book.places {
            let (arrived, sequence) = copied.arrived.get(place).copied().unwrap_or_default();
            if arrived < known.arrived {
                known.excused = known.excused.max(known.arrived);
            }
            (known.arrived, known.sequence) = (arrived, sequence);
        }
        book.documents.clone_from(&copied.documents);
        book.epochs = state.leases.iter().map(|(player, lease)| (player.clone(), lease.epoch)).collect();
        let held = |lease: &crate::fake_backend::Lease| lease.holder.clone();
        for (player_id, lease) in &state.leases {
            let process = held(lease).and_then(|server_id| book.servers.get(&server_id).copied());
            book.holders.insert(player_id.clone(), process.unwrap_or(0));
            let known = (player_id.clone(), lease.epoch);
            if lease.holder.is_some() && book.released.remove(&known) {
                book.given_again.insert(known.clone());
                book.revived.insert(known);
            }
        }
    }

    /// A process ends and says that all is at the backend: then this is so, too, of what a database had lost.
    pub fn ended_in_order(&self, process: usize, answered: bool) {
        let mut book = self.book();
        if answered {
            book.check_owed(process, &self.trace);
        }
        book.owed.retain(|owed| owed.process != process);
    }

    /// A disk was damaged.
    pub fn damaged(&self, damage: &Damage) {
        let mut book = self.book();
        book.damages.insert(damage.number, false);
        for record in &damage.lost {
            let place = (record.player_id.clone(), record.key.clone(), record.epoch);
            let known = book.places.entry(place).or_default();
            known.excused = known.excused.max(number_of(&record.value.content()));
        }
    }

    /// A warning about a journal names the damage.
    pub(super) fn warned(&self, warning: &str) {
        let number = warning.strip_prefix("damage ").and_then(|rest| rest.split(':').next()?.parse().ok());
        let mut book = self.book();
        if let Some(told) = number.and_then(|number: u64| book.damages.get_mut(&number)) {
            *told = true;
        }
    }

    /// A damage that nobody was told of, though whoever found it lives.
    pub fn unreported(&self) -> Option<u64> {
        let book = self.book();
        let mut untold = book.damages.iter().filter(|(_, told)| !**told).map(|(number, _)| *number);
        untold.find(|number| !self.disks.iter().any(|disk| disk.died_with(*number)))
    }
}

impl Ledger {
    fn saves_at_backend(&self) -> impl Iterator<Item = usize> {
        self.saves.iter().enumerate().filter(|(_, save)| save.at_backend).map(|(number, _)| number)
    }

    /// The newest documents of players who are held, where a copy of the database has others and the holder knows them.
    fn owed_without(&self, copied: &Copied) -> Vec<Owed> {
        let mut owed = Vec::new();
        for (name, (version, number)) in &self.documents {
            if copied.documents.get(name).is_some_and(|(_, copied)| copied == number) {
                continue;
            }
            let Some(epoch) = self.epochs.get(&name.0).copied() else { continue };
            let process = self.holders.get(&name.0).copied().unwrap_or(0);
            let lease = (name.0.clone(), epoch);
            let is_over = self.released.contains(&lease) || self.revived.contains(&lease);
            let is_held = !is_over && !self.dead.contains(&process);
            let place = (name.0.clone(), name.1.clone(), epoch);
            let is_own = self.saves[*number].place.as_ref() == Some(&place);
            let is_known = is_own || self.loaded.contains(&(place.clone(), *number));
            if is_held && is_known && process > 0 {
                let loaded = (!is_own).then_some(*version);
                owed.push(Owed { process, place, number: *number, loaded });
            }
        }
        owed
    }

    /// An answer from before the database went back is like one that came before it did, if the process has not noticed yet:
    /// its journal need not keep the save, only the process itself has to bring it in again.
    pub(super) fn told_saved(&mut self, process: usize, place: &Place, sequence: i64) {
        let has_noticed = self.noticed.get(&process).copied().unwrap_or(0) == self.restores;
        let Some(number) = self.sequences.get(&(place.clone(), sequence)).copied() else { return };
        let Some(known) = self.places.get_mut(place) else { return };
        known.confirmed = known.confirmed.max(number);
        if known.arrived < number && !has_noticed {
            known.excused = known.excused.max(number);
        }
    }

    /// A process has noticed that the database went back: it has to bring in again what had been confirmed.
    pub(super) fn noticed(&mut self, process: usize) {
        self.noticed.insert(process, self.restores);
        for known in self.places.values_mut().filter(|known| known.process == process) {
            known.confirmed = 0;
        }
    }

    /// Whether a content that was made as another save is sent because its holder had loaded it, and the backend lost it.
    pub(super) fn is_loaded_again(&self, place: &Place, number: usize) -> bool {
        self.restores > 0 && self.loaded.contains(&(place.clone(), number))
    }

    /// Whether a save was lost with a database, and comes back by a request of before, under a lease that had been released and
    /// is there again. That can be after the lease's present holder was loaded.
    pub(super) fn came_late(&self, number: usize, player_id: &str, epoch: i64) -> bool {
        let is_of_lease = |place: &Place| place.0 == player_id && place.2 == epoch;
        self.lost.contains(&number)
            && self.given_again.contains(&(player_id.to_owned(), epoch))
            && self.saves.get(number).and_then(|save| save.place.as_ref()).is_some_and(is_of_lease)
    }

    fn is_brought_in(&self, owed: &Owed) -> bool {
        let Owed { place, number, loaded, .. } = owed;
        let name = (place.0.clone(), place.1.clone());
        // Whether a later version was made of what was loaded, or of an older state, the backend cannot know.
        let is_later = |loaded: i64| self.documents.get(&name).is_some_and(|(version, _)| *version > loaded);
        self.saves[*number].at_backend
            || loaded.is_some_and(is_later)
            || self.places.get(place).is_some_and(|known| known.arrived >= *number)
            || self.documents.get(&name).is_some_and(|(_, document)| document == number)
    }

    pub(super) fn check_owed(&self, process: usize, trace: &crate::Trace) {
        for owed in self.owed.iter().filter(|owed| owed.process == process) {
            let Owed { place, number, .. } = owed;
            trace.check(self.is_brought_in(owed), || {
                format!(
                    "{place:?}: save {number} was at the backend, whose database went back; process {process} held the \
                     player all the time, and has not brought it in again"
                )
            });
        }
    }
}
