//! Damage that is done to journals, and what becomes of it.

use backend_client::journal::Record;
use backend_client::player_store::{Content, RawJson};

use super::{Folder, SimulatedDisk, Slot, named};

/// What of a journal is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Bits of some rows are flipped.
    Rows,
    /// The same, and its pages make no sense: who used it is not known any more.
    File,
    /// The last commits are gone.
    Log,
}

impl Damaged {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rows => "journal rows damaged",
            Self::File => "journal file damaged",
            Self::Log => "journal log cut",
        }
    }
}

/// What was done to a disk.
pub struct Damage {
    pub number: u64,
    pub what: Damaged,
    /// Saves that are in no journal of the disk any more.
    pub lost: Vec<Record>,
}

impl SimulatedDisk {
    /// Damages a journal that nobody holds, if there is one with saves.
    pub fn damage(&self) -> Option<Damage> {
        let (number, what) = {
            let mut folder = self.lock();
            let is_free = |slot: &Slot| slot.holder.is_none() && !slot.damaged && !slot.saves.is_empty();
            let free: Vec<usize> =
                (0..folder.slots.len()).filter(|slot| is_free(&folder.slots[*slot])).collect();
            let number = folder.rng.one_of(&free).copied()?;
            let kinds = [Damaged::Rows, Damaged::File, Damaged::Log];
            let kinds = if folder.slots[number].earlier.is_empty() { &kinds[..2] } else { &kinds };
            (number, folder.rng.one_of(kinds).copied()?)
        };
        Some(self.damage_journal(number, what))
    }

    /// Damages this journal.
    pub fn damage_journal(&self, journal: usize, what: Damaged) -> Damage {
        let mut folder = self.lock();
        let before: Vec<Record> = folder.slots[journal].sound().cloned().collect();
        folder.damages += 1;
        let number = folder.damages;
        match what {
            Damaged::Rows => folder.flip_rows(journal),
            Damaged::File => {
                folder.flip_rows(journal);
                folder.slots[journal].damaged = true;
            }
            Damaged::Log => folder.cut_log(journal),
        }
        folder.slots[journal]
            .damages
            .insert(number, format!("damage {number}: {} in journal-{journal}", what.name()));
        let is_left = |record: &Record| {
            let same = |left: &Record| named(left) == named(record) && left.sequence >= record.sequence;
            folder.slots.iter().any(|slot| slot.sound().any(same))
        };
        let lost = before.into_iter().filter(|record| !is_left(record)).collect();
        Damage { number, what, lost }
    }

    /// Whether whoever found this damage died before it could tell.
    pub fn died_with(&self, damage: u64) -> bool {
        let folder = self.lock();
        folder.found.get(&damage).is_some_and(|process| folder.dead.contains(process))
    }
}

impl Folder {
    /// The last commits are gone from a journal.
    fn cut_log(&mut self, number: usize) {
        let commits = self.rng.between(1, 3);
        let slot = &mut self.slots[number];
        for _ in 0..commits {
            if let Some((saves, server_ids)) = slot.earlier.pop_back() {
                (slot.saves, slot.server_ids) = (saves, server_ids);
            }
        }
    }

    /// Bits of some rows are flipped: what they say is not what was saved, and their checksums tell.
    fn flip_rows(&mut self, number: usize) {
        let some = self.rng.between(100, 1_000);
        let slot = &mut self.slots[number];
        for (name, record) in &mut slot.saves {
            if self.rng.chance(some) && slot.flipped.insert(name.clone()) {
                record.sequence ^= 1 << self.rng.below(8);
                record.value = RawJson::from(&Content::new());
            }
        }
    }

    /// What a process finds in a journal: the saves that are what was written, the servers, and what is to be told. The
    /// rest is set aside.
    pub(super) fn take_damage(&mut self, number: usize, process: usize) -> Vec<String> {
        let slot = &mut self.slots[number];
        for name in std::mem::take(&mut slot.flipped) {
            slot.saves.remove(&name);
        }
        if std::mem::take(&mut slot.damaged) {
            slot.server_ids.clear();
        }
        let damages = std::mem::take(&mut slot.damages);
        self.found.extend(damages.keys().map(|damage| (*damage, process)));
        damages.into_values().collect()
    }
}
