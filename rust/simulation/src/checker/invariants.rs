//! What the store promised: acknowledgements, the numbers of a flush, and what a load returns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Checker, Ledger, Place, number_of, on_disk};
use crate::SimulatedDisk;
use backend_client::player_store::{Event, LocalSave, Snapshot};

/// What a call says about the saves that were taken before it returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    Nothing,
    /// They are on local disk or at the backend.
    Durable,
    /// They are at the backend.
    Arrived,
}

impl Invariant {
    pub const fn of(unsaved: usize, journalled: usize) -> Self {
        if unsaved == 0 {
            Self::Arrived
        } else if unsaved == journalled {
            Self::Durable
        } else {
            Self::Nothing
        }
    }
}

impl Checker {
    pub fn registered(&self, process: usize, server_id: &str) {
        self.book().servers.insert(server_id.to_owned(), process);
    }

    /// The process ends in good order: what it could bring neither to the backend nor to the journal is lost, and keeps no
    /// player.
    pub fn leaving(&self, process: usize) {
        self.book().leaving.insert(process);
    }

    pub fn died(&self, process: usize) {
        self.trace.note("died", process, "", &[]);
        {
            let mut book = self.book();
            book.dead.insert(process);
            book.owed.retain(|owed| owed.process() != process);
        }
        self.nothing_acknowledged_is_lost();
    }

    /// The store has taken a save.
    pub fn accepted(
        &self,
        process: usize,
        player_id: &str,
        key: &str,
        epoch: i64,
        (revision, number): (u64, usize),
    ) {
        self.trace.note("saved", process, player_id, &[epoch, i64::try_from(number).unwrap_or(0)]);
        let mut book = self.book();
        // A release that comes very late ends a lease that is there again because the database went back.
        let is_over = book.released.contains(&(player_id.to_owned(), epoch)) && book.restores == 0;
        self.trace.check(!is_over, || {
            format!("{player_id}/{key}: save {number} was taken under the lease {epoch}, which was let go")
        });
        let place = (player_id.to_owned(), key.to_owned(), epoch);
        let known = book.places.entry(place.clone()).or_default();
        self.trace.check(known.accepted == 0 || known.process == process, || {
            format!("{place:?} is saved by process {process}, and was by {}", known.process)
        });
        (known.accepted, known.process) = (number, process);
        let save = &mut book.saves[number];
        (save.place, save.process, save.revision) = (Some(place), process, revision);
    }

    pub fn reported(&self, process: usize, disk: &SimulatedDisk, event: &Event) {
        match event {
            Event::Journalled(saves) => saves.iter().for_each(|save| self.journalled(process, disk, save)),
            Event::Saved { player_id, key, revision, epoch, sequence, version } => {
                self.trace.note("told saved", process, player_id, &[*epoch, *sequence, *version]);
                let place = (player_id.clone(), key.clone(), *epoch);
                let mut book = self.book();
                let arrived = book.places.get(&place).is_some_and(|known| known.largest >= *sequence);
                self.trace.check(arrived, || format!("{place:?} {sequence} is told as saved and is not"));
                book.told_saved(process, &place, *sequence);
                if *revision > 0
                    && let Some(number) = book.sequences.get(&(place.clone(), *sequence))
                {
                    let said = book.saves[*number].revision;
                    // Of what was only loaded, and sent because the backend lost it, the game has made no save.
                    let is_again = book.is_loaded_again(&place, *number);
                    self.trace.check(said == *revision || is_again, || {
                        format!("save {number} is change {said} and was told as change {revision}")
                    });
                }
            }
            Event::Conflicted { player_id, key, epoch, sequence } => {
                self.trace.note("told late", process, player_id, &[*epoch, *sequence]);
                let place = (player_id.clone(), key.clone(), *epoch);
                let arrived = self.book().places.get(&place).is_some_and(|known| known.largest >= *sequence);
                self.trace.check(arrived, || format!("{place:?} {sequence} is told as kept and is not"));
            }
            Event::LeaseLost { player_id } => {
                self.trace.note("told lost", process, player_id, &[]);
                let mut book = self.book();
                if let Some(epoch) = book.loaded_under.remove(&(process, player_id.clone())) {
                    book.revived.insert((player_id.clone(), epoch));
                }
            }
            Event::PlayerWanted { player_id } => self.trace.note("told wanted", process, player_id, &[]),
            Event::ConflictFound(conflict) => {
                self.trace.note("told conflict", process, &conflict.player_id, &[conflict.epoch]);
            }
            Event::JournalFailed(_) => self.trace.note("told journal failed", process, "", &[]),
            Event::JournalRecovered => self.trace.note("told journal recovered", process, "", &[]),
            Event::SaveFailed { player_id, .. } => self.trace.note("told failed", process, player_id, &[]),
            Event::RollbackDetected => {
                self.trace.note("told that the backend went back", process, "", &[]);
                let mut book = self.book();
                book.noticed(process);
                self.trace.check(book.restores > 0, || {
                    format!("process {process} says that the backend went back, and it did not")
                });
            }
            Event::JournalWarning(warning) => {
                self.trace.note("told damage", process, warning, &[]);
                self.warned(warning);
            }
            Event::BacklogChanged(_) => {}
        }
    }

