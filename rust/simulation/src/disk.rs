//! A folder of journals on a disk that outlives processes, and fails on demand.

mod damage;
mod process;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Power, Rng};
use backend_client::journal::{Changes, JournalError, Record};

pub use damage::{Damage, Damaged};
pub use process::ProcessDisk;

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskTrouble {
    Full,
    ReadOnly,
    /// Writes fail, and nobody knows whether they were done.
    Io,
}

/// A folder. Clones are the same one.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<Folder>>);

/// Public fields are for tests to look at and to turn.
pub struct Folder {
    pub slots: Vec<Slot>,
    /// Every opening or write fails with this until it is taken away.
    pub trouble: Option<DiskTrouble>,
    /// Counts down with the writes; the one that reaches 0 fails. True: but it has been done.
    pub fail_write: Option<(usize, bool)>,
    /// Writes of a thousand that fail, done or not.
    pub roughness: u64,
    pub write_takes: (u64, u64),
    pub writes: usize,
    pub rng: Rng,
    /// Writes that failed.
    pub failed: u64,
    /// So many states of each journal are remembered, so that its log can be cut.
    pub remembered: usize,
    /// Damage that a process has found, and that it is to tell: number of the damage → process.
    found: BTreeMap<u64, usize>,
    /// Number of the last damage.
    pub damages: u64,
    dead: BTreeSet<usize>,
    processes: usize,
    /// Who takes over what the dead left.
    lock: Option<usize>,
}

/// A save's name in a journal: player, key and epoch.
type Name = (String, String, i64);

/// One journal.
#[derive(Default)]
pub struct Slot {
    pub holder: Option<usize>,
    /// The file is: it is kept aside once what can be read in it is elsewhere. It does not say any more who used it.
    pub damaged: bool,
    pub saves: BTreeMap<Name, Record>,
    /// Rows that are not what was written: their checksums say so.
    pub flipped: BTreeSet<Name>,
    pub server_ids: BTreeSet<String>,
    /// What is to be told of it, by number of the damage.
    damages: BTreeMap<u64, String>,
    /// What it had before the last commits.
    earlier: VecDeque<(BTreeMap<Name, Record>, BTreeSet<String>)>,
}

impl SimulatedDisk {
    pub fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(Folder {
            slots: Vec::new(),
            trouble: None,
            fail_write: None,
            roughness: 0,
            write_takes: (1, 4),
            writes: 0,
            rng,
            failed: 0,
            remembered: 0,
            found: BTreeMap::new(),
            damages: 0,
            dead: BTreeSet::new(),
            processes: 0,
            lock: None,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Folder> {
        self.0.lock().expect("not poisoned")
    }

    /// The folder as one process has it. Once `power` is cut and [`Self::died`] told, what that process held is free.
    pub fn process(&self, power: &Arc<Power>) -> Arc<ProcessDisk> {
        let mut folder = self.lock();
        folder.processes += 1;
        Arc::new(ProcessDisk {
            disk: self.clone(),
            power: Arc::clone(power),
            process: folder.processes,
            unreported: Mutex::default(),
        })
    }

    pub fn died(&self, process: &ProcessDisk) {
        let mut folder = self.lock();
        if folder.lock == Some(process.process) {
            folder.lock = None;
        }
        for slot in &mut folder.slots {
            if slot.holder == Some(process.process) {
                slot.holder = None;
            }
        }
        folder.dead.insert(process.process);
    }

    /// The largest sequence of this document and epoch that any journal keeps.
    pub fn newest(&self, player_id: &str, key: &str, epoch: i64) -> Option<i64> {
        let name = (player_id.to_owned(), key.to_owned(), epoch);
        let folder = self.lock();
        folder.slots.iter().filter_map(|slot| Some(slot.save(&name)?.sequence)).max()
    }

    /// Saves in all journals.
    pub fn saves(&self) -> Vec<Record> {
        self.lock().slots.iter().flat_map(|slot| slot.sound().cloned()).collect()
    }
}

impl Folder {
    fn trouble(&self) -> Result<(), JournalError> {
        match self.trouble {
            None => Ok(()),
            Some(DiskTrouble::Full) => Err(JournalError::Full("full".into())),
            Some(DiskTrouble::ReadOnly) => Err(JournalError::ReadOnly("read-only".into())),
            Some(DiskTrouble::Io) => Err(JournalError::Io("input/output error".into())),
        }
    }

    /// Whether the next write fails with an unknown outcome, and whether it is done then.
    fn next_write(&mut self) -> Option<bool> {
        self.writes += 1;
        if let Some((left, done)) = &mut self.fail_write {
            *left -= 1;
            if *left == 0 {
                let done = *done;
                self.fail_write = None;
                return Some(done);
            }
        }
        let broken = self.trouble == Some(DiskTrouble::Io) || self.rng.chance(self.roughness);
        broken.then(|| self.rng.chance(500))
    }
}

fn named(record: &Record) -> Name {
    (record.player_id.clone(), record.key.clone(), record.epoch)
}

impl Slot {
    /// The saves that are what was written.
    pub fn sound(&self) -> impl Iterator<Item = &Record> {
        let sound = self.saves.iter().filter(|(name, _)| !self.flipped.contains(*name));
        sound.map(|(_, record)| record)
    }

    /// One of them.
    pub fn save(&self, name: &Name) -> Option<&Record> {
        self.saves.get(name).filter(|_| !self.flipped.contains(name))
    }

    fn remember(&mut self, most: usize) {
        if most == 0 {
            return;
        }
        if self.earlier.len() == most {
            self.earlier.pop_front();
        }
        self.earlier.push_back((self.saves.clone(), self.server_ids.clone()));
    }

    fn apply(&mut self, changes: &Changes) {
        for record in &changes.saves {
            let name = (record.player_id.clone(), record.key.clone(), record.epoch);
            let newer = self.saves.get(&name).is_none_or(|known| known.sequence < record.sequence);
            if newer {
                self.saves.insert(name, record.clone());
            }
        }
        for settled in &changes.settled {
            let name = (settled.player_id.clone(), settled.key.clone(), settled.epoch);
            if self.saves.get(&name).is_some_and(|known| known.sequence <= settled.sequence) {
                self.saves.remove(&name);
            }
        }
        self.server_ids.extend(changes.server_id.clone());
        self.server_ids.retain(|id| !changes.retired_servers.contains(id));
    }
}
