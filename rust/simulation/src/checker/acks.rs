//! What the backend did: each save once, in order, under the lease it was made under.

use super::{Checker, Ledger, Place, number_of};
use crate::Trace;
use crate::fake_backend::{Fact, State};
use backend_client::player_store::Content;

impl Checker {
    /// Looks at what the backend has just done.
    pub fn observe(&self, state: &mut State) {
        if state.facts.is_empty() {
            return;
        }
        let mut book = self.book();
        for fact in std::mem::take(&mut state.facts) {
            book.check_fact(fact, &self.trace);
        }
    }
}

impl Ledger {
    fn check_fact(&mut self, fact: Fact, trace: &Trace) {
        match fact {
            Fact::Received { player_id, key, epoch, sequence, value } => {
                self.received(&(player_id, key, epoch), sequence, number_of(&value), trace);
            }
            Fact::Applied { player_id, key, epoch, sequence, version, value } => {
                self.applied(&(player_id, key, epoch), sequence, version, &value, trace);
            }
            Fact::Kept { player_id, key, epoch, sequence, value } => {
                let number = number_of(&value);
                self.conflicts += 1;
                trace.note("kept", number, &player_id, &[epoch, sequence]);
                // A database that went back knows nothing of the lease.
                let is_over = self.epochs.get(&player_id).is_some_and(|now| *now > epoch);
                let is_unknown = self.restores > 0 && self.epochs.get(&player_id) != Some(&epoch);
                trace.check(is_over || is_unknown, || {
                    format!(
                        "{player_id}/{key}: save {number} became a conflict under the present lease {epoch}"
                    )
                });
                self.arrived(&(player_id, key, epoch), sequence, number, trace);
            }
            Fact::Resolved { player_id, key, epoch, sequence } => {
                trace.note("resolved", 0, &player_id, &[epoch, sequence]);
                let place = (player_id, key, epoch);
                let merges = self.merges.get(&(place.clone(), sequence));
                let done = |save: &Option<usize>| {
                    save.is_none_or(|save| self.is_at_backend(save) || self.lost.contains(&save))
                };
                trace.check(merges.is_some_and(|merges| merges.iter().any(done)), || {
                    format!("{place:?} {sequence}: a conflict is gone, and what was made of it is not there")
                });
            }
            Fact::Given { player_id, server_id, epoch } => {
                let process = self.servers.get(&server_id).copied().unwrap_or(0);
                trace.note("given", process, &player_id, &[epoch]);
                self.epochs.insert(player_id.clone(), epoch);
                self.holders.insert(player_id.clone(), process);
                let before = self.largest.insert(player_id.clone(), epoch).unwrap_or(0);
                trace.check(epoch > before, || format!("{player_id}: epoch {epoch} after {before}"));
            }
            Fact::Deregistered { server_id } => {
                let process = self.servers.get(&server_id).copied().unwrap_or(0);
                self.owed.retain(|owed| owed.process() != process);
            }
            Fact::Over { player_id, epoch } => drop(self.released.insert((player_id, epoch))),
            Fact::Released { player_id, server_id, epoch } => {
                self.released(&player_id, &server_id, epoch, trace);
            }
        }
    }

    fn received(&mut self, place: &Place, sequence: i64, number: usize, trace: &Trace) {
        let meaning = *self.sequences.entry((place.clone(), sequence)).or_insert(number);
        trace.check(meaning == number, || {
            format!("{place:?} {sequence} was save {meaning} and is save {number} now")
        });
        if self.is_loaded_again(place, number) {
            return;
        }
        let save = &mut self.saves[number];
        trace.check(save.place.as_ref() == Some(place), || {
            format!("save {number} was made as {:?} and is sent as {place:?}", save.place)
        });
        let known = *save.sequence.get_or_insert(sequence);
        trace.check(known == sequence, || {
            format!("{place:?}: save {number} was sent as {known}, and again as {sequence}")
        });
    }

    fn applied(&mut self, place: &Place, sequence: i64, version: i64, value: &Content, trace: &Trace) {
        let number = number_of(value);
        let (player_id, key, epoch) = place;
        trace.note("applied", number, player_id, &[*epoch, sequence, version]);
        trace.check(self.epochs.get(player_id) == Some(epoch), || {
            format!("{place:?}: save {number} was applied after its lease was over")
        });
        let name = (player_id.clone(), key.clone());
        let before = self.documents.insert(name, (version, number)).map_or(0, |(version, _)| version);
        trace.check(version == before + 1, || format!("{place:?}: version {version} came after {before}"));
        self.arrived(place, sequence, number, trace);
    }

    fn arrived(&mut self, place: &Place, sequence: i64, number: usize, trace: &Trace) {
        let is_again = self.is_loaded_again(place, number);
        // Under the lease of who had loaded it, it is another one. A database that went back gives the same lease again.
        if self.saves[number].place.as_ref() == Some(place) {
            let save = &mut self.saves[number];
            trace.check(!save.at_backend || is_again, || {
                format!("{place:?}: save {number} was applied or kept twice")
            });
            save.at_backend = true;
        }
        let known = self.places.entry(place.clone()).or_default();
        let is_newer = number > known.arrived || is_again && number == known.arrived;
        trace.check(is_newer && sequence > known.sequence, || {
            format!(
                "{place:?}: save {number} as {sequence} came after {} as {}",
                known.arrived, known.sequence
            )
        });
        known.arrived = known.arrived.max(number);
        known.sequence = known.sequence.max(sequence);
        known.largest = known.largest.max(sequence);
    }

    /// Who lets a player go has brought in everything; who does it for a dead process, or at its own end, everything that was
    /// acknowledged.
    fn released(&mut self, player_id: &str, server_id: &str, epoch: i64, trace: &Trace) {
        let process = self.servers.get(server_id).copied().unwrap_or(0);
        trace.note("let go", process, player_id, &[epoch]);
        let is_again = self.given_again.contains(&(player_id.to_owned(), epoch));
        self.released.insert((player_id.to_owned(), epoch));
        if is_again {
            // A release of the time before the copy may arrive only now, and ends the lease that the copy has given again.
            return;
        }
        let dead = self.dead.contains(&process) || self.leaving.contains(&process);
        for (place, known) in self.places.iter().filter(|(place, _)| place.0 == player_id && place.2 == epoch)
        {
            let expected = if dead { known.acknowledged } else { known.accepted };
            trace.check(known.arrived >= expected || known.excuses(expected), || {
                format!("{place:?} was let go with {} at the backend, not {expected}", known.arrived)
            });
        }
    }

    /// Whether this save, or a later one of its document and epoch, has arrived.
    pub(super) fn is_at_backend(&self, number: usize) -> bool {
        let place = self.saves.get(number).and_then(|save| save.place.as_ref());
        place.and_then(|place| self.places.get(place)).is_some_and(|known| known.arrived >= number)
    }
}