    fn journalled(&self, process: usize, disk: &SimulatedDisk, save: &LocalSave) {
        let LocalSave { player_id, key, revision, epoch, sequence } = save;
        self.trace.note("told journalled", process, player_id, &[*epoch, *sequence]);
        let place = (player_id.clone(), key.clone(), *epoch);
        let recorded = {
            let folder = disk.lock();
            let records = folder.slots.iter().filter_map(|slot| slot.save(&place));
            let mut exact = records.filter(|record| record.sequence == *sequence);
            exact.next().map(|record| number_of(&record.value.content()))
        };
        let mut book = self.book();
        let number = recorded.or_else(|| {
            let arrived = book.places.get(&place).is_some_and(|known| known.largest >= *sequence);
            book.sequences.get(&(place.clone(), *sequence)).copied().filter(|_| arrived)
        });
        let Some(number) = number else {
            return self.trace.fail(|| format!("{place:?} {sequence} is acknowledged and nowhere durable"));
        };
        let said = book.saves[number].revision;
        // What was only loaded becomes a change of its own.
        let is_loaded = book.is_loaded_again(&place, number);
        self.trace.check(said == *revision || is_loaded, || {
            format!("save {number} is change {said} and was acknowledged as change {revision}")
        });
        if is_loaded && said != *revision {
            // A backend that has it as another save does not take it.
            return;
        }
        let known = book.places.entry(place).or_default();
        known.acknowledged = known.acknowledged.max(number);
        // What it was told to be at the backend may leave the journal at once.
        if recorded.is_some() && number >= known.excused && number > known.confirmed {
            known.excused = 0;
        }
    }

    /// Everything that was acknowledged is at the backend or in a journal.
    pub fn nothing_acknowledged_is_lost(&self) {
        let book = self.book();
        for (place, known) in book.places.iter().filter(|(_, known)| known.acknowledged > known.arrived) {
            let kept = self.disks.iter().map(|disk| on_disk(disk, place)).max().unwrap_or(0);
            self.trace.check(kept >= known.acknowledged || known.excuses(known.acknowledged), || {
                format!("{place:?}: save {} was acknowledged and is lost", known.acknowledged)
            });
        }
    }

    /// After the end: what was acknowledged, and what the living processes took, is at the backend.
    pub fn everything_arrived(&self) {
        let book = self.book();
        for (place, known) in &book.places {
            let expected =
                if book.dead.contains(&known.process) { known.acknowledged } else { known.accepted };
            self.trace.check(known.arrived >= expected || known.excuses(expected), || {
                format!("{place:?}: save {expected} never arrived, only {}", known.arrived)
            });
        }
    }

    /// After the end: so is what a database had lost and a living process has.
    pub fn everything_was_brought_back(&self) {
        let book = self.book();
        let processes: BTreeSet<usize> = book.owed.iter().map(super::setbacks::Owed::process).collect();
        for process in processes {
            book.check_owed(process, &self.trace);
        }
    }

    /// A flush of one player or of all has returned.
    /// `newest`: the last save it speaks of, also where newer ones followed.
    pub fn flushed(
        &self,
        process: usize,
        player_id: Option<&str>,
        disk: &SimulatedDisk,
        (promise, newest): (Invariant, usize),
    ) {
        if promise == Invariant::Nothing {
            return;
        }
        let book = self.book();
        let mut ours: BTreeMap<&Place, usize> = BTreeMap::new();
        for (number, save) in book.saves.iter().enumerate().take(newest + 1) {
            let Some(place) = save.place.as_ref().filter(|_| save.process == process) else { continue };
            if player_id.is_none_or(|player_id| place.0 == player_id) {
                ours.insert(place, number);
            }
        }
        for (place, number) in ours {
            let known = book.places.get(place);
            // What a database lost while the flush was under way is none of its business.
            let is_lost = book.lost.contains(&number) && promise == Invariant::Arrived;
            if is_lost || known.is_some_and(|known| known.arrived >= number || known.excuses(number)) {
                continue;
            }
            let kept = if promise == Invariant::Durable { on_disk(disk, place) } else { 0 };
            self.trace.check(kept >= number, || {
                format!("{place:?}: save {number} is not where a flush says: {promise:?}")
            });
        }
    }

    /// A load has returned these documents, under this epoch.
    pub fn loaded(&self, process: usize, player_id: &str, epoch: i64, snapshots: &HashMap<String, Snapshot>) {
        self.trace.note("loaded", process, player_id, &[epoch]);
        let mut book = self.book();
        book.revived.remove(&(player_id.to_owned(), epoch));
        book.loaded_under.insert((process, player_id.to_owned()), epoch);
        for (key, snapshot) in snapshots {
            let place = (player_id.to_owned(), key.clone(), epoch);
            book.loaded.insert((place, number_of(&snapshot.content)));
        }
        if book.epochs.get(player_id) != Some(&epoch) {
            // Lost again before its answer came.
            return;
        }
        let mut keys: BTreeSet<String> = snapshots.keys().cloned().collect();
        keys.extend(book.documents.keys().filter(|name| name.0 == player_id).map(|name| name.1.clone()));
        for key in keys {
            let found = snapshots.get(&key).map_or(0, |snapshot| number_of(&snapshot.content));
            let expected = book.newest(player_id, &key, epoch);
            // The backend has lost it, and the holder has not.
            let is_newer = found > expected && book.lost.contains(&found);
            let is_late = book.came_late(expected, player_id, epoch);
            self.trace.check(found == expected || is_newer || is_late, || {
                format!("{player_id}/{key} was loaded as {found} under {epoch}, and is {expected}")
            });
        }
    }

    /// A save is about to take the place of a conflict; `None`: it is dropped.
    pub fn merging(&self, conflict: &backend_protocol::player_store::Conflict, save: Option<usize>) {
        let place = (conflict.player_id.clone(), conflict.key.clone(), conflict.epoch);
        self.book().merges.entry((place, conflict.sequence)).or_default().push(save);
    }
}

impl Ledger {
    /// What a document is for its holder.
    fn newest(&self, player_id: &str, key: &str, epoch: i64) -> usize {
        let name = (player_id.to_owned(), key.to_owned());
        let stored = self.documents.get(&name).map_or(0, |(_, number)| *number);
        let known = self.places.get(&(name.0, name.1, epoch));
        let accepted = known.map_or(0, |known| known.accepted);
        // What a database lost that went back, the same lease may begin without.
        let is_lost = known.is_some_and(|known| known.excuses(accepted));
        if accepted > 0 && !is_lost { accepted } else { stored }
    }
}
